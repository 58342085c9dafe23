"""The operators alone, from columnar records to intervals and roll-ups, in memory, without a log.

Registers are read once a minute; what that costs in order and late, with many points, and what state a
point has. Records are taken as a worker behind a backlog takes them: decoded, stepped, and what comes of
them is encoded again. Every interval and roll-up is checked. Each load runs in a process of its own.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from struct import Struct
from typing import IO, Any

from benchmarks.core_load import Load, Shape, roster, write_site
from benchmarks.core_truth import Checked, Results
from bus.log import RESULTS, Record
from processors.operators import Plants
from processors.worker import records_max

POINTS, PLANTS, MINUTES = 10_000, 100, 240
LATE = {"in_order": 0.0, "late_1pct": 0.01, "late_10pct": 0.1}
MEMORY = Shape(100_000, 1000, 60)
"""An hour of so many that what a process needs for itself is little of it."""
ROUNDS = 2
"""Of which the better one counts: other work on the machine makes figures worse, never better."""
_LENGTH = Struct("<I")
_APART = """
import json, sys
from meterflow.memory import give_back, spare
spare()
from benchmarks.core import Shape, measured
print(json.dumps(measured(Shape(**json.loads(sys.argv[1])), sys.argv[2], give_back)))
"""
"""With memory kept as the service keeps it."""
CURVE = (1_000, 10_000, 100_000, 1_000_000)
CURVE_READINGS, CURVE_MINUTES_MIN = 2_400_000, 7
"""Of a million points a batch holds three minutes and a half."""


def run(json_output: bool = False, *, curve: bool = False) -> dict[str, Any]:
    """Measures and prints the figures."""
    shapes = {name: Shape(POINTS, PLANTS, MINUTES, late) for name, late in LATE.items()}
    figures: dict[str, Any] = {name: _best(shape) for name, shape in shapes.items()}
    memory = _apart(MEMORY)
    figures["bytes_per_point"] = memory["grown_bytes_per_point"]
    figures["stream"] = _apart(Shape(POINTS, PLANTS, 60), "stream")
    if curve:
        figures["curve"] = [_apart(_of_curve(points)) for points in CURVE]
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def _of_curve(points: int) -> Shape:
    """About as many readings each; plants of as many points as the other loads have."""
    return Shape(points, points // (POINTS // PLANTS), max(CURVE_READINGS // points, CURVE_MINUTES_MIN))


def _best(shape: Shape) -> dict[str, Any]:
    rounds = [_apart(shape) for _ in range(ROUNDS)]
    return min(rounds, key=lambda figures: float(figures["cpu_s_per_million"]))


def _apart(shape: Shape, kind: str = "frames") -> dict[str, Any]:
    """What ``measured`` gives in a process of its own."""
    command = [sys.executable, "-c", _APART, json.dumps(asdict(shape)), kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["wrong"] == 0, figures
    return figures


def measured(shape: Shape, kind: str, rest: Callable[[], object] = gc.collect) -> dict[str, Any]:
    """One load through the operators. ``kind``: of records, ``frames`` or ``stream`` of core_load.

    ``grown_bytes_per_point``: by how much the process grows from before the site is known until all is taken,
    and ``rest`` was called: what the allocators keep for the next batch is given back when a state was saved.
    ``later_cpu_s_per_million``: without the first batch, which brings the first reading of each point and the
    first spans of it; 0 where there is only one.
    """
    load = Load(shape)
    records = load.frames() if kind == "frames" else load.stream()
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as folder, tempfile.TemporaryFile() as said:
        site = write_site(Path(folder))
        before = _memory_bytes("VmRSS")
        started_s = time.process_time()
        operators = Plants(roster(shape, site))
        built_s = time.process_time() - started_s
        taken, spent_s = _worked(operators, records, said)
        gc.collect()
        rest()
        grown, peak = _memory_bytes("VmRSS") - before, _memory_bytes("VmHWM")
        del operators
        intervals, rollups = _checked(load, said)
    return {
        "points": shape.points,
        "readings": len(load),
        "cpu_s_per_million": round(sum(spent_s) / len(load) * 1e6, 3),
        "later_cpu_s_per_million": round(sum(spent_s[1:]) / max(sum(taken[1:]), 1) * 1e6, 3),
        "start_cpu_s": round(built_s, 2),
        "grown_bytes_per_point": round(grown / shape.points),
        "peak_memory_mb": round(peak / 2**20),
        "intervals_right": intervals.right,
        "rollups_right": rollups.right,
        "wrong": intervals.wrong + rollups.wrong,
    }


def _worked(operators: Plants, records: Iterable[Record], said: IO[bytes]) -> tuple[list[int], list[float]]:
    """Readings and CPU seconds of each batch; what the operators say goes into a file."""
    taken, spent_s = [], []
    for batch in takes(records, operators.batch_bytes_max):
        before, started_s = int(operators.engine.hop.received.sum()), time.process_time()
        entries = operators.take(batch).get(RESULTS, ())
        spent_s.append(time.process_time() - started_s)
        taken.append(int(operators.engine.hop.received.sum()) - before)
        for entry in entries:
            said.write(_LENGTH.pack(len(entry.value)) + entry.value)
    return taken, spent_s


def _checked(load: Load, said: IO[bytes]) -> tuple[Checked, Checked]:
    results = Results(load)
    said.seek(0)
    while head := said.read(_LENGTH.size):
        results.add(said.read(*_LENGTH.unpack(head)))
    return results.intervals(), results.rollups()


def _memory_bytes(name: str) -> int:
    """Of this process, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def takes(records: Iterable[Record], bytes_max: int) -> Iterator[list[Record]]:
    """As the worker takes them behind a backlog."""
    batch: list[Record] = []
    size = 0
    for record in records:
        if batch and (len(batch) == records_max(bytes_max) or size + len(record.value) > bytes_max):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record.value)
    if batch:
        yield batch


def _table(figures: dict[str, Any]) -> str:
    flat = {name: one if isinstance(one, list) else [one] for name, one in figures.items()}
    return "".join(f"{name:16} {_line(one)}\n" for name, several in flat.items() for one in several)


def _line(one: object) -> str:
    return "  ".join(f"{k} {v}" for k, v in one.items()) if isinstance(one, dict) else str(one)
