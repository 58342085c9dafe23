"""What lies between two meters is missing, and is said the same however its readings come."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from tests.processors.histories import DAY_MS, History, roster_of
from tests.processors.laws import around, unlike_reports, unlike_the_oracle
from tests.processors.log_driver import MINUTE_MS, Arrival, Driver, Reading, differences, run

O2_ENDS_MS, W1_ENDS_MS = 1_774_748_400_000, 1_774_747_800_000
"""In sites/meters.yaml: O2 ends with a final reading, O3 begins 15 minutes later and nobody says with which.
W1 ends with one, too; it is installed anew, without any reading stated, and W3 begins an hour later with one.
"""


def said(minute: int, value: str, point: str = "o") -> Reading:
    """A reading so many minutes after the old meter was taken out."""
    return Reading("shop", point, {"o": O2_ENDS_MS, "w": W1_ENDS_MS}[point] + minute * MINUTE_MS, value)


def replaced(driver: Driver, from_ms: int = O2_ENDS_MS) -> list[int]:
    """The ends in minutes of the spans between two meters of which nothing is known."""
    rows = [r for r in driver.tables["interval"].values() if "replaced" in r["flags"].split("+")]
    assert {r["quality"] for r in rows} <= {"missing", "partial"}
    return sorted((r["end"] - from_ms) // MINUTE_MS for r in rows if r["quality"] == "missing")


def alone(*readings: Reading) -> list[Arrival]:
    """A record for each; all but the first come after the patience of their plant."""
    return [Arrival(O2_ENDS_MS + n * 25 * MINUTE_MS, (one,)) for n, one in enumerate(readings)]


READINGS = (said(-40, "1"), said(-20, "20"), said(40, "4"), said(25, "2"), said(25, "3"), said(60, "5"))
"""Of the meter that goes and of the one that comes; of this an instant in conflict as its first."""


@pytest.mark.parametrize("order", [*permutations(READINGS)][::60])
def test_each_order_gives_the_same_time_between(order: tuple[Reading, ...]) -> None:
    """Whoever comes last; and however the log is cut, what was reported is the same."""
    history, log = History("meters", order), alone(*order)
    whole, cut = run(history.roster, log), run(history.roster, log, cut=lambda: 1, restart=lambda: True)
    assert unlike_the_oracle(history, whole) == []
    assert replaced(whole) == [*range(5, 45, 5)]
    assert differences(whole.tables, cut.tables) + unlike_reports(whole, cut) == []
    assert unlike_reports(whole, run(history.roster, log, cut=around([2, 3]))) == []


def test_a_late_reading_restates_what_lay_between() -> None:
    """Up to it nothing is known still; behind it the new meter counts."""
    before, after = (said(-20, "20"), said(40, "4")), said(25, "2")
    roster = roster_of("meters")
    assert replaced(run(roster, alone(*before), cut=lambda: 1)) == [*range(5, 45, 5)]
    driver = run(roster, alone(*before, after), cut=lambda: 1)
    assert replaced(driver) == [*range(5, 30, 5)]
    rows = [r for r in driver.tables["interval"].values() if r["end"] == O2_ENDS_MS + 30 * MINUTE_MS]
    assert [(row["revision"], row["cause"], row["quality"] != "missing") for row in rows] == [
        (1, "late", True)
    ]


def test_a_meter_without_readings_is_passed_over() -> None:
    """From the last reading before it to the first one behind it, whatever was installed meanwhile."""
    driver = run(roster_of("meters"), alone(said(-30, "17", "w"), said(80, "3", "w")))
    assert replaced(driver, W1_ENDS_MS) == [*range(5, 65, 5)]


def test_more_than_400_days_are_not_spread() -> None:
    """As a gap of one meter is not."""
    readings = said(-20, "20"), said(401 * DAY_MS // MINUTE_MS, "4")
    assert replaced(run(roster_of("meters"), alone(*readings))) == []


def test_the_first_reading_behind_one_in_conflict_restates_what_was_said() -> None:
    """W1's newest counts no more: from its last that does to the next meter nothing is known."""
    conflict = (said(25, "41", "w"), replace(said(25, "20.8", "w"), serial="W1"))
    first = replace(said(-30, "999995", "w"), serial="W1")
    log = [Arrival(O2_ENDS_MS, (first, *conflict)), Arrival(O2_ENDS_MS, (said(70, "9.33", "w"),))]
    roster = roster_of("meters")
    one, whole = run(roster, log, cut=lambda: 1), run(roster, log)
    assert unlike_reports(one, whole) == []
    assert [row for row in one.tables["interval"].values() if row["cause"] == "neighbour"] != []
