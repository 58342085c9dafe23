"""Sheets of rows as tables: which of a sheet's columns is which of the table's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bus.frames import coded_schema
from metering.tables import POSITION, Table
from processors.changes import Touched
from processors.columns import Vocabulary, decimals
from processors.kernels.rows import Sheet, renumber

_NUMBERS = ("start", "end", "revision", "reported", POSITION)
_SHARE = "measured_share"
_FEW_MAX, _KNOWN_MAX = 8, 1024


class Layout:
    """``texts``: words of each text column, in the order of a sheet's codes; ``amounts``: names, in order."""

    def __init__(self, of: Table, texts: Sequence[tuple[str, Vocabulary]], amounts: Sequence[str]) -> None:
        self._wanted = coded_schema(of.name).remove_metadata()
        self._kinds = dict(zip(self._wanted.names, self._wanted.types, strict=True))
        self._texts, self._amounts = tuple(name for name, _ in texts), tuple(amounts)
        self._words = [vocabulary.words for _, vocabulary in texts]
        self._sizes = np.array([len(words) for words in self._words], np.int64)
        self._scratch = np.full(int(self._sizes.sum()), -1, np.int32)
        self._known: dict[tuple[str, bytes], Any] = {}

    def empty(self, room: int) -> Sheet:
        """A sheet with room for so many rows."""
        return Sheet.empty(len(self._texts), len(self._amounts), room)

    def table(self, sheet: Sheet) -> pa.Table:
        """A sheet's rows, whose arrays are the table's from now on."""
        size = sheet.size
        columns: dict[str, Any] = {_SHARE: pa.array(sheet.share[:size])}
        used = renumber(sheet.codes, size, self._sizes, self._scratch)
        for name, words, some, codes in zip(self._texts, self._words, used, sheet.codes, strict=True):
            few, buffer = self._few(name, words, some), pa.py_buffer(codes[:size])
            columns[name] = pa.DictionaryArray.from_buffers(self._kinds[name], size, [None, buffer], few)
        for name, numbers in zip(_NUMBERS, sheet.numbers, strict=True):
            buffer = pa.py_buffer(numbers[:size])
            columns[name] = pa.Array.from_buffers(self._kinds[name], size, [None, buffer])
        for name, pairs, there in zip(self._amounts, sheet.amounts, sheet.there, strict=True):
            columns[name] = decimals(pairs[:size], there[:size])
        arrays = [
            columns[name] if name in columns else pa.nulls(size, kind) for name, kind in self._kinds.items()
        ]
        return pa.Table.from_batches([pa.RecordBatch.from_arrays(arrays, schema=self._wanted)])

    def _few(self, name: str, words: Any, some: NDArray[np.int32]) -> Any:
        """Some of the words of a column; mostly the same few again."""
        if len(some) > _FEW_MAX:
            return words.take(pa.array(some))
        key = (name, some.tobytes())
        if key not in self._known:
            if len(self._known) == _KNOWN_MAX:
                self._known.clear()
            self._known[key] = words.take(pa.array(some))
        return self._known[key]


class Pad:
    """Rows that wait until a sheet is full, or until they are wanted anyway."""

    def __init__(self, layout: Layout, room: int) -> None:
        self._layout, self._room = layout, room
        self.sheet = layout.empty(0)

    def filled(self, rows: Touched, fill: Callable[[Touched, Sheet], None]) -> Iterator[pa.Table]:
        """Sheets that are full, when ``fill`` has said these rows on them."""
        first = 0
        while first < len(rows.span):
            if self.sheet.room == 0:
                self.sheet = self._layout.empty(self._room)
            until = first + self.sheet.room - self.sheet.size
            fill(rows.cut(first, until), self.sheet)
            first = until
            if self.sheet.size == self.sheet.room:
                yield self._taken()

    def rest(self) -> Iterator[pa.Table]:
        """What waits."""
        if self.sheet.size:
            yield self._taken()

    def _taken(self) -> pa.Table:
        sheet, self.sheet = self.sheet, self._layout.empty(0)
        return self._layout.table(sheet)
