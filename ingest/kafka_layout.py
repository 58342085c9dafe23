"""Many JSON readings that are laid out alike, read as columns of bytes.

Whoever writes a topic writes the same fields in the same order again and again: what differs between
its records is a few texts and numbers. The first record of a batch says which pieces are the same; then
the places of all quotes show, for all records at once, where the others begin and end, and every byte
between them is compared with the first record's. So a batch that passes is as well read as if a parser
had read it. One that does not pass is left to the parser.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

WORD = 8
"""Texts are compared as 64-bit words of so many bytes, the last one filled with zeros."""
TEXT_BYTES_MAX = 2 * WORD
"""Longer texts are left to the parser."""
NUMBER_BYTES_MAX = 15
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_FIELD = rb'\s*"[^"\\]*"\s*:\s*(?:"([^"\\]*)"|(%b))\s*' % _NUMBER
_OBJECT = re.compile(rb"\{%b(?:,%b)*\}" % (_FIELD, _FIELD))
_PIECE = re.compile(rb'("[^"\\]*")\s*:\s*(?:"([^"\\]*)"|(%b))' % _NUMBER)
_ENDS_MASK = np.array([(1 << 8 * n) - 1 for n in range(WORD + 1)], np.uint64)
_QUOTE, _LINE_END, _SPACE, _DOT, _ZERO, _NINE = (ord(c) for c in '"\n .09')


class NotAlike(Exception):
    """The batch is to be read by a parser; never seen outside ingest."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field in the first record: where its value begins and ends in it; a text is within its quotes."""

    name: str
    is_text: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Column:
    """A field's value in every record: [start, end) in the joined text."""

    start: Ints
    end: Ints


@lru_cache(maxsize=64)
def _fields(first: bytes) -> tuple[Field, ...]:
    """The fields of a record; raises NotAlike for one that is not a flat object of texts and numbers."""
    if not _OBJECT.fullmatch(first):
        raise NotAlike
    found = []
    for match in _PIECE.finditer(first):
        group = 2 if match[2] is not None else 3
        found.append(Field(json.loads(match[1]), group == 2, *match.span(group)))
    if len({field.name for field in found}) != len(found):
        raise NotAlike
    return tuple(found)


class Layout:
    """Records that are laid out as the first of them. Raises NotAlike for those that are not."""

    def __init__(self, values: list[bytes]) -> None:
        self.count = len(values)
        first, joined = values[0], b"\n".join(values)
        if not joined.isascii() or b"\\" in joined:
            raise NotAlike
        self._text = np.frombuffer(b"%b\n%b" % (joined, bytes(WORD)), np.uint8)
        self._words: Words = np.ndarray(len(joined) + 1, "<u8", self._text, strides=(1,))
        fields = _fields(first)
        self._find_lines(len(joined) + 1)
        self._find_quotes(first)
        self.columns = {field.name: self._column(first, field) for field in fields}
        self.texts = frozenset(field.name for field in fields if field.is_text)
        self._compare(first, fields)

    def _find_lines(self, size: int) -> None:
        text = self._text[:size]
        self._ends = np.flatnonzero(text == _LINE_END)
        if len(self._ends) != self.count or np.count_nonzero(text < _SPACE) != self.count:
            raise NotAlike
        self._starts = np.concatenate([[0], self._ends[:-1] + 1])

    def _find_quotes(self, first: bytes) -> None:
        each, quotes = first.count(b'"'), np.flatnonzero(self._text == _QUOTE)
        if len(quotes) != each * self.count:
            raise NotAlike
        self._quotes = quotes.reshape(self.count, each)
        if (self._quotes[:, 0] < self._starts).any() or (self._quotes[:, -1] > self._ends).any():
            raise NotAlike

    def _column(self, first: bytes, field: Field) -> Column:
        """Between the same two quotes as in the first record, as far from them."""
        before = first.count(b'"', 0, field.start)
        start = self._quotes[:, before - 1] + (field.start - first.rindex(b'"', 0, field.start))
        behind = first.find(b'"', field.end)
        edge = self._ends if behind < 0 else self._quotes[:, before]
        end = edge - ((len(first) if behind < 0 else behind) - field.end)
        if (end < start).any():
            raise NotAlike
        return Column(start, end)

    def _compare(self, first: bytes, fields: tuple[Field, ...]) -> None:
        """Every byte between the values is the first record's."""
        edges = [(0, 0), *((field.start, field.end) for field in fields), (len(first), len(first))]
        places = [(self._starts, self._starts)]
        places += [(column.start, column.end) for column in self.columns.values()]
        places.append((self._ends, self._ends))
        for ((_, low), (high, _)), ((_, start), (end, _)) in zip(
            pairwise(edges), pairwise(places), strict=True
        ):
            if (end - start != high - low).any():
                raise NotAlike
            for at in range(0, high - low, WORD):
                wanted = first[low + at : min(low + at + WORD, high)]
                mask = _ENDS_MASK[len(wanted)]
                word = np.uint64(int.from_bytes(wanted, "little"))
                if ((self._words[start + at] & mask) != word).any():
                    raise NotAlike

    # -- values -----------------------------------------------------------------------------------

    def words(self, name: str) -> tuple[Words, Words]:
        """A text column as two words each; NotAlike where a text is too long for them."""
        column = self.columns[name]
        size = column.end - column.start
        if size.max() > TEXT_BYTES_MAX:
            raise NotAlike
        low = self._words[column.start] & _ENDS_MASK[np.minimum(size, WORD)]
        if size.max() <= WORD:
            return low, np.zeros(self.count, np.uint64)
        second = np.minimum(column.start + WORD, len(self._words) - 1)
        return low, self._words[second] & _ENDS_MASK[np.clip(size - WORD, 0, WORD)]

    def numbers(self, name: str) -> tuple[Ints, Ints]:
        """A column of plain decimal numbers, not negative: digits without their point, and how many
        digits are behind it. NotAlike where one is anything else.
        """
        column = self.columns[name]
        size = column.end - column.start
        width = int(size.max())
        if width > NUMBER_BYTES_MAX or size.min() < 1:
            raise NotAlike
        mantissa = np.zeros(self.count, np.int64)
        behind = np.full(self.count, -1, np.int64)
        for place in range(width, 0, -1):
            at = column.end - place
            digit = self._text[np.maximum(at, 0)].astype(np.int64)
            inside = size >= place
            is_dot = (digit == _DOT) & inside
            if not ((is_dot | (digit >= _ZERO) & (digit <= _NINE)) | ~inside).all():
                raise NotAlike
            if is_dot.any():
                if (behind[is_dot] >= 0).any() or place == 1:
                    raise NotAlike
                behind[is_dot] = place - 1
            mantissa = np.where(inside & ~is_dot, mantissa * 10 + (digit - _ZERO), mantissa)
        self._check_first_digits(column, size, behind)
        return mantissa, np.maximum(behind, 0)

    def _check_first_digits(self, column: Column, size: Ints, behind: Ints) -> None:
        """JSON has no number that begins with its point, or with a zero that another digit follows."""
        whole = size - np.where(behind >= 0, behind + 1, 0)
        first = self._text[column.start]
        if (whole < 1).any() or ((first == _ZERO) & (whole > 1)).any():
            raise NotAlike


def words_of(text: str) -> tuple[int, int] | None:
    """A text as ``Layout.words`` has it; None for one that it cannot have."""
    raw = text.encode()
    if len(raw) > TEXT_BYTES_MAX or not raw.isascii() or b"\0" in raw:
        return None
    return int.from_bytes(raw[:WORD], "little"), int.from_bytes(raw[WORD:], "little")
