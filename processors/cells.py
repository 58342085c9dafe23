"""Cells: amounts by (series, span number), in blocks of neighbouring spans.

The only mutable bulk state of intervals and roll-ups. A cell is a sum of integers, so that adding
what a new register segment brings and taking away what an old one brought gives the same cell in
any order. Nothing is allocated for spans nobody touched, and a column that holds nothing but zeros (what is
held, revisions) takes no memory: it is mapped and never written.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from processors.directory import Directory
from processors.kernels.blocks import Make
from processors.room import IN_MEMORY, Room, stretches
from processors.scaling import distinct

BLOCK_SPANS = 16
_GROWTH = 4
"""By so much columns grow: what is not written yet takes no room, and what is written is seldom copied."""
_LOADED = 256
"""So many chunks are taken up at once."""
CHUNK_CELLS = 4096
"""Cells dumped together."""

Ints = NDArray[np.int64]


class Cells:
    """Growing columns, addressed by flat index. ``fields`` maps a column's name to its type.

    ``exists`` (u1) is always there: 1 in every cell that somebody touched. ``block``: how many
    neighbouring spans are made room for at once, a power of two. ``series``: how many there will be.
    """

    def __init__(
        self,
        fields: Mapping[str, DTypeLike],
        block: int = BLOCK_SPANS,
        *,
        series: int = 1,
        room: Room = IN_MEMORY,
    ) -> None:
        self._block, self._shift, self._chunk_blocks = block, block.bit_length() - 1, CHUNK_CELLS // block
        self._types = {
            "exists": np.dtype(np.uint8),
            **{name: np.dtype(kind) for name, kind in fields.items()},
        }
        self._blocks = Directory(series)
        chunks = 1 + series // self._chunk_blocks  # with a block of each series nothing is copied
        self._columns = {
            name: room.column(chunks * CHUNK_CELLS, kind, CHUNK_CELLS) for name, kind in self._types.items()
        }
        self.columns: dict[str, NDArray[Any]] = {name: column.array for name, column in self._columns.items()}
        self.dirty = np.zeros(chunks, bool)
        """Chunks that changed since the last dump."""
        self._dumped = np.zeros(chunks, bool)
        """Chunks that changed since others were put out, and were dumped."""
        self._inside = np.zeros(chunks, bool)
        """Chunks that changed since they were put out themselves, not counting those."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def read(self, name: str, index: Ints) -> NDArray[Any]:
        """Values of a column; ``measured`` is what is ``known`` and not ``estimated``: mostly all of it,
        and a column of zeros takes no memory.
        """
        if name != "measured":
            return self.columns[name][index]
        return np.asarray(self.columns["known"][index] - self.columns["estimated"][index])

    def at(self, series: Ints, span: Ints) -> Ints:
        """Flat indices of cells, made where they were not; marks them existing and changed."""
        if len(series) == 0:
            return np.empty(0, np.int64)
        index = self._index(series, span, True)
        self.columns["exists"][index] = 1
        self.changed(index)
        return index

    def changed(self, index: Ints) -> None:
        """Something else of these cells was written: they are to be dumped."""
        self.dirty[index // CHUNK_CELLS] = True

    def place(self, series: Ints, span: Ints, make: NDArray[np.bool_]) -> Ints:
        """Flat indices of cells, -1 for those that do not exist; room for those to ``make``, which whoever
        fills them marks existing and changed.
        """
        return self._index(series, span, make)

    def find(self, series: Ints, span: Ints) -> Ints:
        """Flat indices of cells, -1 for those that do not exist."""
        return self._index(series, span, False)

    def run(self, series: int, first: int, last: int) -> Ints:
        """Flat indices of the spans first..last (inclusive) of one series, -1 where there is none."""
        blocks = np.arange(first >> self._shift, (last >> self._shift) + 1)
        numbers = self._blocks.look_up(np.full(len(blocks), series), blocks)
        index = (numbers[:, None] * self._block + np.arange(self._block)).ravel()
        index[np.repeat(numbers < 0, self._block)] = -1
        index[self.columns["exists"][index] == 0] = -1
        low = first - (first >> self._shift) * self._block
        return index[low : low + last - first + 1]

    def between(self, series: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints]:
        """Series, span and flat index of the cells in low..high (inclusive) of each series, in that order.

        ``series`` ascends. Time and room grow with the cells that exist, not with the length of the stretch.
        """
        owner, block = self._blocks.between(series, low >> self._shift, high >> self._shift)
        span = (block[:, None] * self._block + np.arange(self._block)).ravel()
        owner = np.repeat(owner, self._block)
        inside = (span >= low[owner]) & (span <= high[owner])
        span, every = span[inside], series[owner[inside]]
        index = self.find(every, span)
        return every[index >= 0], span[index >= 0], index[index >= 0]

    def extent(self, series: int) -> tuple[int, int] | None:
        """First and last span of the blocks a series has, or None."""
        first, last = (int(edge[0]) for edge in self.extents(np.array([series])))
        return (first, last) if first <= last else None

    def extents(self, series: Ints) -> tuple[Ints, Ints]:
        """The same for many; an empty range (first behind last) where there is none."""
        first, last = self._blocks.extents(series)
        return first * self._block, last * self._block + self._block - 1

    def _index(self, series: Ints, span: Ints, make: Make) -> Ints:
        index, lacking = self._blocks.cells(series, span, self._shift, make, self.columns["exists"])
        if len(lacking):
            self._blocks.add(distinct(lacking))
            while len(self._blocks) > len(self.dirty) * self._chunk_blocks:
                self._grow()
            index, _ = self._blocks.cells(series, span, self._shift, make, self.columns["exists"])
        return index

    def _grow(self) -> None:
        newer, more = self.dirty | self._dumped | self._inside, (_GROWTH - 1) * len(self.dirty)
        for name, column in self._columns.items():
            column.grow(_GROWTH * len(column.array), newer)
            self.columns[name] = column.array
        self.dirty, self._dumped, self._inside = (
            np.append(each, np.zeros(more, bool)) for each in (self.dirty, self._dumped, self._inside)
        )

    def put_out(self) -> None:
        """What has not changed since the call before leaves memory, as far as there is room for it."""
        changed = self.dirty | self._dumped
        resting = self._inside & ~changed
        self._inside |= changed
        self._dumped[:] = False
        for first, until in stretches(resting):
            every = [column.put_out(first, until) for column in self._columns.values()]
            self._inside[first:until] = not all(every)

    def keep_no_changes(self) -> None:
        """Nothing will be dumped of what has changed up to now."""
        self._dumped |= self.dirty
        self.dirty[:] = False

    def dump(self) -> dict[str, bytes]:
        """The chunks that changed since the last dump, by name."""
        keys = self._blocks.keys()
        chunks = {
            str(number): self._dump_chunk(number, keys) for number in np.flatnonzero(self.dirty).tolist()
        }
        self.keep_no_changes()
        return chunks

    def _dump_chunk(self, number: int, keys: Ints) -> bytes:
        blocks = slice(number * self._chunk_blocks, min((number + 1) * self._chunk_blocks, len(self._blocks)))
        cells = slice(blocks.start * self._block, blocks.stop * self._block)
        out = io.BytesIO()
        columns = {name: column[cells] for name, column in self.columns.items() if column[cells].any()}
        np.savez(out, _keys=keys[blocks], **columns)  # type: ignore[arg-type]
        return out.getvalue()

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Takes up dumped chunks again, one after the other; the cells must be empty before."""
        assert len(self._blocks) == 0
        for number in sorted(map(int, chunks)):
            self._load_chunk(number, chunks[str(number)])
            if number % _LOADED == _LOADED - 1:
                self.put_out()

    def _load_chunk(self, number: int, chunk: bytes) -> None:
        with np.load(io.BytesIO(chunk), allow_pickle=False) as columns:
            keys = columns["_keys"]
            first = number * self._chunk_blocks
            assert first == len(self._blocks)
            self._blocks.add(keys)
            while len(self._blocks) > len(self.dirty) * self._chunk_blocks:
                self._grow()
            cells = slice(first * self._block, (first + len(keys)) * self._block)
            for name in self._types.keys() & set(columns.files):
                self.columns[name][cells] = columns[name]
            self._inside[number] = True


class Grouping:
    """Rows with equal keys, found by one sort; keys come out ascending. Sums stay integers.

    Keys are packed into one integer where they fit: one array that is nearly in order already sorts in
    a fraction of the time of several. What is in order is not moved at all.
    """

    def __init__(self, *keys: Ints) -> None:
        packed = _packed(keys)
        self._size = len(keys[0])
        self._order: Ints | None = np.lexsort(keys[::-1]) if packed is None else _order_of(packed)
        ordered = [self._ordered(key) for key in (keys if packed is None else (packed,))]
        new = np.zeros(self._size, bool)
        new[:1] = True
        for key in ordered:
            new[1:] |= key[1:] != key[:-1]
        self._starts = np.flatnonzero(new)
        firsts = self._starts if self._order is None else self._order[self._starts]
        self.keys = tuple(key[firsts] for key in keys)

    def __len__(self) -> int:
        return len(self._starts)

    def _ordered(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self._order is None else values[self._order]

    def sum(self, values: Ints) -> Ints:
        return np.add.reduceat(self._ordered(values), self._starts) if len(self) else values[:0]

    def count(self) -> Ints:
        return np.diff(np.append(self._starts, self._size))

    def max(self, values: Ints) -> Ints:
        return np.maximum.reduceat(self._ordered(values), self._starts) if len(self) else values[:0]

    def first(self, values: Ints) -> Ints:
        return self._ordered(values)[self._starts]

    def min(self, values: Ints) -> Ints:
        return np.minimum.reduceat(self._ordered(values), self._starts) if len(self) else values[:0]

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Each row gets what its group has."""
        repeated = np.repeat(values, self.count())
        if self._order is None:
            return repeated
        out = np.empty(self._size, values.dtype)
        out[self._order] = repeated
        return out


def _packed(keys: tuple[Ints, ...]) -> Ints | None:
    """One integer for each row that sorts as its keys do; None where 64 bits are too few."""
    packed, room = keys[0], 2**62
    if len(packed) == 0:
        return packed
    for number, key in enumerate(keys):
        low, width = int(key.min()), int(key.max()) - int(key.min()) + 1
        if width > room:
            return None
        room //= width
        packed = key - low if number == 0 else packed * width + (key - low)
    return packed


def _order_of(packed: Ints) -> Ints | None:
    """What sorts the rows; None where they are sorted."""
    return None if (packed[1:] >= packed[:-1]).all() else np.argsort(packed, kind="stable")
