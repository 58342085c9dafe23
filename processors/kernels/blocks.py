"""Cells whose block is the one that their series was asked for last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import INT32, INT64, OUT_INT64, SIZE, chosen, compiled

Ints = NDArray[np.int64]

_RECENT = compiled("recent", (SIZE, SIZE, SIZE, INT64, INT64, INT32, OUT_INT64, OUT_INT64))


def _recent_by_loop(series: Ints, span: Ints, recent: NDArray[np.int32], shift: int) -> tuple[Ints, Ints]:
    assert _RECENT is not None
    index, others = np.empty(len(series), np.int64), np.empty(len(series), np.int64)
    columns = (np.ascontiguousarray(series), np.ascontiguousarray(span), recent)
    count = _RECENT(len(series), recent.shape[1], shift, *columns, index, others)
    return index, others[:count]


def recent_twin(series: Ints, span: Ints, recent: NDArray[np.int32], shift: int) -> tuple[Ints, Ints]:
    """As ``recent``, in numpy."""
    known, number = recent
    cell = (number[series].astype(np.int64) << shift) + (span & ((1 << shift) - 1))
    index = np.where(known[series] == span >> shift, cell, -1)
    return index, np.flatnonzero(index < 0)


recent = chosen(_RECENT, _recent_by_loop, recent_twin)
"""(series, span, recent, shift) -> (index, others): of each row its cell, and the rows of which another block
is wanted (-1). ``recent``: of every series (column) the block that was asked for last, and its number.
"""
