"""The columns of the archive's files, and how they are laid out in Parquet.

Whole numbers that hardly differ from row to row (times, offsets, registers) are written as differences,
texts as numbers of words; zstd packs what is left. Nothing is rounded: a value is mantissa * 10**exponent.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from metering.readings import DIGEST_BYTES
from sinks.archive_manifest import DAY, DECISIONS, EVIDENCE, PAYLOADS, PLANT, READINGS, File, Span

ROW_GROUP_ROWS = 1 << 18
_NAME_MAX = 200
_TIME = pa.timestamp("ms", tz="UTC")
_WORDS = pa.dictionary(pa.int32(), pa.utf8())
SCHEMAS = {
    READINGS: pa.schema(
        [
            ("point", pa.utf8()),
            ("time", _TIME),
            ("start", _TIME),
            ("mantissa", pa.int64()),
            ("exponent", pa.int8()),
            ("unit", pa.utf8()),
            ("serial", pa.utf8()),
            ("product", pa.utf8()),
            ("revision", pa.int32()),
            ("seq", pa.int64()),
            ("quality", pa.uint8()),
            ("flags", pa.uint8()),
            ("received", _TIME),
            ("offset", pa.int64()),
            ("row", pa.int32()),
            ("message", pa.int32()),
        ]
    ),
    EVIDENCE: pa.schema(
        [
            ("offset", pa.int64()),
            ("message", pa.int32()),
            ("topic", pa.utf8()),
            ("user", pa.utf8()),
            ("sha256", pa.binary(DIGEST_BYTES)),
            ("received", _TIME),
            ("site", pa.utf8()),
        ]
    ),
    DECISIONS: pa.schema(
        [
            ("point", pa.utf8()),
            ("serial", pa.utf8()),
            ("from", _TIME),
            ("to", _TIME),
            ("verdict", pa.utf8()),
            ("by", pa.utf8()),
            ("revision", pa.int64()),
            ("value", pa.utf8()),
            ("received", _TIME),
            ("offset", pa.int64()),
            ("row", pa.int32()),
        ]
    ),
    PAYLOADS: pa.schema(
        [
            ("topic", pa.utf8()),
            ("received", _TIME),
            ("sha256", pa.binary(DIGEST_BYTES)),
            ("payload", pa.binary()),
            ("offset", pa.int64()),
        ]
    ),
}
"""By folder."""
ORDER = {
    READINGS: ("point", "time", "offset", "row"),
    EVIDENCE: ("offset", "message"),
    DECISIONS: ("offset", "row"),
    PAYLOADS: ("topic", "received", "offset"),
}
"""By what the rows of a file are sorted."""
_DIFFERENCES = {"time", "start", "mantissa", "seq", "received", "offset", "row", "message"}
_LIKE_THE_ONE_BEFORE, _LIKE_NONE = {"payload"}, {"sha256"}
_LOOKED_FOR = ["point", "time", "offset"]


def folder(set_: str, plant: str, day: str = "") -> str:
    """Where the files of a plant are, or of one of its days."""
    return f"{set_}{PLANT}{escaped(plant)}{DAY}{day}" if day else f"{set_}{PLANT}{escaped(plant)}"


def escaped(plant: str) -> str:
    """A plant's id as a name of a folder: percent-encoded; a very long one is cut, its hash behind."""
    name = quote(plant, safe="").replace("~", "%7E")
    if len(name) <= _NAME_MAX:
        return name
    return f"{name[:_NAME_MAX]}~{hashlib.sha256(plant.encode()).hexdigest()[:16]}"


def encoded(table: pa.Table, in_folder: str, plant: str, span: Span) -> tuple[File, bytes]:
    """A file of rows that are sorted already, and what the manifest says of it."""
    names = table.schema.names
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        use_dictionary=[n for n in names if n not in _DIFFERENCES | _LIKE_THE_ONE_BEFORE | _LIKE_NONE],
        column_encoding={
            name: "DELTA_BINARY_PACKED" if name in _DIFFERENCES else "DELTA_BYTE_ARRAY"
            for name in names
            if name in _DIFFERENCES | _LIKE_THE_ONE_BEFORE
        },
        write_statistics=[name for name in names if name in _LOOKED_FOR],
        store_schema=False,
    )
    data: bytes = sink.getvalue().to_pybytes()
    offset = table.column("offset").to_numpy()
    path, digest = f"{in_folder}/{span}.parquet", hashlib.sha256(data).hexdigest()
    edges = int(offset.min()), int(offset.max()) + 1
    return File(path, plant, table.num_rows, len(data), digest, *edges), data


def decoded(data: bytes, set_: str, columns: list[str] | None = None, *, coded: bool = False) -> pa.Table:
    """The rows of a file. Raises an error of Arrow's where it is none.

    ``coded``: texts as numbers of words, as they are in the file.
    """
    wanted = SCHEMAS[set_]
    texts = [field.name for field in wanted if coded and field.type == pa.utf8()]
    # no threads of Arrow's: one that still lets go of ``data`` when the process ends has it aborted
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts, pre_buffer=False)
    table = file.read(columns, use_threads=False)
    fields = [wanted.field(name) for name in table.schema.names]
    return table.cast(pa.schema([f.with_type(_WORDS) if f.name in texts else f for f in fields]))
