"""Readings of a batch by which what a register did may come into doubt, or be settled: each begins a pass.

More of them than need be would change nothing that is said, only cost time; one too few would. So a reading
is named that does not count on from the one before it, or whose neighbours do not; those behind it, until
two that show something else are there; and all that lie in reach of what is in doubt already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, SMOOTH, UNSURE, WRAP, Kinds
from processors.batch import Batch, SeriesIndex
from processors.books import Books
from processors.kernels.chain import breaks
from processors.lines import RUN_MAX_MS
from processors.memory import time_of
from processors.runs import NONE
from processors.verdicts import judge

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STEPS_MAX = 64
"""How far among readings of a batch a neighbour is looked for; beyond it a pass begins, to be safe."""
_BEHIND = 2
"""So many readings that show something else settle what a register showed last (processors.doubt)."""
_REPEATED = 2
"""What comes behind so many that repeat a value, and repeats it too, decides nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """``rows`` begin a pass; ``series``: what is late in one of these does, too."""

    rows: Ints
    series: Ints


class Unsettled:
    """Looks through batches of readings sorted by key."""

    def __init__(self, index: SeriesIndex, books: Books) -> None:
        self._index, self._books = index, books

    def find(self, batch: Batch, seen: Ints, late: Ints) -> Found:
        """``seen``: of each reading the newest time of its series in earlier records; ``late``: registers'
        readings that are not behind it.
        """
        memory, watched, ratings = self._books.memory, self._books.doubts.watched, self._books.ratings
        columns = (batch.key, batch.value, batch.record, seen)
        newest = (memory.newest, memory.newest_value, watched)
        rows = breaks(columns, *newest, ratings.facts, STEPS_MAX)
        rows = rows[self._index.register[batch.point[rows]] & (batch.time[rows] > seen[rows])]
        open_ = rows[batch.key[rows] <= watched[batch.series[rows]]]
        stirring = self._beside(batch, late, -1) != SMOOTH
        stirring |= self._beside(batch, late, 1) != SMOOTH
        stirring |= batch.key[late] <= watched[batch.series[late]]
        broken = self._broken(batch, rows, np.concatenate([open_, late[stirring]]))
        starts = np.concatenate([broken, late[stirring]])
        tails = [_behind(batch, seen, row + 1, row, int(batch.value[row])) for row in starts.tolist()]
        first = np.unique(batch.series[open_], return_index=True)[1]
        for row in open_[first].tolist():
            shown = int(memory.newest_value[batch.series[row]])
            tails.append(_behind(batch, seen, row, row, shown))
        named = np.array([row for tail in tails for row in tail], np.int64)
        series = np.unique(np.concatenate([batch.series[starts], batch.series[open_]]))
        return Found(np.unique(np.concatenate([starts, named])), series)

    def _broken(self, batch: Batch, rows: Ints, doubted: Ints) -> Ints:
        """Those of some rows that do not count on from the one before; none of a series that does nothing but
        turn, with nothing doubtful around: that changes nothing that was said.
        """
        kinds = self._beside(batch, rows, -1)
        broken, kinds = rows[kinds != SMOOTH], kinds[kinds != SMOOTH]
        series = batch.series[broken]
        calm = np.isin(kinds, (WRAP, UNSURE)) & (batch.key[broken] > self._books.doubts.unruly[series])
        calm &= ~np.isin(series, np.concatenate([series[~calm], batch.series[doubted]]))
        out: Ints = broken[~calm]
        return out

    def _beside(self, batch: Batch, rows: Ints, step: int) -> Kinds:
        """What readings and those next to them (step -1: before, 1: behind) are to each other, as of their
        record; smooth where there is none, broken where that is not sure.
        """
        if len(rows) == 0:
            return np.empty(0, np.int8)
        keys, memory = batch.key[rows], self._books.memory
        known = memory.before(keys) if step < 0 else memory.after(keys)
        place, sure = as_of(batch.series, batch.record, rows, step)
        found = np.where(place >= 0, batch.key[place], NONE)
        if step < 0:
            other = np.maximum(known, found)
        else:
            other = np.where((known == NONE) | ((found != NONE) & (found < known)), found, known)
        out: Kinds = np.where(sure & (other == NONE), SMOOTH, BROKEN).astype(np.int8)
        some = np.flatnonzero(sure & (other != NONE) & (other != keys))
        pair = [(time_of(keys[some]), batch.value[rows[some]])]
        pair.append((time_of(other[some]), self.values(batch, other[some])))
        (start, first), (end, last) = pair[::step]
        out[some] = judge(batch.series[rows[some]], start, end, first, last, self._books.ratings)
        return out

    def values(self, batch: Batch, keys: Ints) -> Ints:
        """Values of readings in memory or of the batch: what a later record corrects is as it was."""
        memory = self._books.memory
        known = memory.find(keys)[0] >= 0
        out = batch.value[np.minimum(np.searchsorted(batch.key, keys), len(batch) - 1)]
        out[known] = memory.get("value", memory.find(keys[known]))
        return out


def as_of(series: Ints, record: Ints, rows: Ints, step: int) -> tuple[Ints, Bools]:
    """Of each of some rows the nearest row of the same series, in a direction, whose record is not a later
    one (-1: none), and whether that is sure.
    """
    last, own = len(series) - 1, record[rows]
    place = rows + step
    for _ in range(STEPS_MAX):
        at = np.clip(place, 0, last)
        later = (place == at) & (series[at] == series[rows]) & (record[at] > own)
        if not later.any():
            break
        place = np.where(later, place + step, place)
    at = np.clip(place, 0, last)
    there = (place == at) & (series[at] == series[rows])
    return np.where(there, at, -1), ~there | (record[at] <= own)


def _behind(batch: Batch, seen: Ints, row: int, start: int, shown: int) -> list[int]:
    """The rows of the series of ``start`` from ``row`` on, until two that show something else are there; of
    those that repeat what was shown only the first ones.
    """
    out: list[int] = []
    series, until_ms, more = int(batch.series[start]), int(batch.time[start]) + RUN_MAX_MS, _BEHIND
    repeated = 0
    while row < len(batch) and batch.series[row] == series and more:
        in_order = bool(batch.time[row] > seen[row])
        same = batch.value[row] == shown and batch.time[row] <= until_ms and more == _BEHIND
        repeated += int(same and in_order)
        if not (same and in_order) or repeated <= _REPEATED:
            out.append(row)
        more -= int(not same and in_order)
        row += 1
    return out
