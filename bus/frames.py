"""The bytes of a log record's value: one Arrow record batch, columns all the way.

A frame is an Arrow IPC stream of one batch with four bytes behind its end: the CRC-32 of the
stream, little endian. Any Arrow reader opens a frame, since it stops at the stream's end; ours
sees a torn or altered one first, which Arrow alone would not. What the frame is (its format and
version, the plant or the table) stands in the schema's metadata. Bodies of many rows are LZ4
compressed: a fifth of the bytes, for 10 ns a reading; zstd would halve that again, for five
times the time. Small ones are not worth it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.errors import MeterflowError
from metering.readings import DIGEST_BYTES, NO_CODE, Dictionary, Evidence, Readings
from metering.tables import POSITION, TABLES, Kind, Table

READINGS_FORMAT, BARE_READINGS_FORMAT = b"readings/2", b"readings/1"
"""With their evidence, and without it: so were all readings once."""
ROWS_FORMAT = b"rows/1"
COMPRESSED_ROWS_MIN = 128
"""Batches of fewer rows go uncompressed: below it LZ4 costs more time than the bytes are worth."""


class OtherFormat(MeterflowError):
    """A whole frame, but of another format than the one asked for: of the one in ``found``."""

    def __init__(self, found: bytes, wanted: bytes) -> None:
        name, expected = found.decode(errors="replace"), wanted.decode()
        newer = name.partition("/")[0] == expected.partition("/")[0]
        hint = "Another version of meterflow wrote it: use the newer one on this log." if newer else ""
        super().__init__(f"a log record has the format {name!r}, expected {expected!r}", hint=hint)
        self.found = found


_FORMAT, _PLANT, _TABLE = b"meterflow.format", b"meterflow.plant", b"meterflow.table"
_SITE = b"meterflow.site"
_CRC = struct.Struct("<I")
CRC_BYTES = _CRC.size
"""A frame ends with so many: the checksum of all that is before."""
_SHORT_WORDS_MAX = 1 << 15
_READINGS_TYPES: tuple[tuple[str, Any], ...] = (
    ("point", None),
    ("time", pa.int64()),
    ("start", pa.int64()),
    ("mantissa", pa.int64()),
    ("exponent", pa.int8()),
    ("unit", None),
    ("serial", None),
    ("product", None),
    ("revision", pa.int32()),
    ("seq", pa.int64()),
    ("quality", pa.uint8()),
    ("flags", pa.uint8()),
    ("received", pa.int64()),
)
_SHORT_TEXT = pa.dictionary(pa.int16(), pa.utf8())
_LONG_TEXT = pa.dictionary(pa.int32(), pa.utf8())
_DIGEST = pa.binary(DIGEST_BYTES)
_SHORT_DIGEST = pa.dictionary(pa.int16(), _DIGEST)
_LONG_DIGEST = pa.dictionary(pa.int32(), _DIGEST)
_KINDS = {
    Kind.TEXT: pa.utf8(),
    Kind.TIME: pa.timestamp("ms", tz="UTC"),
    Kind.AMOUNT: pa.decimal128(38, 9),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
}
_PLAIN = pa.ipc.IpcWriteOptions(use_threads=False)
_COMPRESSED = pa.ipc.IpcWriteOptions(use_threads=False, compression="lz4")
_READ = pa.ipc.IpcReadOptions(use_threads=False)


def encode_readings(readings: Readings) -> bytes:
    """The frame of one plant's readings; ``decode_readings`` gives back exactly the same."""
    arrays = [_reading_column(readings, name, kind) for name, kind in _READINGS_TYPES]
    if readings.evidence is not None:
        arrays += _evidence_columns(readings.evidence)
    site = None if readings.evidence is None else readings.evidence.site
    long = tuple(array.type in (_LONG_TEXT, _LONG_DIGEST) for array in arrays)
    return _written(pa.RecordBatch.from_arrays(arrays, schema=_readings_schema(readings.plant, site, long)))


def decode_readings(frame: bytes) -> Readings:
    """The readings of a frame; arrays are read-only. Raises MeterflowError on any other bytes."""
    batch = _read(frame, READINGS_FORMAT, BARE_READINGS_FORMAT)
    head: Mapping[bytes, bytes] = batch.schema.metadata
    try:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        values: dict[str, Any] = {n: _reading_values(columns[n], kind) for n, kind in _READINGS_TYPES}
        if head[_FORMAT] == READINGS_FORMAT:
            values["evidence"] = _evidence(columns, head[_SITE].decode())
        return Readings(plant=head[_PLANT].decode(), **values)
    except (KeyError, pa.ArrowException, ValueError) as error:
        raise _damaged(f"the columns are not those of {head[_FORMAT].decode()}") from error


@lru_cache(maxsize=64)
def schema(table: Table) -> pa.Schema:
    """The Arrow columns of a table: those of its definition, then ``position``."""
    fields = [pa.field(column.name, _KINDS[column.kind]) for column in table.columns]
    return pa.schema([*fields, pa.field(POSITION, pa.int64())])


def encode_rows(table: str, rows: Sequence[Mapping[str, object]], position: int = 0) -> bytes:
    """A frame of rows given as dictionaries: times as int ms, amounts as Decimal; absent is unknown."""
    names = TABLES[table].names
    assert all(row.keys() <= frozenset(names) for row in rows), f"{table} has no such column"
    wanted = schema(TABLES[table])
    arrays = [pa.array([row.get(name) for row in rows], wanted.field(name).type) for name in names]
    arrays.append(pa.array(np.full(len(rows), position, np.int64)))
    return encode_table(table, pa.Table.from_arrays(arrays, schema=wanted))


def encode_table(table: str, columns: pa.Table) -> bytes:
    """A frame of rows given as columns, in any order, texts plain or dictionary-encoded.

    ``position`` may be missing (0); any other missing column is a mistake of the caller.
    """
    names, coded = schema(TABLES[table]).names, coded_schema(table)
    if columns.schema.equals(coded) and len(batches := columns.to_batches()) == 1:
        return _written(batches[0].replace_schema_metadata(coded.metadata))
    if POSITION not in columns.column_names:
        columns = columns.append_column(POSITION, pa.array(np.zeros(len(columns), np.int64)))
    arrays = [_row_column(columns.column(name), kind) for name, kind in zip(names, coded.types, strict=True)]
    return _written(pa.RecordBatch.from_arrays(arrays, schema=coded))


def decode_table(frame: bytes) -> tuple[str, pa.Table]:
    """Table name and rows with exactly ``schema(table)``. Raises MeterflowError on any other bytes."""
    batch = _read(frame, ROWS_FORMAT)
    name = batch.schema.metadata.get(_TABLE, b"").decode(errors="replace")
    if name not in TABLES:
        raise MeterflowError(
            f"a log record holds rows of a table {name!r} that this version does not know",
            hint="It was probably written by a newer meterflow: update this one.",
        )
    wanted = schema(TABLES[name])
    try:
        arrays = [_plain(batch.column(field.name), field.type) for field in wanted]
    except (KeyError, pa.ArrowException) as error:
        raise _damaged(f"the columns are not those of the table {name}") from error
    return name, pa.Table.from_arrays(arrays, schema=wanted)


def encode_batch(form: bytes, batch: Any) -> bytes:
    """A frame of any Arrow record batch, with its format and version: ``decode_batch`` gives it back."""
    return _written(batch.replace_schema_metadata({_FORMAT: form}))


def decode_batch(frame: bytes, form: bytes) -> Any:
    """The record batch of a frame of this format. Raises MeterflowError on any other bytes."""
    return _read(frame, form)


@lru_cache(maxsize=64)
def coded_schema(table: str) -> pa.Schema:
    """The columns of a frame of rows of a table of this name: texts are numbers of words."""
    fields = [pa.field(f.name, _LONG_TEXT if f.type == pa.utf8() else f.type) for f in schema(TABLES[table])]
    return pa.schema(fields, metadata={_FORMAT: ROWS_FORMAT, _TABLE: table.encode()})


@lru_cache(maxsize=4096)
def _readings_schema(plant: str, site: str | None, long: tuple[bool, ...]) -> pa.Schema:
    """``site``: None of readings without evidence; ``long``: of each column, whether its codes are."""
    head = {_FORMAT: BARE_READINGS_FORMAT, _PLANT: plant.encode()}
    kinds = [
        (name, kind or (_LONG_TEXT if wide else _SHORT_TEXT))
        for (name, kind), wide in zip(_READINGS_TYPES, long, strict=False)
    ]
    if site is not None:
        head |= {_FORMAT: READINGS_FORMAT, _SITE: site.encode()}
        topic, user, digest = long[len(_READINGS_TYPES) :]
        kinds += [
            ("topic", _LONG_TEXT if topic else _SHORT_TEXT),
            ("user", _LONG_TEXT if user else _SHORT_TEXT),
        ]
        kinds += [("digest", _LONG_DIGEST if digest else _SHORT_DIGEST)]
    return pa.schema(kinds, metadata=head)


def _evidence_columns(evidence: Evidence) -> list[Any]:
    digest = np.ascontiguousarray(evidence.digest)
    assert digest.dtype == np.uint8
    assert digest.shape[1:] == (DIGEST_BYTES,)
    words = pa.FixedSizeBinaryArray.from_buffers(_DIGEST, len(digest), [None, pa.py_buffer(digest)])
    codes = evidence.message.astype(np.int16) if len(digest) < _SHORT_WORDS_MAX else evidence.message
    digests = pa.DictionaryArray.from_arrays(pa.array(codes), words, safe=False)
    return [_text_column(evidence.topic), _text_column(evidence.user), digests]


def _evidence(columns: Mapping[str, Any], site: str) -> Evidence:
    """That of a frame's columns. Raises ValueError and KeyError of others."""
    digests = columns["digest"]
    if digests.type not in (_SHORT_DIGEST, _LONG_DIGEST) or digests.null_count:
        raise ValueError(digests.type)
    words = digests.dictionary
    if words.null_count:
        raise ValueError(words.type)
    content = words.buffers()[1] if len(words) else b""
    digest = np.frombuffer(content, np.uint8, len(words) * DIGEST_BYTES, words.offset * DIGEST_BYTES)
    return Evidence(
        topic=_texts(columns["topic"]),
        user=_texts(columns["user"]),
        digest=digest.reshape(-1, DIGEST_BYTES),
        message=digests.indices.to_numpy().astype(np.int32),
        site=site,
    )


def _reading_column(readings: Readings, name: str, kind: Any) -> Any:
    values = getattr(readings, name)
    return _text_column(values) if kind is None else pa.array(values, kind)


def _text_column(text: Dictionary) -> Any:
    short = len(text.words) < _SHORT_WORDS_MAX
    if not text.words:
        return pa.nulls(len(text.codes), _SHORT_TEXT)
    codes = text.codes.astype(np.int16) if short else text.codes
    missing = codes == NO_CODE
    indices = pa.array(codes, mask=missing) if missing.any() else pa.array(codes)
    return pa.DictionaryArray.from_arrays(indices, pa.array(text.words, pa.utf8()), safe=False)


def _reading_values(column: Any, kind: Any) -> Dictionary | NDArray[Any]:
    if kind is None:
        return _texts(column)
    values: NDArray[Any] = _plain(column, kind).to_numpy()
    return values


def _texts(column: Any) -> Dictionary:
    """Raises ValueError of what is no column of texts as frames have them."""
    if column.type not in (_SHORT_TEXT, _LONG_TEXT):
        raise ValueError(column.type)
    words = tuple(column.dictionary.to_pylist())
    if column.null_count == len(column):
        return Dictionary(words, np.full(len(column), NO_CODE, np.int32))
    indices = column.indices
    if column.null_count:
        indices = indices.fill_null(NO_CODE)
    return Dictionary(words, indices.to_numpy().astype(np.int32))


def _row_column(column: Any, kind: Any) -> Any:
    """One array of the wanted type, texts dictionary-encoded: a column of results repeats few words."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if array.type == kind:
        return array
    if kind == _LONG_TEXT and not pa.types.is_dictionary(array.type):
        array = _plain(array, pa.utf8()).dictionary_encode()
    return _plain(array, kind)


def _plain(array: Any, kind: Any) -> Any:
    return array if array.type == kind else array.cast(kind)


def _written(batch: Any) -> bytes:
    options = _COMPRESSED if batch.num_rows >= COMPRESSED_ROWS_MIN else _PLAIN
    sink = pa.BufferOutputStream()
    with pa.ipc.RecordBatchStreamWriter(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    stream = sink.getvalue()
    return b"".join((memoryview(stream), _CRC.pack(zlib.crc32(stream))))


def is_whole(frame: bytes) -> bool:
    """Whether a frame is longer than its checksum, and has it."""
    cut = len(frame) - CRC_BYTES
    return cut > 0 and _CRC.unpack_from(frame, cut)[0] == zlib.crc32(memoryview(frame)[:cut])


def _read(frame: bytes, *wanted: bytes) -> Any:
    """The one batch of a whole frame of a wanted format, the newest first; every index in it is checked."""
    if not is_whole(frame):
        raise _damaged("its checksum is wrong")
    try:
        with pa.ipc.open_stream(pa.py_buffer(frame), options=_READ) as reader:
            _check_format((reader.schema.metadata or {}).get(_FORMAT, b""), wanted)
            batch = reader.read_next_batch()
        batch.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration, OverflowError, ValueError) as error:
        raise _damaged("it is no Arrow stream of one batch") from error
    return batch


def _check_format(found: bytes, wanted: Sequence[bytes]) -> None:
    if found not in wanted:
        raise OtherFormat(found, wanted[0])


def _damaged(why: str) -> MeterflowError:
    hint = "The log is damaged, or something else wrote to it: restore it from a copy."
    return MeterflowError(f"a log record cannot be read: {why}", hint=hint)
