"""Where two things happen at once: what is said of them does not depend on how the log was cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from tests.processors.histories import History, roster_of
from tests.processors.laws import around, unlike_reports, unlike_the_oracle
from tests.processors.log_driver import MINUTE_MS, Arrival, Reading, differences, run

REPLACED_MS = 1_774_747_800_000
"""When W1 follows itself in sites/meters.yaml, from one instant to the next."""


def each_alone(readings: Sequence[Reading]) -> list[Arrival]:
    """A record for each, a second apart."""
    return [Arrival(1_774_830_900_000 + 1_000 * n, (one,)) for n, one in enumerate(readings)]


ORDERS = list(
    permutations(
        [
            Reading("shop", "w", REPLACED_MS, "0", serial="W1"),
            Reading("shop", "w", REPLACED_MS, "1", serial="W1"),
            Reading("shop", "w", REPLACED_MS - 3_900_000, "17.02"),
            Reading("shop", "w", REPLACED_MS, "1", serial="W1", revision=1),
        ]
    )
)


@pytest.mark.parametrize("order", ORDERS[::3])
def test_a_conflict_at_the_instant_of_a_replacement_comes_first(order: tuple[Reading, ...]) -> None:
    """Its row is that of the verdict; once it is resolved the replacement is there again."""
    history = History("meters", order)
    one = run(history.roster, each_alone(order), cut=lambda: 1, restart=lambda: True)
    whole = run(history.roster, each_alone(order))
    assert unlike_the_oracle(history, one) == []
    assert differences(one.tables, whole.tables) + unlike_reports(one, whole) == []


def test_a_conflict_at_the_instant_of_a_replacement_hides_it() -> None:
    """As long as nobody says which of the two values counts."""
    conflict = sorted(ORDERS[0][:3], key=lambda one: one.time_ms)
    rows = run(roster_of("meters"), each_alone(conflict), cut=lambda: 1).tables["verdict"]
    assert "conflict" in {row["verdict"] for row in rows.values()}
    assert "replacement" not in {row["verdict"] for row in rows.values()}


def test_a_replacement_is_reported_by_the_record_that_makes_it_known() -> None:
    """That is the later of the two meters' first records, also where the older meter's end is stated, too."""
    readings = [
        Reading("shop", "e", 1_774_745_100_000, "512.3", serial="A"),
        Reading("shop", "e", 1_774_746_300_000, "984.6", serial="B"),
    ]
    log = each_alone(readings)
    for size in (1, 2):
        rows = run(roster_of("meters"), log, cut=around([size])).tables["verdict"].values()
        assert [row["reported"] for row in rows] == [log[1].stamp_ms]


@pytest.mark.parametrize("restart", [False, True])
def test_of_two_sides_reported_at_once_the_revised_one_names_the_cause(restart: bool) -> None:
    """Patience makes one side final at the stamp of the late reading that revises the other."""
    start_ms = 1_761_426_000_000
    log = [
        Arrival(start_ms + 500, (Reading("works", "main", start_ms, "3"),)),
        Arrival(1_761_598_800_500, (Reading("works", "main", start_ms + 60_000, "265.33"),)),
        Arrival(1_761_771_600_500),
        Arrival(1_761_771_600_500, (Reading("works", "fuel", start_ms + 900_000, "2.5", start_ms=start_ms),)),
    ]
    driver = run(roster_of("works"), log, cut=lambda: 1, restart=lambda: restart)
    rows = [
        row for row in driver.tables["intensity"].values() if (row["id"], row["window"]) == ("all", "day")
    ]
    assert [(row["state"], row["revision"], row["cause"]) for row in rows] == [("revised", 1, "late")]


@pytest.mark.parametrize("amount", ["2", "-1"])
def test_an_overlap_is_reported_by_the_record_that_brings_it(amount: str) -> None:
    """Not by that of the read that comes next to it in the same batch; nor one that is held for more."""
    start_ms = 1_767_185_100_000

    def read(from_minute: int, to_minute: int) -> Reading:
        start, end = start_ms + from_minute * MINUTE_MS, start_ms + to_minute * MINUTE_MS
        return Reading("isle", "o", end, amount if to_minute == 15 else "2", start_ms=start)

    log = [Arrival(start_ms + 10, (read(3, 10), read(0, 15))), Arrival(start_ms + 20, (read(30, 45),))]
    for size in (1, 2):
        rows = run(roster_of("reads"), log, cut=around([size])).tables["verdict"].values()
        assert {(row["verdict"], row["reported"]) for row in rows} == {("overlap", log[0].stamp_ms)}
