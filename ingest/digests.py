"""The SHA-256 of messages' raw bytes, of many at once by a compiled loop."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from bus.compiled import BYTE, INT64, OUT_BYTE, SIZE, chosen, compiled
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.readings import DIGEST_BYTES

_LOOP = compiled(LIBRARY, "digests", (SIZE, BYTE, INT64, INT64, SIZE, OUT_BYTE))


def _by_loop(values: Values, which: NDArray[np.int64]) -> NDArray[np.uint8]:
    assert _LOOP is not None
    out = np.empty((len(which), DIGEST_BYTES), np.uint8)
    _LOOP(len(which), values.text, values.starts[which], values.ends[which], False, out)
    return out


def _one_by_one(values: Values, which: NDArray[np.int64]) -> NDArray[np.uint8]:
    out = b"".join([sha256(value).digest() for value in values.some(which.tolist())])
    return np.frombuffer(out, np.uint8).reshape(-1, DIGEST_BYTES)


digests = chosen(_LOOP, _by_loop, _one_by_one)
"""``digests(values, which)``: of the values of these numbers, of shape (m, 32)."""
