"""The bytes of Kafka's record batches (its message format 2), made with as few copies as can be.

A batch is a head of 61 bytes and its records, one behind the other; its checksum is over what follows
the checksum. A record is made of its length, stamp, number in the batch, key and value, numbers as
zigzag varints. Records that are given one by one are coded one by one; rows of JSON come as an Arrow
array and are coded all at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.record.util import calc_crc32c
from numpy.typing import NDArray

BATCH_BYTES = 1 << 20
SEQUENCES = 1 << 31
"""Batches are numbered by their records, modulo this."""
_NOBODY = -1

Raw = tuple[bytes, bytes | None, int]
"""Key, value (None takes the key out of a compacted topic) and stamp in UTC milliseconds."""

_HEAD = struct.Struct(">qiibI")
"""First offset, length of what follows, leader's epoch, format, checksum."""
_BODY = struct.Struct(">hiqqqhii")
"""Attributes, number of the last record, first and last stamp, producer's id, epoch, sequence, count."""
_LENGTH_BEGINS = 12
_FORMAT, _TRANSACTIONAL = 2, 0x10
_VARINT_BYTES_MAX = 5
"""Of numbers below 2**34."""


class Block(NamedTuple):
    """Records of one batch in their bytes, numbered from 0. ``records``: pieces of bytes in their order."""

    rows: int
    first_ms: int
    last_ms: int
    records: list[Any]


class Numbers(NamedTuple):
    """By whom a batch is, and which of its."""

    transactional: bool = False
    producer_id: int = _NOBODY
    epoch: int = _NOBODY
    sequence: int = _NOBODY


def batch(block: Block, numbers: Numbers) -> bytes:
    """A whole batch as it is sent."""
    attributes = _TRANSACTIONAL if numbers.transactional else 0
    rows, first_ms, last_ms, records = block
    stamped = _BODY.pack(attributes, rows - 1, first_ms, last_ms, *numbers[1:], rows)
    body = b"".join((stamped, *records))
    head = _HEAD.pack(0, _HEAD.size - _LENGTH_BEGINS + len(body), _NOBODY, _FORMAT, calc_crc32c(body))
    return head + body


def blocks(records: Iterable[Raw], bytes_max: int = BATCH_BYTES) -> Iterator[Block]:
    """Records gathered into blocks of at most ``bytes_max`` of keys and values, or of one record."""
    gathered: list[Raw] = []
    size = 0
    for record in records:
        more = len(record[0]) + len(record[1] or b"")
        if gathered and size + more > bytes_max:
            yield _coded(gathered)
            gathered, size = [], 0
        gathered.append(record)
        size += more
    if gathered:
        yield _coded(gathered)


def blocks_of_values(
    key: bytes, values: pa.Array, stamp_ms: int, bytes_max: int = BATCH_BYTES
) -> Iterator[Block]:
    """The same of a column of values with one key and stamp; ``values``: texts or bytes, none is null."""
    if len(values) == 0:
        return
    sizes = pc.binary_length(values).to_numpy().astype(np.int64) + len(key)
    ends = np.cumsum(sizes)
    first = 0
    while first < len(values):
        before = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, before + bytes_max, "right")), first + 1)
        yield _coded_values(key, values.slice(first, last - first), sizes[first:last] - len(key), stamp_ms)
        first = last


def _coded(records: list[Raw]) -> Block:
    """Each record's bytes, those of keys and values not copied."""
    first_ms = records[0][2]
    pieces: list[bytes] = []
    for number, (key, value, stamp_ms) in enumerate(records):
        begin = b"\0" + _varint(stamp_ms - first_ms) + _varint(number) + _varint(len(key))
        middle = _varint(_NOBODY if value is None else len(value))
        size = len(begin) + len(key) + len(middle) + len(value or b"") + 1
        pieces += (_varint(size) + begin, key, middle, value or b"", b"\0")
    return Block(len(records), first_ms, max(stamp_ms for _, _, stamp_ms in records), pieces)


def _coded_values(key: bytes, values: pa.Array, sizes: NDArray[np.int64], stamp_ms: int) -> Block:
    number, size = _varints(np.arange(len(values))), _varints(sizes)
    begin, middle = b"\0\0", _varint(len(key)) + key
    whole = len(begin) + _widths(number) + len(middle) + _widths(size) + sizes + 1
    heads = _side_by_side([_varints(whole), begin, number, middle, size])
    records = pc.binary_join_element_wise(heads, values.cast(pa.binary()), b"\0", b"")
    ends = np.frombuffer(records.buffers()[1], np.int32)[records.offset :][: len(records) + 1]
    joined = memoryview(records.buffers()[2])[ends[0] : ends[-1]]
    return Block(len(values), stamp_ms, stamp_ms, [joined])


def _varint(number: int) -> bytes:
    """Zigzag: the sign is the lowest bit; seven bits a byte, the lowest first."""
    left = number << 1 if number >= 0 else ~(number << 1)
    if left < 0x80:
        return bytes((left,))
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


_Bytes = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Bytes of one number a row, and which of them are there."""


def _varints(numbers: NDArray[np.int64]) -> _Bytes:
    """The same of numbers that are not negative."""
    left = (numbers << 1)[:, None] >> (7 * np.arange(_VARINT_BYTES_MAX))
    there = left > 0
    there[:, 0] = True
    more = left > 0x7F
    return (left & 0x7F | np.where(more, 0x80, 0)).astype(np.uint8), there


def _widths(numbers: _Bytes) -> NDArray[np.int64]:
    widths: NDArray[np.int64] = numbers[1].sum(axis=1)
    return widths


def _side_by_side(parts: list[_Bytes | bytes]) -> pa.Array:
    """A value a row: its numbers' bytes, and between them bytes that are the same in every row."""
    rows = next(len(part[0]) for part in parts if not isinstance(part, bytes))
    wide = [_same(part, rows) if isinstance(part, bytes) else part for part in parts]
    content = np.concatenate([part[0] for part in wide], axis=1)
    there = np.concatenate([part[1] for part in wide], axis=1)
    ends = np.zeros(rows + 1, np.int32)
    np.cumsum(there.sum(axis=1), out=ends[1:])
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(content[there])])


def _same(content: bytes, rows: int) -> _Bytes:
    one = np.frombuffer(content, np.uint8)
    return np.broadcast_to(one, (rows, len(one))), np.ones((rows, len(one)), np.bool_)
