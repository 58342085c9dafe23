"""Where bulk state lies: in memory, or, where there is a place for it, what rests there.

State grows with every reading and is hardly ever read again behind the newest day. What is put out keeps its
address and its values, so that nothing that looks at it knows; a page of it comes back when it is touched.
The operators have no files: who wires them gives them a ``Room`` (``meterflow/paging.py``), or memory is all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]


class Column(Protocol):
    """A growing array in chunks, of zeros at first; what was never written takes no memory."""

    array: Array

    def grow(self, size: int, newer: Bools) -> None:
        """``array`` has so many entries now, the first ones as they were.

        ``newer``: which chunks were written since they were put out last, or may have been.
        """

    def put_out(self, first: int, until: int) -> bool:
        """These chunks will hardly be looked at; false: try it again, there is no room for them now."""


class Room(Protocol):
    """Makes room for arrays."""

    def column(self, size: int, kind: DTypeLike, chunk: int) -> Column:
        """A column of so many entries, in chunks of so many."""

    def put_out(self, array: Array) -> Array:
        """The same values, writable, where they take memory only while they are touched; or the array."""


class _Plain:
    """In memory, all of it."""

    def __init__(self, size: int, kind: DTypeLike) -> None:
        self.array: Array = np.zeros(size, kind)

    def grow(self, size: int, newer: Bools) -> None:
        del newer
        before, self.array = self.array, np.zeros(size, self.array.dtype)
        if before.any():
            self.array[: len(before)] = before

    def put_out(self, first: int, until: int) -> bool:
        del first, until
        return True


class InMemory:
    """Everything in memory."""

    def column(self, size: int, kind: DTypeLike, chunk: int) -> Column:
        del chunk
        return _Plain(size, kind)

    def put_out(self, array: Array) -> Array:
        return array


IN_MEMORY = InMemory()


def stretches(wanted: Bools) -> Iterator[tuple[int, int]]:
    """First and behind the last of each stretch of neighbours that are wanted."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
