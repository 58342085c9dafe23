"""Interval reads that do not fit a window: longer than it, or reaching out of it.

Of an amount that is known for a longer time than the window nobody knows how much fell into it; of
one that reaches out of the window, what lies inside is an estimate.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from metering.roster import INTERVAL, Roster
from processors.flows import Flows
from processors.memory import CONFLICT, HELD_READ, key_of, time_of, written_off
from processors.reads import Reads
from processors.scaling import spread
from processors.spans import GRID_READ_MAX_MS

Ints = NDArray[np.int64]


class Shapes:
    """What the interval reads of some points say of windows, given by their ends (ascending) and length."""

    def __init__(self, roster: Roster, reads: Reads) -> None:
        self._reads = reads
        self._interval = np.array([p.reads == INTERVAL for p in roster.points], bool)

    def _series(self, members: Iterable[int]) -> list[int]:
        return [s for p in members if self._interval[p] for s in self._reads.series_of_point(p)]

    def coarse(self, members: Iterable[int], end: Ints, length_ms: int) -> NDArray[np.bool_]:
        """Whether some member is only known for longer than the window, anywhere in it."""
        out = np.zeros(len(end), bool)
        for series in self._series(members):
            longest = int(self._reads.longest_ms[series])
            if longest > length_ms:
                out |= self._covered(series, end, length_ms, longest)
        return out

    def _covered(self, series: int, end: Ints, length_ms: int, longest: int) -> NDArray[np.bool_]:
        reads = self._reads.memory.between(series, int(end[0]) - length_ms, int(end[-1]) + longest)
        ends = time_of(reads["key"])
        there = (reads["flags"] & CONFLICT == 0) & ~written_off(reads["flags"])
        long = (ends - reads["start"] > length_ms) & there
        starts, ends = np.sort(reads["start"][long]), np.sort(ends[long])
        return np.searchsorted(starts, end) > np.searchsorted(ends, end - length_ms, "right")

    def across_ms(self, members: Iterable[int], end: Ints, length_ms: int) -> Ints:
        """Milliseconds in each window that are measured only together with time outside of it."""
        out = np.zeros(len(end), np.int64)
        for series in self._series(members):
            out += self._across(series, end - length_ms, end)
        return out

    def _across(self, series: int, start: Ints, end: Ints) -> Ints:
        low, high = self._measured(series, int(start[0]), int(end[-1]))
        if len(low) == 0:
            return np.zeros(len(end), np.int64)
        left = np.minimum(np.searchsorted(high, start, "right"), len(high) - 1)
        right = np.maximum(np.searchsorted(low, end) - 1, 0)
        comes_in = (low[left] < start) & (high[left] > start)
        goes_out = (low[right] >= start) & (low[right] < end) & (high[right] > end)
        inside = np.where(comes_in, np.minimum(high[left], end) - start, 0)
        return np.asarray(inside + np.where(goes_out, end - low[right], 0))

    def _measured(self, series: int, after_ms: int, until_ms: int) -> tuple[Ints, Ints]:
        """Starts and ends, ascending, of the measured reads that share time with a stretch."""
        reads = self._reads.memory.between(series, after_ms, until_ms + int(self._reads.longest_ms[series]))
        start, end = reads["start"], time_of(reads["key"])
        counted = (reads["flags"] & HELD_READ == 0) & (end - start <= GRID_READ_MAX_MS)
        counted &= ~self._reads.estimated(reads["key"], start, reads["value"], reads["flags"])
        return start[counted], end[counted]


def longer(reads: Flows, members: Iterable[int], length_ms: int) -> list[tuple[int, int]]:
    """From when to when changed reads of these points lie that are longer than a window."""
    mine = np.isin(reads.point, list(members)) & (reads.end - reads.start > length_ms)
    return sorted(set(zip(reads.start[mine].tolist(), reads.end[mine].tolist(), strict=True)))


def standing(reads: Reads, point: Ints, start: Ints, end: Ints) -> NDArray[np.bool_]:
    """Which of these are interval reads of their points now; one in conflict is not (its start is open), nor
    one that somebody wrote off.
    """
    order = np.argsort(reads.points, kind="stable")
    low, high = (np.searchsorted(reads.points[order], point, side) for side in ("left", "right"))
    row, ordinal = spread(high - low)
    key = key_of(order[low[row] + ordinal], end[row])
    runs, places = reads.memory.find(key)
    row, found = row[runs >= 0], (runs[runs >= 0], places[runs >= 0])
    get = reads.memory.get
    flags = get("flags", found)
    same = (get("start", found) == start[row]) & (flags & CONFLICT == 0) & ~written_off(flags)
    out = np.zeros(len(point), bool)
    out[row[same]] = True
    return out
