"""The values of the records in what Kafka answered to a fetch: its batches, one behind the other.

Batches of message format 2 have a head of 61 bytes, then their records, which may be compressed as a
whole. Only what counts is taken: not Kafka's own marks, not what belongs to an aborted transaction.
Compressed batches are unpacked up to a bound: those behind it are left for the next time.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from bus.compiled import BYTE, INT64, OUT_INT64, SIZE, compiled
from ingest.kafka_unpack import NAMES, TooMuch, is_known, unpacked
from ingest.kafka_values import Values
from ingest.kernels import LIBRARY
from metering.errors import MeterflowError, UsageError

_VALUES = compiled(LIBRARY, "kafka_values", (SIZE, INT64, INT64, INT64, INT64, BYTE, OUT_INT64, OUT_INT64))
COMPILED = _VALUES is not None
"""Whether the compiled loop is there; aiokafka's own reading of records is used without it."""

_HEAD = struct.Struct(">qiibIhiqqqhii")
_BEGIN = struct.Struct(">qiib")
"""Of a batch in any format: first offset, length of what follows, something else, format."""
_LENGTH_AT, _LENGTH_ENDS, _ATTRIBUTES_AT, _CHECKED_FROM = 8, 12, 21, 21
_FORMAT = 2
_OLD_ATTRIBUTES_AT, _OLD_KEY_AT = 17, (18, 26)
"""Of a message in format 0 or 1, in which others may lie compressed."""
_CODEC, _TRANSACTIONAL, _CONTROL = 7, 0x10, 0x20
_RECORD_BYTES_MIN, _SIZE = 7, struct.Struct(">i")
UNPACKED_BYTES_MAX = 32 << 20
"""Of one answer. Writers fill a batch up to a megabyte or some before they compress it."""


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
    Null values are empty ones. Raises MeterflowError where the first batch is damaged or unpacks to too
    much, UsageError where it is compressed in a way that this machine cannot read; a later one is left for
    the next time, as are those that are too much together.
    """
    batches, behind = _that_count(content, offset, aborted, where)
    if not batches:
        return Values.of(()), behind
    pieces = _unpacked(content, batches, where)
    if len(pieces) < len(batches):
        batches, behind = batches[: len(pieces)], batches[len(pieces) - 1].next_offset
    take = _by_loop if by_loop else _by_aiokafka
    try:
        return take(content, batches, pieces, offset, where), behind
    except MeterflowError:  # a checksum says nothing of what was wrong before it was made
        if len(batches) == 1:
            raise
    return take(content, batches[:1], pieces[:1], offset, where), batches[0].next_offset


def _that_count(
    content: bytes, offset: int, aborted: Sequence[tuple[int, int]], where: str
) -> tuple[list[_Batch], int]:
    """Whole batches with something at ``offset`` or behind it, up to one that is damaged."""
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
    return batches, behind


def _batches(content: bytes, where: str) -> Iterator[_Batch]:
    """All that came whole: the last one may be cut off."""
    at, size = 0, len(content)
    while at + _BEGIN.size <= size:
        base, length, _, form = _BEGIN.unpack_from(content, at)
        end = at + _LENGTH_ENDS + length
        if end < at + (_HEAD.size if form == _FORMAT else _CHECKED_FROM):  # no checksum covers a length
            raise _damaged(base, where)
        if end > size:
            return
        yield _batch(content, at, end) if form == _FORMAT else _old(content, at, end, where)
        at = end


def _batch(content: bytes, start: int, end: int) -> _Batch:
    base, _, _, _, checksum, attributes, last, _, _, producer, _, _, count = _HEAD.unpack_from(content, start)
    return _Batch(start, end, base, base + last + 1, checksum, attributes, producer, count)


def _old(content: bytes, start: int, end: int, where: str) -> _Batch:
    """A message of format 0 or 1, by itself or with others in it; one of no format at all is damage."""
    base, _, _, form = _BEGIN.unpack_from(content, start)
    if form not in (0, 1):
        raise _damaged(base, where)
    try:
        behind = MemoryRecords(content[start:end]).next_batch().next_offset
    except Exception as error:  # no checksum covers any of it
        raise _damaged(base, where) from error
    return _Batch(start, end, base, behind, None, content[start + _OLD_ATTRIBUTES_AT] & _CODEC, -1, 0)


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
    if kind and not is_known(kind):
        what = f"records are compressed by {NAMES.get(kind, f'codec {kind}')}, which cannot be read"
        raise UsageError(what, where=where, hint="Have them written uncompressed, or by gzip or lz4.")


def _damaged(offset: int, where: str) -> MeterflowError:
    what = f"a batch of records is damaged (offset {offset})"
    hint = "A disk or memory of a broker is at fault: have Kafka take another replica."
    return MeterflowError(what, where=where, hint=hint)


Pieces = Sequence[bytes | None]
"""Of each batch its records unpacked; None: they lie in the content as they are."""


def _unpacked(content: bytes, batches: Sequence[_Batch], where: str) -> list[bytes | None]:
    """As many batches as go: up to one that is damaged, or more than the bound leaves room for."""
    found: list[bytes | None] = []
    left = UNPACKED_BYTES_MAX
    for batch in batches:
        try:
            piece = _piece(content, batch, left, where)
        except MeterflowError:
            if not found:
                raise
            break
        left -= len(piece or b"")
        found.append(piece)
    return found


def _piece(content: bytes, batch: _Batch, bytes_max: int, where: str) -> bytes | None:
    kind = batch.attributes & _CODEC
    if not kind:
        return None
    try:
        if batch.checksum is not None:
            return unpacked(kind, content[batch.start + _HEAD.size : batch.end], bytes_max)
        unpacked(kind, _old_value(content[batch.start : batch.end]), bytes_max)  # is it not too much?
    except TooMuch:
        most = f"{UNPACKED_BYTES_MAX >> 20} MiB"
        what = f"a batch of records unpacks to more than {most} (offset {batch.offset})"
        hint = "Have it written in smaller batches; to go on without it, set the group's position behind it."
        raise MeterflowError(what, where=where, hint=hint) from None
    except Exception as error:  # each codec has errors of its own
        raise _damaged(batch.offset, where) from error
    return None


def _old_value(message: bytes) -> bytes:
    key_at = _OLD_KEY_AT[_BEGIN.unpack_from(message)[-1]]
    (key,) = _SIZE.unpack_from(message, key_at)
    at = key_at + _SIZE.size + max(key, 0)
    (size,) = _SIZE.unpack_from(message, at)
    return message[at + _SIZE.size :][: max(size, 0)]


def _by_aiokafka(
    content: bytes, batches: Sequence[_Batch], pieces: Pieces, offset: int, where: str
) -> Values:
    values: list[bytes] = []
    for batch, piece in zip(batches, pieces, strict=True):
        memory = MemoryRecords(_plain(content[batch.start : batch.end], piece))
        try:
            while (records := memory.next_batch()) is not None:
                values += [record.value or b"" for record in records if record.offset >= offset]
        except Exception as error:  # each codec has errors of its own
            raise _damaged(batch.offset, where) from error
    return Values.of(values)


def _plain(whole: bytes, piece: bytes | None) -> bytes:
    """A batch as it would be had it not been compressed, but for its checksum."""
    if piece is None:
        return whole
    head = bytearray(whole[: _HEAD.size])
    _SIZE.pack_into(head, _LENGTH_AT, _HEAD.size - _LENGTH_ENDS + len(piece))
    head[_ATTRIBUTES_AT + 1] &= ~_CODEC
    return bytes(head) + piece


def _by_loop(content: bytes, batches: Sequence[_Batch], pieces: Pieces, offset: int, where: str) -> Values:
    assert _VALUES is not None
    if any(batch.checksum is None for batch in batches):
        return _by_aiokafka(content, batches, pieces, offset, where)
    content, begins, ends = _records(content, batches, pieces)
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
    content: bytes, batches: Sequence[_Batch], pieces: Pieces
) -> tuple[bytes, np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Where the batches' records lie: in the content itself, unless some are compressed."""
    places = [(batch.start + _HEAD.size, batch.end) for batch in batches]
    if all(piece is None for piece in pieces):
        begins, ends = np.array(places, np.int64).T.copy()
        return content, begins, ends
    parts = [
        content[slice(*at)] if piece is None else piece for at, piece in zip(places, pieces, strict=True)
    ]
    cuts = np.array([0, *accumulate(map(len, parts))], np.int64)
    return b"".join(parts), cuts[:-1].copy(), cuts[1:].copy()
