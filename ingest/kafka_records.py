"""The values of the records in what Kafka answered to a fetch: its batches, one behind the other.

Batches of message format 2 have a head of 61 bytes, then their records, which may be compressed as a
whole. Only what counts is taken: not Kafka's own marks, not what belongs to an aborted transaction.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from aiokafka import codec
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from bus.compiled import BYTE, INT64, OUT_INT64, SIZE, compiled
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.errors import MeterflowError, UsageError

_VALUES = compiled(LIBRARY, "kafka_values", (SIZE, INT64, INT64, INT64, INT64, BYTE, OUT_INT64, OUT_INT64))
COMPILED = _VALUES is not None
"""Whether the compiled loop is there; aiokafka's own reading of records is used without it."""

_HEAD = struct.Struct(">qiibIhiqqqhii")
_LENGTH_BEGINS, _MAGIC_AT, _CHECKED_FROM = 12, 16, 21
_FORMAT = 2
_CODEC, _TRANSACTIONAL, _CONTROL = 7, 0x10, 0x20
_RECORD_BYTES_MIN = 7
_Decompress = Callable[[bytes], bytes]
_CODECS: Mapping[int, tuple[str, Callable[[], bool], _Decompress]] = {
    1: ("gzip", codec.has_gzip, codec.gzip_decode),
    2: ("snappy", codec.has_snappy, codec.snappy_decode),
    3: ("lz4", codec.has_lz4, codec.lz4_decode),
    4: ("zstd", codec.has_zstd, codec.zstd_decode),
}


class _Batch(NamedTuple):
    """[``start``, ``end``) in the content; ``checksum``: of what follows it, None in older formats."""

    start: int
    end: int
    offset: int
    next_offset: int
    checksum: int | None
    attributes: int
    producer: int
    records: int


def values_of(
    content: bytes, offset: int, aborted: Sequence[tuple[int, int]], where: str, *, by_loop: bool = COMPILED
) -> tuple[Values, int]:
    """The values at ``offset`` and behind it, and the offset behind all that came.

    ``aborted``: producers, each with the offset at which a transaction of theirs that was aborted begins.
    Null values are empty ones. Raises MeterflowError where the first batch is damaged, UsageError where it
    is compressed in a way that this machine cannot read; a later one is left for the next time.
    """
    batches: list[_Batch] = []
    behind = offset
    try:
        for batch, counts in _counting(content, aborted, where):
            if counts and batch.next_offset > offset:
                _check(batch, content, where)
                batches.append(batch)
            behind = max(behind, batch.next_offset)
    except MeterflowError:
        if not batches:
            raise
    if not batches:
        return Values.of(()), behind
    take = _by_loop if by_loop else _by_aiokafka
    try:
        return take(content, batches, offset, where), behind
    except MeterflowError:  # a checksum says nothing of what was wrong before it was made
        if len(batches) == 1:
            raise
    return take(content, batches[:1], offset, where), batches[0].next_offset


def _batches(content: bytes, where: str) -> Iterator[_Batch]:
    """All that came whole: the last one may be cut off."""
    at, size = 0, len(content)
    while at + _HEAD.size <= size:
        base, length, _, form, checksum, attributes, last, _, _, producer, _, _, count = _HEAD.unpack_from(
            content, at
        )
        end = at + _LENGTH_BEGINS + length
        if end < at + (_HEAD.size if form == _FORMAT else _CHECKED_FROM):  # no checksum covers a length
            raise _damaged(base, where)
        if end > size:
            return
        if form == _FORMAT:
            yield _Batch(at, end, base, base + last + 1, checksum, attributes, producer, count)
        else:
            old = MemoryRecords(content[at:end]).next_batch()
            yield _Batch(at, end, base, old.next_offset, None, 0, -1, 0)
        at = end


def _counting(
    content: bytes, aborted: Sequence[tuple[int, int]], where: str
) -> Iterator[tuple[_Batch, bool]]:
    """The batches, and which of them count."""
    waiting = deque(sorted(aborted, key=lambda entry: entry[1]))
    gone: set[int] = set()
    for batch in _batches(content, where):
        while waiting and waiting[0][1] <= batch.offset:
            gone.add(waiting.popleft()[0])
        control = bool(batch.attributes & _CONTROL)
        if control and batch.producer in gone:
            mark = next(MemoryRecords(content[batch.start : batch.end]).next_batch())
            if ControlRecord.parse(mark.key) == ABORT_MARKER:
                gone.discard(batch.producer)
        yield batch, not (control or (batch.attributes & _TRANSACTIONAL and batch.producer in gone))


def _check(batch: _Batch, content: bytes, where: str) -> None:
    checked = memoryview(content)[batch.start + _CHECKED_FROM : batch.end]
    if batch.checksum is not None and calc_crc32c(checked) != batch.checksum:
        raise _damaged(batch.offset, where)
    kind = batch.attributes & _CODEC
    name, known, _ = _CODECS.get(kind, (f"codec {kind}", lambda: False, bytes))
    if kind and not known():
        hint = "Install cramjam beside meterflow (pip install cramjam)."
        raise UsageError(f"records are compressed by {name}, which cannot be read", where=where, hint=hint)


def _damaged(offset: int, where: str) -> MeterflowError:
    what = f"a batch of records is damaged (offset {offset})"
    hint = "A disk or memory of a broker is at fault: have Kafka take another replica."
    return MeterflowError(what, where=where, hint=hint)


def _by_aiokafka(content: bytes, batches: Sequence[_Batch], offset: int, where: str) -> Values:
    values: list[bytes] = []
    for batch in batches:
        memory = MemoryRecords(content[batch.start : batch.end])
        try:
            while (records := memory.next_batch()) is not None:
                values += [record.value or b"" for record in records if record.offset >= offset]
        except Exception as error:  # each codec has errors of its own
            raise _damaged(batch.offset, where) from error
    return Values.of(values)


def _by_loop(content: bytes, batches: Sequence[_Batch], offset: int, where: str) -> Values:
    assert _VALUES is not None
    if any(batch.checksum is None for batch in batches):
        return _by_aiokafka(content, batches, offset, where)
    content, begins, ends = _records(content, batches, where)
    counts = np.array([batch.records for batch in batches], np.int64)
    fits = (counts >= 0) & (counts <= (ends - begins) // _RECORD_BYTES_MIN)
    if not fits.all():
        raise _damaged(batches[int(fits.argmin())].offset, where)
    skips = np.array([max(offset - batch.offset, 0) for batch in batches], np.int64)
    starts, stops = np.empty(counts.sum(), np.int64), np.empty(counts.sum(), np.int64)
    text = np.frombuffer(content or b"\0", np.uint8)
    found = _VALUES(len(batches), begins, ends, counts, skips, text, starts, stops)
    if found < 0:
        raise _damaged(batches[-1 - found].offset, where)
    return Values(content, starts[:found], stops[:found])


def _records(
    content: bytes, batches: Sequence[_Batch], where: str
) -> tuple[bytes, np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Where the batches' records lie: in the content itself, unless some are compressed."""
    if not any(batch.attributes & _CODEC for batch in batches):
        begins = np.array([batch.start + _HEAD.size for batch in batches], np.int64)
        return content, begins, np.array([batch.end for batch in batches], np.int64)
    pieces = []
    for batch in batches:
        piece = content[batch.start + _HEAD.size : batch.end]
        kind = batch.attributes & _CODEC
        try:
            pieces.append(bytes(_CODECS[kind][2](piece)) if kind else piece)
        except Exception as error:  # each codec has errors of its own
            raise _damaged(batch.offset, where) from error
    cuts = np.array([0, *accumulate(map(len, pieces))], np.int64)
    return b"".join(pieces), cuts[:-1].copy(), cuts[1:].copy()
