"""Recordings: what a broker carried, one MQTT message a line of JSON.

``{"received": "2026-11-22T08:00:00.123Z", "topic": "…", "qos": 1, "payload": …}``. The payload's
bytes always come back as they were: ``payload`` is a JSON value only when its compact encoding
(UTF-8, no white space) gives the bytes again, else ``payload_text`` holds them as text or
``payload_base64`` as base64. ``retain`` is there when set. Files named ``.gz`` and ``.zst`` are
compressed; ``-`` is standard input or output.
"""

from __future__ import annotations

import binascii
import gzip
import heapq
import io
import os
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NamedTuple, cast

import msgspec
import zstandard

from metering.errors import MeterflowError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

STANDARD = "-"
BUFFER_BYTES = 1 << 18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIELDS = "received, topic, qos and one of payload, payload_text, payload_base64"


class Message(NamedTuple):
    """An MQTT message and when it was received (UTC milliseconds)."""

    received_ms: int
    topic: str
    qos: int
    payload: bytes
    retain: bool = False


class _Line(msgspec.Struct):
    received: Annotated[datetime, msgspec.Meta(tz=True)]
    topic: str
    qos: Annotated[int, msgspec.Meta(ge=0, le=2)]
    payload: msgspec.Raw = msgspec.Raw()
    payload_text: str | None = None
    payload_base64: str | None = None
    retain: bool = False


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder().encode


def read_recording(path: str | os.PathLike[str]) -> Iterator[Message]:
    """The messages of a recording, in its order; empty lines are passed over.

    Raises UsageError with file and line for a line that is no message, and for a file that cannot
    be opened or unpacked.
    """
    name = os.fspath(path)
    with _opened(name) as stream:
        number = 0
        for number, line in enumerate(_lines(stream, name), 1):
            message = _message(line, name, number)
            if message is not None:
                yield message


def merged(recordings: Sequence[str | os.PathLike[str]]) -> Iterator[Message]:
    """The messages of all recordings by when they were received, each recording in its own order."""
    if len(recordings) == 1:
        return read_recording(recordings[0])
    return heapq.merge(*map(read_recording, recordings), key=lambda message: message.received_ms)


def _message(line: bytes, name: str, number: int) -> Message | None:
    try:
        parsed = _decode_line(line)
        received_ms = (parsed.received - _EPOCH) // _MILLISECOND
        return Message(received_ms, parsed.topic, parsed.qos, _payload(parsed), parsed.retain)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        if not line.strip():
            return None
        raise _wrong_line(line, name, number, error) from error


def _payload(line: _Line) -> bytes:
    raw = bytes(line.payload)
    given = bool(raw) + (line.payload_text is not None) + (line.payload_base64 is not None)
    if given != 1:
        raise ValueError("there must be exactly one of payload, payload_text and payload_base64")
    if raw:
        return raw if _has_no_space(raw) else msgspec.json.format(raw, indent=-1)
    if line.payload_text is not None:
        return line.payload_text.encode()
    return b64decode(cast(str, line.payload_base64), validate=True)


def _has_no_space(raw: bytes) -> bool:
    return not (b" " in raw or b"\t" in raw or b"\r" in raw)


def _wrong_line(line: bytes, name: str, number: int, error: Exception) -> UsageError:
    reason = str(error)
    if isinstance(error, binascii.Error):
        reason = f"payload_base64 is not base64: {reason}"
    if line.endswith(b"\n"):
        hint = f"a line is one JSON object with {_FIELDS}"
    else:
        hint = "it is the last line and has no end: if writing was cut off there, remove the line"
    return UsageError(f"not a recorded message: {reason}", where=f"{name}:{number}", hint=hint)


class RecordingWriter:
    """Writes messages as lines; made by ``write_recording``."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.messages = 0

    def write(self, message: Message) -> None:
        """Adds a message; raises OSError when the file cannot take it."""
        self._stream.write(encode_line(message))
        self.messages += 1

    def write_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.write(message)

    def write_lines(self, lines: ReadableBuffer, messages: int) -> None:
        """Adds lines that are made already."""
        self._stream.write(lines)
        self.messages += messages

    def flush(self) -> None:
        """Hands over to the operating system what was written so far (uncompressed files)."""
        self._stream.flush()


def encode_line(message: Message) -> bytes:
    """A message as one line, with its line feed."""
    received = (_EPOCH + message.received_ms * _MILLISECOND).isoformat(timespec="milliseconds")
    retain = b',"retain":true' if message.retain else b""
    return b'{"received":"%sZ","topic":%s,"qos":%d,%s%s}\n' % (
        received[:-6].encode(),
        _encode_any(message.topic),
        message.qos,
        _payload_field(message.payload),
        retain,
    )


def _payload_field(payload: bytes) -> bytes:
    if _is_compact_json(payload):
        return b'"payload":' + payload
    try:
        return b'"payload_text":' + _encode_any(payload.decode())
    except UnicodeDecodeError:
        return b'"payload_base64":"' + b64encode(payload) + b'"'


def _is_compact_json(payload: bytes) -> bool:
    """Also false for what a reader that knows only doubles would not give back, such as 0.10."""
    try:
        return _encode_any(_decode_any(payload)) == payload
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        return False


@contextmanager
def write_recording(path: str | os.PathLike[str], *, whole: bool = False) -> Iterator[RecordingWriter]:
    """A recording to write to, closed at the end.

    ``whole``: the file appears under its name only when all is written; what was there before
    stays when writing fails. Raises MeterflowError when the file cannot be written.
    """
    name = os.fspath(path)
    target = f"{name}.part" if whole and _can_be_replaced(name) else name
    try:
        with _created(target, name) as stream:
            yield RecordingWriter(stream)
        if target != name:
            Path(target).replace(name)
    except OSError as error:
        raise MeterflowError(
            f"cannot be written: {error.strerror or error}",
            where=name,
            hint="check the folder, its rights and the space left",
        ) from error
    finally:
        if target != name:
            Path(target).unlink(missing_ok=True)


def _can_be_replaced(name: str) -> bool:
    path = Path(name)
    return name != STANDARD and (not path.exists() or (path.is_file() and not path.is_symlink()))


@contextmanager
def _created(target: str, name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with Path(target).open("wb", BUFFER_BYTES) as file:
        if name.endswith(".gz"):
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        elif name.endswith(".zst"):
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield file


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb", BUFFER_BYTES)  # noqa: SIM115  closed below
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=name, hint="give the path of a recording"
        ) from error
    with file:
        yield _unpacked(file, name)


def _unpacked(file: BinaryIO, name: str) -> BinaryIO:
    if name.endswith(".gz"):
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER_BYTES))
    if name.endswith(".zst"):
        return cast(BinaryIO, io.BufferedReader(_Zstandard(file), BUFFER_BYTES))
    return file


class _Zstandard(io.RawIOBase):
    """Unpacks frames one after another; unlike the library's reader it sees that a file was cut off."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._within = False
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._unpacked:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._file.read(BUFFER_BYTES)
            if not packed:
                if self._within:
                    raise EOFError("it ends inside a frame")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._unpacked = memoryview(self._frame.decompress(packed))
            self._within = not self._frame.eof
        given = memoryview(buffer).cast("B")
        count = min(len(given), len(self._unpacked))
        given[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        yield from stream
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UsageError(
            f"cannot be read to its end: {error}",
            where=name,
            hint="the file is cut off, or is not what its name says (.gz, .zst)",
        ) from error
