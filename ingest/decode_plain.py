"""Plain messages of a batch, read by a compiled loop: no object a reading, each for itself.

Plain is one reading of a register or a gauge, in ASCII: a time, a number or a decimal text, and whatever else
readings have, but for a start. What is taken here is exactly what decode_exact.py would take (a law, tested);
anything else is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bus.compiled import (
    BYTE,
    INT32,
    INT64,
    OUT_BOOL,
    OUT_BYTE,
    OUT_INT8,
    OUT_INT32,
    OUT_INT64,
    SIZE,
    compiled,
)
from ingest.columns import Columns, from_readings
from ingest.directory import Directory
from ingest.fast_fields import unit_mask
from ingest.kafka_fields import UNITS_MAX, USUAL, JsonFields
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.readings import FUTURE_MAX_MS, NO_TIME, TIME_FIRST_MS, Dictionary

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

_READINGS = compiled(
    LIBRARY,
    "json_readings",
    (
        *(SIZE, BYTE, INT64, INT64, SIZE, BYTE, INT64, SIZE, INT32, BYTE, INT64),
        *(OUT_INT64, OUT_INT64, OUT_INT64, OUT_INT8, OUT_INT32, OUT_INT32, OUT_INT32, OUT_INT32, OUT_INT64),
        *(OUT_BYTE, OUT_BOOL, SIZE, OUT_INT32, OUT_INT64, OUT_INT64, OUT_INT64),
    ),
)
COMPILED = _READINGS is not None
"""Whether the loop is there; without it nothing is taken here."""


@dataclass(frozen=True, slots=True)
class Names:
    """What fields are called; ``points``: a table of plants and points by their names (``json_table``), or
    none, where values do not name them.
    """

    fields: tuple[int, Bytes, Ints]
    points: tuple[int, NDArray[np.int32], Bytes, Ints]


def decode_plain(
    directory: Directory, codes: Ints, values: Values, received: Ints
) -> tuple[Columns, NDArray[np.int64]]:
    """Takes the plain messages of a batch, and hands back the numbers of all others.

    ``codes``: where each message's topic leads (``Directory.codes``); ``received``: UTC ms of each.
    """
    if not COMPILED or not (codes >= 0).any():
        return from_readings((), ()), np.arange(len(values))
    columns, bad = read(values, _OURS)
    columns = replace(columns, point=np.maximum(codes, 0))
    bad = out_of_bounds(directory, columns, received) | bad | (codes < 0)
    if not bad.any():
        return columns, np.empty(0, np.int64)
    return columns.pick(np.flatnonzero(~bad)), np.flatnonzero(bad)


def read(values: Values, names: Names) -> tuple[Columns, Mask]:
    """One reading a value, ``point`` its number in the table of names; and which are not plain: nonsense."""
    assert _READINGS is not None
    n = len(values)
    place, time, mantissa, seq = (np.empty(n, np.int64) for _ in range(4))
    unit, serial, product, revision = (np.empty(n, np.int32) for _ in range(4))
    exponent, quality, bad = np.empty(n, np.int8), np.empty(n, np.uint8), np.empty(n, np.bool_)
    table = np.full(1 << (2 * n + 1).bit_length(), -1, np.int32)
    units, words, counts = (np.empty(size, np.int64) for size in (2 * UNITS_MAX, 4 * n, 2))
    given = n, values.text, values.starts, values.ends, *names.fields, *names.points
    written = place, time, mantissa, exponent, unit, serial, product, revision, seq, quality, bad
    if _READINGS(*given, *written, len(table), table, units, words, counts) < 0:
        raise MemoryError
    unit_words, others = (_words(values, *each) for each in zip((units, words), counts.tolist(), strict=True))
    columns = Columns(
        order=np.arange(n),
        point=place,
        time=time,
        start=np.full(n, NO_TIME, np.int64),
        mantissa=mantissa,
        exponent=exponent,
        flags=np.zeros(n, np.uint8),
        revision=revision,
        seq=seq,
        quality=quality,
        unit=Dictionary(unit_words, unit) if unit_words else None,
        serial=Dictionary(others, serial) if others else None,
        product=Dictionary(others, product) if others else None,
    )
    return columns, bad


def out_of_bounds(directory: Directory, columns: Columns, received: Ints) -> Mask:
    """Which rows are no plain readings of their points."""
    point, time = columns.point, columns.time
    bad: Mask = (time < TIME_FIRST_MS) | (time > received + FUTURE_MAX_MS)
    if directory.reads_intervals.any():
        bad |= directory.reads_intervals[point]
    wrong = None if columns.unit is None else unit_mask(directory, columns.unit, point)
    return bad if wrong is None else bad | wrong


def names_of(texts: list[str]) -> tuple[Bytes, Ints]:
    """Texts side by side in UTF-8, and where each begins, and the end."""
    raw = [text.encode() for text in texts]
    cuts = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return np.frombuffer(b"".join(raw) or b"\0", np.uint8), cuts


def fields_of(names: JsonFields) -> tuple[int, Bytes, Ints]:
    """The names of a reading's fields as the loop takes them, the usual ones first."""
    theirs = names.names
    every = [theirs[name] for name in (*USUAL, *(name for name in theirs if name not in USUAL))]
    return len(every), *names_of(every)


def _words(values: Values, seen: Ints, count: int) -> tuple[str, ...]:
    """Words of values, which are first seen there."""
    cuts = seen[: 2 * count].reshape(count, 2).tolist()
    return tuple([values.content[start:end].decode() for start, end in cuts])


_OURS = Names(fields_of(JsonFields()), (0, np.empty(0, np.int32), *names_of([])))
