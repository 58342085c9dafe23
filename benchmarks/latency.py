"""From publish to stored result: a running service under a steady thousand readings a second.

A probe point's register is published at QoS 1 every now and then, and asked for over the page's API
until its interval shows the new amount. ``run`` gives median and 99th percentile, the time a PUBACK
takes beside it, and what the service costs.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.servers import cpu_s

POINTS, RATE_HZ = 100, 1000
SAMPLES, WARM_UP_S = 100, 5.0
_TIMEOUT_S = 10.0
_STORED_S = 300.0
PLANT = "  - id: works\n    time_zone: Asia/Shanghai\n    points:\n" + "".join(
    f"      - {{id: {name}, measures: electricity, reads: register, unit: kWh{role}}}\n"
    for name, role in (("probe", ""), *((f"e{number}", ", role: submeter") for number in range(POINTS)))
)
"""Of a site file: what ``steady`` and ``probed`` publish to."""


def run(json_output: bool = False, *, samples: int = SAMPLES, rate_hz: int = RATE_HZ) -> dict[str, Any]:
    """Measures for about a minute and prints the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name,
        service(Path(name), f"meterflow: 1\nplants:\n{PLANT}") as (mqtt_port, url, pid),
    ):
        stop = threading.Event()
        load = threading.Thread(target=steady, args=(mqtt_port, rate_hz, stop))
        load.start()
        time.sleep(WARM_UP_S)
        before_s, started_s = cpu_s(pid), time.monotonic()
        stored, acknowledged = probed(mqtt_port, url, range(samples + 1))
        busy = (cpu_s(pid) - before_s) / (time.monotonic() - started_s)
        stop.set()
        load.join()
    figures = {
        "readings_per_s": rate_hz,
        "points": POINTS,
        "samples": samples,
        **delays("stored", stored),
        **delays("acknowledged", acknowledged),
        "service_cores": round(busy, 2),
    }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


@contextmanager
def service(
    folder: Path, site: str, ready_s: float = _TIMEOUT_S, stop_s: float = _TIMEOUT_S
) -> Iterator[tuple[int, str, int]]:
    """``meterflow up`` with this site file, in a folder: its MQTT port, its page's address, its process."""
    (folder / "site.yaml").write_text(site, "utf-8")
    ports = [_free_port(), _free_port()]
    command = [
        sys.executable,
        "-m",
        "meterflow",
        "up",
        str(folder / "site.yaml"),
        "--data",
        str(folder / "data"),
    ]
    command += ["--mqtt-port", str(ports[0]), "--http-port", str(ports[1])]
    said = folder / "up.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{ports[1]}"
    try:
        _wait_ready(url, process, ready_s, said)
        yield ports[0], url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(stop_s)


def _wait_ready(url: str, process: subprocess.Popen[bytes], ready_s: float, said: Path) -> None:
    deadline_s = time.monotonic() + ready_s
    while time.monotonic() < deadline_s and process.poll() is None:
        with suppress(OSError), urlopen(f"{url}/readyz"):
            return
        time.sleep(0.05)
    code = process.poll()
    how = "did not get ready" if code is None else f"ended with {code}"
    raise TimeoutError(f"the service {how}: {said.read_text()[-1_000:]}")


def steady(port: int, rate_hz: int, stop: threading.Event) -> None:
    """One reading a message, round the points, at a steady rate."""
    client = connected(port, "load")
    begun, count = time.time(), 0
    while not stop.is_set():
        due = int((time.time() - begun) * rate_hz)
        while count < due:
            stamp = time.time_ns() // 1_000_000
            payload = f'{{"time":{stamp},"value":{count // POINTS}}}'
            client.publish(f"meterflow/v1/works/e{count % POINTS}", payload, qos=1)
            count += 1
        time.sleep(0.005)
    client.disconnect()
    client.loop_stop()


def connected(port: int, name: str) -> mqtt.Client:
    """A client with a thread of its own."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def probed(port: int, url: str, values: Iterable[int]) -> tuple[list[float], list[float]]:
    """Seconds from publish to the stored row, and to the PUBACK; not of the register's first value, 0."""
    client = connected(port, "probe")
    stored, acknowledged = [], []
    topic = "meterflow/v1/works/probe"
    for i in values:
        stamp = time.time_ns() // 1_000_000
        started_s = time.perf_counter()
        client.publish(topic, json.dumps({"time": stamp, "value": i}), qos=1).wait_for_publish(_TIMEOUT_S)
        taken_s = time.perf_counter() - started_s
        if i:
            stored.append(_until_seen(url, i, started_s))
            acknowledged.append(taken_s)
        time.sleep(0.2)
    client.disconnect()
    client.loop_stop()
    return stored, acknowledged


def _until_seen(url: str, last: int, started_s: float) -> float:
    """Until the ledger's last register value is the one that was published."""
    while time.perf_counter() - started_s < _STORED_S:
        with urlopen(f"{url}/api/rows/ledger?point=probe") as answer:
            rows = json.load(answer)["rows"]
        if rows and int(rows[0]["last"]) >= last * 1_000_000:
            return time.perf_counter() - started_s
        time.sleep(0.005)
    raise TimeoutError("the result was not stored in time")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def delays(name: str, seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile of some delays."""
    median, p99 = (round(float(np.percentile(seconds, percentile)) * 1000, 1) for percentile in (50, 99))
    return {f"{name}_median_ms": median, f"{name}_p99_ms": p99}


def _table(figures: dict[str, Any]) -> str:
    return "".join(f"{name:28} {value}\n" for name, value in figures.items())
