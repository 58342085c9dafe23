"""Cases in stages: what comes, what is said then, what comes later, and what is said of it then.

A stage is a folder with a number: its readings.txt, its expected.yaml and, where it is changed from then on,
its site.yaml (and policy pack). The store is the real one, with the stores before a changed site file beside
it; time is the case's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

from bus.decision_frames import encode_decisions
from bus.frames import decode_table, encode_readings
from bus.log import RESULTS, Record
from meterflow.folder import Folder
from metering.query import Query
from metering.roster import Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site
from metering.tables import TABLES
from processors.operators import Plants
from sinks.store_duckdb import DuckStore, open_store
from sinks.store_earlier import EarlierResults
from tests.processors.cases import Notation, equal, expected, named_by
from tests.processors.log_driver import Arrival, Decide, Item, Reading, as_readings

CASES = sorted(path.parent.parent for path in (Path(__file__).parents[1] / "cases").glob("*/1/expected.yaml"))
REPORTED = ("interval", "rollup", "intensity", "verdict", "alert")
RECORDS_AT_ONCE = 500

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Stage:
    """``at_ms``: when the last of it was received; ``site``: None where it is as before."""

    name: str
    notation: Notation
    log: list[Arrival]
    site: Path | None
    expected: Row
    at_ms: int


def stages_of(case: Path) -> list[Stage]:
    """In their order; each is received behind the one before, or as-of could not tell them apart."""
    found: list[Stage] = []
    from_ms = at_ms = 0
    for folder in sorted(path for path in case.iterdir() if path.name.isdecimal()):
        text = (folder / "readings.txt").read_text() if (folder / "readings.txt").exists() else ""
        notation = Notation(text, from_ms)
        log = notation.arrivals(at_ms)
        assert not found or not log or log[0].stamp_ms > at_ms, (
            f"{folder}: received STAMP is missing, or too early"
        )
        site = folder / "site.yaml"
        from_ms, at_ms = notation.from_ms, log[-1].stamp_ms if log else at_ms + 1
        wanted = expected(folder / "expected.yaml")
        found.append(Stage(folder.name, notation, log, site if site.exists() else None, wanted, at_ms))
    return found


@dataclass(slots=True)
class Staged:
    """A data folder that is filled stage by stage. ``again``: dump and load of the state between batches."""

    path: Path
    again: bool = False
    readings: list[Item] = field(default_factory=list)
    roster: Roster = field(init=False)
    _log: list[Record] = field(default_factory=list)
    _folder: Folder = field(init=False)
    _store: DuckStore = field(init=False)
    _plants: Plants = field(init=False)
    _chunks: dict[str, bytes] = field(default_factory=dict)
    _position: int = 0

    def __post_init__(self) -> None:
        self._folder = Folder(self.path)
        self._folder.open()
        self._store, _ = open_store(self._folder.store)

    def take(self, stage: Stage) -> None:
        """What came; behind a changed site file everything is worked out anew, as by ``up``."""
        if stage.site is not None:
            self._change(stage)
        records = [_record(len(self._log) + number, one) for number, one in enumerate(stage.log)]
        self._work_out(records)
        self._log += records
        self.readings += [item for one in stage.log for item in one.readings]

    def rows(self, at_ms: int | None = None) -> Rows:
        """The newest of each table, or what was reported at an instant."""
        results = EarlierResults(self._store, self._folder.stood)
        names = TABLES if at_ms is None else REPORTED
        return {name: results.rows(Query(name, as_of_ms=at_ms)) for name in names}

    def history(self, table: str) -> list[Row]:
        """Every reported row."""
        return self._store.rows(Query(table, history=True))

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

    def _change(self, stage: Stage) -> None:
        assert stage.site is not None
        self.roster = compile_roster(load_site(stage.site))
        self._plants, self._position = Plants(self.roster), 0
        self._chunks = {}
        if self._log:
            self._store.close()
            aside = self._folder.put_aside()
            stamp = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self._log[-1].stamp_ms + 1)
            shutil.move(aside, aside.with_name(f"results.duckdb.before-{stamp.strftime('%Y%m%dT%H%M%S%fZ')}"))
            (self.path / "earlier").unlink()
            self._store, _ = open_store(self._folder.store)
        self._work_out(self._log)

    def _work_out(self, records: list[Record]) -> None:
        for first in range(0, len(records), RECORDS_AT_ONCE):
            for part in self._plants.parts(records[first : first + RECORDS_AT_ONCE]):
                frames = [decode_table(entry.value) for entry in part.topics[RESULTS]]
                self._position += len(frames)
                self._store.write(frames, self._position)
            if self.again:
                changed, gone = self._plants.dump()
                self._chunks = {
                    name: chunk for name, chunk in (self._chunks | changed).items() if name not in gone
                }
                self._plants = Plants(self.roster)
                self._plants.load(self._chunks)


def _record(offset: int, one: Arrival) -> Record:
    item = one.readings[0]
    if isinstance(item, Reading):
        return Record(offset, item.plant, encode_readings(as_readings([item], one.stamp_ms)), one.stamp_ms)
    assert isinstance(item, Decide)
    return Record(offset, item.plant, encode_decisions(item.plant, [item.said]), one.stamp_ms)


def reported(rows: Rows) -> dict[tuple[Any, ...], Row]:
    """What was reported, by table and key: what is still filling was not."""
    return {
        (name, *(row[column] for column in TABLES[name].key)): row
        for name in REPORTED
        if TABLES[name].key
        for row in rows[name]
        if row.get("state") != "open"
    }


def restated(before: Rows, after: Rows) -> Iterator[tuple[str, Row]]:
    """Table and newest row of what had been reported and is not as it was; what is no more, as it was."""
    old, new = reported(before), reported(after)
    for key, row in old.items():
        if new.get(key) != row:
            yield key[0], new.get(key, {**row, "state": "gone"})


def check_expected(rows: Rows, stage: Stage) -> None:
    """Every expected row is there once with the columns that are given, and sums come out."""
    wanted, notation = stage.expected, stage.notation
    for table in wanted.keys() & TABLES.keys():
        for row in wanted[table]:
            _is_there(rows[table], notation.wanted(table, row), table, stage.name)
    for line in wanted.get("sums", []):
        amounts = [r["amount"] for r in rows[line["table"]] if matches(notation, line, line["table"], r)]
        known = [Fraction(amount) for amount in amounts if amount is not None]
        assert sum(known, Fraction(0)) == Fraction(str(line["amount"])), (stage.name, line)
    for line in wanted.get("no", []):
        assert not [r for r in rows[line["table"]] if matches(notation, line, line["table"], r)], line


def check_restated(before: Rows, after: Rows, stage: Stage) -> None:
    """Each row of before that is not as it was is named by one line of the stage, with revision and cause."""
    lines: list[Row] = stage.expected.get("restated", [])
    counts = [0] * len(lines)
    for table, row in restated(before, after):
        fits = [n for n, line in enumerate(lines) if matches(stage.notation, line, table, row)]
        assert len(fits) == 1, f"stage {stage.name}: {len(fits)} lines for {table} {row}"
        counts[fits[0]] += 1
        line = lines[fits[0]]
        story = {name: row[name] for name in ("revision", "cause") if name in line}
        assert story == {name: line[name] for name in story}, (stage.name, line, row)
    assert counts == [line.get("rows", 1) for line in lines], (stage.name, lines, counts)


def matches(notation: Notation, line: Row, table: str, row: Row) -> bool:
    """Whether a line of `restated`, `sums` or `no` is about a row: `after` < end <= `until`."""
    if line["table"] != table:
        return False
    end = TABLES[table].time
    if "after" in line and row[end] <= notation.instant(line["after"]):
        return False
    if "until" in line and row[end] > notation.instant(line["until"]):
        return False
    own = {
        name: value
        for name, value in line.items()
        if name in row and name not in ("revision", "cause", "amount")
    }
    return all(equal(row[name], value) for name, value in notation.wanted(table, own).items())


def _is_there(rows: list[Row], wanted: Row, table: str, stage: str) -> None:
    key = {name: value for name, value in wanted.items() if name in named_by(table)}
    found = [row for row in rows if all(row[name] == value for name, value in key.items())]
    assert len(found) == 1, f"stage {stage}: {len(found)} rows of {table} for {key}"
    other = {name: found[0][name] for name, value in wanted.items() if not equal(found[0][name], value)}
    assert other == {}, f"stage {stage}: {table} {wanted}"
