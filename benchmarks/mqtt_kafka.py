"""From MQTT to Kafka, acknowledged there: our endpoint and our collector beside Telegraf, in one run.

One JSON reading a message, QoS 1. Telegraf (mqtt_consumer, json_v2, kafka with acks=all) and the collector
are behind the same Mosquitto, the endpoint needs none. CPU is that of the process itself, without the
broker's. Then the two behind Mosquitto are killed time and again while it delivers: what is lost, and
what is double in the end. The collector's copies are dropped by the processors, through which its log
goes here, too; Telegraf's stay.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import kafka_topics as topics
from benchmarks import servers, telegraf
from benchmarks.ingest_site import roster
from bus.frames import decode_readings
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS, Record
from bus.log_kafka import open_kafka
from metering.errors import MeterflowError
from metering.readings import Readings
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, Installation, Multiplier, Roster
from processors.operators import Plants

ENDPOINT_MESSAGES, BROKER_MESSAGES, KILL_MESSAGES, KILLS = 1_000_000, 200_000, 200_000, 10
CONNECTIONS, WINDOW = 8, 2_000
GOAL_ENDPOINT = 3
"""Times Telegraf's messages per CPU second."""
_BROKER = ["max_inflight_messages 1000", "log_type subscribe"]
_TIMEOUT_S, _QUIET_S, _KILL_AFTER_S = 120.0, 8.0, 0.02
_SERVE = [sys.executable, "-m", "benchmarks.mqtt_kafka_serve"]

Start = Callable[[Path, str, int], subprocess.Popen[Any]]
"""Starts a process behind the broker: folder, Kafka's address, the broker's port."""


def run(
    json_output: bool = False,
    *,
    endpoint_messages: int = ENDPOINT_MESSAGES,
    broker_messages: int = BROKER_MESSAGES,
    kill_messages: int = KILL_MESSAGES,
) -> dict[str, Any]:
    """Measures for some minutes, and prints the figures."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name, servers.kafka(Path(name)) as kafka:
        folder = Path(name)
        figures: dict[str, Any] = {"endpoint": _endpoint(kafka, endpoint_messages)}
        figures["collector"] = _collector(folder, kafka, broker_messages, "native")
        figures["collector_paho"] = _collector(folder, kafka, broker_messages, "paho")
        figures["telegraf"] = _telegraf(folder, kafka, broker_messages)
        figures["kills"] = {
            "collector": _collector_killed(folder, kafka, kill_messages),
            "telegraf": _telegraf_killed(folder, kafka, kill_messages),
        }
    theirs = figures["telegraf"]["messages_per_cpu_s"]
    for ours in ("endpoint", "collector", "collector_paho"):
        figures[f"ratio_{ours}"] = round(figures[ours]["messages_per_cpu_s"] / theirs, 2)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


# -- speed ----------------------------------------------------------------------------------------


def _endpoint(kafka: str, messages: int) -> dict[str, Any]:
    with _ours("endpoint", kafka, "endpoint") as (process, port):
        before = _ask(process)
        seconds = _load(port, messages)
        after = _ask(process)
    assert after["accepted"] == messages, f"{after['accepted']} of {messages} readings are in the log"
    return _figures(messages, seconds, before, after)


def _collector(folder: Path, kafka: str, messages: int, client: str) -> dict[str, Any]:
    """From the first message published to the last one acknowledged by Kafka."""
    with (
        servers.mosquitto(folder, _BROKER) as (port, _),
        _ours("collector", kafka, client, str(port), client) as (process, _),
    ):
        before, started_s = _ask(process), time.perf_counter()
        _load(port, messages)
        _until(lambda: int(_ask(process)["accepted"]), messages)
        seconds, after = time.perf_counter() - started_s, _ask(process)
    return _figures(messages, seconds, before, after)


def _telegraf(folder: Path, kafka: str, messages: int) -> dict[str, Any]:
    asyncio.run(topics.make(kafka, {"telegraf": {}}))
    with servers.mosquitto(folder, _BROKER) as (port, _):
        command = telegraf.command(folder, port, kafka, "telegraf")
        with servers.process(command, folder / "telegraf.log") as process:
            servers.wait_until(lambda: _subscribed(folder), process, folder / "telegraf.log")
            before, started_s = {"cpu_s": servers.cpu_s(process.pid)}, time.perf_counter()
            _load(port, messages)
            _until(lambda: _records(kafka, "telegraf"), messages)
            seconds = time.perf_counter() - started_s
            after = {"cpu_s": servers.cpu_s(process.pid), "accepted": messages, "batches": 0}
            after["peak_memory_mb"] = round(servers.peak_memory_mb(process.pid))
    return _figures(messages, seconds, before, after)


def _figures(messages: int, seconds: float, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    cpu_s = after["cpu_s"] - before["cpu_s"]
    return {
        "messages": messages,
        "messages_per_s": round(messages / seconds),
        "cpu_us_per_message": round(cpu_s / messages * 1e6, 2),
        "messages_per_cpu_s": round(messages / cpu_s),
        "peak_memory_mb": after["peak_memory_mb"],
    }


# -- kills ----------------------------------------------------------------------------------------


def _collector_killed(folder: Path, kafka: str, messages: int) -> dict[str, Any]:
    """What the processors make of the log: accepted once each, copies dropped."""
    topic = KafkaSettings(kafka, "killed").topic(READINGS)
    asyncio.run(_make_log(kafka, "killed"))

    def start(folder: Path, kafka: str, port: int) -> subprocess.Popen[Any]:
        command = [*_SERVE, "collector", kafka, "killed", str(port), "native"]
        with (folder / "collector.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    kills = _killed(folder, kafka, messages, topic, start)
    operators, different = Plants(_site()), set[tuple[str, str | None, int]]()
    for offset, frame in enumerate(asyncio.run(topics.values(kafka, topic))):
        operators.take([Record(offset, "", frame, 0)])
        if frame:
            different |= _identities(decode_readings(frame))
    hop = operators.engine.hop
    copies, accepted = int(hop.duplicate.sum()), int(hop.accepted.sum())
    double = accepted - len(different)
    return {"kills": kills, "lost": messages - len(different), "double": double, "copies_dropped": copies}


def _identities(readings: Readings) -> set[tuple[str, str | None, int]]:
    points = (readings.point.words[code] for code in readings.point.codes.tolist())
    return {(readings.plant, point, time) for point, time in zip(points, readings.time.tolist(), strict=True)}


def _telegraf_killed(folder: Path, kafka: str, messages: int) -> dict[str, Any]:
    asyncio.run(topics.make(kafka, {"telegraf-killed": {}}))

    def start(folder: Path, kafka: str, port: int) -> subprocess.Popen[Any]:
        command = telegraf.command(folder, port, kafka, "telegraf-killed")
        with (folder / "telegraf.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    kills = _killed(folder, kafka, messages, "telegraf-killed", start)
    found = telegraf.readings(asyncio.run(topics.values(kafka, "telegraf-killed")))
    distinct = len(set(found))
    return {"kills": kills, "lost": messages - distinct, "double": len(found) - distinct}


def _killed(folder: Path, kafka: str, messages: int, topic: str, start: Start) -> int:
    """Kills what ``start`` starts while the broker delivers to it; how often. Waits until all has come."""
    with servers.mosquitto(folder, _BROKER) as (port, _):
        process = start(folder, kafka, port)
        try:
            _until(lambda: _subscribed(folder), True)
            _end(process)
            _load(port, messages)  # into the session's queue: every start finds more to be delivered
            process = start(folder, kafka, port)
            kills, seen = 0, 0
            while kills < KILLS and (now := _until_more(kafka, topic, seen)) > seen:
                time.sleep(_KILL_AFTER_S)
                _end(process)
                kills, seen = kills + 1, max(now, _records(kafka, topic))
                process = start(folder, kafka, port)
            while (now := _until_more(kafka, topic, seen)) > seen:
                seen = now
        finally:
            _end(process)
    return kills


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def _until_more(kafka: str, topic: str, seen: int) -> int:
    """Waits until there are more records than ``seen``; the same number when none come any more."""
    until_s = time.monotonic() + _QUIET_S
    while (now := _records(kafka, topic)) <= seen and time.monotonic() < until_s:
        time.sleep(0.02)
    return now


def _site() -> Roster:
    """The roster of the load with a register at each point."""
    plain = roster()
    meter = Installation("", FROM_EVER_MS, FOR_EVER_MS, 1, None, (Multiplier(FROM_EVER_MS, 1, 1),))
    return replace(plain, points=tuple(replace(point, installations=(meter,)) for point in plain.points))


# -- processes ------------------------------------------------------------------------------------


@contextmanager
def _ours(kind: str, kafka: str, prefix: str, *given: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Our endpoint or collector, and its port."""
    asyncio.run(_make_log(kafka, prefix))
    command = [*_SERVE, kind, kafka, prefix, *given]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(json.loads(_line(process))["port"])
        finally:
            process.terminate()


async def _make_log(kafka: str, prefix: str) -> None:
    log = await open_kafka(KafkaSettings(kafka, prefix))
    await log.close()


def _ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    print("now", file=process.stdin, flush=True)
    answer: dict[str, Any] = json.loads(_line(process))
    return answer


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("{"):  # the log of a process, too
        if not line:
            raise MeterflowError("the process ended before it answered")
    return line


def _load(port: int, messages: int) -> float:
    """Publishes the messages; seconds until the last one was acknowledged."""
    command = [sys.executable, "-m", "benchmarks.ingest_load", str(port), str(messages)]
    command += [str(CONNECTIONS), str(WINDOW)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_TIMEOUT_S)
    return float(json.loads(found.stdout)["seconds"])


def _subscribed(folder: Path) -> bool:
    return "meterflow/v1/#" in (folder / "mosquitto.log").read_text(errors="replace")


def _records(kafka: str, topic: str) -> int:
    return asyncio.run(topics.records(kafka, topic))


def _until(found: Callable[[], int], wanted: int) -> None:
    until_s = time.monotonic() + _TIMEOUT_S
    while (now := found()) < wanted:
        if time.monotonic() > until_s:
            raise MeterflowError(f"{now} of {wanted} came within {_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'':24}{'messages/s':>12}{'CPU us each':>14}{'MB':>8}"]
    for name in ("endpoint", "collector", "collector_paho", "telegraf"):
        one = figures[name]
        line = f"{name:24}{one['messages_per_s']:12,}{one['cpu_us_per_message']:14.2f}"
        lines.append(f"{line}{one['peak_memory_mb']:8}")
    for name in ("endpoint", "collector", "collector_paho"):
        goal = f" (goal: {GOAL_ENDPOINT})" if name == "endpoint" else ""
        lines.append(f"messages per CPU second, {name} over Telegraf: {figures[f'ratio_{name}']}{goal}")
    for name, one in figures["kills"].items():
        lines.append(f"killed: {name:16} {', '.join(f'{value} {key}' for key, value in one.items())}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run("--json" in sys.argv)
