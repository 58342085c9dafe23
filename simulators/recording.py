"""Recordings: what a broker carried, one MQTT message a line of JSON.

``{"received": "2026-11-22T08:00:00.123Z", "topic": "…", "qos": 1, "payload": …}``. The payload's
bytes always come back as they were: ``payload`` is a JSON value only when its compact encoding
(UTF-8, no white space) gives the bytes again, else ``payload_text`` holds them as text or
``payload_base64`` as base64. ``retain`` is there when set, ``properties_base64`` when the message
had properties of MQTT 5. A line with ``gap`` instead says where messages are missing. Files named
``.gz`` and ``.zst`` are compressed; ``-`` is standard input or output.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NamedTuple, Protocol, cast

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
    """An MQTT message and when it was received (UTC milliseconds).

    ``properties``: those of MQTT 5, as they stand in a PUBLISH behind their length.
    """

    received_ms: int
    topic: str
    qos: int
    payload: bytes
    retain: bool = False
    properties: bytes = b""


class Gap(NamedTuple):
    """Messages from ``from_ms`` to ``received_ms`` are missing, or may be, and why.

    ``queued``: what was sent at QoS 1 and 2 meanwhile came afterwards. ``dropped``: how many the
    broker said that it had dropped.
    """

    received_ms: int
    from_ms: int
    why: str
    queued: bool = False
    dropped: int = 0


Told = Callable[[Gap | UsageError], None]
"""Hears of gaps, and why a recording cannot be read to its end."""


class _Line(msgspec.Struct):
    received: Annotated[datetime, msgspec.Meta(tz=True)]
    topic: str
    qos: Annotated[int, msgspec.Meta(ge=0, le=2)]
    payload: msgspec.Raw = msgspec.Raw()
    payload_text: str | None = None
    payload_base64: str | None = None
    retain: bool = False
    properties_base64: str = ""


class _Gap(msgspec.Struct, omit_defaults=True):
    since: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="from")
    why: str
    queued: bool = False
    dropped: int = 0


class _GapLine(msgspec.Struct):
    received: Annotated[datetime, msgspec.Meta(tz=True)]
    gap: _Gap


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_gap = msgspec.json.Decoder(_GapLine).decode
_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder().encode


def read_recording(path: str | os.PathLike[str], told: Told | None = None) -> Iterator[Message]:
    """The messages of a recording, in its order; empty lines are passed over.

    ``told`` hears of gaps, and of an end that was cut off, where reading then ends; without it such
    an end is an error as well. Raises UsageError with file and line for a line that is no message,
    and for a file that cannot be opened or unpacked.
    """
    name = os.fspath(path)
    with _opened(name) as stream:
        try:
            for number, line in enumerate(_lines(stream, name), 1):
                found = _message(line, name, number)
                if isinstance(found, Message):
                    yield found
                elif found is not None and told is not None:
                    told(found)
        except CutOff as error:
            if told is None:
                raise
            told(error)


def merged(recordings: Sequence[str | os.PathLike[str]], told: Told | None = None) -> Iterator[Message]:
    """The messages of all recordings by when they were received, each recording in its own order."""
    if len(recordings) == 1:
        return read_recording(recordings[0], told)
    every = (read_recording(recording, told) for recording in recordings)
    return heapq.merge(*every, key=lambda message: message.received_ms)


class CutOff(UsageError):
    """A recording whose writer was killed, or whose copy is not whole: what is before it can be read."""


def _message(line: bytes, name: str, number: int) -> Message | Gap | None:
    try:
        parsed = _decode_line(line)
        received_ms, payload = _instant_ms(parsed.received), _payload(parsed)
        properties = b64decode(parsed.properties_base64, validate=True) if parsed.properties_base64 else b""
        return Message(received_ms, parsed.topic, parsed.qos, payload, parsed.retain, properties)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        if not line.strip():
            return None
        gap = _gap(line)
        if gap is None:
            raise _wrong_line(line, name, number, error) from error
        return gap


def _gap(line: bytes) -> Gap | None:
    try:
        found = _decode_gap(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    gap = found.gap
    return Gap(_instant_ms(found.received), _instant_ms(gap.since), gap.why, gap.queued, gap.dropped)


def _instant_ms(instant: datetime) -> int:
    return (instant - _EPOCH) // _MILLISECOND


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
        return CutOff(f"not a recorded message: {reason}", where=f"{name}:{number}", hint=hint)
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
    rest = b',"retain":true' if message.retain else b""
    if message.properties:
        rest += b',"properties_base64":"%s"' % b64encode(message.properties)
    return b'{"received":"%s","topic":%s,"qos":%d,%s%s}\n' % (
        _stamp(message.received_ms),
        _encode_any(message.topic),
        message.qos,
        _payload_field(message.payload),
        rest,
    )


def encode_gap(gap: Gap) -> bytes:
    """A gap as one line, with its line feed."""
    since = _EPOCH + gap.from_ms * _MILLISECOND
    said = _Gap(since=since, why=gap.why, queued=gap.queued, dropped=gap.dropped)
    return b'{"received":"%s","gap":%s}\n' % (_stamp(gap.received_ms), _encode_any(said))


@lru_cache(maxsize=64)
def _stamp(instant_ms: int) -> bytes:
    """Messages of one millisecond often stand together."""
    instant = (_EPOCH + instant_ms * _MILLISECOND).isoformat(timespec="milliseconds")
    return instant[:-6].encode() + b"Z"


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
        return cast(BinaryIO, io.BufferedReader(_Unpacking(file, _gzip_frame), BUFFER_BYTES))
    if name.endswith(".zst"):
        return cast(BinaryIO, io.BufferedReader(_Unpacking(file, _zstandard_frame), BUFFER_BYTES))
    return file


class _Frame(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip_frame() -> _Frame:
    return zlib.decompressobj(31)


def _zstandard_frame() -> _Frame:
    return zstandard.ZstdDecompressor().decompressobj()


class _Unpacking(io.RawIOBase):
    """Unpacks frames one after another.

    Unlike the libraries' readers it gives all there is of a file that was cut off, and says so then.
    """

    def __init__(self, file: BinaryIO, frame: Callable[[], _Frame]) -> None:
        self._file = file
        self._new_frame = frame
        self._frame = frame()
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
                self._frame = self._new_frame()
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
        raise (CutOff if isinstance(error, EOFError) else UsageError)(
            f"cannot be read to its end: {error}",
            where=name,
            hint="the file is cut off, or is not what its name says (.gz, .zst)",
        ) from error
