"""Gauges: what shows a state of the moment (V, PF, Hz), and power that is added up over time (kW).

A value holds from its instant until the next one, ``2 x expect_every`` at most: beyond that the state is
unknown. So each reading but the newest is a stretch of time with one value, and a stretch is a flow like any
other: of a mean the amount is value x milliseconds, which cells add up and rows divide by the time that is
known; of what is integrated it is what passed in that time, in whole millionths. A reading in conflict ends
the one before it; what it says itself is not known, and held.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS
from metering.roster import HOLDS
from processors.batch import SeriesIndex
from processors.flows import Flows, marks
from processors.memory import CONFLICT, ESTIMATED, NONE, Memory, Run, series_of, time_of
from processors.verdicts import Ratings

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HOUR_MS = 3_600_000


class Gauges:
    """Readings in, signed flows out."""

    def __init__(self, index: SeriesIndex, ratings: Ratings) -> None:
        self.memory = Memory(len(index))
        self._ratings = ratings
        self._points = index.point
        points = [index.roster.points[p] for p in index.point.tolist()]
        self._integrated = np.array([p.integrated for p in points], bool)
        self._hold_ms = HOLDS * np.array([p.expect_ms for p in points], np.int64)

    def insert(self, run: Run, record: Ints) -> Flows:
        """New readings, sorted by key, none of them known: the flows that change."""
        key = run["key"]
        before, after = self.memory.before(key, skip=0), self.memory.after(key, skip=0)
        previous = np.append(NONE, key[:-1])
        chained = np.append(False, series_of(key[1:]) == series_of(key[:-1])) & (previous > before)
        tail = np.append(~chained[1:], True)
        split = ~chained & (before != NONE) & (after != NONE)
        begins = ~chained & (before != NONE)
        later = np.maximum(record, np.append(0, record[:-1]))
        ends = np.where(tail, after, np.append(key[1:], NONE))
        known = ends != NONE
        number = np.where(tail, record, np.append(later[1:], 0))
        self.memory.add({name: column.copy() for name, column in run.items()})
        parts = (
            self._flows(before[split], after[split], -1, record[split]),
            self._flows(before[begins], key[begins], 1, record[begins]),
            self._flows(key[known], ends[known], 1, number[known]),
        )
        return _joined(parts)

    def replace(self, key: int, fresh: dict[str, int], record: int) -> Flows:
        """A known reading says something else: its fields."""
        one, number = np.array([key]), np.array([record])
        where, after = self.memory.find(one), self.memory.after(one, skip=0)
        known = after != NONE
        back = self._flows(one[known], after[known], -1, number[known])
        for name, content in fresh.items():
            self.memory.put(name, where, np.array([content]))
        return _joined((back, self._flows(one[known], after[known], 1, number[known])))

    def _flows(self, key: Ints, until: Ints, sign: int, record: Ints) -> Flows:
        """What readings in memory say of the time up to the next ones."""
        series, where = series_of(key), self.memory.find(key)
        flags = self.memory.get("flags", where).astype(np.int64)
        value = self._ratings.multiplied_at(series, time_of(key), self.memory.get("value", where))
        start, end = time_of(key), time_of(until)
        booked = (flags & CONFLICT == 0).astype(np.int64)
        total = self._integrated[series]
        flows = Flows(
            self._points[series],
            np.full(len(key), sign, np.int64),
            start,
            np.minimum(end, start + self._hold_ms[series]),
            value * booked,
            booked,
            booked * (flags & ESTIMATED == 0) * ~total,
            marks(flags),
            np.zeros(len(key), np.int64),
            np.zeros(len(key), np.int64),
            record,
        )
        if total.any():
            return _joined((_by_quarters(flows.take(~total)), _integrated(flows.take(total))))
        return _by_quarters(flows)


def _joined(parts: tuple[Flows, ...]) -> Flows:
    names = Flows.__dataclass_fields__
    return Flows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _by_quarters(flows: Flows) -> Flows:
    """Values as value x milliseconds, cut at quarters of an hour: so they fit 64 bits, and base spans."""
    first, last = flows.start // QUARTER_MS, (flows.end - 1) // QUARTER_MS
    counts = last - first + 1
    row = np.repeat(np.arange(len(flows)), counts)
    quarter = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = flows.take(row)
    start = np.maximum(out.start, quarter * QUARTER_MS)
    end = np.minimum(out.end, (quarter + 1) * QUARTER_MS)
    columns = {name: getattr(out, name) for name in Flows.__dataclass_fields__}
    return Flows(**columns | {"start": start, "end": end, "amount": out.amount * (end - start)})


def _integrated(flows: Flows) -> Flows:
    """Values per hour as what passed: each value's line, zero at a full hour, read off at both ends.

    So a value that stays gives the same in every hour, to the last digit.
    """
    start = flows.start % HOUR_MS
    amount = _passed(flows.amount, start + flows.end - flows.start) - _passed(flows.amount, start)
    columns = {name: getattr(flows, name) for name in Flows.__dataclass_fields__}
    return Flows(**columns | {"amount": amount})


def _passed(per_hour: Ints, length_ms: Ints) -> Ints:
    """floor(value x time), without overflow."""
    whole, rest = np.divmod(per_hour, HOUR_MS)
    return np.asarray(whole * length_ms + rest * length_ms // HOUR_MS)
