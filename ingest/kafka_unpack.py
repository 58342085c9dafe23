"""Compressed records unpacked, but no more of them than a bound: a megabyte can become a thousand."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa

NAMES = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""Of Kafka's codecs, by their numbers in a batch's attributes."""
_SNAPPY = 2
_STEP_BYTES = 1 << 20
_XERIAL, _XERIAL_HEAD_BYTES = b"\x82SNAPPY\0", 16
_LENGTH, _VARINT_BYTES_MAX = struct.Struct(">i"), 5


class TooMuch(Exception):
    """More would come out than the bound; never seen outside ingest."""


def is_known(kind: int) -> bool:
    """Whether this machine can unpack it."""
    return kind in NAMES and pa.Codec.is_available(NAMES[kind])


def unpacked(kind: int, content: bytes, bytes_max: int) -> bytes:
    """All that is in it. Raises TooMuch, or whatever the codec raises for bytes that are not its own."""
    pieces = _blocks(content, bytes_max) if kind == _SNAPPY else _stream(NAMES[kind], content)
    found, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > bytes_max:
            raise TooMuch
        found.append(piece)
    return b"".join(found)


def _stream(name: str, content: bytes) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.BufferReader(content), name) as stream:
        while piece := stream.read(_STEP_BYTES):
            yield piece


def _blocks(content: bytes, bytes_max: int) -> Iterator[bytes]:
    """Snappy has no streams: blocks that say how long they will be, mostly in a frame of a library."""
    if not content.startswith(_XERIAL):
        yield _block(content, bytes_max)
        return
    at = _XERIAL_HEAD_BYTES
    while at < len(content):
        (size,) = _LENGTH.unpack_from(content, at)
        if size < 0:
            raise ValueError(size)
        at += _LENGTH.size
        yield _block(content[at : at + size], bytes_max)
        at += size


def _block(content: bytes, bytes_max: int) -> bytes:
    size = 0
    for place, byte in enumerate(content[:_VARINT_BYTES_MAX]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    if size > bytes_max:
        raise TooMuch
    block: bytes = pa.Codec(NAMES[_SNAPPY]).decompress(content, size, asbytes=True)
    return block
