"""Plain messages of a batch, read by a compiled loop: no object a reading, each for itself.

Plain is one reading, on the topic of a register or a gauge, in ASCII: a time, a number or a decimal text,
and whatever else readings have, but for a start. What it takes, it takes exactly as decode_exact.py would
(a law, tested); anything else it leaves alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bus.compiled import BYTE, INT64, OUT_BOOL, OUT_BYTE, OUT_INT8, OUT_INT32, OUT_INT64, SIZE, compiled
from ingest.columns import Columns, from_readings
from ingest.directory import Directory
from ingest.fast_fields import unit_mask
from ingest.kafka_fields import UNITS_MAX, USUAL, JsonFields
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.readings import FUTURE_MAX_MS, NO_TIME, TIME_FIRST_MS, Dictionary

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_VALUES = compiled(
    LIBRARY,
    "json_values",
    (
        *(SIZE, BYTE, INT64, INT64, SIZE, BYTE, INT64, OUT_INT64, OUT_INT64, OUT_INT8, OUT_INT32, OUT_INT32),
        *(
            OUT_INT32,
            OUT_INT32,
            OUT_INT64,
            OUT_BYTE,
            OUT_BOOL,
            SIZE,
            OUT_INT32,
            OUT_INT64,
            OUT_INT64,
            OUT_INT64,
        ),
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
    time, mantissa, seq = (np.empty(n, np.int64) for _ in range(3))
    unit, serial, product, revision = (np.empty(n, np.int32) for _ in range(4))
    exponent, quality, bad = np.empty(n, np.int8), np.empty(n, np.uint8), np.empty(n, np.bool_)
    table = np.full(1 << (2 * n + 1).bit_length(), -1, np.int32)
    units, words, counts = (np.empty(size, np.int64) for size in (2 * UNITS_MAX, 4 * n, 2))
    given = n, values.text, values.starts, values.ends, *_FIELDS
    written = time, mantissa, exponent, unit, serial, product, revision, seq, quality, bad
    if _VALUES(*given, *written, len(table), table, units, words, counts) < 0:
        return from_readings((), ()), np.arange(n)
    point, named = np.maximum(codes, 0), words_of(values, words, int(counts[1]))
    unit_words = words_of(values, units, int(counts[0]))
    columns = Columns(
        order=np.arange(n),
        point=point,
        time=time,
        start=np.full(n, NO_TIME, np.int64),
        mantissa=mantissa,
        exponent=exponent,
        flags=np.zeros(n, np.uint8),
        revision=revision,
        seq=seq,
        quality=quality,
        unit=Dictionary(unit_words, unit) if unit_words else None,
        serial=Dictionary(named, serial) if named else None,
        product=Dictionary(named, product) if named else None,
    )
    bad = out_of_bounds(directory, columns, received) | bad | (codes < 0)
    if not bad.any():
        return columns, np.empty(0, np.int64)
    return columns.pick(np.flatnonzero(~bad)), np.flatnonzero(bad)


def out_of_bounds(directory: Directory, columns: Columns, received: Ints) -> Mask:
    """Which rows are no plain readings of their points."""
    point, time = columns.point, columns.time
    bad: Mask = (time < TIME_FIRST_MS) | (time > received + FUTURE_MAX_MS)
    if directory.reads_intervals.any():
        bad |= directory.reads_intervals[point]
    wrong = None if columns.unit is None else unit_mask(directory, columns.unit, point)
    return bad if wrong is None else bad | wrong


def names_of(texts: list[str]) -> tuple[NDArray[np.uint8], Ints]:
    """Texts side by side in UTF-8, and where each begins, and the end."""
    raw = [text.encode() for text in texts]
    cuts = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return np.frombuffer(b"".join(raw) or b"\0", np.uint8), cuts


def words_of(values: Values, seen: Ints, count: int) -> tuple[str, ...]:
    """Words of values, which are first seen there."""
    cuts = seen[: 2 * count].reshape(count, 2).tolist()
    return tuple([values.content[start:end].decode() for start, end in cuts])


def fields_of(names: JsonFields) -> tuple[int, NDArray[np.uint8], Ints]:
    """The names of a reading's fields as the loops take them, those of a plain one first."""
    theirs = names.names
    every = [theirs[name] for name in (*USUAL, *(name for name in theirs if name not in USUAL))]
    return len(every), *names_of(every)


_FIELDS = fields_of(JsonFields())
