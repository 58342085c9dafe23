"""Which interval reads share time with each other, and which of them a change can have to do with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.memory import CONFLICT, Memory, series_of, time_of
from processors.rulings import Rulings
from processors.runs import NONE, Run

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FAR_MS = 2**62


class Sharing:
    """``overlapping``: series in which reads shared time; ``longest_ms``: of each series its longest read."""

    def __init__(self, memory: Memory, rulings: Rulings) -> None:
        self._memory, self._rulings = memory, rulings
        self.longest_ms = np.zeros(len(memory.newest), np.int64)
        self.overlapping: set[int] = set()

    def near(self, keys: Ints, record: Ints, from_ms: int | None) -> tuple[Ints, Ints]:
        """Reads and their neighbours on both sides, each with the latest record that touched it."""
        before, after = self._memory.before(keys, CONFLICT), self._memory.after(keys, CONFLICT)
        near = np.concatenate([keys, before, after])
        number = np.concatenate([record, record, record])
        order = np.lexsort((number, near))
        near, number = near[order], number[order]
        last = np.append(near[1:] != near[:-1], True) & (near != NONE)
        near, number = near[last], number[last]
        wide = [s for s in np.unique(series_of(near)).tolist() if self._crowded(s, near)]
        for s in wide:
            near, number = self._widen(s, near, number, from_ms)
        return near, number

    def is_ruled(self, near: Ints) -> Bools:
        """Which reads are of series of which people's word has to be asked."""
        out, series = np.zeros(len(near), bool), series_of(near)
        if not self._rulings.every:
            return out
        for s in {s for s in np.unique(series).tolist() if self._rulings.of_series(s)}:
            mine = series == s
            out[mine] = s in self.overlapping or len(self._rulings.rows(near[mine])) > 0
        return out

    def _crowded(self, series: int, near: Ints) -> bool:
        if series in self.overlapping:
            return True
        mine = near[series_of(near) == series]
        overlap = (self._starts(mine)[1:] < time_of(mine)[:-1]).any()
        if overlap:
            self.overlapping.add(series)
        return bool(overlap)

    def _widen(self, series: int, near: Ints, number: Ints, from_ms: int | None) -> tuple[Ints, Ints]:
        """All reads of a crowded series that can share time with a changed one, and so on where people's word
        has to be asked.
        """
        mine = near[series_of(near) == series]
        if self._rulings.of_series(series):
            keys = self.beside(series, mine, from_ms)
        else:
            low = min(int(self._starts(mine).min()), FAR_MS if from_ms is None else from_ms)
            keys = self._sharing(series, low - 1, int(time_of(mine).max()))["key"]
        keys = keys[~np.isin(keys, near)]
        near, number = (
            np.concatenate([near, keys]),
            np.concatenate([number, np.full(len(keys), int(number.max()))]),
        )
        order = np.argsort(near)
        return near[order], number[order]

    def _sharing(self, series: int, after_ms: int, until_ms: int) -> Run:
        """Reads of a series that may share time with a stretch, none in conflict."""
        every = self._memory.between(series, after_ms, until_ms + int(self.longest_ms[series]))
        return {name: column[every["flags"] & CONFLICT == 0] for name, column in every.items()}

    def beside(self, series: int, keys: Ints, from_ms: int | None = None) -> Ints:
        """All that share time with some reads, with those, and so on; and these."""
        low, high = int(self._starts(keys).min()), int(time_of(keys).max())
        low = min(low, FAR_MS if from_ms is None else from_ms)
        while True:
            run = self._sharing(series, low, high)
            inside = run["start"] < high
            start, end = run["start"][inside], time_of(run["key"][inside])
            reach = int(start.min(initial=low)), int(end.max(initial=high))
            if reach == (low, high):
                return np.union1d(keys, run["key"][inside])
            low, high = reach

    def overlaps(self, near: Ints) -> Bools:
        """Whether each of these reads shares time with any other read of its series."""
        out = np.zeros(len(near), bool)
        for s in np.unique(series_of(near)).tolist():
            if s in self.overlapping:
                mine = series_of(near) == s
                out[mine] = self._overlaps_in(s, near[mine])
        return out

    def _overlaps_in(self, series: int, keys: Ints) -> Bools:
        low = int(self._starts(keys).min()) - 1
        every = self._sharing(series, low, int(time_of(keys).max()))
        return np.isin(keys, every["key"][shared(every["start"], time_of(every["key"]))])

    def _starts(self, keys: Ints) -> Ints:
        start: Ints = self._memory.get("start", self._memory.find(keys))
        return start


def shared(start: Ints, end: Ints) -> Bools:
    """Which of some reads share time with any other of them."""
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    reach, out = np.maximum.accumulate(end), np.zeros(len(start), bool)
    out[order[1:]] = start[1:] < reach[:-1]
    out[order[:-1]] |= start[1:] < end[:-1]
    return out
