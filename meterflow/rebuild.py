"""``meterflow archive rebuild``: results from the archive alone, and whether the stored ones are the same.

Plants that no group joins are worked out one after the other, so that memory holds one of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterflow.exporting import chunks, save
from meterflow.files import bar
from meterflow.folder import Folder
from meterflow.given import load_roster
from meterflow.paging import room_in
from meterflow.plan import counted, differing
from meterflow.plan_compare import COMPARED, Comparer, Comparison
from meterflow.rebuild_log import stretches
from metering.errors import UsageError
from metering.query import Query
from metering.roster import Roster
from metering.roster_share import share_of
from processors.batch import build_stretches
from processors.engine import Engine
from processors.room import Room
from processors.rows import Rows
from sinks.archive_reader import Archive
from sinks.store_filling import Filling, filling

TABLE_ROWS: Final = 1 << 16
"""So many go to the store in one table."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """``unknown``: plants of the archive that the site file does not have."""

    readings: int
    unknown: list[str]
    comparison: Comparison | None


def rebuild(
    site: Path, archive: Archive, *, out: Path, plants: Sequence[str], against: Path | None, as_json: bool
) -> int:
    """Writes the results to ``out``; 1 when they are others than those stored in ``against``.

    Raises UsageError for a plant that is not in the site file, and an ``out`` that has results already.
    """
    roster = load_roster(site)
    known = [plant.id for plant in roster.plants]
    if missing := sorted(set(plants) - set(known)):
        raise UsageError(f"the site file has no plant {missing[0]!r}", hint=f"It has {', '.join(known)}.")
    out.mkdir(parents=True, exist_ok=True)
    with bar("readings") as told, filling(Folder(out).store) as filled:
        room = room_in(out)
        readings = _made(roster, archive, filled, plants, room, lambda done: told(done, None))
    comparison = None if against is None else _compared(out, against, plants)
    found = Rebuilt(readings, sorted(set(archive.plants()) - set(known)), comparison)
    _tell(found, out, as_json)
    return 0 if comparison is None or comparison.same else 1


def _made(
    roster: Roster,
    archive: Archive,
    filled: Filling,
    plants: Sequence[str],
    room: Room,
    told: Callable[[int], None],
) -> int:
    """The results of these plants, or of all and their groups; how many readings they are made of."""
    done = 0
    for together in [[plant] for plant in plants] or _together(roster):
        engine = Engine(share_of(roster, together, ratios_of_groups=not plants), room)
        rows = Rows(engine, of_groups=not plants, rows_max=TABLE_ROWS)
        for stretch in stretches(archive, together):
            given = (stretch.readings, stretch.offset, stretch.stamp, engine.index, stretch.decisions)
            for step in engine.take(build_stretches(*given), closing=stretch.last):
                for name, some in rows.emit(step, rest=step.closing):
                    filled.add(name, some)
            engine.keep_no_changes()
            engine.put_out()
            done += sum(len(numbers) for _, numbers in stretch.readings)
            told(done)
    return done


def _together(roster: Roster) -> list[list[str]]:
    """Plants that groups join, which are worked out together; each other one by itself."""
    joined = {plant.index: {plant.index} for plant in roster.plants}
    for group in roster.groups:
        members = set().union(*(joined[index] for index in group.plants)) if group.plants else set()
        joined.update(dict.fromkeys(members, members))
    return [
        [roster.plants[index].id for index in sorted(members)]
        for first, members in joined.items()
        if first == min(members)
    ]


def _compared(out: Path, against: Path, plants: Sequence[str]) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="meterflow-") as name:
        scratch = Path(name)
        for table in COMPARED:
            before, after = (scratch / f"{table}.{side}.parquet" for side in ("before", "after"))
            save(chunks(against, None, Query(table), "parquet"), before)
            save(chunks(out, None, Query(table), "parquet"), after)
            if plants:
                rows = pq.read_table(before)
                pq.write_table(rows.filter(_of(rows, plants)), before)
        comparer = Comparer(scratch)
        try:
            return comparer.compare(None)
        finally:
            comparer.close()


def _of(rows: pa.Table, plants: Sequence[str]) -> pa.Array:
    """Which rows are of these plants, their lines and points."""
    if "plant" in rows.column_names:
        return pc.is_in(rows["plant"], pa.array(plants))
    whole = pa.array([f"plant:{plant}" for plant in plants])
    scope, parts = rows["scope"], [f"{kind}:{plant}/" for kind in ("point", "line") for plant in plants]
    found = pc.is_in(scope, whole)
    for part in parts:
        found = pc.or_(found, pc.starts_with(scope, part))
    return found


def _tell(found: Rebuilt, out: Path, as_json: bool) -> None:
    comparison = found.comparison
    if as_json:
        counts = None if comparison is None else {n: asdict(c) for n, c in comparison.counts.items()}
        plain = {"readings": found.readings, "unknown_plants": found.unknown, "tables": counts}
        click.echo(json.dumps(plain, ensure_ascii=False))
        return
    for plant in found.unknown:
        click.echo(f"the site file does not have the plant {plant!r}, which the archive has")
    for line in () if comparison is None else (*differing(comparison), *counted(comparison)):
        click.echo(line)
    click.echo(f"{out}: results of {found.readings} readings", err=True)
