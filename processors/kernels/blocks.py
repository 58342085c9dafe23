"""Cells of series and spans, in blocks of neighbouring spans that are found by their keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import BYTE, INT32, INT64, OUT_INT32, OUT_INT64, SIZE, chosen, compiled

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

SERIES_SHIFT = 40
BIAS = 1 << 38
"""Keeps block numbers of spans before 1970 positive."""
_NONE, _ALL, _SOME = range(3)
_EMPTY = np.empty(0, np.uint8)
_PART = (SIZE, INT64, INT32)

_CELLS = compiled(
    "cells",
    (SIZE, SIZE, SIZE, INT64, INT64, SIZE, BYTE, *_PART, *_PART, BYTE, OUT_INT32, OUT_INT64, OUT_INT64),
)
_JOIN = compiled("join_keys", (*_PART, *_PART, OUT_INT64, OUT_INT32))


@dataclass(frozen=True, slots=True)
class Part:
    """Ascending keys of blocks with their numbers."""

    keys: Ints
    numbers: Codes

    @classmethod
    def of(cls, keys: Ints, first: int) -> Part:
        """Keys that are numbered one after the other."""
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], (order + first).astype(np.int32))

    def joined(self, other: Part) -> Part:
        """Both; no key is in both."""
        return joined(self, other)


def _joined_by_loop(one: Part, other: Part) -> Part:
    assert _JOIN is not None
    size = len(one.keys) + len(other.keys)
    out = Part(np.empty(size, np.int64), np.empty(size, np.int32))
    _JOIN(*_given(one), *_given(other), out.keys, out.numbers)
    return out


def joined_twin(one: Part, other: Part) -> Part:
    """As ``joined``, in numpy."""
    keys, numbers = np.append(one.keys, other.keys), np.append(one.numbers, other.numbers)
    order = np.argsort(keys, kind="stable")
    return Part(keys[order], numbers[order])


def _given(part: Part) -> tuple[int, Ints, Codes]:
    return len(part.keys), part.keys, part.numbers


Parts = tuple[Part, Part]
"""What is old, and what is new."""
Make = bool | NDArray[np.bool_]


def key_of(series: Ints, block: Ints) -> Ints:
    """One number for both, that sorts as they do."""
    return np.asarray((series << SERIES_SHIFT) + BIAS + block)


def _cells_by_loop(
    series: Ints, span: Ints, shift: int, make: Make, parts: Parts, exists: NDArray[np.uint8], recent: Codes
) -> tuple[Ints, Ints]:
    assert _CELLS is not None
    index, lacking = np.empty(len(series), np.int64), np.empty(len(series), np.int64)
    columns = (np.ascontiguousarray(series), np.ascontiguousarray(span))
    mode, made = (_ALL if make else _NONE, _EMPTY) if isinstance(make, bool) else (_SOME, make.view(np.uint8))
    both = [one for part in parts for one in _given(part)]
    shape = (len(series), recent.shape[1], shift)
    count = _CELLS(*shape, *columns, mode, made, *both, exists, recent, index, lacking)
    return index, lacking[:count].copy()


def cells_twin(
    series: Ints, span: Ints, shift: int, make: Make, parts: Parts, exists: NDArray[np.uint8], recent: Codes
) -> tuple[Ints, Ints]:
    """As ``cells``, in numpy, which looks for all of them."""
    del recent
    key = key_of(series, span >> shift)
    starts = np.flatnonzero(_new(key))
    found = np.repeat(numbers_of(key[starts], parts), np.diff(np.append(starts, len(key))))
    index = np.where(found >= 0, (found << shift) + (span & ((1 << shift) - 1)), -1)
    mine = np.broadcast_to(make, index.shape)
    others = np.flatnonzero(~mine & (index >= 0))
    index[others[exists[index[others]] == 0]] = -1
    lacking = key[(found < 0) & mine]
    return index, lacking[_new(lacking)]


def _new(keys: Ints) -> NDArray[np.bool_]:
    """Which are not the same as the one before."""
    return np.append(True, keys[1:] != keys[:-1])[: len(keys)]


def numbers_of(keys: Ints, parts: Parts) -> Ints:
    """The numbers of blocks, -1 without any."""
    out = np.full(len(keys), -1, np.int64)
    for part in parts:
        if len(part.keys):
            at = np.minimum(np.searchsorted(part.keys, keys), len(part.keys) - 1)
            hit = part.keys[at] == keys
            out[hit] = part.numbers[at[hit]]
    return out


joined = chosen(_JOIN, _joined_by_loop, joined_twin)
"""Two parts as one; no key is in both."""
cells = chosen(_CELLS, _cells_by_loop, cells_twin)
"""(series, span, shift, make, parts, exists, recent) -> (index, lacking).

Of each row its cell, -1 where there is none, and of rows that are not to be made also where it is not there;
the keys of blocks that are to be made and are not there, once for rows that follow each other.

A block holds 2**shift spans. ``recent``: of every series (column) the block that was asked for last, and its
number, brought up to date.
"""
