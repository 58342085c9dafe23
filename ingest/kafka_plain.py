"""Plain JSON readings of a Kafka topic, which name their plant and point, read by the compiled loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bus.compiled import BYTE, INT64, OUT_INT32, SIZE, compiled
from ingest.columns import Columns
from ingest.decode_plain import COMPILED, Ints, Mask, Names, fields_of, names_of, out_of_bounds, read
from ingest.directory import Directory
from ingest.kafka_fields import JsonFields
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY

__all__ = ["COMPILED", "Plain"]
_SLOTS_EACH = 3
"""Places in the table for each point, at least: those with neighbours are found late."""
_TABLE = compiled(LIBRARY, "json_table", (SIZE, SIZE, BYTE, INT64, OUT_INT32))


class Plain:
    """Reads values of one topic; knows the points of one roster by their names. Needs the loop."""

    def __init__(self, directory: Directory, names: JsonFields) -> None:
        assert _TABLE is not None
        self._directory = directory
        pairs = [(plant, point) for plant, points in directory.names.items() for point in points]
        points = names_of([name for pair in pairs for name in pair])
        self._index = np.array([directory.names[plant][point] for plant, point in pairs] or [0], np.int64)
        table = np.full(1 << (_SLOTS_EACH * len(pairs)).bit_length(), -1, np.int32)
        _TABLE(len(pairs), len(table), *points, table)
        self._names = Names(fields_of(names), (len(table), table, *points))

    def columns(self, values: Values, received: Ints) -> tuple[Columns, Mask]:
        """One reading a value, and which of them are not plain; those hold nonsense."""
        columns, bad = read(values, self._names)
        columns = replace(columns, point=self._index[columns.point])
        return columns, bad | out_of_bounds(self._directory, columns, received)
