"""Cases as data: tests/cases/<what it shows>/ with a site, readings in their order, and what must come out.

How they are written is in tests/processors/cases.py; expected.yaml has by table the rows that matter, `sums`
of amounts, and in `no` rows that must not be.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from metering.site_compile import compile_roster
from metering.site_load import load_site
from metering.tables import TABLES
from tests.processors.cases import Notation, equal, expected, named_by
from tests.processors.laws import said
from tests.processors.log_driver import Arrival, Decide, Driver, Reading, differences, run
from tests.processors.oracle_windows import tables_of

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases").glob("*/expected.yaml"))


class Case:
    """One folder of tests/cases."""

    def __init__(self, folder: Path) -> None:
        self.notation = Notation((folder / "readings.txt").read_text())
        self.roster = compile_roster(load_site(folder / "site.yaml"))
        self.log = self.notation.arrivals()
        self.readings = [item for arrival in self.log for item in arrival.readings]
        self.expected = expected(folder / "expected.yaml")

    def wanted(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """An expected row with its instants in milliseconds."""
        return self.notation.wanted(table, row)

    def run(self, records_max: int = 1) -> Driver:
        """Each reading as a record of its own, so many at a time."""
        return run(self.roster, self.log, cut=lambda: records_max)

    def run_in_lots(self) -> Driver:
        """Readings that follow one another in one record, and what people say then in another."""
        stamps = [reading.time_ms for reading in self.readings if isinstance(reading, Reading)]
        lots = groupby(self.readings, key=lambda item: isinstance(item, Decide))
        newest_ms = max(self.notation.from_ms, *stamps)
        return run(self.roster, [Arrival(newest_ms, tuple(lot)) for _, lot in lots])


@cache
def _ran(folder: Path) -> tuple[Case, Driver]:
    """The case, fed reading by reading, once for all tests."""
    case = Case(folder)
    return case, case.run()


def _found(driver: Driver, table: str, named: dict[str, Any]) -> list[dict[str, Any]]:
    rows = driver.tables.get(table, {}).values()
    return [row for row in rows if all(row[name] == value for name, value in named.items())]


@pytest.mark.parametrize("folder", CASES, ids=[folder.name for folder in CASES])
def test_a_case_comes_out_as_expected(folder: Path) -> None:
    """Every expected row is there once, with the columns that are given."""
    case, driver = _ran(folder)
    for table in case.expected.keys() & TABLES.keys():
        for row in case.expected[table]:
            wanted = case.wanted(table, row)
            key = {name: value for name, value in wanted.items() if name in named_by(table)}
            found = _found(driver, table, key)
            assert len(found) == 1, f"{table}: {len(found)} rows for {row}"
            assert {n: found[0][n] for n, v in wanted.items() if not equal(found[0][n], v)} == {}, row
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
