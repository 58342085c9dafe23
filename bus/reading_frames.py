"""Records of readings, many at once: a compiled loop finds the columns of each and joins them.

Their evidence is passed over: nothing that is computed depends on it. What is not exactly as ``bus.frames``
writes it is left to Arrow, which says what is wrong with it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bus.compiled import (
    BYTE,
    INT64,
    OUT_BYTE,
    OUT_INT8,
    OUT_INT32,
    OUT_INT64,
    SIZE,
    compiled,
)
from bus.frames import CRC_BYTES, is_whole
from bus.kernels import LIBRARY
from metering.readings import NO_CODE, Dictionary

Ints = NDArray[np.int64]

_FACTS = 112
"""Numbers that the loop notes of a frame."""
_TEXTS = ("point", "unit", "serial", "product")
_LZ4_MAX = 255
"""No byte of LZ4 becomes more: what says that it does is no record of ours."""
_ROWS, _PLANT, _PLANT_SIZE, _WORDS, _BYTES, _SUMS = 0, 1, 2, slice(3, 7), slice(7, 11), 11
_LOOK = compiled(LIBRARY, "look", (SIZE, BYTE, INT64, SIZE, OUT_INT64, OUT_INT64))
_READ = compiled(
    LIBRARY,
    "read",
    (
        *(SIZE, BYTE, SIZE, INT64, SIZE, OUT_INT64, OUT_INT64, OUT_INT64, OUT_INT8, OUT_INT32),
        *(OUT_BYTE, OUT_BYTE, OUT_INT32, INT64, INT64, SIZE, OUT_INT32, SIZE, OUT_BYTE),
    ),
)


@dataclass(frozen=True, slots=True)
class _Text:
    """Texts of all frames: ``words`` of each, one after the other; frame k's begin at first[k]."""

    words: list[str]
    first: Ints
    codes: NDArray[np.int32]


class Stack:
    """Readings of several records, one after the other; ``lengths``: how many of each."""

    def __init__(
        self, plants: list[str], lengths: Ints, columns: dict[str, NDArray[Any]], texts: dict[str, _Text]
    ) -> None:
        self.plants, self.lengths = plants, lengths
        self._columns, self._texts = columns, texts

    def of(self, name: str) -> NDArray[Any]:
        """A column of numbers."""
        return self._columns[name]

    def named(self, name: str) -> bool:
        """Whether any reading may have a text in this column."""
        return bool(self._texts[name].words)

    def text(self, name: str) -> Dictionary:
        """A column of texts."""
        text = self._texts[name]
        known: dict[str, int] = {}
        numbers = [known.setdefault(word, len(known)) for word in text.words]
        return Dictionary(tuple(known), np.array([*numbers, NO_CODE], np.int32)[text.codes])

    def points(self, names: Mapping[str, Mapping[str, int]]) -> Ints:
        """The numbers of all readings' points, by the names of each plant; -1 of unknown ones."""
        text = self._texts["point"]
        numbers: list[int] = []
        for plant, first, until in zip(self.plants, text.first[:-1], text.first[1:], strict=True):
            numbers += map(names.get(plant, {}).get, text.words[first:until], repeat(-1))
        return np.array([*numbers, -1], np.int64)[text.codes]

    def plant_and_point(self, row: int) -> tuple[str, str]:
        """Whose reading it is."""
        text = self._texts["point"]
        code = int(text.codes[row])
        part = int(np.searchsorted(np.cumsum(self.lengths), row, "right"))
        return self.plants[part], "" if code == NO_CODE else text.words[code]


class Frames:
    """Frames of readings that lie one after the other."""

    def __init__(self, data: bytes, facts: Ints, sums: Ints) -> None:
        self._data, self._facts, self._sums = data, facts, sums

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> Frames | None:
        """None where any of them is left to Arrow, or there is no compiled loop; or no frame at all."""
        if _LOOK is None or sys.byteorder != "little" or not frames or not all(map(is_whole, frames)):
            return None
        data, until = b"".join(frames), np.cumsum([len(frame) for frame in frames], dtype=np.int64)
        edges = np.array([np.append(0, until[:-1]), until - CRC_BYTES], np.int64)
        facts, sums = np.empty((len(frames), _FACTS), np.int64), np.empty((len(frames), _SUMS), np.int64)
        if _LOOK(len(frames), data, edges, _FACTS, facts, sums) < len(frames):
            return None
        return cls(data, facts, sums)

    @cached_property
    def lengths(self) -> list[int]:
        """How many readings are in each."""
        lengths: list[int] = self._sums[:, _ROWS].tolist()
        return lengths

    def read(self, first: int, until: int) -> Stack | None:
        """The readings of frames ``first`` up to ``until``; None where Arrow is to say what is wrong, and of
        no frames.
        """
        assert _READ is not None
        if first == until:
            return None
        sums, count = self._sums[first:until], until - first
        rows = int(sums[:, _ROWS].sum())
        if max(rows, int(sums[:, _BYTES].sum()), 4 * int(sums[:, _WORDS].sum())) > _LZ4_MAX * len(self._data):
            return None
        columns: dict[str, NDArray[Any]] = {
            "time": np.empty(rows, np.int64),
            "start": np.empty(rows, np.int64),
            "mantissa": np.empty(rows, np.int64),
            "exponent": np.empty(rows, np.int8),
            "revision": np.empty(rows, np.int32),
            "quality": np.empty(rows, np.uint8),
            "flags": np.empty(rows, np.uint8),
        }
        sizes = [np.ascontiguousarray(sums[:, each].T) for each in (_WORDS, _BYTES)]
        words, letters = (np.cumsum(each, axis=1) for each in sizes)
        most = [int(edges[:, -1].max()) for edges in (words, letters)]
        codes = np.empty((len(_TEXTS), rows), np.int32)
        ends, text = np.empty((len(_TEXTS), most[0]), np.int32), np.empty((len(_TEXTS), most[1]), np.uint8)
        before = words - sizes[0], letters - sizes[1]
        given = (count, self._data, _FACTS, self._facts[first:until], rows, *columns.values(), codes)
        if _READ(*given, *before, most[0], ends, most[1], text) < count:
            return None
        try:
            plants = [self._plant(*row) for row in sums[:, [_PLANT, _PLANT_SIZE]].tolist()]
            texts = {
                name: _Text(_words(ends[k, : words[k, -1]], text[k]), np.append(0, words[k]), codes[k])
                for k, name in enumerate(_TEXTS)
            }
        except ValueError:
            return None
        return Stack(plants, sums[:, _ROWS], columns, texts)

    def _plant(self, at: int, size: int) -> str:
        return self._data[at : at + size].decode()


def _words(ends: NDArray[np.int32], letters: NDArray[np.uint8]) -> list[str]:
    """Texts that end there."""
    offsets = pa.py_buffer(np.append(np.int32(0), ends))
    array = pa.Array.from_buffers(pa.utf8(), len(ends), [None, offsets, pa.py_buffer(letters)])
    words: list[str] = array.to_pylist()
    return words
