"""The rolling-intensity job on a real Kafka: meterflow beside Kafka Streams, in one run.

The same readings lie in a topic of JSON and as columns in a topic of readings. Measured are whole
processes, start-up included: their CPU seconds, their peak memory, how long they took. Every window of
each is checked against an exact truth of its own definition (kafka_truth.py).

- ``json``: ``meterflow ingest`` takes the JSON readings, then ``meterflow process`` works on what it made;
- ``columnar``: ``meterflow process`` alone, from columns;
- ``kafka_streams``: the processor API as one writes it: Jackson's streaming parser, stores whose every
  change goes to their changelog, Java's own choice of heap and collector; ``kafka_streams_tuned``: the
  same with a parser made for these very objects, changes gathered until the commit, a heap of 512 MB at
  most and the serial collector.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import kafka_topics as topics
from benchmarks import servers
from benchmarks.kafka_load import Load, make, site_text
from benchmarks.kafka_truth import Checked, check_frames, check_objects, edges, steps
from bus.kafka_settings import KafkaSettings
from bus.log_kafka import open_kafka
from metering.errors import MeterflowError

READINGS = 4_000_000
GOALS = {"json": 1.5, "columnar": 4.0}
"""How many times as much Kafka Streams is to take."""
_TIMEOUT_S = 400.0
_STREAMS = {
    "kafka_streams": ("plain", []),
    "kafka_streams_tuned": ("tuned", ["-Xmx512m", "-XX:+UseSerialGC"]),
}
_SETTINGS = """\
name: bench
site: site.yaml
kafka: {{bootstrap: "{bootstrap}", prefix: {prefix}}}
json_topic: {{topic: {topic}, group: {prefix}, fields: {{point: meter, time: ts, ignored: [kind]}}}}
http: {{ingest_port: {ports[0]}, process_port: {ports[1]}}}
"""


def run(json_output: bool = False, *, readings: int = 0, bootstrap: str = "") -> dict[str, Any]:
    """Measures for some minutes and prints the figures.

    On a Kafka of its own, or at ``bootstrap``, over four million ``readings``; the environment may say
    otherwise by METERFLOW_BENCH_KAFKA and METERFLOW_BENCH_READINGS.
    """
    bootstrap = bootstrap or os.environ.get("METERFLOW_BENCH_KAFKA", "")
    load = make(readings or int(os.environ.get("METERFLOW_BENCH_READINGS", READINGS)))
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        (folder / "site.yaml").write_text(site_text())
        if bootstrap:
            figures = _measured(bootstrap, folder, load)
        else:
            with servers.kafka(folder / "kafka") as address:
                figures = _measured(address, folder, load)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def _measured(bootstrap: str, folder: Path, load: Load) -> dict[str, Any]:
    run_id = f"bench-{time.time_ns() // 1_000_000}"
    asyncio.run(topics.make(bootstrap, {f"{run_id}-in": {}}))
    asyncio.run(topics.fill_json(bootstrap, f"{run_id}-in", load, _now_ms()))
    figures: dict[str, Any] = {"readings": len(load)}
    figures["json"] = _meterflow(bootstrap, folder, load, run_id, "json")
    figures["columnar"] = _meterflow(bootstrap, folder, load, run_id, "columnar")
    for name, (kind, options) in _STREAMS.items():
        figures[name] = _kafka_streams(bootstrap, folder, load, run_id, name, [kind, *options])
    figures["ratios"] = _ratios(figures)
    figures["all_windows_right"] = all(
        one["windows_wrong"] == 0 < one["windows_right"] for one in figures.values() if _is_run(one)
    )
    return figures


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# -- meterflow ------------------------------------------------------------------------------------


def _meterflow(bootstrap: str, folder: Path, load: Load, run_id: str, kind: str) -> dict[str, Any]:
    kafka = KafkaSettings(bootstrap, f"{run_id}-{kind}")
    source, readings = f"{run_id}-in", kafka.topic("readings")
    asyncio.run(_make_log(kafka))
    file = folder / f"{kind}.yaml"
    ports = servers.free_port(), servers.free_port()
    file.write_text(_SETTINGS.format(bootstrap=bootstrap, prefix=kafka.prefix, topic=source, ports=ports))
    spent = {}
    if kind == "json":
        spent["ingest"] = _role(bootstrap, file, "ingest", kafka.prefix, source)
    else:
        asyncio.run(topics.fill_frames(bootstrap, readings, load, _now_ms()))
    spent["process"] = _role(bootstrap, file, "process", kafka.group("process"), readings)
    checked = check_frames(edges(load), asyncio.run(topics.values(bootstrap, kafka.topic("results"))))
    each = {name: one.figures(len(load)) for name, one in spent.items()}
    whole = servers.Spent(
        sum(one.wall_s for one in spent.values()),
        sum(one.cpu_s for one in spent.values()),
        sum(one.peak_memory_mb for one in spent.values()),
    )
    return whole.figures(len(load)) | _windows(checked) | ({"roles": each} if len(each) > 1 else {})


async def _make_log(kafka: KafkaSettings) -> None:
    log = await open_kafka(kafka)
    await log.close()


def _role(bootstrap: str, file: Path, verb: str, group: str, topic: str) -> servers.Spent:
    """Runs a role until its group has read a topic."""
    started_s, log = time.perf_counter(), file.with_suffix(f".{verb}.log")
    command = [sys.executable, "-m", "meterflow", verb, "--settings", str(file)]
    with servers.process(command, log) as child:

        def check() -> None:
            if child.poll() is not None:
                raise MeterflowError(f"meterflow {verb} ended:\n{log.read_text(errors='replace')[-2000:]}")

        asyncio.run(topics.wait_until_read(bootstrap, group, topic, check, _TIMEOUT_S))
        return _ended(child, time.perf_counter() - started_s)


def _ended(child: subprocess.Popen[bytes], wall_s: float) -> servers.Spent:
    """Stops a role in order, and says what it took; ``wall_s``: how long until all was read."""
    child.send_signal(signal.SIGTERM)
    one = servers.ended(child, _TIMEOUT_S, time.perf_counter())
    return replace(one, wall_s=wall_s)


# -- Kafka Streams --------------------------------------------------------------------------------


def _kafka_streams(
    bootstrap: str, folder: Path, load: Load, run_id: str, name: str, given: list[str]
) -> dict[str, Any]:
    kind, *options = given
    application = f"{run_id}-{name}"
    asyncio.run(topics.make(bootstrap, {application: {}}))
    command = [servers.tool("java"), *options, "-cp", servers.kafka_streams_peer(), "peer.RollingIntensity"]
    command += [bootstrap, f"{application}-app", f"{run_id}-in", application]
    spent = servers.spent([*command, str(folder / name), str(len(load)), kind], _TIMEOUT_S)
    checked = check_objects(steps(load), asyncio.run(topics.values(bootstrap, application)))
    return spent.figures(len(load)) | _windows(checked)


# -- figures --------------------------------------------------------------------------------------


def _windows(checked: Checked) -> dict[str, int]:
    return {"windows_right": checked.right, "windows_wrong": checked.wrong}


def _is_run(one: Any) -> bool:
    return isinstance(one, dict) and "windows_right" in one


def _ratios(figures: dict[str, Any]) -> dict[str, float]:
    """CPU seconds and peak memory of the peers over ours."""
    ratios = {}
    for peer in _STREAMS:
        for ours in GOALS:
            for what, short in (("cpu_s_per_million", "cpu"), ("peak_memory_mb", "memory")):
                ratio = figures[peer][what] / figures[ours][what]
                ratios[f"{short}_{peer}_over_{ours}"] = round(ratio, 2)
    return ratios


def _table(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['readings']:,} readings{'readings/s':>22}{'CPU s/million':>16}{'MB':>8}{'windows':>18}"
    ]
    for name, one in figures.items():
        if _is_run(one):
            windows = f"{one['windows_right']} right, {one['windows_wrong']} wrong"
            lines.append(
                f"{name:24}{one['readings_per_s']:14,}{one['cpu_s_per_million']:16.2f}"
                f"{one['peak_memory_mb']:8}   {windows}"
            )
    for name, ratio in figures["ratios"].items():
        lines.append(f"{name:48}{ratio:8.2f}")
    lines.append(f"goals of CPU over kafka_streams: {GOALS}; memory: at least 2")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run("--json" in sys.argv, readings=int(next((a for a in sys.argv[1:] if a.isdigit()), 0)))
