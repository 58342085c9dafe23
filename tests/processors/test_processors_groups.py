"""Groups whose plants lie on several partitions: the same figures as with all of them on one."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.roster import Roster
from metering.roster_share import GROUP, share_of
from metering.site_compile import compile_roster
from metering.site_load import load_site
from metering.tables import POSITION, TABLES
from processors import portions
from processors.batch import LogRecord
from processors.engine import Engine
from processors.groups import Groups, PortionRecord
from processors.portions import Portioner, decode
from processors.rows import Rows
from tests.processors.histories import DAY_MS, HOUR_MS, examples, histories, logs
from tests.processors.log_driver import (
    Arrival,
    Key,
    Reading,
    Row,
    Store,
    _plain,
    as_records,
    differences,
    of_the_set,
    run,
)

SAID = ("rollup", "intensity")
BEGIN_MS, NOON_MS = 20_000 * DAY_MS, 20_003 * DAY_MS + DAY_MS // 2
SITE = """\
meterflow: 1
groups:
  - {id: g, kind: park, intensity: [{id: per-yuan, of: electricity, per: value_added, windows: [day]}]}
plants:
  - id: a
    within: [g]
    time_zone: UTC
    points:
      - {id: e, measures: electricity, reads: interval, unit: kWh}
      - {id: v, measures: value_added, reads: interval, unit: CNY}
"""


class Partitioned:
    """Each plant on a partition of its own, and the second stage behind them."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.plants = [plant.id for plant in roster.plants]
        self.engines = [Engine(share_of(roster, {plant})) for plant in self.plants]
        self.rows = [Rows(engine) for engine in self.engines]
        self.portioners = [Portioner(engine) for engine in self.engines]
        self.groups = Groups(roster, range(len(self.plants)))
        self.tables: Store = {}
        self.reported: list[tuple[str, Key, Row | None]] = []
        """Every row of a group that is not open, None where it is gone, in the order they were said."""
        self.chunks: dict[str, bytes] = {}
        self._offset = 0

    def feed(self, partition: int, record: LogRecord) -> None:
        """A record through its partition, and what comes of it through the stage."""
        for step in self.engines[partition].step([record]):
            self.portioners[partition].add(step)
            for name, table in self.rows[partition].emit(step):
                self._take(name, [r for r in _plain(table).to_pylist() if not _of_group(r)])
        for frame in self.portioners[partition].take():
            self._offset += 1
            portion = PortionRecord(self._offset, record.stamp_ms, partition, decode(frame))
            for name, table in self.groups.step([portion]):
                self._take(name, _plain(table).to_pylist())

    def anew(self, partition: int, log: list[LogRecord]) -> None:
        """Loses a partition's state, and works it out from the first record."""
        self.engines[partition] = Engine(share_of(self.roster, {self.plants[partition]}))
        self.rows[partition] = Rows(self.engines[partition])
        self.portioners[partition] = Portioner(self.engines[partition])
        for record in log:
            self.feed(partition, record)

    def restart(self) -> None:
        """Goes on in a fresh stage that loaded what the one before dumped."""
        changed, gone = self.groups.dump()
        self.chunks = {n: c for n, c in (self.chunks | changed).items() if n not in gone}
        self.groups = Groups(self.roster, range(len(self.plants)))
        assert self.groups.fits(self.chunks)
        self.groups.load(self.chunks)

    def _take(self, name: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            position = row.pop(POSITION)
            key = tuple(row[column] for column in TABLES[name].key)
            if _of_group(row) and row["state"] != "open":
                self.reported.append((name, key, row if position >= 0 else None))
            if position < 0:
                self.tables.setdefault(name, {}).pop(key, None)
            else:
                self.tables.setdefault(name, {})[key] = row


def _of_group(row: dict[str, Any]) -> bool:
    return str(row.get("scope", "")).startswith(GROUP)


def partitioned(roster: Roster, log: list[Arrival], restarts: list[bool]) -> Partitioned:
    """The log, each record to its plant's partition, ticks to all; restarted after records where told."""
    out = Partitioned(roster)
    for number, record in enumerate(as_records(log)):
        for partition, plant in enumerate(out.plants):
            if record.readings is None or record.readings.plant == plant:
                out.feed(partition, record)
        if restarts[number % len(restarts)]:
            out.restart()
    return out


@given(st.data())
@examples(0.5)
def test_the_figures_of_groups_do_not_depend_on_partitions(data: st.DataObject) -> None:
    """Roll-ups and windows of plants and groups are those of one partition, whatever comes when."""
    history = data.draw(histories())
    log = data.draw(logs(history.readings))
    restarts = data.draw(st.lists(st.booleans(), min_size=1, max_size=5))
    one = run(history.roster, log, cut=lambda: 1)
    several = partitioned(history.roster, log, restarts)
    wanted, found = (of_the_set(tables, SAID) for tables in (one.tables, several.tables))
    assert differences(wanted, found) == []


@given(st.data())
@examples(0.3)
def test_groups_become_final_as_on_one_partition(data: st.DataObject) -> None:
    """When every partition's plants have come past a span's end, or their patience is up.

    Which of them were revised may differ: a partition's time is moved by its own records only.
    """
    history = data.draw(histories())
    newest_ms = max(reading.time_ms for reading in history.readings)
    log = [*data.draw(logs(history.readings)), Arrival(newest_ms + 800 * DAY_MS)]
    one = run(history.roster, log, cut=lambda: 1)
    several = partitioned(history.roster, log, [False])
    for name in SAID:
        still_open = [key for key, row in several.tables.get(name, {}).items() if row["state"] == "open"]
        assert still_open == [key for key, row in one.tables.get(name, {}).items() if row["state"] == "open"]


@given(st.data())
@examples(0.3)
def test_a_partition_that_is_worked_out_anew_restates_nothing(data: st.DataObject) -> None:
    """What it once said comes again, older than what is there: groups report nothing but what they did.

    Somewhere in the log all patience is used up; what comes behind it is late.
    """
    history = data.draw(histories())
    newest_ms = max(reading.time_ms for reading in history.readings)
    log = data.draw(logs(history.readings))
    log.insert(data.draw(st.integers(1, len(log))), Arrival(newest_ms + 800 * DAY_MS))
    log = _one_after_the_other(log)
    several = partitioned(history.roster, log, [False])
    before = {name: dict(rows) for name, rows in several.tables.items()}
    partition = data.draw(st.sampled_from(range(len(several.plants))))
    several.reported.clear()
    several.anew(partition, _log_of(log, several.plants[partition]))
    assert [said for said in several.reported if before[said[0]].get(said[1]) != said[2]] == []


def test_a_long_read_that_was_corrected_is_not_there_again(tmp_path: Path) -> None:
    """Nor any day empty again in which it lay, when its partition is worked out anew."""
    (tmp_path / "site.yaml").write_text(SITE)
    roster = compile_roster(load_site(tmp_path / "site.yaml"))
    end_ms, last_ms = BEGIN_MS + 3 * DAY_MS, BEGIN_MS + 900 * DAY_MS
    long = Reading("a", "v", end_ms, "30", start_ms=BEGIN_MS)
    log = [
        Arrival(NOON_MS, (Reading("a", "e", end_ms, "5", start_ms=end_ms - DAY_MS),)),
        Arrival(NOON_MS + 1, (long,)),
        Arrival(last_ms),
        Arrival(last_ms + 1, (replace(long, value="9", start_ms=end_ms - DAY_MS, revision=1),)),
    ]
    several = partitioned(roster, log, [False])
    before = several.tables["intensity"].copy()
    several.reported.clear()
    several.anew(0, as_records(log))
    windows = [(key, row) for name, key, row in several.reported if name == "intensity"]
    assert [row["reason"] for row in before.values()] == [""]
    assert windows == list(before.items()) * len(windows)


def _one_after_the_other(log: list[Arrival]) -> list[Arrival]:
    """The same, each at a log time of its own."""
    stamps = accumulate((record.stamp_ms for record in log), lambda before, stamp: max(before + 1, stamp))
    return [replace(record, stamp_ms=stamp) for record, stamp in zip(log, stamps, strict=True)]


def _log_of(log: list[Arrival], plant: str) -> list[LogRecord]:
    """A plant's records, and the ticks."""
    return [r for r in as_records(log) if r.readings is None or r.readings.plant == plant]


@pytest.mark.parametrize("rows_max", [1, 20_000])
def test_a_partition_that_is_worked_out_anew_is_not_added_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    """Value added over three days is none of one of them, until that day's own read takes its place.

    However many rows a frame of portions has.
    """
    monkeypatch.setattr(portions, "FRAME_ROWS_MAX", rows_max)
    (tmp_path / "site.yaml").write_text(SITE)
    roster = compile_roster(load_site(tmp_path / "site.yaml"))
    log = [
        Arrival(NOON_MS, (Reading("a", "v", BEGIN_MS + 3 * DAY_MS, "30", start_ms=BEGIN_MS),)),
        Arrival(NOON_MS, (Reading("a", "e", BEGIN_MS + 3 * DAY_MS, "5", start_ms=BEGIN_MS + 2 * DAY_MS),)),
        Arrival(
            NOON_MS,
            (Reading("a", "v", BEGIN_MS + 3 * DAY_MS, "9", start_ms=BEGIN_MS + 2 * DAY_MS, revision=1),),
        ),
    ]
    several = Partitioned(roster)
    first, second, third = as_records(log)
    several.anew(0, [first, second])
    several.anew(0, [first, second, third])
    one = run(roster, log, cut=lambda: 1)
    wanted, found = (of_the_set(tables, SAID) for tables in (one.tables, several.tables))
    assert differences(wanted, found) == []
    assert [row["reason"] for row in found["intensity"].values()] == [""]


def _value_added(end_ms: int, start_ms: int, value: str) -> Arrival:
    return Arrival(NOON_MS, (Reading("a", "v", end_ms, value, start_ms=start_ms),))


def test_a_long_read_in_conflict_leaves_the_days_of_a_group_known(tmp_path: Path) -> None:
    """Nobody knows where it began: what other reads say of the same days holds, as on one partition."""
    (tmp_path / "site.yaml").write_text(SITE)
    roster = compile_roster(load_site(tmp_path / "site.yaml"))
    day_ms, noon_ms = BEGIN_MS + 2 * DAY_MS, BEGIN_MS + 2 * DAY_MS + DAY_MS // 2
    log = [
        Arrival(NOON_MS, (Reading("a", "e", day_ms + DAY_MS, "5", start_ms=day_ms),)),
        _value_added(day_ms + DAY_MS, day_ms, "9"),
        _value_added(noon_ms, noon_ms - HOUR_MS, "3"),
        _value_added(noon_ms, noon_ms - 3 * DAY_MS, "2"),
    ]
    one, several = run(roster, log, cut=lambda: 1), partitioned(roster, log, [False])
    wanted, found = (of_the_set(tables, SAID) for tables in (one.tables, several.tables))
    assert differences(wanted, found) == []
    assert [row["reason"] for row in found["intensity"].values()] == [""]
