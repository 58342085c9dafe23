"""What a consumer's saved state looks like in the compacted topic ``state``.

Of each consumer there are, in its partition, records with these keys (JSON):

- ``["CONSUMER"]``, the head: the offset, and of each chunk its generation and the number of its parts;
- ``["CONSUMER", "CHUNK", N]``, a part of a chunk: its generation in 8 bytes and its length in 4, big
  endian, and its bytes as an LZ4 frame.

A save writes the parts of what changed, takes out what is no more, and writes the head last, all in
one transaction, each with the save's number as its generation. A state whose parts are not those
its head names, or that an older version wrote, is none: the consumer begins at the first record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa

from bus.kafka_batches import Raw
from metering.errors import MeterflowError

FORMAT = 2
PART_BYTES_MAX = 480 << 10
_GENERATION, _LENGTH = struct.Struct(">Q"), struct.Struct(">I")
_LZ4 = pa.Codec("lz4")
"""Most of a state is sorted keys and cells that nothing was put into yet: a third of the bytes is left."""


class Head(msgspec.Struct, frozen=True):
    """``chunks``: by name, generation and number of parts."""

    offset: int = 0
    generation: int = 0
    chunks: dict[str, tuple[int, int]] = {}
    format: int = FORMAT


def head_key(consumer: str) -> bytes:
    """The key of a consumer's head."""
    return msgspec.json.encode([consumer])


def saving(
    consumer: str, head: Head, offset: int, chunks: Mapping[str, bytes], dropped: Sequence[str]
) -> tuple[Iterator[Raw], Head]:
    """The records that bring a saved state forward, made as they are asked for, and its new head."""
    generation = head.generation + 1
    kept = {name: parts for name, parts in head.chunks.items() if name not in dropped and name not in chunks}
    new = {name: (generation, max(-(-len(chunk) // PART_BYTES_MAX), 1)) for name, chunk in chunks.items()}
    after = Head(offset, generation, kept | new)
    return _records(consumer, chunks, sorted(_keys(consumer, head) - _keys(consumer, after)), after), after


def _records(consumer: str, chunks: Mapping[str, bytes], gone: Sequence[bytes], head: Head) -> Iterator[Raw]:
    mark = _GENERATION.pack(head.generation)
    for name, chunk in chunks.items():
        for part, piece in enumerate(_pieces(chunk)):
            yield _part_key(consumer, name, part), mark + _compressed(piece), 0
    for key in gone:
        yield key, None, 0
    yield head_key(consumer), msgspec.json.encode(head), 0


def forgetting(consumer: str, head: Head) -> list[Raw]:
    """The records that take a saved state out of the topic."""
    return [(key, None, 0) for key in (head_key(consumer), *sorted(_keys(consumer, head)))]


def restored(consumer: str, records: Mapping[bytes, bytes]) -> tuple[Head, dict[str, bytes]]:
    """Head and chunks from the newest value of each key; empty ones where there is no whole state.

    Raises MeterflowError when a newer version wrote it.
    """
    content = records.get(head_key(consumer))
    if content is None:
        return Head(), {}
    head = msgspec.json.decode(content, type=Head)
    if head.format < FORMAT:
        return Head(0, head.generation, head.chunks), {}
    if head.format > FORMAT:
        what = f"the saved state of {consumer} has format {head.format}, this version knows {FORMAT}"
        raise MeterflowError(what, hint="It was probably written by a newer meterflow: update this one.")
    chunks = {name: _whole(consumer, name, parts, records) for name, parts in head.chunks.items()}
    whole = {name: chunk for name, chunk in chunks.items() if chunk is not None}
    return (head, whole) if len(whole) == len(chunks) else (Head(0, head.generation, head.chunks), {})


def owner(key: bytes) -> str:
    """Whose record it is."""
    return str(msgspec.json.decode(key)[0])


def _whole(consumer: str, name: str, of: tuple[int, int], records: Mapping[bytes, bytes]) -> bytes | None:
    generation, parts = of
    values = [records.get(_part_key(consumer, name, part)) for part in range(parts)]
    mark = _GENERATION.pack(generation)
    found = [value[len(mark) :] for value in values if value is not None and value.startswith(mark)]
    try:
        return b"".join(_plain(part) for part in found) if len(found) == parts else None
    except (struct.error, pa.ArrowException, OSError):  # not what was written: as if it were not there
        return None


def _keys(consumer: str, head: Head) -> set[bytes]:
    return {
        _part_key(consumer, name, part) for name, (_, parts) in head.chunks.items() for part in range(parts)
    }


def _part_key(consumer: str, name: str, part: int) -> bytes:
    return msgspec.json.encode([consumer, name, part])


def _pieces(chunk: bytes) -> Iterator[memoryview]:
    for at in range(0, max(len(chunk), 1), PART_BYTES_MAX):
        yield memoryview(chunk)[at : at + PART_BYTES_MAX]


def _compressed(piece: memoryview) -> bytes:
    content: bytes = _LZ4.compress(piece, asbytes=True)
    return _LENGTH.pack(len(piece)) + content


def _plain(content: bytes) -> bytes:
    (length,) = _LENGTH.unpack_from(content)
    piece: bytes = _LZ4.decompress(memoryview(content)[_LENGTH.size :], length, asbytes=True)
    return piece
