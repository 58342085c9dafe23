"""A plant worked out anew from its archive: 200 registers, a reading a minute, a base of a minute.

The archive is filled as a service fills it, in records of 4,096 readings, a million readings a commit; then
``meterflow archive rebuild`` runs as a process of its own. ``run`` gives the figures, of seven days;
``python -m benchmarks.restate DAYS`` of any number.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.core_load import WATER_EVERY, Load, Shape, plant_name, point_name
from sinks.archive_gathered import Gathered
from sinks.archive_place import FolderPlace
from sinks.archive_writer import Writer

POINTS, DAYS, MINUTES = 200, 7, 1440
COMMIT_READINGS = 1_000_000
_POINT = """\
      - {{id: {id}, measures: {measures}, reads: register, unit: {unit}, expect_every: 1m, base: 1m,
         limit: {limit}, installations: [{{digits: 8, decimals: 2{multiplier}}}]}}
"""


def run(as_json: bool = False, days: int = DAYS) -> dict[str, Any]:
    """Prints what archiving and working out anew cost."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        path, archive = folder / "site.yaml", folder / "archive"
        path.write_text(site())
        figures = {"days": days, **_filled(archive, days)}
        verb = [sys.executable, "-m", "meterflow", "archive", "rebuild", str(path), "--archive", str(archive)]
        before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*verb, "--out", str(folder / "out")], check=True, capture_output=True)
        seconds, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures["rebuild"] = {
        "seconds": round(seconds, 1),
        "s_per_million": round(seconds / figures["readings"] * 1e6, 3),
        "cpu_s_per_million": round(cpu_s / figures["readings"] * 1e6, 3),
        "peak_memory_mb": after.ru_maxrss // 1024,
    }
    print(json.dumps(figures, indent=None if as_json else 2))
    return figures


def _filled(folder: Path, days: int) -> dict[str, Any]:
    load, place = Load(Shape(POINTS, 1, days * MINUTES)), FolderPlace(folder)
    writer, gathered = Writer(place, 0), Gathered(0, 0)
    writer.open()
    started_s = time.process_time()
    for record in load.frames():
        gathered.take(record)
        if gathered.rows >= COMMIT_READINGS:
            writer.finish(writer.write(gathered).span)
            gathered = Gathered(0, record.offset + 1)
    if gathered.rows:
        writer.finish(writer.write(gathered).span)
    cpu_s = time.process_time() - started_s
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "readings": len(load),
        "bytes_per_reading": round(size / len(load), 2),
        "archive_cpu_s_per_million": round(cpu_s / len(load) * 1e6, 3),
    }


def site() -> str:
    """A site file with that plant as its last one."""
    head = (
        f"meterflow: 1\nplants:\n  - id: {plant_name(0)}\n    time_zone: Asia/Shanghai\n    patience: 15m\n"
    )
    kwh = {"measures": "electricity", "unit": "kWh", "limit": "2 MW", "multiplier": ", multiplier: 40"}
    water = {"measures": "water", "unit": "m3", "limit": "40 m3/h", "multiplier": ""}
    kinds = [water if number % WATER_EVERY == 0 else kwh for number in range(POINTS)]
    points = (_POINT.format(id=point_name(number), **kind) for number, kind in enumerate(kinds))
    return f"{head}    points:\n{''.join(points)}"


if __name__ == "__main__":
    run(days=int(sys.argv[1]))
