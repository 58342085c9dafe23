"""The bytes of a log record that holds raw payloads: messages as they came, each once.

They lie on a topic of their own, appended with the readings that were taken from them, so that whoever works
on readings does not read them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa

from bus.frames import decode_batch, encode_batch
from metering.errors import MeterflowError
from metering.readings import DIGEST_BYTES, Evidence, Readings

PAYLOADS_FORMAT = b"payloads/1"
SCHEMA = pa.schema(
    [
        ("topic", pa.utf8()),
        ("received", pa.int64()),
        ("sha256", pa.binary(DIGEST_BYTES)),
        ("payload", pa.binary()),
    ]
)
FRAME_BYTES_MAX = 1 << 20
"""More payloads make several records of the log."""
PAYLOAD_BYTES_MAX = 4 << 20
"""A larger one does not go into a record of the log, and is not kept."""

_log = logging.getLogger(__name__)


def encode_payloads(readings: Readings) -> Iterator[bytes]:
    """Frames of the messages of one plant's readings; none where they are not to be kept."""
    evidence = readings.evidence
    if evidence is None or evidence.payload is None or not len(readings):
        return
    sizes = np.array([len(payload) for payload in evidence.payload], np.int64)
    kept = np.flatnonzero(sizes <= PAYLOAD_BYTES_MAX)
    if len(kept) < len(sizes):
        what = "%d raw payloads of plant %s are larger than %d MiB and are not kept"
        _log.warning(what, len(sizes) - len(kept), readings.plant, PAYLOAD_BYTES_MAX >> 20)
    parts = (np.cumsum(sizes[kept]) - 1) // FRAME_BYTES_MAX
    for _, rows in groupby(range(len(kept)), key=parts.tolist().__getitem__):
        yield encode_batch(PAYLOADS_FORMAT, _batch(readings, evidence, kept[list(rows)].tolist()))


def decode_payloads(frame: bytes) -> pa.RecordBatch:
    """Rows of ``SCHEMA``. Raises MeterflowError on any other bytes."""
    batch = decode_batch(frame, PAYLOADS_FORMAT)
    if [(field.name, field.type) for field in batch.schema] != [(f.name, f.type) for f in SCHEMA]:
        what = f"a log record cannot be read: the columns are not those of {PAYLOADS_FORMAT.decode()}"
        hint = "The log is damaged, or something else wrote to it: restore it from a copy."
        raise MeterflowError(what, hint=hint)
    return batch


def _batch(readings: Readings, evidence: Evidence, messages: list[int]) -> pa.RecordBatch:
    assert evidence.payload is not None
    _, first = np.unique(evidence.message, return_index=True)
    rows = first[messages]
    columns = (
        [evidence.topic.text(row) for row in rows.tolist()],
        readings.received[rows],
        [bytes(digest) for digest in evidence.digest[messages]],
        [evidence.payload[message] for message in messages],
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
