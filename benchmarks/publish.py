"""From publish to point: Mosquitto, Kafka, InfluxDB, and the roles ingest, process and sink between them.

First as many readings as go: how many a second the whole way takes (``reachable``). Then half of that,
steadily, while a probe point's register is published every now and then and asked for in InfluxDB until
its ledger says the new value.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from influxdb_client.client.influxdb_client import InfluxDBClient
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import servers
from benchmarks.publish_load import PLANTS, POINTS
from metering.errors import MeterflowError

BURST, SAMPLES, GOAL_P99_MS = 100_000, 100, 1_000
_ROLES = ("process", "sink", "ingest")
_PAUSE_S, _POLL_S, _TIMEOUT_S, _START_S = 0.2, 0.02, 60.0, 90.0
_SETTINGS = """\
name: bench
site: site.yaml
kafka: {{bootstrap: "{kafka}", prefix: publish}}
mqtt: {{url: "mqtt://127.0.0.1:{port}"}}
influxdb: {{url: "{influx.url}", org: {influx.org}, bucket: {influx.bucket}, token_file: token}}
http: {{ingest_port: {ports[0]}, process_port: {ports[1]}, sink_port: {ports[2]}}}
"""
_LAST = """\
from(bucket: "{bucket}") |> range(start: 0)
  |> filter(fn: (r) => r._measurement == "ledger" and r.point == "probe" and r._field == "last")
  |> last()
"""


def run(json_output: bool = False, *, burst: int = BURST, samples: int = SAMPLES) -> dict[str, Any]:
    """Measures for about two minutes and prints the figures."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        kafka = stack.enter_context(servers.kafka(folder / "kafka"))
        influx = stack.enter_context(servers.influxd(folder / "influxd"))
        port, _ = stack.enter_context(
            servers.mosquitto(folder, ["max_inflight_messages 1000", "log_type subscribe"])
        )
        probe = stack.enter_context(_probe(port, influx))
        roles = stack.enter_context(_roles(folder, kafka, influx, port))
        ingest, log = roles["ingest"], folder / "mosquitto.log"
        servers.wait_until(lambda: "meterflow/v1/#" in log.read_text(errors="replace"), ingest, log)
        probe.wait(_START_S)
        reachable_hz = _reachable(port, probe, burst)
        rate_hz = int(reachable_hz / 2)
        before = {verb: servers.cpu_s(child.pid) for verb, child in roles.items()}
        started_s = time.perf_counter()
        seconds = _sampled(port, probe, samples, rate_hz)
        elapsed_s = time.perf_counter() - started_s
        cores = {verb: servers.cpu_s(child.pid) - before[verb] for verb, child in roles.items()}
    figures = {
        "reachable_per_s": round(reachable_hz),
        "readings_per_s": rate_hz,
        "samples": samples,
        "stored_median_ms": _ms(seconds, 50),
        "stored_p99_ms": _ms(seconds, 99),
        "cores": {verb: round(spent / elapsed_s, 2) for verb, spent in cores.items()},
    }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


class _Probe:
    """A point whose register counts up; asks InfluxDB for what has arrived of it."""

    def __init__(self, client: mqtt.Client, influx: servers.Influx, asked: InfluxDBClient) -> None:
        self._client, self._asked = client, asked.query_api()
        self._query = _LAST.format(bucket=influx.bucket)
        self._value = 0

    def wait(self, timeout_s: float = _TIMEOUT_S) -> float:
        """Publishes the next value; seconds until it is stored."""
        self._value += 1
        payload = json.dumps({"time": time.time_ns() // 1_000_000, "value": self._value})
        started_s = time.perf_counter()
        self._client.publish("meterflow/v1/p0/probe", payload, qos=1)
        while (taken_s := time.perf_counter() - started_s) < timeout_s:
            if self._stored() >= self._value * 1_000_000:
                return time.perf_counter() - started_s
            time.sleep(_POLL_S)
        raise MeterflowError(f"a reading was not stored within {taken_s:.0f} s")

    def _stored(self) -> int:
        found = self._asked.query(self._query)
        return max((int(record["_value"]) for table in found for record in table.records), default=-1)


@contextmanager
def _probe(port: int, influx: servers.Influx) -> Iterator[_Probe]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "probe", protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", port)
    client.loop_start()
    with InfluxDBClient(influx.url, influx.token, org=influx.org) as asked:
        yield _Probe(client, influx, asked)
    client.disconnect()
    client.loop_stop()


def _reachable(port: int, probe: _Probe, burst: int) -> float:
    """Readings a second until the last one of a burst is stored."""
    started_s = time.perf_counter()
    with _load(port, burst, 0) as load:
        load.wait(_TIMEOUT_S)
        probe.wait()
        return burst / (time.perf_counter() - started_s)


def _sampled(port: int, probe: _Probe, samples: int, rate_hz: int) -> list[float]:
    """Seconds from publish to point, under a steady load."""
    found: list[float] = []
    with _load(port, rate_hz * int(_TIMEOUT_S * 10), rate_hz):
        time.sleep(5)
        for _ in range(samples):
            found.append(probe.wait())
            time.sleep(_PAUSE_S)
    return found


@contextmanager
def _load(port: int, messages: int, rate_hz: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "benchmarks.publish_load", *map(str, (port, messages, rate_hz))]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as load:
        try:
            yield load
        finally:
            load.kill()


@contextmanager
def _roles(
    folder: Path, kafka: str, influx: servers.Influx, port: int
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    file, token = folder / "settings.yaml", folder / "token"
    ports = [servers.free_port() for _ in _ROLES]
    file.write_text(_SETTINGS.format(kafka=kafka, port=port, influx=influx, ports=ports))
    (folder / "site.yaml").write_text(_site())
    token.touch(0o600)
    token.write_text(influx.token)
    with ExitStack() as stack:
        started: dict[str, subprocess.Popen[bytes]] = {}
        for verb in _ROLES:
            command = [sys.executable, "-m", "meterflow", verb, "--settings", str(file)]
            log = folder / f"{verb}.log"
            started[verb] = stack.enter_context(servers.process(command, log))
        yield started


def _site() -> str:
    """Plants with registers that no ratio needs, and the probe at the first one."""
    point = "{{id: {0}, measures: electricity, reads: register, unit: kWh{1}}}"
    points = [f"      - {point.format(f'm{i}', ', role: submeter')}\n" for i in range(POINTS)]
    plants = ["meterflow: 1\nplants:\n"]
    for number in range(PLANTS):
        own = [f"      - {point.format('probe', '')}\n"] if number == 0 else []
        head = f"  - id: p{number}\n    time_zone: Asia/Shanghai\n    points:\n"
        plants += [head, *own, *points]
    return "".join(plants)


def _ms(seconds: Sequence[float], percentile: int) -> float:
    return round(float(np.percentile(seconds, percentile)) * 1000, 1)


def _table(figures: dict[str, Any]) -> str:
    goal = f"goal: stored_p99_ms below {GOAL_P99_MS}\n"
    return "".join(f"{name:24} {value}\n" for name, value in figures.items()) + goal


if __name__ == "__main__":
    run("--json" in sys.argv)
