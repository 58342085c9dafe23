"""What lies between two installations of a register: time that no meter of the point tells anything of.

From the last reading that counts of one to the first of the next that has any, what the site file states as
``final`` and ``initial`` among them. It is a flow without an amount, booked as BETWEEN, so that its spans are
there, and missing. It follows the readings record by record: it is the same however the log is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from processors.allowance import GAP_MAX_MS
from processors.batch import SeriesIndex
from processors.flows import BETWEEN, Flows
from processors.memory import Memory, series_of, time_of
from processors.runs import NONE

Ints = NDArray[np.int64]
_Stretch = tuple[int, int]
_Change = tuple[int, int, int | None]
"""Number of the record, series, and the instant of a reading that counts now; None: look what there is."""
_NEVER, _EVER = 2**62, -(2**62)


class Between:
    """The ends of each installation's readings, and what changed of them since it was last asked."""

    def __init__(self, index: SeriesIndex, memory: Memory) -> None:
        self._index, self._memory = index, memory
        point = np.array(index.point, np.int64)
        several = (index.register & ~index.single)[point]
        self.any = bool(several.any())
        self._slot = np.where(several, np.cumsum(several) - 1, -1).astype(np.int32) if self.any else None
        self._series = np.flatnonzero(several)
        self._next = np.append(point[self._series][1:] == point[self._series][:-1], False)
        """Whether another installation follows."""
        self._first = np.full(len(self._series), _NEVER)
        self._last = np.full(len(self._series), _EVER)
        self._changes: list[_Change] = []
        self._base_ms = [max(one.base_ms, 1) for one in index.roster.points]

    def resume(self) -> None:
        """Goes on from readings that are there."""
        if self.any:
            for slot in range(len(self._series)):
                self._look(slot)

    def came(self, key: Ints, record: Ints) -> None:
        """Readings that count now, and did not before."""
        if self._slot is None:
            return
        slot, time = self._slot[series_of(key)], time_of(key)
        rows = np.flatnonzero(slot >= 0)
        slot, time = slot[rows], time[rows]
        ends = (time < self._first[slot]) | ((time > self._last[slot]) & self._next[slot])
        rows, time = rows[ends], time[ends]
        series = self._series[slot[ends]]
        self._changes += zip(record[rows].tolist(), series.tolist(), time.tolist(), strict=True)

    def turned(self, series: int, record: int) -> None:
        """A reading of a series began or ceased to count."""
        if self._slot is not None and self._slot[series] >= 0:
            self._changes.append((record, series, None))

    def flows(self) -> list[Flows]:
        """What changed of the stretches between installations."""
        changes, self._changes = self._changes, []
        by_point = sorted(changes, key=lambda one: (self._index.point[one[1]], one[0]))
        rows: list[tuple[int, int, int, int, int]] = []
        for point, mine in groupby(by_point, key=lambda one: self._index.point[one[1]]):
            rows += self._followed(int(point), list(mine))
        return [_flows(rows)] if rows else []

    def _followed(self, point: int, changes: list[_Change]) -> Iterator[tuple[int, int, int, int, int]]:
        """Record by record: point, sign, start, end, record of flows."""
        base_ms, was = self._base_ms[point], self._stretches(point)
        for record, mine in groupby(changes, key=lambda one: one[0]):
            for _, series, time in mine:
                self._take(series, time)
            now = self._stretches(point)
            for sign, (start, end) in _different(was, now, base_ms):
                yield point, sign, start, end, record
            was = now

    def _take(self, series: int, time: int | None) -> None:
        assert self._slot is not None
        slot = int(self._slot[series])
        if time is None:
            self._look(slot)
        else:
            self._first[slot] = min(self._first[slot], time)
            self._last[slot] = max(self._last[slot], time)

    def _look(self, slot: int) -> None:
        """The ends as they are in memory."""
        low, high = self._memory.edges(self._series[slot : slot + 1])
        there = low[0] != NONE
        self._first[slot] = time_of(low)[0] if there else _NEVER
        self._last[slot] = time_of(high)[0] if there else _EVER

    def _stretches(self, point: int) -> list[_Stretch]:
        assert self._slot is not None
        low = int(self._slot[self._index.first[point]])
        high = low + len(self._index.roster.points[point].installations)
        seen = [slot for slot in range(low, high) if self._first[slot] != _NEVER]
        ends = [(int(self._last[a]), int(self._first[b])) for a, b in pairwise(seen)]
        return [(start, end) for start, end in ends if 0 < end - start <= GAP_MAX_MS]


def _different(was: list[_Stretch], now: list[_Stretch], base_ms: int) -> Iterator[tuple[int, _Stretch]]:
    """What goes (-1) and what comes (1), in whole base spans: each counts the stretches it has a part of."""
    for low, high in _regions(was, now, base_ms):
        for sign, stretches in ((-1, was), (1, now)):
            cut = ((max(start, low), min(end, high)) for start, end in stretches)
            yield from ((sign, (start, end)) for start, end in cut if start < end)


def _regions(was: list[_Stretch], now: list[_Stretch], base_ms: int) -> list[_Stretch]:
    """The base spans in which something differs, those next to each other together."""
    if was == now:
        return []
    ends = sorted({end for stretch in (*was, *now) for end in stretch})
    changed = {at for one in {*was} ^ {*now} for at in one}
    parts = [(at, at + 1) for at in sorted(changed)]
    parts += [one for one in pairwise(ends) if _within(one, was) != _within(one, now)]
    out: list[_Stretch] = []
    for start, end in sorted(
        (low // base_ms * base_ms, -(-high // base_ms) * base_ms) for low, high in parts
    ):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _within(part: _Stretch, stretches: list[_Stretch]) -> bool:
    return any(start <= part[0] and part[1] <= end for start, end in stretches)


def _flows(rows: list[tuple[int, int, int, int, int]]) -> Flows:
    point, sign, start, end, record = np.array(rows, np.int64).T
    zero = np.zeros(len(rows), np.int64)
    return Flows(point, sign, start, end, zero, np.full(len(rows), BETWEEN), zero, zero, zero, zero, record)
