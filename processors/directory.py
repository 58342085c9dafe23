"""Where blocks of cells are: a number for each (series, block), found by search in sorted arrays.

Python's own dictionary would take 150 bytes a block and be asked one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.kernels.blocks import BIAS, SERIES_SHIFT, Make, Part, cells, key_of, numbers_of
from processors.scaling import spread

Ints = NDArray[np.int64]

_FAR = (1 << 31) - 1
_NEW_SHARE, _NEW_MIN = 4, 1 << 12
"""New keys lie in an array of their own until they are a fourth of all."""


class Directory:
    """Blocks are numbered from 0 in the order in which they are made."""

    def __init__(self, series: int = 1) -> None:
        """With room for so many series, and for more when they come."""
        self._size = 0
        self._parts = Part.of(np.empty(0, np.int64), 0), Part.of(np.empty(0, np.int64), 0)
        """What is old, and what is new."""
        self._first = np.full(series, _FAR, np.int32)
        self._last = np.full(series, -_FAR, np.int32)
        self._recent = np.full((2, series), -_FAR, np.int32)
        """Of every series the block that was looked up last, and its number: mostly the one wanted next."""

    def __len__(self) -> int:
        return self._size

    def keys(self) -> Ints:
        """By number."""
        out = np.empty(self._size, np.int64)
        for part in self._parts:
            out[part.numbers] = part.keys
        return out

    def cells(
        self, series: Ints, span: Ints, shift: int, make: Make, exists: NDArray[np.uint8]
    ) -> tuple[Ints, Ints]:
        """Of spans the cells, blocks of 2**shift lying one after the other; and the keys of blocks that are
        to be made and are not there (processors.kernels.blocks).
        """
        return cells(series, span, shift, make, self._parts, exists, self._recent)

    def look_up(self, series: Ints, block: Ints) -> Ints:
        """Numbers of blocks, or -1."""
        return numbers_of(key_of(series, block), self._parts)

    def add(self, keys: Ints) -> None:
        """Makes blocks of new keys, each once."""
        old, new = self._parts
        new = new.joined(Part.of(keys, self._size))
        self._size += len(keys)
        if len(new.keys) > max(len(old.keys) // _NEW_SHARE, _NEW_MIN):
            old, new = old.joined(new), Part.of(keys[:0], 0)
        self._parts = old, new
        series, block = _parted(keys)
        self._make_room(int(series.max(initial=0)))
        np.minimum.at(self._first, series, block.astype(np.int32))
        np.maximum.at(self._last, series, block.astype(np.int32))

    def extents(self, series: Ints) -> tuple[Ints, Ints]:
        """First and last block of each series; far apart, the first behind the last, where there is none."""
        self._make_room(int(series.max(initial=0)))
        return self._first[series].astype(np.int64), self._last[series].astype(np.int64)

    def between(self, series: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """The blocks in low..high (inclusive) of each series: number into ``series``, block, in order."""
        owners, keys = [], []
        for part in self._parts:
            first = np.searchsorted(part.keys, key_of(series, low))
            counts = np.maximum(np.searchsorted(part.keys, key_of(series, high), "right") - first, 0)
            owner, ordinal = spread(counts)
            owners.append(owner)
            keys.append(part.keys[first[owner] + ordinal])
        owner, key = np.concatenate(owners), np.concatenate(keys)
        order = np.lexsort((key, owner))
        return owner[order], _parted(key[order])[1]

    def _make_room(self, series: int) -> None:
        lacking = series + 1 - len(self._first)
        if lacking > 0:
            more = max(lacking, len(self._first) // 4)
            self._first = np.append(self._first, np.full(more, _FAR, np.int32))
            self._last = np.append(self._last, np.full(more, -_FAR, np.int32))
            self._recent = np.append(self._recent, np.full((2, more), -_FAR, np.int32), axis=1)


def _parted(keys: Ints) -> tuple[Ints, Ints]:
    return keys >> SERIES_SHIFT, (keys & ((1 << SERIES_SHIFT) - 1)) - BIAS
