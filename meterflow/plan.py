"""``meterflow plan``: what a changed site file or policy pack would change, before it is applied.

It does what a service does that starts with the site file: everything is worked out anew from the
readings on the log, by the same operators into a store of its own, and compared with what is stored. What the
log has let go of is taken from the archive.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
import pyarrow as pa

from bus.frames import decode_table
from bus.log import RESULTS
from meterflow.archive import place_of
from meterflow.archive_records import all_records
from meterflow.exporting import chunks, save
from meterflow.files import bar
from meterflow.folder import Folder
from meterflow.given import load_roster
from meterflow.plan_compare import COMPARED, Comparer, Comparison, Difference, Figure
from meterflow.resubmit import Report, Selection, sifted
from metering.errors import UsageError
from metering.instants import rfc3339
from metering.query import Query
from metering.roster import Roster
from processors.operators import Plants
from sinks.archive_place import Place
from sinks.store_duckdb import DuckStore, open_store

_SHOWN_MAX: Final = 40
"""Lines of one kind; all of them are in --json, and row by row in --out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen. ``orphaned``: readings that have no point any more, point -> reason -> how many.

    ``new``: points of the site file without results so far, ``vanished``: those with results that it does not
    have. ``resubmit``: messages and readings among the rejected ones that would be taken then.
    """

    comparison: Comparison
    new: list[str]
    vanished: list[str]
    orphaned: dict[str, dict[str, int]]
    resubmit: Report


def plan(site: Path, data: Path, out: Path | None, as_json: bool, url: str | None = None) -> int:
    """Tells it; nothing in the folder changes, and a service may run on it. Raises UsageError.

    ``url``: of the archive, where it is not in the folder.
    """
    roster, folder = load_roster(site), Folder(data)
    if not data.is_dir():
        raise UsageError("there is no such data folder", where=str(data), hint="Name it with --against.")
    folder.check()
    with tempfile.TemporaryDirectory(prefix="meterflow-") as scratch:
        found = _planned(roster, folder, place_of(data, url), Path(scratch), out)
    if as_json:
        click.echo(json.dumps(_plain(found), ensure_ascii=False))
    else:
        for line in _told(found):
            click.echo(line)
    return 0


def _planned(roster: Roster, folder: Folder, place: Place, scratch: Path, out: Path | None) -> Plan:
    for name in (*COMPARED, "rejected"):
        save(chunks(folder.path, None, Query(name), "parquet"), scratch / f"{name}.before.parquet")
    store, _ = open_store(scratch / "after.duckdb")
    try:
        with bar("records") as told:
            _work_out(roster, folder.path, place, store, told)
        for name in (*COMPARED, "rejected"):
            save(store.export(Query(name), "parquet"), scratch / f"{name}.after.parquet")
    finally:
        store.close()
    comparer = Comparer(scratch)
    try:
        comparison, known = comparer.compare(out), comparer.points()
        orphaned = comparer.orphans()
    finally:
        comparer.close()
    points = [f"{roster.plants[point.plant].id}/{point.id}" for point in roster.points]
    again, every = Report(), Selection.of((), (), None, None)
    for _ in sifted(scratch / "rejected.before.parquet", roster, every, again):
        pass
    new, vanished = sorted(set(points) - set(known)), sorted(set(known) - set(points))
    return Plan(comparison, new, vanished, orphaned, again)


def _work_out(
    roster: Roster, folder: Path, place: Place, store: DuckStore, told: Callable[[int, int | None], None]
) -> None:
    """The results of every reading, into the store."""
    plants, position = Plants(roster), 0
    for records in all_records(folder, place, plants.consumer):
        for part in plants.parts(records):
            entries = part.topics[RESULTS]
            frames: list[tuple[str, pa.Table]] = []
            for entry in entries:
                name, rows = decode_table(entry.value)
                frames.append((name, rows))
            position += len(entries)
            store.write(frames, position)
        told(records[-1].offset + 1, None)


# -- what is told -------------------------------------------------------------------------------------


def _plain(found: Plan) -> dict[str, Any]:
    comparison = found.comparison
    return {
        "tables": {name: asdict(counts) for name, counts in comparison.counts.items()},
        "differences": [_named(one) for one in comparison.differences],
        "figures": [_named(one) for one in comparison.figures],
        "points": {"new": found.new, "vanished": found.vanished},
        "orphaned_readings": found.orphaned,
        "resubmit": {"messages": found.resubmit.messages, "readings": found.resubmit.readings},
    }


def _named(one: Difference | Figure) -> dict[str, Any]:
    plain = asdict(one)
    for name in ("from", "to", "end"):
        if f"{name}_ms" in plain:
            plain[name] = rfc3339(plain.pop(f"{name}_ms"))
    return {"table": plain.pop("table"), **plain.pop("of"), **plain}


def _told(found: Plan) -> Iterator[str]:
    yield from differing(found.comparison)
    yield from _limited([f"new point      {point}" for point in found.new], "new points")
    yield from _limited([f"vanished point {point}" for point in found.vanished], "vanished points")
    orphans = [f"orphaned       {point or 'of no plant'}: {count} readings, {reason}"
               for point, reasons in found.orphaned.items() for reason, count in reasons.items()]  # fmt: skip
    yield from _limited(orphans, "points with orphaned readings")
    if found.resubmit.messages:
        yield (
            f"{found.resubmit.readings} readings that were rejected would be taken then: meterflow resubmit"
        )
    yield from counted(found.comparison)


def differing(comparison: Comparison) -> Iterator[str]:
    """Lines of figures that differ, and of what has rows that do."""
    yield from _limited([_line_of_figure(one) for one in comparison.figures], "figures")
    yield from _limited([_line_of_rows(one) for one in comparison.differences], "things with differing rows")


def counted(comparison: Comparison) -> Iterator[str]:
    """A line of counts for each table."""
    for name, one in comparison.counts.items():
        yield (
            f"{name:9} {one.same} rows as they are, {one.changed} changed, {one.added} new, {one.gone} gone;"
            f" {one.open} open ones not compared"
        )


def _limited(lines: list[str], what: str) -> Iterator[str]:
    yield from lines[:_SHOWN_MAX]
    if len(lines) > _SHOWN_MAX:
        yield f"... {len(lines) - _SHOWN_MAX} more {what}: --json, or row by row --out"


def _line_of_figure(one: Figure) -> str:
    of = " ".join(word for word in one.of.values() if word)
    so_far = ", so far" if one.open else ""
    change = f"{one.before or '-'} -> {one.after or '-'} {one.unit}"
    return f"{one.table:9} {of}, until {rfc3339(one.end_ms)}{so_far}: {change}"


def _line_of_rows(one: Difference) -> str:
    of = " ".join(word for word in one.of.values() if word)
    counts = [
        f"{n} {word}" for n, word in ((one.changed, "changed"), (one.added, "new"), (one.gone, "gone")) if n
    ]
    sums = f", in all {one.before or '-'} -> {one.after or '-'} {one.unit}" if one.before or one.after else ""
    return f"{one.table:9} {of}, {rfc3339(one.from_ms)} to {rfc3339(one.to_ms)}: {', '.join(counts)}{sums}"
