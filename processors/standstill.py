"""What a rise that cannot be may have caught up with: how long a register stood still before, and whether it
was counting until then.

It was *counting* at a reading where it shows more than ``VALUES`` values up to there with no break between;
or fewer, and these begin with the first reading of all, or behind a rise, not with a zero; or behind a pair
that is not broken; or it came back with them to where it had been within a day. What follows zeros, or a
fall, may be what a gateway says that has not read any meter.

A standstill may begin where the one before it was caught up with, and that one where another was. It is
looked back over ``CAUGHT_UP_MAX`` of these, and no further: so what says something of it has an end
(processors.anew).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, SMOOTH, Kinds
from processors.lines import FEW, RUN_MAX_MS, Readings, Runs

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CAUGHT_UP_MAX = 2
"""So many rises that cannot be a standstill is looked back over, with nothing but standstills between."""
VALUES = 5
"""A register that shows more values than these counts."""
_BESIDE = 2
"""So many readings more are looked at."""
_LOOK = 64
"""So many readings are looked at first for where a standstill began."""


@dataclass(frozen=True, slots=True)
class Past:
    """Readings of a stretch, and what each is to the one before it. ``began``: since which position the
    register shows what it does at one, with no break between.
    """

    time: Ints
    value: Ints
    pair: Kinds
    began: Callable[[int], int]

    def jumps(self, low: int) -> bool:
        """Whether the register rises behind a position as it cannot."""
        return bool(self.pair[low] == BROKEN and self.value[low + 1] > self.value[low])

    def stands(self, low: int) -> bool:
        """Whether it stood still before it rose so."""
        same = low > 0 and self.pair[low - 1] == SMOOTH and self.value[low - 1] == self.value[low]
        return same and self.jumps(low)

    def began_before(self, low: int) -> Iterator[int]:
        """Since which position the register shows what it does at one; then the same of what it showed
        before, where that ends in a rise that cannot be, ``CAUGHT_UP_MAX`` times.
        """
        for _ in range(CAUGHT_UP_MAX):
            yield (at := self.began(low))
            if at == 0 or not self.jumps(at - 1):
                return
            low = at - 1
        yield self.began(low)

    def piece(self, low: int) -> tuple[int, bool]:
        """The first position with no break up to one, as far back as ``VALUES`` others; whether it counts."""
        for _ in range(VALUES):
            if low == 0 or self.pair[low - 1] != SMOOTH:
                return low, False
            low = self.began(low - 1)
        return low, True

    def a_day_before(self, at: int) -> int:
        """The first position at most a day before one."""
        return int(np.searchsorted(self.time, self.time[at] - RUN_MAX_MS))

    def looked_back(self, low: int) -> int:
        """From which position on readings say whether a rise behind one is caught up with a standstill; and
        two more. Less than 0: from before all of them.
        """
        oldest = low
        for at in self.began_before(low):
            first, counts = self.piece(at)
            is_cut = not counts and first > 0 and self.pair[first - 1] == BROKEN
            oldest = min(oldest, self.a_day_before(first) if is_cut else first)
        return oldest - _BESIDE


class Standstills:
    """Of a stretch of readings. ``right``: what people said is right."""

    def __init__(self, readings: Readings, right: Bools) -> None:
        self._readings, self._right = readings, right
        self._past = Past(readings.time, readings.value, readings.pair, readings.began)

    def before(self, low: int) -> tuple[int, int] | None:
        """From where to where a register stood still and caught up behind a position: it was counting until
        then, and goes on.
        """
        if not self._past.stands(low):
            return None
        high, (first, *before) = low + 1, self._past.began_before(low)
        right = np.flatnonzero(self._right[first:high])
        since = first + int(right[-1]) if len(right) else first
        if since == low or not self._is_smooth(since, high) or not self._goes_on(since, high):
            return None
        return (since, high) if self._counted(first, before) and not self._steps(low) else None

    def without_caught_up(self, runs: Runs) -> Runs:
        """Runs but for those that begin with a rise that a standstill explains, and end no lower than that
        rises to: so nothing is wrong with what it rises to.
        """
        value = self._readings.value
        rising = np.flatnonzero(value[runs.end] >= value[runs.start + 1])
        begins = np.unique(runs.start[rising]).tolist()
        explained = [low for low in begins if self._past.stands(low) and self.before(low) is not None]
        if not explained:
            return runs
        stay = np.ones(len(runs), bool)
        stay[rising] = ~np.isin(runs.start[rising], explained)
        return Runs(runs.start[stay], runs.end[stay], runs.cost[stay])

    def looked_back(self, low: int) -> int:
        """From which position on readings say whether a standstill explains the break behind one."""
        return self._past.looked_back(low) if self._past.stands(low) else low

    def _steps(self, low: int) -> bool:
        """Whether it goes on in another unit."""
        readings = self._readings
        ends = (int(column[at]) for column in (readings.time, readings.value) for at in (low, low + 1))
        return readings.allowance.scale(*ends) != 0

    def _counted(self, low: int, before: list[int]) -> bool:
        """Whether the register was counting at a position, or caught up to there; ``before``: with what it
        showed from these on until then.
        """
        if low == 0 or not self._past.jumps(low - 1):
            return self._is_counting(low)
        caught_up = any(self._is_smooth(first, low) and self._is_counting(first) for first in before)
        return caught_up or self._came_back(low)

    def _is_counting(self, low: int) -> bool:
        value, pair = self._readings.value, self._readings.pair
        first, counts = self._past.piece(low)
        if counts or first == 0:
            return bool(counts or value[0] != 0)
        rises = 0 < value[first - 1] < value[first]
        return bool(pair[first - 1] != BROKEN or rises or self._came_back(first))

    def _came_back(self, at: int) -> bool:
        """Whether it counted on to a position from a reading, not zero, at most a day before."""
        readings = self._readings
        some = np.arange(self._past.a_day_before(at), at)
        some = some[readings.value[some] != 0]
        return bool((readings.kinds(some, np.full(len(some), at)) == SMOOTH).any())

    def _goes_on(self, low: int, high: int) -> bool:
        """Whether the register goes on from a position, or is still catching up there since another one."""
        readings = self._readings
        if high + 1 >= len(readings) or readings.pair[high] == SMOOTH:
            return high + 1 < len(readings)
        return self._past.jumps(high) and self._is_smooth(low, high + 1)

    def _is_smooth(self, low: int, high: int) -> bool:
        return bool(self._readings.kinds(np.array([low]), np.array([high]))[0] == SMOOTH)


def judged_from(time: Ints, value: Ints, pair: Kinds, first: int, last: int, low_ms: int) -> int:
    """From which reading on to judge a stretch from an instant on, of which those from a position on and up
    to another say something: from before the standstills that matter to rises in them from which a run may
    reach into the stretch. Less than 0: from before all of these.
    """
    past = Past(time, value, pair, lambda at: _began(value, pair, at))
    few = int(np.searchsorted(time, low_ms, "right")) - 1 - FEW
    low = max(1, min(int(np.searchsorted(time, low_ms - RUN_MAX_MS)), few), first)
    at = np.arange(low, last - 1)
    stood = (pair[at] == BROKEN) & (value[at + 1] > value[at]) & (pair[at - 1] == SMOOTH)
    stood &= value[at] == value[at - 1]
    return min([first, *(past.looked_back(one) for one in at[stood].tolist())])


def _began(value: Ints, pair: Kinds, at: int) -> int:
    """The position since which the register has shown what it shows at one, with no break between."""
    high, size = at, _LOOK
    while high > 0:
        low = max(0, high - size)
        other = np.flatnonzero((value[low:high] != value[at]) | (pair[low:high] != SMOOTH))
        if len(other):
            return low + int(other[-1]) + 1
        high, size = low, 4 * size
    return 0
