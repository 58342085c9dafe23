"""Standstills that a register seemed to catch up with, until it fell back: as the oracle has them."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.allowance import Allowance
from processors.anew import stretches
from processors.fallbacks import CaughtUp
from processors.judging import as_they_were
from processors.regions import Regions
from tests.processors import oracle_decided
from tests.processors.doubt_series import KWH, LIMIT, Keeper, Rows, facts_of, standing
from tests.processors.histories import examples
from tests.processors.oracle_doubt import HOUR, Series

Span = tuple[int, int]


class Keeping(Keeper):
    """As an engine keeps them, with what is said of standstills by what comes behind them."""

    def __init__(self, series: Series) -> None:
        super().__init__(series)
        self.caught_up = CaughtUp()
        self.turned: list[int] = []
        """How many regions were turned, each time."""

    def take(self, added: Rows) -> None:
        """Takes readings in."""
        before = self._course()
        self.rows = sorted(self.rows + added)
        regions = Regions(self.regions)
        anew = stretches(np.unique([time for time, _ in added]), regions, before, self._course())
        lost = [one for span in anew.spans for one in regions.within(*span)]
        found = self._judged(anew.spans, as_they_were(lost, anew.near))
        change = self.caught_up.settled(0, (lost, found), regions, Allowance(facts_of(self.series)), ())
        regions.replace(*change)
        self.caught_up.put(0, *change)
        self.turned.append(len(change[0]) - len(lost))
        self.regions = list(regions)

    def standstills(self) -> dict[Span, bool]:
        """Whether each is booked."""
        links = [link for one in self.regions for link in one.links if link.verdict.name == "STUCK"]
        return {(link.start, link.end): link.decided for link in links}


def by_the_oracle(one: Series) -> dict[Span, bool]:
    """Whether each standstill that was caught up with is booked."""
    events, _, _ = oracle_decided.decided(one, [])
    return {(event.start, event.end): event.decided for event in events if event.verdict == "stuck"}


@given(st.randoms(use_true_random=False))
@examples(10)
def test_what_a_register_falls_back_behind_is_held_in_any_order(chance: Random) -> None:
    """One reading at a time, some late: it is what the oracle says of all of them."""
    one = standing(chance)
    one.kept = set()
    keeping = Keeping(one)
    order = sorted(range(len(one.readings)), key=lambda k: k + chance.choice([0, 0, 3, 60]))
    for k in order:
        keeping.take([one.readings[k]])
    assert keeping.standstills() == by_the_oracle(one)


def falling(hours: int, *ends: int) -> Series:
    """A register that stands for 40 hours, rises by 400 kWh, counts on, and shows then what is given."""
    rows = [
        (0, 990),
        (1, 1000),
        *((2 + k, 1000) for k in range(39)),
        *((41 + k, 1400 + k) for k in range(hours)),
    ]
    rows += [(41 + hours + k, end) for k, end in enumerate(ends)]
    return Series([(hour * HOUR, value * KWH) for hour, value in rows], LIMIT, None, KWH)


def test_a_standstill_is_held_by_a_fall_weeks_later() -> None:
    """And by nothing but that: what falls further, or not so far, says nothing of it."""
    booked = {end: Keeping(falling(600, end, end + 1)) for end in (999, 1000, 1399, 1400)}
    for keeping in booked.values():
        keeping.take(keeping.series.readings)
    assert {end: [*keeping.standstills().values()] for end, keeping in booked.items()} == {
        999: [True],
        1000: [False],
        1399: [False],
        1400: [True],
    }


def test_a_fall_turns_only_the_standstill_that_it_is_of() -> None:
    """A late reading that makes a glitch of the fall books it again; what comes between turns nothing."""
    one = falling(60, 1001, 1002)
    keeping = Keeping(one)
    for row in one.readings:
        keeping.take([row])
    assert [*keeping.standstills().values()] == [False]
    assert sum(keeping.turned) == 1
    keeping.take([(103 * HOUR, 1463 * KWH)])
    assert [*keeping.standstills().values()] == [True]
