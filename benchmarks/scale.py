"""How the processors scale over a real Kafka: partitions and workers, points, and a worker that dies.

``curve``: readings a second and CPU per million of 1, 2 and 4 copies of ``meterflow process`` on as many
partitions, with 1,000 to 100,000 points. The copies have taken up the first quarter before what is measured
is poured onto the log at once, so that neither start nor first spans are in it; what start and first quarter
take is said apart. Every interval and roll-up is checked.

``recovery``: of two copies one is killed; how long until the other one says something of the partition that
is now its own, and until nothing waits any more, while messages go on coming.
``python -m benchmarks.scale [--json] [--points N,...] [--workers N,...] [--readings N]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import kafka_topics as topics
from benchmarks import servers
from benchmarks.core_truth import Results
from benchmarks.scale_load import Messages, shape_of, site_text
from benchmarks.scale_recovery import AGED_S, recovery
from benchmarks.scale_roles import Copy, copies, until_read, until_shared
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS, RESULTS

POINTS, WORKERS = (1_000, 10_000, 100_000), (1, 2, 4)
READINGS_EACH, MINUTES_MIN = 600_000, 8
WARM = 4
"""The first of so many parts is taken up before anything is measured."""
RECOVERY_POINTS = 10_000


def run(
    json_output: bool = False,
    *,
    points: Sequence[int] = POINTS,
    workers: Sequence[int] = WORKERS,
    readings: int = READINGS_EACH,
    recover: int = RECOVERY_POINTS,
    aged_s: float = AGED_S,
) -> dict[str, Any]:
    """Measures and prints the figures. ``recover``: points of the recovery, killed ``aged_s`` on; 0: none."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        with servers.kafka_process(folder / "kafka") as (address, pid):
            figures: dict[str, Any] = {"curve": []}
            for one, count in product(points, workers):
                figures["curve"].append(_measured(_Place(folder, address, pid), one, count, readings))
                sys.stderr.write(f"{json.dumps(figures['curve'][-1])}\n")  # a later one may take too long
            if recover:
                figures["recovery"] = recovery(folder, address, recover, aged_s)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else table(figures))
    return figures


class _Place:
    """A Kafka, and a folder for what a run leaves."""

    def __init__(self, folder: Path, address: str, pid: int) -> None:
        self.folder, self.address, self.pid = folder, address, pid

    def topic_bytes(self, topic: str) -> int:
        """What a topic takes on the broker's disk, without indexes: they are made larger than they are."""
        return sum(file.stat().st_size for file in self.folder.glob(f"kafka/data/{topic}-[0-9]*/*.log"))


def _measured(place: _Place, points: int, workers: int, readings: int) -> dict[str, Any]:
    """One load on as many partitions as workers."""
    shape = shape_of(points, max(readings // points, MINUTES_MIN))
    messages, site = Messages(shape), place.folder / "site.yaml"
    site.write_text(site_text(shape))
    kafka = KafkaSettings(place.address, f"scale-{points}-{workers}", partitions=workers)
    started_s = time.perf_counter()
    with copies(place.folder, kafka, site, workers) as running:
        figures = asyncio.run(_worked(place, kafka, messages, running, started_s))
    checked = asyncio.run(_checked(kafka, messages))
    sizes = {
        "kafka_bytes_per_reading": place.topic_bytes(kafka.topic(READINGS)) / len(messages.load),
        "kafka_bytes_of_results_per_reading": place.topic_bytes(kafka.topic(RESULTS)) / len(messages.load),
        "kafka_bytes_of_json_per_reading": place.topic_bytes(kafka.json_topic) / len(messages.load),
    }
    figures |= {name: round(size, 1) for name, size in sizes.items()}
    assert checked["wrong"] == 0, (figures, checked)
    return {"points": points, "workers": workers} | figures | checked


async def _worked(
    place: _Place, kafka: KafkaSettings, messages: Messages, running: list[Copy], started_s: float
) -> dict[str, Any]:
    shape = messages.load.shape
    minutes, warm = shape.minutes, shape.minutes // WARM
    topic = kafka.topic(READINGS)
    rest = list(messages.entries(warm, minutes))
    await topics.fill_entries(kafka.bootstrap, topic, messages.entries(0, warm), kafka.partitions)
    await until_shared(kafka, running)
    await until_read(kafka, running)
    warm_s, before = time.perf_counter() - started_s, _cpu(place, running)
    poured_s = time.perf_counter()
    await topics.fill_entries(kafka.bootstrap, topic, rest, kafka.partitions)
    await until_read(kafka, running)
    wall_s, after = time.perf_counter() - poured_s, _cpu(place, running)
    readings = (minutes - warm) * shape.points
    spent = [(b - a) / readings * 1e6 for a, b in zip(before, after, strict=True)]
    return {
        "readings": readings,
        "readings_per_s": round(readings / wall_s),
        "readings_per_s_per_worker": round(readings / wall_s / len(running)),
        "cpu_s_per_million": round(sum(spent[1:]), 2),
        "kafka_cpu_s_per_million": round(spent[0], 2),
        "start_cpu_s_per_worker": round(sum(before[1:]) / len(running), 1),
        "start_s": round(warm_s, 1),
        "peak_memory_mb_per_worker": round(max(servers.peak_memory_mb(c.child.pid) for c in running)),
    }


def _cpu(place: _Place, running: list[Copy]) -> list[float]:
    """CPU seconds up to now: Kafka's, then each copy's."""
    return [servers.cpu_s(pid) for pid in (place.pid, *(copy.child.pid for copy in running))]


async def _checked(kafka: KafkaSettings, messages: Messages) -> dict[str, int]:
    results = Results(messages.load)
    async for value in topics.each_value(kafka.bootstrap, kafka.topic(RESULTS), kafka.partitions):
        results.add(value)
    intervals, rollups = results.intervals(), results.rollups()
    right = intervals.right + rollups.right
    return {"rows_right": right, "wrong": intervals.wrong + rollups.wrong}


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    heads = (
        "points",
        "workers",
        "readings/s",
        "each",
        "CPU s/million",
        "Kafka's",
        "MB",
        "start CPU s",
        "rows",
    )
    lines = ["".join(f"{head:>15}" for head in heads)]
    for one in figures["curve"]:
        cells = (
            f"{one['points']:,}",
            str(one["workers"]),
            f"{one['readings_per_s']:,}",
            f"{one['readings_per_s_per_worker']:,}",
            f"{one['cpu_s_per_million']:.2f}",
            f"{one['kafka_cpu_s_per_million']:.2f}",
            str(one["peak_memory_mb_per_worker"]),
            f"{one['start_cpu_s_per_worker']:.1f}",
            f"{one['wrong']} wrong",
        )
        lines.append("".join(f"{cell:>15}" for cell in cells))
    for name, figure in figures.get("recovery", {}).items():
        lines.append(f"recovery: {name:40}{figure:>12,}")
    return "\n".join(lines) + "\n"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=_numbers, default=POINTS)
    parser.add_argument("--workers", type=_numbers, default=WORKERS)
    parser.add_argument("--readings", type=int, default=READINGS_EACH)
    parser.add_argument("--recover", type=int, default=RECOVERY_POINTS)
    given = parser.parse_args()
    run(
        given.json,
        points=given.points,
        workers=given.workers,
        readings=given.readings,
        recover=given.recover,
    )
