"""The bytes of a log record that holds people's decisions on one plant: an Arrow record batch, as all frames.

They lie on the topic of readings, in the plant's partition: their place among the readings is part of the
story that the results tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields

import pyarrow as pa

from bus.frames import decode_batch, encode_batch
from metering.decisions import Decision
from metering.errors import MeterflowError

DECISIONS_FORMAT = b"decisions/1"
_TYPES = {"str": pa.utf8(), "str | None": pa.utf8(), "int": pa.int64()}
_SCHEMA = pa.schema(
    [("plant", pa.utf8()), *((field.name, _TYPES[str(field.type)]) for field in fields(Decision))]
)


def encode_decisions(plant: str, decisions: Sequence[Decision]) -> bytes:
    """The frame of one plant's decisions; ``decode_decisions`` gives back exactly the same."""
    rows = [(plant, *astuple(one)) for one in decisions]
    columns = zip(*rows, strict=True) if rows else [()] * len(_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return encode_batch(DECISIONS_FORMAT, pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))


def decode_decisions(frame: bytes) -> tuple[str, list[Decision]]:
    """The plant (empty: there are none) and its decisions. Raises MeterflowError on any other bytes."""
    batch = decode_batch(frame, DECISIONS_FORMAT)
    if [(field.name, field.type) for field in batch.schema] != [(f.name, f.type) for f in _SCHEMA]:
        what = f"a log record cannot be read: the columns are not those of {DECISIONS_FORMAT.decode()}"
        hint = "The log is damaged, or something else wrote to it: restore it from a copy."
        raise MeterflowError(what, hint=hint)
    rows = batch.to_pylist()
    plant = rows[0]["plant"] if rows else ""
    return plant, [Decision(**{k: v for k, v in row.items() if k != "plant"}) for row in rows]
