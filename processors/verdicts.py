"""What two neighbouring readings of a register are to each other, for many registers at once.

By floats, which say it of nearly all; within a hair of what is possible exact integers do
(processors.allowance), so that whoever asks is told the same.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from metering.roster import LIMIT_MARGIN, Multiplier
from processors import allowance
from processors.allowance import (
    BROKEN,
    GAP,
    GAP_MAX_MS,
    SMOOTH,
    UNSURE,
    WRAP,
    Allowance,
    Kinds,
    fewest_turns,
)
from processors.batch import SeriesIndex
from processors.kernels.chain import Facts
from processors.scaling import scale

Ints = NDArray[np.int64]

MARGIN = float(LIMIT_MARGIN)
"""Over the rated power: rollover only if the wrapped difference stays below rated power x gap x 1.2."""
HOUR_MS = 3_600_000
NO_LIMIT = -1
_NEAR = 2.0**-20
"""How far floats may be off, relative to what is possible: more than any of their sums here."""


class Ratings:
    """What judging needs of every series, as columns: limit, width, one step, multiplier."""

    def __init__(self, index: SeriesIndex) -> None:
        points = [index.roster.points[p] for p in index.point.tolist()]
        installations = [i for point in index.roster.points for i in point.installations]
        self.limit_per_hour = _ints(
            NO_LIMIT if p.limit_per_hour is None else p.limit_per_hour for p in points
        )
        self.width = _ints(i.width or 0 for i in installations)
        self.step = index.step
        self.expect_ms = _ints(p.expect_ms for p in points)
        self.numerator = _ints(i.multipliers[0].numerator for i in installations)
        self.denominator = _ints(i.multipliers[0].denominator for i in installations)
        pairs = zip(self.numerator.tolist(), self.denominator.tolist(), strict=True)
        self._fractions = sorted({(n, d) for n, d in pairs if d != 1})
        self.changes = {s: i.multipliers for s, i in enumerate(installations) if len(i.multipliers) > 1}
        self.facts = self._facts(index.point)
        self._installation = index.installation
        self._allowances: dict[int, Allowance] = {}

    def allowance(self, series: int) -> Allowance:
        """What a register can rise, exactly."""
        if series not in self._allowances:
            limit, one = int(self.limit_per_hour[series]), self._installation(series)
            known = None if limit == NO_LIMIT else limit
            facts = allowance.Facts(known, one.width or 0, one.step, one.multipliers)
            self._allowances[series] = Allowance(facts)
        return self._allowances[series]

    def _facts(self, point: Ints) -> Facts:
        """The same for the compiled loop, which works out what is plain."""
        whole = np.array([s not in self.changes for s in range(len(point))], bool) & (self.denominator == 1)
        limited = self.limit_per_hour != NO_LIMIT
        per_ms = self.limit_per_hour * MARGIN / HOUR_MS / (self.numerator / self.denominator)
        step = 2 * self.step
        return Facts(self.numerator, 2 * self.expect_ms, point, step, self.width, whole, limited, per_ms)

    def multiplied(self, series: Ints, value: Ints) -> Ints:
        """Register values after the (first) multiplier, rounded half to even where it is no integer."""
        out = value * self.numerator[series]
        for numerator, denominator in self._fractions:
            mine = (self.numerator[series] == numerator) & (self.denominator[series] == denominator)
            out[mine] = scale(value[mine], numerator, denominator, 2**62)[0]
        return out

    def multiplied_at(self, series: Ints, at: Ints, value: Ints) -> Ints:
        """Values of gauges, each with the multiplier in force at its instant."""
        out = self.multiplied(series, value)
        for i in np.flatnonzero(np.isin(series, list(self.changes))).tolist():
            steps = self.changes[int(series[i])]
            one = ([m for m in steps if m.from_ms <= at[i]] or [steps[0]])[-1]
            out[i] = scale(value[i : i + 1], one.numerator, one.denominator, 2**62)[0][0]
        return out

    def rescaled(self, series: Ints, start: Ints, end: Ints) -> NDArray[np.bool_]:
        """In which stretches the multiplier changes: nobody read there what it was until then."""
        out = np.zeros(len(series), bool)
        for i in np.flatnonzero(np.isin(series, list(self.changes))).tolist():
            steps = self.changes[int(series[i])][1:]
            out[i] = any(start[i] < one.from_ms < end[i] for one in steps)
        return out

    def multiplied_reads(self, series: Ints, start: Ints, end: Ints, value: Ints) -> Ints:
        """Amounts of interval reads, each part of them with the multiplier in force."""
        out = self.multiplied(series, value)
        for i in np.flatnonzero(np.isin(series, list(self.changes))).tolist():
            steps, length = self.changes[int(series[i])], int(end[i] - start[i])
            edges = [int(start[i]), *(m.from_ms for m in steps if start[i] < m.from_ms < end[i]), int(end[i])]
            at = [int(value[i]) * (edge - edges[0]) // length for edge in edges]
            out[i] = 0
            for low, before, after in zip(edges, at, at[1:], strict=False):
                one = ([m for m in steps if m.from_ms <= low] or [steps[0]])[-1]
                scaled = scale(np.array([before, after]), one.numerator, one.denominator, 2**62)[0]
                out[i] += scaled[1] - scaled[0]
        return out


def _ints(values: object) -> Ints:
    return np.fromiter(values, np.int64)  # type: ignore[call-overload, no-any-return]


def judge(series: Ints, start: Ints, end: Ints, first: Ints, last: Ints, ratings: Ratings) -> Kinds:
    """What readings ``last`` at ``end`` are to ``first`` at ``start`` (register values, no multiplier)."""
    rise, width = last - first, ratings.width[series]
    possible = _possible(series, start, end, ratings)
    limited = ratings.limit_per_hour[series] != NO_LIMIT
    fewest, turns = fewest_turns(rise, width), limited & (width > 0)
    out = np.full(len(series), BROKEN, np.int8)
    out[(rise >= 0) & (~limited | (rise <= possible))] = SMOOTH
    out[(rise < 0) & turns & (fewest >= 0) & (fewest <= possible)] = WRAP
    left = possible - width - fewest
    out[turns & (fewest >= 0) & (left >= 0)] = UNSURE
    out[end - start > GAP_MAX_MS] = GAP
    hair = 1 + possible * _NEAR
    near = limited & ((np.abs(fewest - possible) <= hair) | (np.abs(left) <= hair))
    for i in np.flatnonzero(near).tolist():
        one = slice(i, i + 1)
        exact = ratings.allowance(int(series[i]))
        out[i] = exact.kinds(start[one], end[one], first[one], last[one])[0]
    return out


def _possible(series: Ints, start: Ints, end: Ints, ratings: Ratings) -> NDArray[np.float64]:
    """The most a register can rise in that time, before the multiplier, two steps of it for rounding."""
    multiplier = ratings.numerator[series] / ratings.denominator[series]
    for s, steps in ratings.changes.items():
        mine = series == s
        multiplier[mine] = _mean_multiplier(steps, start[mine], end[mine])
    per_ms = ratings.limit_per_hour[series] * MARGIN / HOUR_MS / multiplier
    return per_ms * (end - start) + 2 * ratings.step[series]


def _mean_multiplier(steps: tuple[Multiplier, ...], start: Ints, end: Ints) -> NDArray[np.float64]:
    """The mean over [start, end) of a multiplier that changes; the first one holds before it, too."""
    out = np.full(len(start), steps[0].numerator / steps[0].denominator)
    for before, after in pairwise(steps):
        share = np.clip((end - after.from_ms) / (end - start), 0, 1)
        out += share * (after.numerator / after.denominator - before.numerator / before.denominator)
    return out
