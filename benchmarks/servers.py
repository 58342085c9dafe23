"""Servers and peers that benchmarks run against, each started on free ports and stopped again.

They come from the project's own scripts, which put them into a cache outside the tree; a benchmark
needs the project's source tree for that.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metering.errors import MeterflowError

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
START_S = 60.0
_CLUSTER = "bWV0ZXJmbG93LWJlbmNoLQ"
_KAFKA = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=16777216
"""
_KAFKA_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server
logger.server.level = info
"""


@dataclass(frozen=True, slots=True)
class Influx:
    """A running influxd. ``pid``: its process, 0 when it was there before."""

    url: str
    org: str
    bucket: str
    token: str
    pid: int = 0


def cache() -> Path:
    """Where the scripts put what they fetch and build."""
    return Path(os.environ.get("METERFLOW_CACHE") or Path.home() / ".cache" / "meterflow")


def script(name: str) -> str:
    """Runs one of the project's scripts and gives the last line it prints."""
    path = ROOT / "scripts" / name
    if not path.exists():
        raise MeterflowError(
            f"this benchmark needs scripts/{name}", hint="Run it from meterflow's source tree."
        )
    done = subprocess.run(
        [str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise MeterflowError(f"scripts/{name} failed", hint="What it said above tells why.")
    return done.stdout.strip().splitlines()[-1]


def tool(name: str) -> str:
    """A program of this machine, also where only the administrator's PATH leads."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin")
    if found is None:
        raise MeterflowError(f"{name} is not installed, and this benchmark needs it")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str], log: Path, stop: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A server while the block runs; what it says goes into a file."""
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield server
    finally:
        if server.returncode is None:
            server.send_signal(stop)
            with suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait()


def wait_until(true: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until it is true; a server that ends before fails with what it said."""
    until_s = time.monotonic() + START_S
    while not true():
        if server.poll() is not None or time.monotonic() > until_s:
            said = log.read_text(errors="replace")[-2000:]
            raise MeterflowError(f"{Path(str(server.args[0])).name} does not start:\n{said}")  # type: ignore[index]
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """A Kafka of one node; its address."""
    with kafka_process(folder) as (address, _):
        yield address


@contextmanager
def kafka_process(folder: Path) -> Iterator[tuple[str, int]]:
    """A Kafka of one node: its address and process id; what it keeps is in the folder's ``data``."""
    jars, port = script("fetch-kafka"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / "server.properties", folder / "kafka.log"
    config.write_text(_KAFKA.format(port=port, controller=free_port(), folder=folder))
    logging = folder / "log4j2.properties"
    logging.write_text(_KAFKA_LOGGING)
    java = [tool("java"), "-Xmx512m", f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars}/*"]
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(config)]
    subprocess.run(storage, check=True, capture_output=True)
    with process([*java, "kafka.Kafka", str(config)], log) as server:
        wait_until(lambda: "Kafka Server started" in log.read_text(errors="replace"), server, log)
        yield f"127.0.0.1:{port}", server.pid


@contextmanager
def mosquitto(folder: Path, settings: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """A Mosquitto that queues without a bound: its port and process id."""
    port, conf, log = free_port(), folder / "mosquitto.conf", folder / "mosquitto.log"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0", "log_type error"]
    conf.write_text("\n".join([*lines, *settings, ""]))
    with process([tool("mosquitto"), "-c", str(conf)], log) as server:
        wait_until(lambda: listens(port), server, log)
        yield port, server.pid


@contextmanager
def influxd(folder: Path) -> Iterator[Influx]:
    """An influxd with one bucket."""
    program, port = script("build-influxd"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log, url = folder / "influxd.log", f"http://127.0.0.1:{port}"
    command = [program, "run", "--reporting-disabled", "--log-level=warn", f"--bolt-path={folder}/bolt"]
    command += [f"--sqlite-path={folder}/sqlite", f"--engine-path={folder}/engine"]
    with process([*command, f"--http-bind-address=127.0.0.1:{port}"], log, signal.SIGINT) as server:
        wait_until(lambda: _healthy(url), server, log)
        first = {"username": "bench", "password": "password-of-the-benchmark", "token": "bench-token"}
        asked = json.dumps(first | {"org": "works", "bucket": "meterflow"}).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/api/v2/setup", asked, head)
        with urllib.request.urlopen(request) as answer:
            answer.read()
        yield Influx(url, "works", "meterflow", "bench-token", server.pid)


def _healthy(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/health") as answer:
        return bool(json.load(answer)["status"] == "pass")
    return False


def kafka_streams_peer() -> str:
    """The class path of the Kafka Streams peer, built by Maven unless it is there."""
    home, source = cache() / "kafka-streams-peer", PEERS / "kafka_streams"
    stamp = "".join(path.read_text() for path in sorted(source.rglob("*")) if path.is_file())
    done = home / "built-from"
    if not done.exists() or done.read_text() != stamp:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(source, home)
        goals = [
            "compile",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=libs",
        ]
        command = [tool("mvn"), "--batch-mode", "--quiet", *goals]
        subprocess.run(command, cwd=home, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        done.write_text(stamp)
    return f"{home}/target/classes:{home}/libs/*"


def telegraf_peer() -> str:
    """The Telegraf of the benchmark, built by Go unless it is there."""
    source = PEERS / "telegraf"
    stamp = "".join((source / name).read_text() for name in ("go.mod", "main.go"))
    home = cache() / "telegraf-peer"
    done = home / "built-from"
    if not done.exists() or done.read_text() != stamp:
        home.mkdir(parents=True, exist_ok=True)
        command = [tool("go"), "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w"]
        subprocess.run([*command, "-o", str(home / "telegraf"), "."], cwd=source, check=True)
        done.write_text(stamp)
    return str(home / "telegraf")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a whole process took, start-up included: its own and its children's CPU, its peak memory."""

    wall_s: float
    cpu_s: float
    peak_memory_mb: float

    def figures(self, readings: int) -> dict[str, Any]:
        """Rounded, and per million."""
        return {
            "readings": readings,
            "readings_per_s": round(readings / self.wall_s),
            "cpu_s_per_million": round(self.cpu_s / readings * 1e6, 2),
            "peak_memory_mb": round(self.peak_memory_mb),
        }


def spent(command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None) -> Spent:
    """Runs a command to its end and measures it; raises MeterflowError when it fails or takes too long."""
    started_s = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
    one = ended(child, timeout_s, started_s)
    if child.returncode:
        raise MeterflowError(f"{' '.join(command)[:200]} ended with {child.returncode}")
    return one


def ended(child: subprocess.Popen[bytes], timeout_s: float, started_s: float) -> Spent:
    """Waits for the end of a process, killing it when it takes too long (MeterflowError), and measures it.

    Memory is looked at while it runs: what the system says of it afterwards begins with what its parent
    had when it was started.
    """
    peak_mb, until_s = 0.0, time.perf_counter() + timeout_s
    while True:
        peak_mb = max(peak_mb, peak_memory_mb(child.pid))
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if time.perf_counter() > until_s:
            child.kill()
            os.wait4(child.pid, 0)
            raise MeterflowError(f"{' '.join(map(str, child.args))[:200]} took longer than {timeout_s:.0f} s")  # type: ignore[arg-type]
        time.sleep(0.01)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Spent(time.perf_counter() - started_s, usage.ru_utime + usage.ru_stime, peak_mb)


def cpu_s(pid: int) -> float:
    """User and system seconds that a running process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mb(pid: int) -> float:
    """The most memory a running process has held; 0 of one that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0) / 1024
