"""The regions of one series, found by their times without a look at all of them.

Calm ones do not overlap, and are most of them where a register turns often: sorted lists. The others reach
further than they are long, and may overlap: a table with a row each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from processors.doubt import Region

Ints = NDArray[np.int64]
_START, _END, _BREAK, _LAST_BREAK, _REACH, _LAST_REACH = range(6)


class Regions:
    """Regions in the order of their breaks."""

    def __init__(self, every: Iterable[Region] = ()) -> None:
        self._calm: list[Region] = []
        self._from: list[int] = []
        self._to: list[int] = []
        self._others: list[Region] = []
        self._table = np.empty((0, 6), np.int64)
        self.replace((), sorted(every, key=_place))

    def __len__(self) -> int:
        return len(self._calm) + len(self._others)

    def __iter__(self) -> Iterator[Region]:
        return iter(sorted([*self._calm, *self._others], key=_place))

    @property
    def reach(self) -> int | None:
        """The instant up to which a reading may change one of them that is not calm; None: there is none."""
        return int(self._table[:, _LAST_REACH].max()) if self._others else None

    @property
    def last_break(self) -> int | None:
        """The end of the last break of those that are not calm; None: there is none."""
        return int(self._table[:, _LAST_BREAK].max()) if self._others else None

    def reached(self, low: int, high: int) -> list[Region]:
        """Those whose reach has an instant of [low, high]."""
        calm = self._calm[bisect_left(self._to, low) : bisect_right(self._from, high)]
        return calm + self._some((self._table[:, _REACH] <= high) & (self._table[:, _LAST_REACH] >= low))

    def sharing(self, low: int, high: int) -> list[Region]:
        """Those that share time with (low, high)."""
        calm = self._calm[bisect_right(self._to, low) : bisect_left(self._from, high)]
        return calm + self._some((self._table[:, _START] < high) & (self._table[:, _END] > low))

    def within(self, low: int, high: int) -> list[Region]:
        """Those whose breaks all lie in [low, high]."""
        calm = self._calm[bisect_left(self._from, low) : bisect_right(self._to, high)]
        return calm + self._some((self._table[:, _BREAK] >= low) & (self._table[:, _LAST_BREAK] <= high))

    def _some(self, mask: NDArray[np.bool_]) -> list[Region]:
        return [self._others[at] for at in np.flatnonzero(mask).tolist()]

    def replace(self, lost: Iterable[Region], found: Iterable[Region]) -> None:
        """Takes some of them away and others in."""
        for one in lost:
            self._take_away(one)
        for one in found:
            self._take_in(one)

    def _take_away(self, one: Region) -> None:
        if one.is_calm:
            at = bisect_left(self._from, one.start)
            del self._calm[at], self._from[at], self._to[at]
        else:
            at = self._at(one)
            del self._others[at]
            self._table = np.delete(self._table, at, 0)

    def _take_in(self, one: Region) -> None:
        if one.is_calm:
            at = bisect_left(self._from, one.start)
            self._calm.insert(at, one)
            self._from.insert(at, one.start)
            self._to.insert(at, one.end)
        else:
            at = self._at(one)
            self._others.insert(at, one)
            row = (one.start, one.end, *one.breaks, *one.reach)
            self._table = np.insert(self._table, at, np.array(row, np.int64), 0)

    def _at(self, one: Region) -> int:
        """The place among those that are not calm; breaks of two regions never begin at the same instant."""
        return int(np.searchsorted(self._table[:, _BREAK], one.breaks[0]))


def _place(one: Region) -> tuple[int, int]:
    return one.breaks
