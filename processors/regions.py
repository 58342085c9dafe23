"""The regions of one series, found by their times without a look at all of them.

Calm ones do not overlap, and are most of them where a register turns often: sorted lists. The others reach
further than they are long, and may overlap: a table with a column of numbers for each fact, and room behind
them, so that what changes at its end moves nothing before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from processors.doubt import Region

Ints = NDArray[np.int64]
_START, _END, _BREAK, _LAST_BREAK, _REACH, _LAST_REACH = range(6)
_ROOM = 4


class Regions:
    """Regions in the order of their breaks."""

    def __init__(self, every: Iterable[Region] = ()) -> None:
        self._calm: list[Region] = []
        self._from: list[int] = []
        self._to: list[int] = []
        self._others: list[Region] = []
        self._room = np.empty((6, _ROOM), np.int64)
        self.replace((), sorted(every, key=_place))

    def __len__(self) -> int:
        return len(self._calm) + len(self._others)

    def __iter__(self) -> Iterator[Region]:
        return iter(sorted([*self._calm, *self._others], key=_place))

    @property
    def _table(self) -> Ints:
        return self._room[:, : len(self._others)]

    @property
    def reach(self) -> int | None:
        """The instant up to which a reading may change one of them that is not calm; None: there is none."""
        return int(self._table[_LAST_REACH].max()) if self._others else None

    @property
    def last_break(self) -> int | None:
        """The end of the last break of those that are not calm; None: there is none."""
        return int(self._table[_LAST_BREAK].max()) if self._others else None

    def reached(self, times: Ints, spans: Ints) -> list[Region]:
        """Those whose reach has one of some instants, in order, or an instant of one of some [low, high]."""
        calm = {at for low in times.tolist() for at in self._calm_at(low, low)}
        calm |= {at for low, high in spans.tolist() for at in self._calm_at(low, high)}
        low, high = self._table[_REACH], self._table[_LAST_REACH]
        others = np.searchsorted(times, low) < np.searchsorted(times, high, "right")
        for first, last in spans.tolist():
            others |= (low <= last) & (high >= first)
        return [self._calm[at] for at in sorted(calm)] + self._some(others)

    def _calm_at(self, low: int, high: int) -> range:
        return range(bisect_left(self._to, low), bisect_right(self._from, high))

    def sharing(self, low: int, high: int) -> list[Region]:
        """Those that share time with (low, high)."""
        calm = self._calm[bisect_right(self._to, low) : bisect_left(self._from, high)]
        return calm + self._some((self._table[_START] < high) & (self._table[_END] > low))

    def within(self, low: int, high: int) -> list[Region]:
        """Those whose breaks all lie in [low, high]."""
        calm = self._calm[bisect_left(self._from, low) : bisect_right(self._to, high)]
        return calm + self._some((self._table[_BREAK] >= low) & (self._table[_LAST_BREAK] <= high))

    def _some(self, mask: NDArray[np.bool_]) -> list[Region]:
        return [self._others[at] for at in np.flatnonzero(mask).tolist()]

    def replace(self, lost: Iterable[Region], found: Iterable[Region]) -> None:
        """Takes some of them away and others in."""
        others: list[list[Region]] = [[], []]
        for one in lost:
            if one.is_calm:
                at = bisect_left(self._from, one.start)
                del self._calm[at], self._from[at], self._to[at]
            else:
                others[0].append(one)
        for one in found:
            if one.is_calm:
                at = bisect_left(self._from, one.start)
                self._calm.insert(at, one)
                self._from.insert(at, one.start)
                self._to.insert(at, one.end)
            else:
                others[1].append(one)
        self._replace_others(*others)

    def _replace_others(self, lost: list[Region], found: list[Region]) -> None:
        """All at once: each change of the table copies what is behind it."""
        if lost:
            places = self._places(lost)
            first = int(places.min())
            behind = np.delete(self._table[:, first:], places - first, 1)
            self._room[:, first : first + behind.shape[1]] = behind
            for at in sorted(places.tolist(), reverse=True):
                del self._others[at]
        if found:
            found = sorted(found, key=_place)
            places = self._places(found)
            facts = np.array([(one.start, one.end, *one.breaks, *one.reach) for one in found], np.int64).T
            first = int(places.min())
            behind = np.insert(self._table[:, first:], places - first, facts, 1)
            self._reserve(first + behind.shape[1])
            self._room[:, first : first + behind.shape[1]] = behind
            for at, one in reversed(list(zip(places.tolist(), found, strict=True))):
                self._others.insert(at, one)

    def _reserve(self, size: int) -> None:
        """Room for so many, twice as much where there is not enough: each is moved but a few times."""
        if size > self._room.shape[1]:
            known, self._room = self._table, np.empty((6, 2 * size), np.int64)
            self._room[:, : known.shape[1]] = known

    def _places(self, some: list[Region]) -> Ints:
        """Those of breaks in the table; breaks of two regions never begin at the same instant."""
        firsts = np.array([one.breaks[0] for one in some], np.int64)
        return np.asarray(np.searchsorted(self._table[_BREAK], firsts))


def _place(one: Region) -> tuple[int, int]:
    return one.breaks
