"""The simulator alone: readings into arrays, into a recording, and messages into an endpoint.

Plants of the profile that makes most of them a second, without faults. ``run`` gives readings a second of
wall time and of CPU; the endpoint is a running ``meterflow up``, so that on few cores it competes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.latency import service
from simulators.replay import replay
from simulators.world import Plan, Plant, plants
from simulators.world_flows import DAY_MS, HOUR_MS
from simulators.world_profile import Profile, load_profile
from simulators.world_recording import Readings
from simulators.world_site import site_text

BEGIN_MS = 1_767_571_200_000
DAYS, PLANTS = 7, 20
HOURS, SENDING = 6, 40
READY_S = 60.0
GOALS = {"arrays": 1_000_000, "recording": 1_000_000, "endpoint": 50_000}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made: days of plants into arrays and a recording, hours of plants into an endpoint."""

    days: int = DAYS
    plants: int = PLANTS
    hours: int = HOURS
    sending: int = SENDING


def run(json_output: bool = False, *, size: Size | None = None) -> dict[str, Any]:
    """Measures, and prints a table, or JSON. About half a minute on a machine with nothing else to do."""
    size = size or Size()
    profile = load_profile("steel")
    plan = Plan(1, BEGIN_MS, BEGIN_MS + size.days * DAY_MS)
    made: list[Plant] = []
    figures = {"arrays": _timed(lambda: _made(made, profile, plan, size.plants))}
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        figures["recording"] = _timed(lambda: written(made, folder / "R.ndjson"))
        figures["endpoint"] = _sent(profile, size, folder)
    text = json.dumps(figures, indent=2) + "\n" if json_output else _table(figures)
    sys.stdout.write(text)
    return figures


def _made(made: list[Plant], profile: Profile, plan: Plan, count: int) -> int:
    made += plants(profile, plan, count)
    return sum(len(stream.time_ms) for plant in made for stream in plant.streams)


def written(made: Sequence[Plant], out: Path) -> int:
    """A recording of plants; how many messages it has."""
    readings = Readings()
    for plant in made:
        readings.add(plant)
    return readings.write(out)


def _sent(profile: Profile, size: Size, folder: Path) -> dict[str, Any]:
    """One reading a message, QoS 1, as the verbs simulate and replay send; until the last PUBACK."""
    plan = Plan(1, BEGIN_MS, BEGIN_MS + size.hours * HOUR_MS)
    made = list(plants(profile, plan, size.sending))
    messages = written(made, folder / "S.ndjson")
    with service(folder, site_text(profile, made), READY_S) as (port, _, _):
        before_s = time.process_time()
        report = asyncio.run(replay([folder / "S.ndjson"], f"mqtt://127.0.0.1:{port}"))
        cpu_s = time.process_time() - before_s
    assert report.acknowledged == messages, f"{report.acknowledged} of {messages} messages were acknowledged"
    return _figures(messages, report.seconds, cpu_s)


def _timed(work: Callable[[], int]) -> dict[str, Any]:
    before_s, began_s = time.process_time(), time.perf_counter()
    readings = work()
    return _figures(readings, time.perf_counter() - began_s, time.process_time() - before_s)


def _figures(readings: int, seconds: float, cpu_s: float) -> dict[str, Any]:
    return {
        "readings": readings,
        "per_s": round(readings / seconds),
        "per_cpu_s": round(readings / cpu_s),
    }


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'readings':12}{'':12}{'per second':>14}{'per CPU second':>16}{'goal':>12}"]
    for name, found in figures.items():
        cells = f"{found['readings']:12,}{found['per_s']:14,}{found['per_cpu_s']:16,}{GOALS[name]:12,}"
        lines.append(f"{name:12}{cells}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run("--json" in sys.argv)
