"""The stamps of meter exports: whose midnight, which of two hours, what unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metering.errors import UsageError
from tests.simulators.convert_helper import ENDS, MAP, converted, instants


def test_the_midnight_row_may_carry_the_old_days_date(tmp_path: Path) -> None:
    """00:00 of the old day is the end of that day, not its beginning."""
    mapping = MAP % f"{ENDS}, midnight: old_day"
    table = "at,kWh\n2018-02-28 23:45,1\n2018-02-28 00:00,1\n2018-03-01 00:15,1\n"
    messages, _ = converted(tmp_path, table, mapping)
    assert [t[5:16] for t in instants(messages)] == ["02-28T14:45", "02-28T15:00", "02-28T15:15"]


def test_an_hour_that_is_shown_twice_is_told_apart_by_the_order_of_rows(tmp_path: Path) -> None:
    """Clocks go back on 2018-10-28 in Berlin: 02:00 to 02:45 comes twice."""
    shown = ["01:45", "02:00", "02:15", "02:30", "02:45", "02:00", "02:15", "02:30", "02:45", "03:00"]
    table = "at,kWh\n" + "".join(f"2018-10-28 {clock},1\n" for clock in shown)
    messages, _ = converted(tmp_path, table, MAP % "Europe/Berlin")
    assert np.unique(np.diff([m.received_ms for m in messages])).tolist() == [900_000]


def test_an_hour_that_is_shown_twice_is_told_apart_from_the_newest_row_on(tmp_path: Path) -> None:
    """The same rows from behind: the later of the two comes first."""
    shown = ["03:00", "02:45", "02:30", "02:15", "02:00", "02:45", "02:30", "02:15", "02:00", "01:45"]
    table = "at,kWh\n" + "".join(f"2018-10-28 {clock},1\n" for clock in shown)
    messages, _ = converted(tmp_path, table, MAP % "Europe/Berlin")
    assert np.unique(np.diff([m.received_ms for m in messages])).tolist() == [-900_000]


def test_an_hour_that_is_shown_twice_is_not_guessed_in_rows_without_order(tmp_path: Path) -> None:
    """Two rows of 02:30 in a shuffled file: which is which would be chance."""
    clocks = ["04:00", "00:00", "05:00", "02:30", "01:00", "02:30"]
    table = "at,kWh\n" + "".join(f"2018-10-28 {clock},1\n" for clock in clocks)
    messages, summary = converted(tmp_path, table, MAP % "Europe/Berlin")
    assert (len(messages), [bad.line for bad in summary.unreadable]) == (4, [5, 7])
    assert "showed this time twice" in summary.unreadable[0].reason


QUARTERS = "2018-02-28 23:45,1\n2018-{},1\n2018-03-01 00:15,1\n"


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(("said", "right"), [("old_day", "new_day"), ("new_day", "old_day")])
def test_a_wrong_rule_for_midnight_is_refused_with_the_right_one(
    tmp_path: Path, said: str, right: str, newest_first: bool
) -> None:
    """By the rows around 00:00, which would jump a day; no recording is left."""
    rows = QUARTERS.format("02-28 00:00" if right == "old_day" else "03-01 00:00").splitlines()
    table = "\n".join(["at,kWh", *(reversed(rows) if newest_first else rows)])
    with pytest.raises(UsageError) as caught:
        converted(tmp_path, table, MAP % f"{ENDS}, midnight: {said}")
    assert caught.value.where == f"{tmp_path / 't.csv'}:3"
    assert f"'midnight: {right}'" in caught.value.hint
    assert not (tmp_path / "r.ndjson").exists()


def test_rows_of_midnight_alone_say_nothing_of_their_day(tmp_path: Path) -> None:
    """One row a day, and a stray row out of order: either rule is taken."""
    table = "at,kWh\n2018-03-01,1\n2018-03-02,1\n2018-03-03,1\n2018-03-01,1\n2018-03-04,1\n"
    for rule in ("old_day", "new_day"):
        messages, _ = converted(tmp_path, table, MAP % f"UTC, midnight: {rule}")
        assert len(messages) == 5


def test_a_time_that_clocks_never_showed_is_reported(tmp_path: Path) -> None:
    """Clocks go forward on 2018-03-25 in Berlin: 02:30 is a mistake of the file."""
    messages, summary = converted(tmp_path, "at,kWh\n2018-03-25 02:30,1\n", MAP % "Europe/Berlin")
    assert (messages, summary.rows_unreadable) == ([], 1)
    assert "went forward" in summary.unreadable[0].reason


@pytest.mark.parametrize(
    ("form", "stamp"),
    [("epoch_s", "1514733300"), ("epoch_ms", "1514733300000"), ("epoch_us", "1514733300000999")],
)
def test_stamps_may_count_from_the_epoch(tmp_path: Path, form: str, stamp: str) -> None:
    """In seconds, milliseconds or microseconds."""
    mapping = MAP.replace("zone", f"format: {form}, zone") % "Asia/Seoul"
    messages, _ = converted(tmp_path, f"at,kWh\n{stamp},1\n", mapping)
    assert [m.received_ms for m in messages] == [1_514_733_300_000]


@pytest.mark.parametrize(
    ("form", "stamp", "year"),
    [
        ("epoch_ms", "1514733300", "1970"),
        ("epoch_s", "1514733300000", "beyond"),
        ("iso", "1999-12-31", "1999"),
    ],
)
def test_a_stamp_of_no_possible_year_is_reported_with_what_to_check(
    tmp_path: Path, form: str, stamp: str, year: str
) -> None:
    """Seconds taken for milliseconds are no readings of 1970."""
    mapping = MAP.replace("zone", f"format: {form}, zone") % "UTC"
    messages, summary = converted(tmp_path, f"at,kWh\n{stamp},1\n", mapping)
    assert (messages, summary.unreadable[0].line) == ([], 2)
    assert year in summary.unreadable[0].reason
    assert "check time.format" in summary.unreadable[0].reason
