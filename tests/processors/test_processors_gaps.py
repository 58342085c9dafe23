"""The shape of gaps: by reference days, whatever comes in whatever order."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.processors.histories import DAY_MS, HOUR_MS, examples, logs, roster_of, utc_ms
from tests.processors.laws import OF_THE_SET, around, said
from tests.processors.log_driver import Reading, Row, differences, of_the_set, one_record_per_plant, run
from tests.processors.oracle_windows import tables_of
from tests.processors.weekly import weekly


@given(st.data())
@examples()
def test_gaps_have_the_shapes_that_the_oracle_gives_them(data: st.DataObject) -> None:
    """Amounts, shares and flags of every span are what exact fractions give."""
    history = data.draw(weekly())
    driver = run(history.roster, data.draw(logs(history.readings)))
    wanted = tables_of(history.roster, history.readings)
    assert differences(said(driver, wanted), wanted) == []


@given(st.data())
@examples(0.5)
def test_the_order_of_readings_says_nothing_of_a_shape(data: st.DataObject) -> None:
    """Shuffled, readings give the same tables."""
    history = data.draw(weekly())
    shuffled = data.draw(st.permutations(history.readings))
    one = run(history.roster, one_record_per_plant(history.readings, 0))
    other = run(history.roster, data.draw(logs(shuffled)), cut=lambda: 1)
    assert differences(of_the_set(one.tables, OF_THE_SET), of_the_set(other.tables, OF_THE_SET)) == []


@given(st.data())
@examples()
def test_a_log_with_gaps_tells_the_same_story_however_it_is_cut(data: st.DataObject) -> None:
    """In any batches, stopped and started anywhere, every row of every table and its story are the same."""
    history = data.draw(weekly())
    log = data.draw(logs(history.readings))
    sizes = data.draw(st.lists(st.sampled_from([1, 1, 2, 3, 10, 50]), min_size=1, max_size=20))
    starts = data.draw(st.lists(st.booleans(), min_size=1, max_size=20))
    one = run(history.roster, log, cut=lambda: 1)
    other = run(history.roster, log, cut=around(sizes), restart=around(starts))
    assert differences(one.tables, other.tables) == []


def _night(day: str, value: int, rises: list[int]) -> list[Reading]:
    """The hill's electricity (it has no limit) at 0, 2, 4 and 6 o'clock; at 0 and 6 for a single rise."""
    hours = (0, 6) if len(rises) == 1 else (0, 2, 4, 6)
    shown = [value + sum(rises[:number]) for number in range(len(rises) + 1)]
    times = [utc_ms(f"{day}T{hour:02}:00+05:45") for hour in hours]
    return [Reading("hill", "e", at, str(v)) for at, v in zip(times, shown, strict=True)]


def _rows(readings: list[Reading]) -> list[Row]:
    """The quarters of an hour of the last six hours that are read, in their order."""
    end_ms = readings[-1].time_ms
    rows = run(roster_of("weekly"), one_record_per_plant(readings, 0)).tables["interval"].values()
    mine = [row for row in rows if end_ms - 6 * HOUR_MS < row["end"] <= end_ms]
    return sorted(mine, key=lambda row: row["end"])


def _quarters(readings: list[Reading]) -> tuple[set[Decimal], set[str]]:
    """Amounts and flags of the quarters of an hour of the last six hours that are read."""
    mine = _rows(readings)
    return {row["amount"] for row in mine}, {row["flags"] for row in mine}


@pytest.mark.parametrize(
    ("day", "counts"), [("2025-10-02", True), ("2025-10-01", False), ("2025-11-02", False)]
)
def test_a_reference_day_is_of_the_same_kind_and_at_most_35_days_before(day: str, counts: bool) -> None:
    """Of a gap on Thursday the 6th of November: five weeks before, not a day more, and no Sunday."""
    readings = [*_night(day, 100, [6, 0, 0]), *_night("2025-11-06", 200, [12])]
    amounts, flags = _quarters(readings)
    assert flags == ({"profile"} if counts else {""})
    assert amounts == ({Decimal("1.5"), Decimal(0)} if counts else {Decimal("0.5")})


def test_only_the_last_three_reference_days_count() -> None:
    """Four working days before a gap: the first of them is left alone."""
    before = [("03", [0, 0, 6]), ("04", [6, 0, 0]), ("05", [6, 0, 0]), ("06", [6, 0, 0])]
    readings = [r for day, rises in before for r in _night(f"2025-11-{day}", 100 + 6 * int(day), rises)]
    assert _quarters([*readings, *_night("2025-11-07", 200, [12])])[0] == {Decimal("1.5"), Decimal(0)}


def test_a_day_that_is_itself_estimated_is_no_reference_day() -> None:
    """A night with a gap, shaped by one before it, shapes nothing."""
    estimated = [*_night("2025-11-04", 100, [6, 0, 0]), *_night("2025-11-05", 200, [6])]
    readings = [*estimated, *_night("2025-11-06", 300, [0, 0, 6]), *_night("2025-11-07", 400, [12])]
    assert _quarters(readings)[0] == {Decimal("0.75")} | {Decimal(0)}


def test_days_on_which_nothing_was_used_shape_nothing() -> None:
    """Reference days at a standstill: the gap is linear."""
    still = _night("2025-11-06", 100, [0, 0, 0])
    assert _quarters([*still, *_night("2025-11-07", 200, [12])]) == ({Decimal("0.5")}, {""})


@pytest.mark.parametrize(("days", "flag"), [(35, "profile"), (36, "")])
def test_a_gap_of_more_than_35_days_is_linear(days: int, flag: str) -> None:
    """A whole week is measured before it, so that each of its days has a reference day."""
    start_ms, step_ms = utc_ms("2025-11-03T00:00+05:45"), 2 * HOUR_MS
    week = [Reading("hill", "e", start_ms + n * step_ms, str(100 + n + n // 6)) for n in range(7 * 12 + 1)]
    behind = Reading("hill", "e", week[-1].time_ms + days * DAY_MS, "900")
    assert _quarters([*week, behind])[1] == {flag}


def test_a_day_with_a_hole_in_these_hours_is_no_reference_day() -> None:
    """Of Thursday the hours from two to six are not measured: the day before it counts alone."""
    before = _night("2025-11-05", 100, [0, 6, 0])
    holed = [reading for at, reading in enumerate(_night("2025-11-06", 200, [6, 0, 0])) if at != 2]
    behind = _night("2025-11-07", 300, [12])
    assert _quarters([*before, *holed, *behind])[0] == {Decimal("1.5"), Decimal(0)}
    amounts = [r["amount"] for r in _rows([*before, *holed, *behind])]
    assert amounts[:8] == [Decimal(0)] * 8
