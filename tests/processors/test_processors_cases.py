"""Cases as data: tests/cases/<what it shows>/ with a site, readings in their order, and what must come out.

readings.txt: a line each, `when, plant/point, value [unit] [, start, revision, serial]`; `when` and
`start` are RFC 3339 stamps, or minutes after the stamp that a first line `from STAMP` gives.
`decide plant/point, from, to, verdict, by [, revision] [, value]` is what a person says there.
expected.yaml: by table, rows named by key columns with whatever columns matter; `sums` of amounts;
`no` rows like these. Instants are as in readings.txt.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from metering.decisions import Decision
from metering.site_compile import compile_roster
from metering.site_load import load_site
from metering.tables import TABLES, Kind
from tests.processors.laws import said
from tests.processors.log_driver import MINUTE_MS, Arrival, Decide, Driver, Item, Reading, differences, run
from tests.processors.oracle_windows import tables_of

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases").glob("*/expected.yaml"))


class Case:
    """One folder of tests/cases."""

    def __init__(self, folder: Path) -> None:
        lines = [line.strip() for line in (folder / "readings.txt").read_text().splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        self.from_ms = _stamp_ms(lines.pop(0).removeprefix("from ")) if lines[0].startswith("from ") else 0
        self.roster = compile_roster(load_site(folder / "site.yaml"))
        self.readings = [self._item(line) for line in lines]
        self.expected = YAML(typ="safe").load((folder / "expected.yaml").read_text())

    def _item(self, line: str) -> Item:
        return self._decision(line[7:]) if line.startswith("decide ") else self._reading(line)

    def _decision(self, line: str) -> Decide:
        place, start, end, verdict, by, revision, value = ([*map(str.strip, line.split(",")), "", ""])[:7]
        plant, point = place.split("/")
        times = self.instant(start), self.instant(end)
        return Decide(plant, Decision(point, None, *times, verdict, by, int(revision or 0), value))

    def _reading(self, line: str) -> Reading:
        when, place, value, start, revision, serial = ([*map(str.strip, line.split(",")), "", "", ""])[:6]
        plant, point = place.split("/")
        number, _, unit = value.partition(" ")
        start_ms = self.instant(start) if start else None
        return Reading(
            plant,
            point,
            self.instant(when),
            number,
            start_ms,
            int(revision or 0),
            serial or None,
            unit or None,
        )

    def instant(self, written: Any) -> int:
        """UTC milliseconds of a stamp, or of minutes after the case's first instant."""
        text = str(written)
        return _stamp_ms(text) if "T" in text else self.from_ms + round(Decimal(text) * MINUTE_MS)

    def wanted(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """An expected row with its instants in milliseconds."""
        times = {column.name for column in TABLES[table].columns if column.kind is Kind.TIME}
        return {
            name: self.instant(value) if name in times and value is not None else value
            for name, value in row.items()
        }

    def run(self, records_max: int = 1) -> Driver:
        """Each reading as a record of its own, stamped with the newest time so far, so many at a time."""
        log, stamp_ms = [], self.from_ms
        for reading in self.readings:
            stamp_ms = max(stamp_ms, reading.time_ms if isinstance(reading, Reading) else 0)
            log.append(Arrival(stamp_ms, (reading,)))
        return run(self.roster, log, cut=lambda: records_max)

    def run_in_lots(self) -> Driver:
        """Readings that follow one another in one record, and what people say then in another."""
        stamps = [reading.time_ms for reading in self.readings if isinstance(reading, Reading)]
        lots = groupby(self.readings, key=lambda item: isinstance(item, Decide))
        return run(self.roster, [Arrival(max(self.from_ms, *stamps), tuple(lot)) for _, lot in lots])


@cache
def _ran(folder: Path) -> tuple[Case, Driver]:
    """The case, fed reading by reading, once for all tests."""
    case = Case(folder)
    return case, case.run()


def _stamp_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _found(driver: Driver, table: str, named: dict[str, Any]) -> list[dict[str, Any]]:
    rows = driver.tables.get(table, {}).values()
    return [row for row in rows if all(row[name] == value for name, value in named.items())]


def _named(table: str) -> tuple[str, ...]:
    """The columns by which a row is named; what is only ever added has its instant."""
    return TABLES[table].key or ("time", "point")


def _equal(is_: Any, wanted: Any) -> bool:
    """Amounts as exact decimals, doubles as doubles."""
    if isinstance(is_, Decimal) and wanted is not None:
        return is_ == Decimal(str(wanted))
    return bool(is_ == wanted)


@pytest.mark.parametrize("folder", CASES, ids=[folder.name for folder in CASES])
def test_a_case_comes_out_as_expected(folder: Path) -> None:
    """Every expected row is there once, with the columns that are given."""
    case, driver = _ran(folder)
    for table in case.expected.keys() & TABLES.keys():
        for row in case.expected[table]:
            wanted = case.wanted(table, row)
            key = {name: value for name, value in wanted.items() if name in _named(table)}
            found = _found(driver, table, key)
            assert len(found) == 1, f"{table}: {len(found)} rows for {row}"
            assert {n: found[0][n] for n, v in wanted.items() if not _equal(found[0][n], v)} == {}, row
    for row in case.expected.get("no", []):
        named = {name: value for name, value in row.items() if name != "table"}
        assert _found(driver, row["table"], case.wanted(row["table"], named)) == []


@pytest.mark.parametrize("folder", CASES, ids=[folder.name for folder in CASES])
def test_the_sums_of_a_case_come_out_as_expected(folder: Path) -> None:
    """Amounts add up to what was used, whatever their shape."""
    case, driver = _ran(folder)
    for row in case.expected.get("sums", []):
        named = {name: value for name, value in row.items() if name not in ("table", "amount")}
        found = _found(driver, row["table"], case.wanted(row["table"], named))
        known = [Fraction(r["amount"]) for r in found if r["amount"] is not None]
        assert sum(known, Fraction(0)) == Fraction(str(row["amount"]))


@pytest.mark.parametrize("folder", CASES, ids=[folder.name for folder in CASES])
def test_a_case_is_as_the_oracle_has_it(folder: Path) -> None:
    """Engine and oracle agree on each case, whole: reading by reading, all at once, in lots."""
    case, driver = _ran(folder)
    wanted = tables_of(case.roster, case.readings)
    assert differences(said(driver, wanted), wanted) == []
    assert differences(said(case.run(len(case.readings)), wanted), wanted) == []
    assert differences(said(case.run_in_lots(), wanted), wanted) == []
