"""How far a register can have risen in a time, and what two readings of it are to each other, exactly.

A point's limit holds behind its multiplier, so that a register may rise by limit x 1.2 x time / multiplier,
and two of its steps for rounding. The comparison is with the whole millionths of that: a rise is one itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, lcm

import numpy as np
from numpy.typing import NDArray

from metering.roster import LIMIT_MARGIN, Multiplier

Ints = NDArray[np.int64]
Kinds = NDArray[np.int8]

SMOOTH, WRAP, BROKEN, GAP, UNSURE = range(5)
"""A later reading beside an earlier one: counted on; counted on over the register's end; neither; too far; or
counted on, and a whole turn of the register more would be possible, too."""

GAP_MAX_MS = 400 * 86_400_000
_HOUR_MS = 3_600_000
_UNBOUNDED = 2**62
"""More than any two readings differ by."""
_FLOAT_BITS = 23
"""A 32-bit float is exact to this many bits behind its first."""
_POWERS = (1, 2, 3, 6)
"""Of ten, by which a unit is mistaken for another: a decimal place or two, Wh, kWh, MWh."""
_SCALE_PARTS = 100
"""What can have been used meanwhile is at most such a part of what the register shows, in the finer unit."""
_SMALL_PARTS = 100
"""A small fall is at most such a part of what the register shows then: a counter of a few pieces is not read
inexactly when it starts again."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What judging needs to know of a series; amounts in millionths of the unit before the multiplier.

    ``limit_per_hour``: behind the multiplier, None where the point has none. ``width``: where the register
    rolls, 0 where that is not known. ``step``: of the register. ``multipliers``: the first holds before its
    ``from_ms``, too.
    """

    limit_per_hour: int | None
    width: int
    step: int
    multipliers: tuple[Multiplier, ...]


class Allowance:
    """The most that a register of these facts rises between two instants."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._per_ms = LIMIT_MARGIN * Fraction(facts.limit_per_hour or 0, _HOUR_MS)
        one = facts.multipliers[0]
        self._first_per_ms = self._per_ms * Fraction(one.denominator, one.numerator)

    def over(self, start: Ints, end: Ints) -> Ints:
        """Whole millionths; more than any rise where there is no limit."""
        if self.facts.limit_per_hour is None:
            return np.full(len(start), _UNBOUNDED, np.int64)
        if len(self.facts.multipliers) > 1:
            return self._dated(start, end)
        return self._steady(end - start)

    def rate(self, longest_ms: int) -> tuple[int, int, int, int, int] | None:
        """What loops over 64 bits need (processors.kernels.lines); None: not for stretches that long."""
        if self.facts.limit_per_hour is None:
            return 0, 0, 0, 1, 0
        whole, rest = divmod(self._first_per_ms.numerator, self._first_per_ms.denominator)
        fits = max(rest, whole + 1) * longest_ms + 2 * self.facts.step < _UNBOUNDED
        if len(self.facts.multipliers) > 1 or not fits:
            return None
        return 1, whole, rest, self._first_per_ms.denominator, 2 * self.facts.step

    def _steady(self, length_ms: Ints) -> Ints:
        known = self.rate(int(length_ms.max(initial=0)))
        if known is not None:
            _, whole, rest, parts, besides = known
            return whole * length_ms + rest * length_ms // parts + besides
        exact = [self._first_per_ms * int(length) for length in length_ms]
        return self._whole([value.numerator // value.denominator for value in exact])

    def _dated(self, start: Ints, end: Ints) -> Ints:
        """With the mean of the multipliers in force."""
        common = lcm(*(m.denominator for m in self.facts.multipliers))
        at_end, at_start = self._multiplied_ms(end, common), self._multiplied_ms(start, common)
        rate = self._per_ms * common
        out = []
        for low, high, first, last in zip(start.tolist(), end.tolist(), at_start, at_end, strict=True):
            out.append(rate.numerator * (high - low) ** 2 // (rate.denominator * (last - first)))
        return self._whole(out)

    def _multiplied_ms(self, at: Ints, common: int) -> list[int]:
        """The multiplier added up from its first change on, times ``common``."""
        steps = self.facts.multipliers
        worth = [m.numerator * (common // m.denominator) for m in steps]
        out = []
        for instant in at.tolist():
            area = worth[0] * (instant - steps[1].from_ms)
            for before, after, one in zip(worth, worth[1:], steps[1:], strict=False):
                area += (after - before) * max(0, instant - one.from_ms)
            out.append(area)
        return out

    def _whole(self, allowed: Sequence[int]) -> Ints:
        return np.array([min(value + 2 * self.facts.step, _UNBOUNDED) for value in allowed], np.int64)

    def limit_for(self, start: int, end: int, rise: int) -> int:
        """The smallest ``limit_per_hour`` by which a register can have risen so much between two instants."""
        multipliers = self.facts.multipliers
        common = lcm(*(m.denominator for m in multipliers))
        if len(multipliers) > 1:
            low, high = self._multiplied_ms(np.array([start, end]), common)
        else:
            low, high = 0, multipliers[0].numerator * (end - start)
        behind = Fraction((rise - 2 * self.facts.step) * (high - low), common * (end - start))
        return ceil(behind * _HOUR_MS / (LIMIT_MARGIN * (end - start)))

    def resolution(self, value: Ints) -> Ints:
        """How far readings may be apart for no other reason than how exactly they are read."""
        return np.asarray(np.maximum(2 * self.facts.step, value >> _FLOAT_BITS))

    def small(self, first: Ints, last: Ints) -> NDArray[np.bool_]:
        """Which falls the register's resolution may explain; none without a limit."""
        if self.facts.limit_per_hour is None:
            return np.zeros(len(first), bool)
        fall = first - last
        near = (fall > 0) & (fall <= self.resolution(first))
        return np.asarray(near & (fall <= last // _SMALL_PARTS))

    def kinds(self, start: Ints, end: Ints, first: Ints, last: Ints) -> Kinds:
        """What readings ``last`` at ``end`` are to readings ``first`` at ``start``."""
        allowed, rise = self.over(start, end), last - first
        out = np.full(len(start), BROKEN, np.int8)
        out[(rise >= 0) & (rise <= allowed)] = SMOOTH
        if self.facts.width and self.facts.limit_per_hour is not None:
            fewest = fewest_turns(rise, self.facts.width)
            out[(rise < 0) & (fewest >= 0) & (fewest <= allowed)] = WRAP
            out[(fewest >= 0) & (fewest <= allowed - self.facts.width)] = UNSURE
        out[end - start > GAP_MAX_MS] = GAP
        return out

    def scale(self, start: int, end: int, first: int, last: int) -> int:
        """The power of ten by which a register shows more or less than before, beyond what chance would do;
        0 where it does not, or its multiplier changes by as much.
        """
        for power in _POWERS if min(first, last) > 0 else ():
            high, low = max(first, last), min(first, last) * 10**power
            near = abs(high - low) * _SCALE_PARTS <= max(high, low)
            if near and self._is_scaled(start, end, high, low, power, last):
                signed = power if last > first else -power
                return 0 if self._is_stated(start, end, signed) else signed
        return 0

    def _is_scaled(self, start: int, end: int, high: int, low: int, power: int, last: int) -> bool:
        """Whether what is in the finer unit and what is in the other, brought to it, differ by what can have
        been used, in either unit, and that is little of both.
        """
        possible = int(self.over(np.array([start]), np.array([end]))[0])
        rise, coarse = (high - low if last == high else low - high), self.facts.step * 10**power
        used = (possible, possible * 10**power)
        precise = [one for one in used if (one + 2 * coarse) * _SCALE_PARTS <= max(high, low)]
        return any(-coarse <= rise <= one + coarse for one in precise)

    def _is_stated(self, start: int, end: int, power: int) -> bool:
        """Whether the site file has another multiplier from then on, which makes up for it."""
        return any(
            start < after.from_ms <= end
            and Fraction(after.numerator, after.denominator)
            == Fraction(before.numerator, before.denominator) / Fraction(10) ** power
            for before, after in pairwise(self.facts.multipliers)
        )

    def most_turns(self, start: int, end: int, first: int, last: int) -> int:
        """How often a register may have passed its end between two readings; 0 where there is no doubt."""
        columns = [np.array([number], np.int64) for number in (start, end, first, last)]
        if self.kinds(*columns)[0] != UNSURE:
            return 0
        return (int(self.over(*columns[:2])[0]) - (last - first)) // self.facts.width


def fewest_turns(rise: Ints, width: Ints | int) -> Ints:
    """What a register counted if it passed its end once where it fell, and nowhere else."""
    return np.where(rise < 0, rise + width, rise)
