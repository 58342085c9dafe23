"""The laws, on random histories: set, log, conservation, and no false figure.

METERFLOW_EXAMPLES says how many histories each is tried on; a long run is
``METERFLOW_EXAMPLES=2000 python -m pytest tests/processors -k laws -o faulthandler_timeout=0``.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.roster import GAUGE, REGISTER, Roster
from metering.units import MICRO, UNITS
from tests.processors.histories import History, doubted, examples, histories, logs
from tests.processors.log_driver import (
    Driver,
    Store,
    differences,
    of_the_set,
    one_record_per_plant,
    run,
)
from tests.processors.oracle_books import multiplier_at
from tests.processors.oracle_windows import tables_of

ANY = histories() | doubted()
TABLES = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")


def said(driver: Driver, wanted: Store) -> Store:
    """The tables that an engine said, with the columns that the oracle has an answer for."""
    columns = {name: set[str]().union(*map(set, rows.values())) for name, rows in wanted.items()}
    tables = of_the_set(driver.tables, TABLES)
    return {
        name: {
            key: {c: v for c, v in row.items() if c in columns[name] or not columns[name]}
            for key, row in rows.items()
        }
        for name, rows in tables.items()
    }


@given(st.data())
@examples()
def test_whatever_comes_the_tables_are_those_of_the_oracle(data: st.DataObject) -> None:
    """Amounts, ratios, quality, verdicts and ledger are what exact fractions give, for any readings."""
    history = data.draw(ANY)
    driver = run(history.roster, data.draw(logs(history.readings)))
    wanted = tables_of(history.roster, history.readings)
    assert differences(said(driver, wanted), wanted) == []


@given(st.data())
@examples(0.5)
def test_order_copies_and_records_change_nothing_that_is_said(data: st.DataObject) -> None:
    """Any order of the readings, some of them twice, in any records, gives the same columns of the set."""
    history = data.draw(ANY)
    copies = data.draw(st.lists(st.sampled_from(history.readings), max_size=8))
    shuffled = data.draw(st.permutations([*history.readings, *copies]))
    one = run(history.roster, one_record_per_plant(history.readings, 0))
    other = run(history.roster, data.draw(logs(shuffled)), cut=lambda: 1)
    assert differences(of_the_set(one.tables, TABLES), of_the_set(other.tables, TABLES)) == []


@given(st.data())
@examples()
def test_the_same_log_tells_the_same_story_however_it_is_cut(data: st.DataObject) -> None:
    """Cut into any batches, stopped and started anywhere, a log gives the same rows, story included."""
    history = data.draw(ANY)
    log = data.draw(logs(history.readings))
    sizes = data.draw(st.lists(st.sampled_from([1, 1, 2, 3, 10]), min_size=1, max_size=20))
    starts = data.draw(st.lists(st.booleans(), min_size=1, max_size=20))
    one = run(history.roster, log, cut=lambda: 1)
    other = run(history.roster, log, cut=around(sizes), restart=around(starts))
    assert differences(one.tables, other.tables) == []


def around(choices: list[Any]) -> Any:
    """The choices one after the other, again and again."""
    turn = iter(range(1 << 30))
    return lambda: choices[next(turn) % len(choices)]


def _values(driver: Driver, table: str) -> list[Any]:
    return list(driver.tables.get(table, {}).values())


@given(st.data())
@examples(0.5)
def test_nothing_is_lost_between_the_first_and_the_last_reading(data: st.DataObject) -> None:
    """Each installation's books balance to the step, and each hop's counts to the reading."""
    history = data.draw(ANY)
    driver = run(history.roster, data.draw(logs(history.readings)))
    for row in _values(driver, "ledger"):
        assert row["booked"] + row["held"] + row["written_off"] == row["last"] - row["first"]
        assert row["balance"] == 0
    received: dict[str, int] = defaultdict(int)
    for reading in history.readings:
        received[reading.plant] += 1
    for row in _values(driver, "hop"):
        assert (
            row["received"] == row["accepted"] + row["duplicate"] + row["rejected"] == received[row["plant"]]
        )


@given(st.data())
@examples(0.5)
def test_the_intervals_of_a_point_add_up_to_what_is_booked(data: st.DataObject) -> None:
    """The sum of a point's intervals is its booked steps times the multiplier, to the last digit."""
    history = data.draw(ANY)
    driver = run(history.roster, data.draw(logs(history.readings)))
    for plant, point in _with_whole_multipliers(history.roster):
        rows = [r for r in _values(driver, "interval") if (r["plant"], r["point"]) == (plant, point)]
        known = [Fraction(r["amount"]) * UNITS[r["unit"]].factor for r in rows if r["amount"] is not None]
        assert sum(known, Fraction(0)) == _booked(history.roster, driver, plant, point)


def _with_whole_multipliers(roster: Roster) -> list[tuple[str, str]]:
    """Points without rounding behind the register: one whole multiplier each, unit a power of ten."""
    plain = [
        point
        for point in roster.points
        if point.unit.decimal_exponent is not None
        and point.reads != GAUGE
        and all(len(i.multipliers) == 1 and i.multipliers[0].denominator == 1 for i in point.installations)
    ]
    return [(roster.plants[point.plant].id, point.id) for point in plain]


def _booked(roster: Roster, driver: Driver, plant: str, point_id: str) -> Fraction:
    point, out = roster.find(plant, point_id), Fraction(0)
    assert point is not None
    for installation in point.installations:
        row = driver.tables.get("ledger", {}).get((plant, point_id, installation.serial))
        if row is not None:
            out += row["booked"] * installation.step * multiplier_at(installation, 0)
    return out / MICRO


@given(ANY)
@examples(0.5)
def test_what_is_not_known_is_empty_and_says_so(history: History) -> None:
    """Nothing known: no amount. Not wholly known, or nothing to divide by: no value, but a reason."""
    tables = run(history.roster, one_record_per_plant(history.readings, 0)).tables
    for row in (*tables.get("interval", {}).values(), *tables.get("rollup", {}).values()):
        assert (row["amount"] is None) == (row["quality"] == "missing")
        assert row["quality"] != "valid" or row["measured_share"] == 1
        assert row["measured_share"] == 0 or row["amount"] is not None
    for row in tables.get("intensity", {}).values():
        assert (row["value"] is None) == (row["reason"] != "")
        if row["value"] is not None:
            assert row["numerator"] is not None
            assert row["denominator"] > Decimal(0)


@given(ANY)
@examples(0.5)
def test_a_gap_in_a_register_makes_no_window_above_it_whole(history: History) -> None:
    """A plant's ratio has a value only where every register of both sides is known all the time."""
    driver = run(history.roster, one_record_per_plant(history.readings, 0))
    unknown = [
        (row["plant"], row["measures"], row["start"], row["end"])
        for row in _values(driver, "interval")
        if row["quality"] in ("missing", "partial") and _counts(history.roster, row)
    ]
    for row in _values(driver, "intensity"):
        intensity = next(
            i for i in history.roster.intensities if (i.scope, i.id) == (row["scope"], row["id"])
        )
        for plant, measures, start, end in unknown:
            inside = start >= row["start"] and end <= row["end"]
            if inside and row["scope"] == f"plant:{plant}" and measures in (intensity.of, "output"):
                assert row["value"] is None


def _counts(roster: Roster, row: dict[str, Any]) -> bool:
    point = roster.find(row["plant"], row["point"])
    assert point is not None
    return point.reads == REGISTER and point.sign != 0
