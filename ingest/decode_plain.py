"""Plain messages of a batch, read by a compiled loop: no object a reading, each for itself.

Plain is one reading, on its point's topic, of a time in milliseconds, a number, perhaps a unit, and fields
that nobody knows. What it takes, it takes exactly as decode_exact.py would (a law, tested); anything else
it leaves alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bus.compiled import BYTE, INT64, OUT_BOOL, OUT_INT8, OUT_INT32, OUT_INT64, SIZE, compiled
from ingest.columns import Columns, Texts, from_readings, plain_columns
from ingest.directory import Directory
from ingest.fast_fields import unit_mask
from ingest.kafka_fields import UNITS_MAX, USUAL, JsonFields
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.readings import FUTURE_MAX_MS, TIME_FIRST_MS, Dictionary

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_VALUES = compiled(
    LIBRARY,
    "json_values",
    (
        *(SIZE, BYTE, INT64, INT64, SIZE, BYTE, INT64),
        *(OUT_INT64, OUT_INT64, OUT_INT8, OUT_INT32, OUT_BOOL, OUT_INT64),
    ),
)
COMPILED = _VALUES is not None
"""Whether the loop is there; without it nothing is taken here."""


def decode_plain(
    directory: Directory, codes: Ints, values: Values, received: Ints
) -> tuple[Columns, NDArray[np.int64]]:
    """Takes the plain messages of a batch, and hands back the numbers of all others.

    ``codes``: where each message's topic leads (``Directory.codes``); ``received``: UTC ms of each.
    """
    n = len(values)
    if _VALUES is None or not (codes >= 0).any():
        return from_readings((), ()), np.arange(n)
    time, mantissa, seen = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(2 * UNITS_MAX, np.int64)
    exponent, unit, bad = np.empty(n, np.int8), np.empty(n, np.int32), np.empty(n, np.bool_)
    given = n, values.text, values.starts, values.ends, *_FIELDS
    count = _VALUES(*given, time, mantissa, exponent, unit, bad, seen)
    bad |= codes < 0
    units = units_of(values, unit, seen, count)
    columns, bad = judged(directory, (np.maximum(codes, 0), time, mantissa, exponent, units), received, bad)
    if not bad.any():
        return columns, np.empty(0, np.int64)
    return columns.pick(np.flatnonzero(~bad)), np.flatnonzero(bad)


def judged(
    directory: Directory, read: tuple[Ints, Ints, Ints, NDArray[np.int8], Texts], received: Ints, bad: Mask
) -> tuple[Columns, Mask]:
    """Columns of what was read, and which rows are no plain readings of their points; ``bad``: already."""
    point, time, *_, units = read
    bad = bad | (time < TIME_FIRST_MS) | (time > received + FUTURE_MAX_MS)
    if directory.reads_intervals.any():
        bad |= directory.reads_intervals[point]
    wrong = None if units is None else unit_mask(directory, units, point)
    return plain_columns(*read), bad if wrong is None else bad | wrong


def names_of(texts: list[str]) -> tuple[NDArray[np.uint8], Ints]:
    """Texts side by side in UTF-8, and where each begins, and the end."""
    raw = [text.encode() for text in texts]
    cuts = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return np.frombuffer(b"".join(raw) or b"\0", np.uint8), cuts


def units_of(values: Values, codes: NDArray[np.int32], seen: Ints, count: int) -> Texts:
    """The units of values, which are first seen there; None where there is none."""
    if not count:
        return None
    cuts = seen[: 2 * count].reshape(count, 2).tolist()
    return Dictionary(tuple(values.content[start:end].decode() for start, end in cuts), codes)


def fields_of(names: JsonFields) -> tuple[int, NDArray[np.uint8], Ints]:
    """The names of a reading's fields as the loops take them, those of a plain one first."""
    theirs = names.names
    every = [theirs[name] for name in (*USUAL, *(name for name in theirs if name not in USUAL))]
    return len(every), *names_of(every)


_FIELDS = fields_of(JsonFields())
