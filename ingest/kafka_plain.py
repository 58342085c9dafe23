"""Plain JSON readings read by a compiled loop: no object a reading, each for itself."""

from __future__ import annotations

import numpy as np

from bus.compiled import BYTE, INT32, INT64, OUT_BOOL, OUT_INT8, OUT_INT32, OUT_INT64, SIZE, compiled
from ingest.columns import Columns, plain_columns
from ingest.decode_plain import Ints, Mask, fields_of, names_of, out_of_bounds, words_of
from ingest.directory import Directory
from ingest.kafka_fields import UNITS_MAX, JsonFields
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.readings import Dictionary

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
        self._fields = fields_of(names)
        pairs = [(plant, point) for plant, points in directory.names.items() for point in points]
        self._points = names_of([name for pair in pairs for name in pair])
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
        points = len(self._table), self._table, *self._points
        written = place, time, mantissa, exponent, unit, bad, seen
        count = _READINGS(n, text, values.starts, values.ends, *self._fields, *points, *written)
        words = words_of(values, seen, count)
        units = Dictionary(words, unit) if words else None
        columns = plain_columns(self._index[place], time, mantissa, exponent, units)
        return columns, bad | out_of_bounds(self._directory, columns, received)
