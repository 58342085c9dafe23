"""Plain JSON readings read by a compiled loop: no object a reading, each for itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bus.compiled import BYTE, INT32, INT64, OUT_BOOL, OUT_INT8, OUT_INT32, OUT_INT64, SIZE, compiled
from ingest.columns import Columns, Texts, plain_columns
from ingest.directory import Directory
from ingest.fast_fields import unit_mask
from ingest.kafka_fields import UNITS_MAX, USUAL, JsonFields
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.readings import FUTURE_MAX_MS, TIME_FIRST_MS, Dictionary

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_SLOTS_EACH = 3
"""Places in the table for each point, at least: those with neighbours are found late."""
_TABLE = compiled(LIBRARY, "json_table", (SIZE, SIZE, BYTE, INT64, OUT_INT32))
_READINGS = compiled(
    LIBRARY,
    "json_readings",
    (
        *(SIZE, BYTE, INT64, INT64, SIZE, BYTE, INT64, SIZE, INT32, BYTE, INT64),
        *(OUT_INT64, OUT_INT64, OUT_INT64, OUT_INT8, OUT_INT32, OUT_BOOL, OUT_INT64),
    ),
)
COMPILED = _READINGS is not None
"""Whether the loop is there; ``Plain`` cannot be used without it."""


class Plain:
    """Reads values of one topic; knows the points of one roster by their names."""

    def __init__(self, directory: Directory, names: JsonFields) -> None:
        assert _TABLE is not None
        self._directory = directory
        theirs = names.names
        others = [name for name in theirs if name not in USUAL]
        self._fields = _texts([theirs[name] for name in (*USUAL, *others)])
        pairs = [(plant, point) for plant, points in directory.names.items() for point in points]
        self._points = _texts([name for pair in pairs for name in pair])
        self._index = np.array([directory.names[plant][point] for plant, point in pairs] or [0], np.int64)
        slots = 1 << (_SLOTS_EACH * len(pairs)).bit_length()
        self._table = np.full(slots, -1, np.int32)
        _TABLE(len(pairs), slots, *self._points, self._table)

    def columns(self, values: Values, received: Ints) -> tuple[Columns, Mask]:
        """One reading a value, and which of them are not plain; those hold nonsense."""
        assert _READINGS is not None
        n, text = len(values), values.text
        place, time, mantissa = (np.empty(n, np.int64) for _ in range(3))
        exponent, unit, bad = np.empty(n, np.int8), np.empty(n, np.int32), np.empty(n, np.bool_)
        seen = np.empty(2 * UNITS_MAX, np.int64)
        fields = len(self._fields[1]) - 1, *self._fields
        points = len(self._table), self._table, *self._points
        written = place, time, mantissa, exponent, unit, bad, seen
        count = _READINGS(n, text, values.starts, values.ends, *fields, *points, *written)
        point = self._index[place]
        bad |= (time < TIME_FIRST_MS) | (time > received + FUTURE_MAX_MS)
        if self._directory.reads_intervals.any():
            bad |= self._directory.reads_intervals[point]
        units = _units(values, unit, seen, count)
        wrong = None if units is None else unit_mask(self._directory, units, point)
        return plain_columns(point, time, mantissa, exponent, units), bad if wrong is None else bad | wrong


def _texts(texts: list[str]) -> tuple[NDArray[np.uint8], Ints]:
    """Texts side by side in UTF-8, and where each begins, and the end."""
    raw = [text.encode() for text in texts]
    cuts = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return np.frombuffer(b"".join(raw) or b"\0", np.uint8), cuts


def _units(values: Values, codes: NDArray[np.int32], seen: Ints, count: int) -> Texts:
    if not count:
        return None
    cuts = seen[: 2 * count].reshape(count, 2).tolist()
    return Dictionary(tuple(values.content[start:end].decode() for start, end in cuts), codes)
