"""The MQTT endpoint under load, beside Mosquitto with a paho collector in the same run.

One JSON reading a message, QoS 1, some connections with a window of unacknowledged messages each,
from a generator in a process of its own. The endpoint decodes, checks, and appends to the SQLite
log before it acknowledges; Mosquitto acknowledges from memory, and its collector decodes and
counts. ``run`` gives the figures; ``python -m benchmarks.ingest`` prints them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

MESSAGES, MOSQUITTO_MESSAGES = 1_000_000, 100_000
CONNECTIONS, WINDOW = 8, 2_000
GOAL_RATIO, GOAL_PER_S = 5, 100_000
_MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 1000
log_type error
"""


def run(json_output: bool = False, *, messages: int = MESSAGES) -> dict[str, Any]:
    """Measures, and prints a table, or JSON. About 20 seconds."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as folder:
        figures: dict[str, Any] = {"connections": CONNECTIONS, "window": WINDOW}
        figures["endpoint"] = _endpoint(Path(folder), messages)
        if _MOSQUITTO is None:
            figures["mosquitto"] = {"skipped": "mosquitto is not installed (Debian: apt install mosquitto)"}
        else:
            figures["mosquitto"] = _mosquitto(Path(folder), min(messages, MOSQUITTO_MESSAGES))
            ours, theirs = figures["endpoint"], figures["mosquitto"]
            ratio = ours["messages_per_cpu_s"] / theirs["messages_per_cpu_s"]
            figures["ratio_messages_per_cpu_s"] = round(ratio, 1)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def _endpoint(folder: Path, messages: int) -> dict[str, Any]:
    with _python("benchmarks.ingest_serve", str(folder / "log")) as server:
        port = json.loads(_line(server.stdout))["port"]
        load = _load(port, messages)
        served = _ask(server)
    assert served["accepted"] == messages, f"{served['accepted']} of {messages} readings are in the log"
    return _figures(messages, load["seconds"], served["cpu_s"]) | {
        "batches": served["batches"],
        "peak_memory_mb": served["peak_memory_mb"],
    }


def _mosquitto(folder: Path, messages: int) -> dict[str, Any]:
    """Until the collector has decoded the last message: the broker's acknowledgement says little."""
    with _broker(folder) as (broker, port), _python("benchmarks.ingest_collect", str(port)) as collector:
        _line(collector.stdout)
        before_s, started_s = _cpu_s(broker.pid), time.perf_counter()
        _load(port, messages)
        print(messages, file=collector.stdin, flush=True)
        collected = json.loads(_line(collector.stdout))
        seconds = time.perf_counter() - started_s
        broker_s = _cpu_s(broker.pid) - before_s
    figures = _figures(messages, seconds, broker_s + collected["cpu_s"])
    return figures | {"broker_cpu_s": round(broker_s, 2), "collector_cpu_s": round(collected["cpu_s"], 2)}


def _figures(messages: int, seconds: float, cpu_s: float) -> dict[str, Any]:
    return {
        "messages": messages,
        "messages_per_s": round(messages / seconds),
        "cpu_us_per_message": round(cpu_s / messages * 1e6, 2),
        "messages_per_cpu_s": round(messages / cpu_s),
    }


def _load(port: int, messages: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ingest_load", str(port), str(messages)]
    command += [str(CONNECTIONS), str(WINDOW)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=50)
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


@contextmanager
def _python(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def _broker(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    conf = folder / "mosquitto.conf"
    conf.write_text(_CONF.format(port=port))
    with subprocess.Popen([str(_MOSQUITTO), "-c", str(conf)]) as process:
        try:
            _wait_for(port)
            yield process, port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"mosquitto does not listen on {port}")


def _ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    print("done", file=process.stdin, flush=True)
    answer: dict[str, Any] = json.loads(_line(process.stdout))
    return answer


def _line(pipe: IO[str] | None) -> str:
    assert pipe is not None
    return pipe.readline()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'':38}{'messages/s':>12}{'CPU us a message':>18}"]
    names = {"endpoint": "meterflow, durable", "mosquitto": "Mosquitto + paho collector, in memory"}
    for key, name in names.items():
        found = figures[key]
        if "skipped" in found:
            lines.append(f"{name:38}skipped: {found['skipped']}")
        else:
            lines.append(f"{name:38}{found['messages_per_s']:12,}{found['cpu_us_per_message']:18.2f}")
    if "ratio_messages_per_cpu_s" in figures:
        ratio = figures["ratio_messages_per_cpu_s"]
        lines.append(f"messages per CPU second: {ratio} times as many (goal: {GOAL_RATIO})")
    lines.append(f"goal for the endpoint: {GOAL_PER_S:,} acknowledged messages/s")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run("--json" in sys.argv)
