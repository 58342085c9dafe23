"""``meterflow compute`` on a year of quarter hours: three quantities, 35,040 messages, 105,120 readings.

Beside it, in the same run, the least a script would do with the same file: parse each line with the
standard library and add the values up as exact decimals, without spans, roll-ups or files.
``run`` gives the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from simulators.recording import Message, write_recording

RUNS = 5
QUARTERS = 35_040
_QUARTER_MS = 900_000
_FIRST_MS = 1_514_732_400_000  # 2018-01-01T00:00:00+09:00
_SITE = """\
meterflow: 1
plants:
  - id: works
    time_zone: Asia/Seoul
    energies: [electricity]
    points:
      - {id: main, measures: electricity, reads: interval, unit: kWh}
      - {id: lagging, measures: reactive_energy, reads: interval, unit: kvarh}
      - {id: leading, measures: reactive_energy, reads: interval, unit: kvarh}
"""
_SCRIPT = """\
import json, sys
from decimal import Decimal
sums = {}
for line in open(sys.argv[1]):
    values = json.loads(line, parse_float=Decimal)["payload"]["values"]
    for point, value in values.items():
        sums[point] = sums.get(point, 0) + value
print(sums)
"""


def run(json_output: bool = False) -> dict[str, Any]:
    """Measures whole processes in turn, start-up included, and prints the medians."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        recording, site = folder / "year.ndjson", folder / "site.yaml"
        site.write_text(_SITE)
        write_year(recording)
        verb = [sys.executable, "-m", "meterflow", "compute", str(recording), "--site", str(site)]
        ours = [*verb, "--out", str(folder / "out"), "--format", "csv"]
        script = [sys.executable, "-c", _SCRIPT, str(recording)]
        pairs = [(_timed(ours), _timed(script)) for _ in range(RUNS)]
    figures = _figures(pairs)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def write_year(path: Path) -> None:
    """A recording like the steel works' year, from a fixed seed."""
    random = np.random.default_rng(1)
    values = random.integers(0, 15_000, (QUARTERS, 3))
    with write_recording(path) as out:
        for i, row in enumerate(values.tolist()):
            start = _FIRST_MS + i * _QUARTER_MS
            texts = ",".join(
                f'"{p}":{v / 100!r}' for p, v in zip(("main", "lagging", "leading"), row, strict=True)
            )
            payload = f'{{"time":{start + _QUARTER_MS},"start":{start},"values":{{{texts}}}}}'
            out.write(Message(start + _QUARTER_MS, "meterflow/v1/works", 1, payload.encode()))


def _timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a whole process."""
    before, started_s = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall_s, after = time.perf_counter() - started_s, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall_s, used


def _figures(pairs: list[tuple[tuple[float, float], tuple[float, float]]]) -> dict[str, Any]:
    def median(values: list[float]) -> float:
        return round(float(np.median(values)), 3)

    readings = QUARTERS * 3
    return {
        "readings": readings,
        "runs": len(pairs),
        "compute_wall_s": median([ours[0] for ours, _ in pairs]),
        "compute_cpu_s": median([ours[1] for ours, _ in pairs]),
        "compute_cpu_s_per_million": median([ours[1] / readings * 1e6 for ours, _ in pairs]),
        "script_wall_s": median([script[0] for _, script in pairs]),
        "ratio_wall": median([ours[0] / script[0] for ours, script in pairs]),
    }


def _table(figures: dict[str, Any]) -> str:
    return "".join(f"{name:28} {value}\n" for name, value in figures.items())
