"""Runs of readings sorted by key: merging two, and telling new readings from others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import (
    BYTE,
    INT64,
    OUT_BYTE,
    OUT_INT64,
    SIZE,
    chosen,
    compiled,
)

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Columns = tuple[Ints, Ints, Bytes]
"""Key, value and flags of a run."""
TIME_BITS = 43
"""Times are of so many bits, at most; a key's series stands above them."""

_RUN, _KEYS = (SIZE, INT64, INT64, BYTE), (SIZE, INT64, BYTE)
_MERGE = compiled("merge", (*_RUN, *_RUN, OUT_INT64, OUT_INT64, OUT_BYTE))
_NEIGHBOURS = compiled("neighbours", (SIZE, SIZE, INT64, *_KEYS, SIZE, SIZE, OUT_INT64))
_DOUBTFUL = compiled("doubtful", (SIZE, SIZE, INT64, INT64, OUT_INT64))


def _merge_by_loop(one: Columns, other: Columns) -> Columns:
    assert _MERGE is not None
    size = len(one[0]) + len(other[0])
    out = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint8)
    _MERGE(
        len(one[0]), *map(np.ascontiguousarray, one), len(other[0]), *map(np.ascontiguousarray, other), *out
    )
    return out


def merge_twin(one: Columns, other: Columns) -> Columns:
    """As ``merge``, in numpy."""
    order = np.argsort(np.concatenate([one[0], other[0]]), kind="stable")
    return (
        np.concatenate([one[0], other[0]])[order],
        np.concatenate([one[1], other[1]])[order],
        np.concatenate([one[2], other[2]])[order],
    )


def _doubtful_by_loop(key: Ints, newest: Ints) -> Ints:
    assert _DOUBTFUL is not None
    rows = np.empty(len(key), np.int64)
    return rows[: _DOUBTFUL(len(key), TIME_BITS, key, newest, rows)].copy()


def doubtful_twin(key: Ints, newest: Ints) -> Ints:
    """As ``doubtful``, in numpy."""
    out = key <= newest[key >> TIME_BITS]
    again = key[1:] == key[:-1]
    out[1:] |= again
    out[:-1] |= again
    return np.flatnonzero(out)


def _neighbours_by_loop(wanted: Ints, key: Ints, flags: Bytes, skip: int, step: int, best: Ints) -> None:
    assert _NEIGHBOURS is not None
    columns = (np.ascontiguousarray(key), np.ascontiguousarray(flags))
    _NEIGHBOURS(len(wanted), TIME_BITS, np.ascontiguousarray(wanted), len(key), *columns, skip, step, best)


def neighbours_twin(wanted: Ints, key: Ints, flags: Bytes, skip: int, step: int, best: Ints) -> None:
    """As ``neighbours``, in numpy."""
    at = np.searchsorted(key, wanted) - 1 if step < 0 else np.searchsorted(key, wanted, "right")
    inside = (at >= 0) & (at < len(key))
    blocked = np.flatnonzero(inside & ((flags[np.where(inside, at, 0)] & skip) > 0)) if len(key) else at[:0]
    for i in blocked.tolist():
        at[i] = _walk(flags, int(at[i]), skip, step)
    inside = (at >= 0) & (at < len(key))
    found = np.full(len(wanted), -1, np.int64)
    found[inside] = key[at[inside]]
    ok = inside & (found >> TIME_BITS == wanted >> TIME_BITS)
    better = ok & ((best == -1) | ((found > best) if step < 0 else (found < best)))
    best[better] = found[better]


def _walk(flags: Bytes, at: int, skip: int, step: int) -> int:
    while 0 <= at < len(flags) and flags[at] & skip:
        at += step
    return at


merge = chosen(_MERGE, _merge_by_loop, merge_twin)
"""Two runs as one; their keys are all different."""
doubtful = chosen(_DOUBTFUL, _doubtful_by_loop, doubtful_twin)
"""(keys ascending, newest key by series) -> the rows that may not be new: not behind the newest key of their
series, or of the same key as a neighbour."""
neighbours = chosen(_NEIGHBOURS, _neighbours_by_loop, neighbours_twin)
"""Betters ``best``, of each wanted key the nearest of its series (-1: none), by what a run has before
(``step`` -1) or behind it (1) without any of the flags ``skip``."""
