"""What the archive costs: CPU and bytes a reading, gathered, written and merged, and read again.

Two loads of 200 points, a reading a minute each: all of a minute in one message, and each in its own.
Registers with a decimal, some noise in what they count and in when messages come.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bus.frames import encode_readings
from bus.log import READINGS, Entry
from bus.log_memory import MemoryLog
from metering.readings import NO_SEQ, NO_TIME, Evidence, Readings, absent, dictionary
from sinks.archive_check import check
from sinks.archive_merge import Merger
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive
from sinks.archive_sink import ArchiveSink
from sinks.archive_writer import Writer

READINGS_COUNT, POINTS = 1_000_000, 200
BEGIN_MS, MINUTE_MS = 1_767_225_600_000, 60_000
PLANT = "steel-1"
LOADS = {"a message a minute": True, "a message a reading": False}


def run(json_output: bool = False, *, readings: int = READINGS_COUNT) -> dict[str, Any]:
    """Measures and prints the figures."""
    figures: dict[str, Any] = {
        name: asyncio.run(measured(readings, together=how)) for name, how in LOADS.items()
    }
    figures["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def _table(figures: dict[str, Any]) -> str:
    loads = {name: its for name, its in figures.items() if isinstance(its, dict)}
    lines = [f"{'':28}" + "".join(f"{name:>22}" for name in loads)]
    lines += [
        f"{key:28}" + "".join(f"{its[key]:>22,}" for its in loads.values())
        for key in loads[next(iter(loads))]
    ]
    return "\n".join([*lines, f"peak_memory_mb {figures['peak_memory_mb']:>36,}", ""])


async def measured(readings: int, *, together: bool) -> dict[str, Any]:
    """The figures of one load."""
    log = MemoryLog()
    await log.append({READINGS: entries(readings, together=together)})
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        place = FolderPlace(Path(name))
        sink = ArchiveSink(log, place)
        started = time.process_time(), time.perf_counter()
        running = asyncio.create_task(sink.run())
        end = await log.end(READINGS)
        await sink.read_up_to(end)
        await sink.stop()
        await running
        cpu_s, wall_s = time.process_time() - started[0], time.perf_counter() - started[1]
        merge_s = merged(place)
        report = check(place)
        started_s = time.process_time()
        found = sum(len(batch.offset) for batch in Archive(place).readings(PLANT))
        read_s = time.process_time() - started_s
    assert report.problems == []
    assert found == report.readings == readings
    return {
        "readings": readings,
        "write_cpu_s_per_million": round(cpu_s / readings * 1e6, 2),
        "write_readings_per_s": round(readings / wall_s),
        "merge_cpu_s_per_million": round(merge_s / readings * 1e6, 2),
        "read_cpu_s_per_million": round(read_s / readings * 1e6, 2),
        "bytes_per_reading": round(report.bytes_a_reading or 0, 2),
        "evidence_bytes_per_message": round(report.evidence_bytes / report.messages, 2),
        "files": report.files,
    }


def merged(place: FolderPlace) -> float:
    """CPU seconds of merging all that was written, once."""
    writer = Writer(place, 0)
    writer.open()
    started_s = time.process_time()
    if len(writer.spans) > 1:
        Merger(writer, run=len(writer.spans)).step()
    return time.process_time() - started_s


def entries(count: int, *, together: bool) -> list[Entry]:
    """Records of a minute each."""
    chance = np.random.default_rng(1)
    registers = chance.integers(10**5, 10**8, POINTS)
    points = dictionary([f"hall-{i // 20}/meter-{i}" for i in range(POINTS)])
    found = []
    for minute in range(count // POINTS):
        registers = registers + chance.integers(400, 600, POINTS)
        time_ms = np.full(POINTS, BEGIN_MS + minute * MINUTE_MS)
        late = chance.integers(100, 2_000, 1 if together else POINTS)
        messages = 1 if together else POINTS
        evidence = Evidence(
            topic=dictionary([f"meterflow/v1/{PLANT}"] * POINTS),
            user=dictionary(["gateway-1"] * POINTS),
            digest=chance.integers(0, 256, (messages, 32), np.uint8),
            message=np.zeros(POINTS, np.int32) if together else np.arange(POINTS, dtype=np.int32),
            site="0" * 64,
        )
        one = Readings(
            plant=PLANT,
            point=points,
            time=time_ms,
            start=np.full(POINTS, NO_TIME),
            mantissa=registers,
            exponent=np.full(POINTS, -1, np.int8),
            unit=absent(POINTS),
            serial=absent(POINTS),
            product=absent(POINTS),
            revision=np.zeros(POINTS, np.int32),
            seq=np.full(POINTS, NO_SEQ),
            quality=np.zeros(POINTS, np.uint8),
            flags=np.zeros(POINTS, np.uint8),
            received=time_ms + late,
            evidence=evidence,
        )
        found.append(Entry(PLANT, encode_readings(one), int(time_ms[0])))
    return found
