"""``meterflow simulate --profile``: simulated plants, recorded or published, and the truth beside it."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from meterflow.files import bar
from meterflow.given import instant_ms
from meterflow.recording import replay
from metering.errors import UsageError
from metering.instants import rfc3339
from metering.site_types import duration_ms
from simulators.world import Plan, Plant, kinds_of, plants, plants_for
from simulators.world_flows import MINUTE_MS
from simulators.world_profile import Profile, load_profile
from simulators.world_recording import Readings
from simulators.world_site import site_text
from simulators.world_truth import GroupTruth, Truth, fault_rows

START = "2026-01-05T00:00:00Z"
NOW = "now"
RATE = 0.5
DAYS_MAX = 400
Told = Callable[[int, int | None], None]


def record_world(
    out: Path,
    *,
    seed: int,
    profile: str | None,
    duration: str | None,
    truth: Path | None,
    faults: str | None,
    fault_rate: float | None,
    start: str | None,
    meters: int | None,
    as_json: bool,
) -> None:
    """Writes the recording, and with ``truth`` site file, true amounts and faults."""
    began_s = time.perf_counter()
    described = load_profile(profile or "steel")
    from_ms = time.time_ns() // 60_000_000_000 * MINUTE_MS if start == NOW else instant_ms(start or START)
    to_ms = from_ms + _duration(duration or "1d")
    if from_ms % MINUTE_MS:
        raise UsageError(f"'{start}' is no full minute", hint="Give --start without seconds.")
    rate = RATE if fault_rate is None else fault_rate
    plan = Plan(seed, from_ms, to_ms, kinds_of(faults or "none"), rate)
    with bar("plants") as told:
        made, lines = write_world(out, truth, described, plan, plants_for(described, meters), told)
    _say(out, made, lines, time.perf_counter() - began_s, as_json)


def publish_world(where: dict[str, Any], *, as_json: bool, **world: Any) -> int:
    """Publishes what ``record_world`` would record: made first, so that nothing but sending takes time.

    ``where``: what ``meterflow replay`` takes: url, speed, user, password_file.
    """
    with TemporaryDirectory(prefix="meterflow-") as folder:
        out = Path(folder) / "world.ndjson"
        record_world(out, as_json=False, **world)
        return replay(
            [out], begin=None, end=None, rounds=1, stamps="original", unstamped="refuse", skip=0,
            as_json=as_json, **where,
        )  # fmt: skip


def write_world(
    out: Path, truth: Path | None, profile: Profile, plan: Plan, count: int, told: Told
) -> tuple[list[Plant], int]:
    """A recording of plants, with ``truth`` what truly happened; the plants, and how many messages."""
    readings, made = Readings(), []
    for plant in plants(profile, plan, count):
        readings.add(plant)
        made.append(plant)
        told(len(made), count)
    messages = readings.write(out)
    if truth is not None:
        write_truth(truth, profile, plan, made)
    return made, messages


def write_truth(folder: Path, profile: Profile, plan: Plan, made: Sequence[Plant]) -> None:
    """site.yaml, plan.json, faults.csv, and the true amounts as Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.yaml").write_text(site_text(profile, made), "utf-8")
    with (folder / "faults.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(fault_rows(made))
    said = {"profile": profile.plant, "seed": plan.seed, "faults": plan.kinds, "fault_rate": plan.rate}
    said |= {"from": rfc3339(plan.from_ms), "to": rfc3339(plan.to_ms), "plants": len(made)}
    (folder / "plan.json").write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    tables: dict[str, list[pa.Table]] = {"true_interval": [], "true_rollup": [], "true_intensity": []}
    groups = GroupTruth(profile)
    for plant in made:
        known = Truth(profile, plant)
        groups.add(known)
        tables["true_interval"].append(known.intervals())
        tables["true_rollup"].append(known.rollups())
        tables["true_intensity"] += known.intensities()
    tables["true_rollup"] += groups.rollups()
    tables["true_intensity"] += groups.intensities()
    for name, parts in tables.items():
        path = folder / f"{name}.parquet"
        path.unlink(missing_ok=True)
        if parts:
            pq.write_table(pa.concat_tables(parts), path)


def _duration(text: str) -> int:
    try:
        length_ms = duration_ms(text)
    except ValueError as error:
        raise UsageError(f"--duration: {error}", hint="Write it like 6h or 7d.") from error
    if length_ms % MINUTE_MS or not 60 * MINUTE_MS <= length_ms <= DAYS_MAX * 24 * 60 * MINUTE_MS:
        raise UsageError(f"--duration {text} is not simulated", hint=f"Give from 1h to {DAYS_MAX}d.")
    return length_ms


def _say(out: Path, made: Sequence[Plant], lines: int, seconds: float, as_json: bool) -> None:
    placed = Counter(fault.kind for plant in made for fault in plant.faults)
    missed = Counter(kind for plant in made for _, kind in plant.not_placed)
    said: dict[str, Any] = {"plants": len(made), "messages": lines, "faults": dict(sorted(placed.items()))}
    said |= {"not_placed": dict(sorted(missed.items())), "seconds": round(seconds, 3)}
    if as_json:
        click.echo(json.dumps(said), err=str(out) == "-")
        return
    text = f"{out}: {len(made)} plants, {lines} messages, {placed.total()} faults, {seconds:.1f} s"
    if missed:
        text += f"; {missed.total()} faults found no place: {', '.join(sorted(missed))}"
    click.echo(text, err=True)
