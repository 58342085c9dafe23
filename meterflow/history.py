"""``meterflow history``: every revision of one figure, with its cause and the readings behind it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from meterflow.archive import place_of
from meterflow.archive_tail import whole
from meterflow.exporting import chunks
from meterflow.folder import Folder
from meterflow.given import SITE_FILE, instant_ms, load_roster, written
from meterflow.history_readings import Behind, Reach, add_payloads, came, members
from metering.errors import UsageError
from metering.instants import rfc3339
from metering.query import Query
from metering.roster import Roster
from metering.tables import TABLES, Kind, Table
from sinks.archive_place import Place
from sinks.archive_sites import kept

_NAMED_MAX = 5
_OF_REVISIONS = ("interval", "rollup", "intensity", "verdict", "alert")
_STORY = ("state", "revision", "cause", "reported")

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Where:
    """Where results, archive and site file are; the last two: None, those of the data folder."""

    data: Path
    settings: Path | None
    archive: str | None
    site: Path | None

    def place(self) -> Place:
        """The archive."""
        url = self.archive
        if url is None and self.settings is not None:
            from meterflow.settings import load_settings
            from meterflow.settings_made import archive

            return archive(load_settings(self.settings, ("archive",)))
        return place_of(self.data, url)

    @property
    def folder(self) -> Path | None:
        """Where there is a log that may have more than the archive."""
        return None if self.settings is not None else self.data


@dataclass(frozen=True, slots=True)
class Shown:
    """``revision``: None, all; ``readings``: so many of each; ``payloads``: with the raw bytes."""

    revision: int | None
    readings: int
    payloads: bool
    as_json: bool


def history(table: str, key: Sequence[str], where: Where, shown: Shown) -> None:
    """Writes it to standard output. Raises UsageError where the key names no figure, or several."""
    if table not in _OF_REVISIONS:
        hint = f"Tables: {', '.join(_OF_REVISIONS)}."
        raise UsageError(f"there is no history of a table {table!r}", hint=hint)
    rows = _revisions(TABLES[table], _wanted(TABLES[table], key), where)
    for row, before, behind in _behind(TABLES[table], rows, where, shown):
        _tell(TABLES[table], row, before, behind, shown)


# -- which figure -------------------------------------------------------------------------------------


def _wanted(table: Table, words: Sequence[str]) -> dict[str, str | int]:
    """Columns of the key and what they are to be: texts, or instants in ms."""
    kinds = {column.name: column.kind for column in table.columns}
    out: dict[str, str | int] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in table.key:
            hint = f"A figure of {table.name} is named by {', '.join(table.key)}, each as NAME=VALUE."
            raise UsageError(f"{word!r} names no column of its key", hint=hint)
        out[name] = instant_ms(text, name) if kinds[name] is Kind.TIME else text
    if table.time not in out:
        hint = f"Add {table.time}=INSTANT, as export and the page have it."
        raise UsageError(f"the key lacks {table.time!r}", hint=hint)
    return out


def _revisions(table: Table, wanted: Mapping[str, str | int], where: Where) -> list[Row]:
    """What was reported of the one figure that this is, in the order in which it was said."""
    rows = _rows(table, wanted, where, history=True)
    keys = {tuple(row[name] for name in table.key) for row in rows}
    if len(keys) > 1:
        told = [" ".join(f"{n}={v}" for n, v in zip(table.key, one, strict=True) if v) for one in keys]
        more = f"\n  ... {len(keys) - _NAMED_MAX} more" if len(keys) > _NAMED_MAX else ""
        hint = "Name one of them:\n  " + "\n  ".join(sorted(told)[:_NAMED_MAX]) + more
        raise UsageError(f"{len(keys)} figures have this key", hint=hint)
    if rows:
        return rows
    if _rows(table, wanted, where, history=False):
        raise UsageError("nothing has been reported of this figure yet: it is still open")
    hint = f"See which there are: meterflow export {table.name}"
    raise UsageError("there is no such figure", hint=hint)


def _rows(table: Table, wanted: Mapping[str, str | int], where: Where, *, history: bool) -> list[Row]:
    at = wanted[table.time]
    assert isinstance(at, int)
    texts = {name: (value,) for name, value in wanted.items() if isinstance(value, str)}
    query = Query(table.name, from_ms=at - 1, to_ms=at, equal=texts, history=history)
    content = b"".join(chunks(where.data, where.settings, query, "csv")).decode()
    found = csv.DictReader(io.StringIO(content))
    instants = {name: rfc3339(value) for name, value in wanted.items() if isinstance(value, int)}
    return [row for row in found if all(row[name] == text for name, text in instants.items())]


# -- what is behind it --------------------------------------------------------------------------------


def _behind(
    table: Table, rows: list[Row], where: Where, shown: Shown
) -> Iterator[tuple[Row, Row | None, Behind]]:
    """Each revision that is wanted, the one before it, and what came for it."""
    place = where.place()
    reach = _reach(table, rows[-1], where, place)
    said = [instant_ms(row["reported"]) for row in rows]
    edges = sorted(set(said))
    chosen = [n for n, row in enumerate(rows) if shown.revision in (None, int(row["revision"] or 0))]
    if not chosen:
        revisions = ", ".join(str(row["revision"]) for row in rows)
        raise UsageError(f"there is no revision {shown.revision} of it", hint=f"There are: {revisions}.")
    with whole(where.folder, place) as archive:
        found = came(archive, reach, edges, shown.readings)
    if shown.payloads:
        add_payloads(found, place)
    for n in chosen:
        behind = found[edges.index(said[n])]
        yield rows[n], rows[n - 1] if n else None, behind


def _reach(table: Table, row: Row, where: Where, place: Place) -> Reach:
    """The points whose readings count for a figure, and from when to when."""
    if table.name in ("interval", "verdict"):
        first, last = ("start", "end") if table.name == "interval" else ("from", "to")
        return Reach({row["plant"]: {row["point"]}}, instant_ms(row[first]), instant_ms(row[last]))
    roster = _roster(where, place)
    if table.name == "alert":
        row = _window_of(row, roster, where)
    points = members(roster, row)
    return Reach(points, instant_ms(row["start"]), instant_ms(row["end"]))


def _window_of(row: Row, roster: Roster, where: Where) -> Row:
    """The window of an intensity that an alert was about."""
    rule = next((one for one in roster.alerts if (one.id, one.scope) == (row["id"], row["scope"])), None)
    windows = []
    if rule is not None and row["window_end"]:
        named = {"scope": rule.scope, "id": rule.when, "window": rule.window}
        wanted: dict[str, str | int] = {**named, "end": instant_ms(row["window_end"])}
        windows = _rows(TABLES["intensity"], wanted, where, history=False)
    if not windows:
        hint = "By the site file in force there is no such alert, or no window that it was about."
        raise UsageError("it is not known which readings this alert is of", hint=hint)
    return windows[0]


def _roster(where: Where, place: Place) -> Roster:
    """By the site file in force: as given, that of the settings, or as the archive keeps it."""
    if where.site is not None:
        return load_roster(where.site)
    if where.settings is not None:
        from meterflow.settings import load_settings

        return load_roster(load_settings(where.settings, ()).site)
    version = (Folder(where.data).site() or "").partition(" ")[0]
    files = kept(place, version) if version else {}
    if SITE_FILE not in files:
        hint = "Give the site file that the service runs with: --site SITE."
        raise UsageError("the archive does not have the site file in force", where=place.where, hint=hint)
    with written(files) as folder:
        return load_roster(folder / SITE_FILE)


# -- what is told -------------------------------------------------------------------------------------


def _tell(table: Table, row: Row, before: Row | None, behind: Behind, shown: Shown) -> None:
    if shown.as_json:
        click.echo(json.dumps({"row": row, **behind.plain()}, ensure_ascii=False))
        return
    for line in _lines(table, row, before, behind):
        click.echo(line)


def _lines(table: Table, row: Row, before: Row | None, behind: Behind) -> Iterator[str]:
    story = [row[name] for name in ("state", "cause") if row.get(name)]
    yield f"revision {row['revision'] or 0}, reported {row['reported']}" + (
        f": {', '.join(story)}" if story else ""
    )
    figures = [name for name in table.names if name not in (*table.key, *_STORY)]
    for name in figures:
        if before is None and row[name]:
            yield f"  {name} {row[name]}"
        elif before is not None and row[name] != before[name]:
            yield f"  {name} {before[name] or '-'} -> {row[name] or '-'}"
    yield from behind.lines()
