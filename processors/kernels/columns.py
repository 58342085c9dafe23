"""Readings as the operators take them, where nothing is to be refused and no value to be rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import (
    BOOL,
    BYTE,
    INT8,
    INT32,
    INT64,
    OUT_BYTE,
    OUT_INT64,
    SIZE,
    chosen,
    compiled,
)

Ints = NDArray[np.int64]

EXPONENTS = 256
"""Exponents are -128 to 127."""
NO_FACTOR = -2


@dataclass(frozen=True, slots=True)
class Raw:
    """Columns of readings as they were sent; ``point`` numbers into the roster, -1: unknown."""

    point: Ints
    time: Ints
    mantissa: Ints
    exponent: NDArray[np.int8]
    unit: Ints
    revision: NDArray[np.int32]
    quality: NDArray[np.uint8]
    flags: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Facts:
    """By point: ``fast``, whether it is a register with one installation, and the ``first`` series.
    By series: from when to when it is there, its least value, where its values are too large, and its kind.
    """

    fast: NDArray[np.bool_]
    first: Ints
    from_ms: Ints
    to_ms: Ints
    value_min: Ints
    value_max: Ints
    kind: Ints


Taken = tuple[Ints, Ints, Ints, NDArray[np.uint8]]
"""Series, value, revision and flags."""

_COLUMNS = compiled(
    "columns",
    (
        *(SIZE, SIZE, INT64, INT64, INT64, INT8, INT64, INT32, BYTE, BYTE),
        *(BOOL, INT64, INT64, INT64, INT64, INT64, INT64, INT64),
        *(OUT_INT64, OUT_INT64, OUT_INT64, OUT_BYTE, OUT_INT64),
    ),
)


def _columns_by_loop(
    raw: Raw, facts: Facts, factors: Ints, kinds: int, ask: Callable[[int], int]
) -> Taken | None:
    assert _COLUMNS is not None
    size = len(raw.point)
    series, value, revision = (np.empty(size, np.int64) for _ in range(3))
    flags, state = np.empty(size, np.uint8), np.empty(2, np.int64)
    sent = [getattr(raw, name) for name in Raw.__dataclass_fields__]
    known = [getattr(facts, name) for name in Facts.__dataclass_fields__]
    while True:
        done = _COLUMNS(size, kinds, *sent, *known, factors, series, value, revision, flags, state)
        if done != NO_FACTOR:
            return None if done else (series, value, revision, flags)
        factors[state[1]] = ask(int(state[0]))


def columns_twin(
    raw: Raw, facts: Facts, factors: Ints, kinds: int, ask: Callable[[int], int]
) -> Taken | None:
    """Leaves everything to the general way."""
    del raw, facts, factors, kinds, ask
    return None


columns = chosen(_COLUMNS, _columns_by_loop, columns_twin)
"""What readings are to the operators; None where anything of them is not plain, to be looked at in detail.

``factors``: flat, by unit (code + 1), kind and exponent + 128, what a mantissa is multiplied by; 0 where that
is not known yet: then ``ask(row)`` says it for a reading; -1 where it is no whole number.
"""
