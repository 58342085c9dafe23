"""Result rows as files: CSV, JSON and Parquet, from the store or from memory, by one path.

CSV: a header, then one line a row, ended by a line feed; quoted as RFC 4180 has it, and only where
it must; unknown and absent are empty. JSON: one array with an object a line; an amount is a JSON
number with its exact digits (a reader that makes doubles of numbers rounds it, one that keeps the
text, like Python's ``parse_float=Decimal``, does not); unknown is null. In both, times are RFC 3339
in UTC with Z, with milliseconds only where they are not zero; amounts are exact decimals without
trailing zeros; numbers are the shortest digits that give the same double again. Nothing is put
before a text that a spreadsheet might take for a formula: what was measured is written as it is.
Parquet keeps the types: timestamp[ms, UTC], decimal128(38, 9). The hidden position is left out.

Each line is put together in SQL and comes back as Arrow text, whose buffer already is the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from bus.frames import schema
from metering.errors import Unavailable, UsageError
from metering.query import Format
from metering.tables import POSITION, TABLES, Column, Kind, Table
from sinks.store_layout import layout, listed, quoted, storable

CHUNK_ROWS = 20_480
"""Rows of one chunk: ten of DuckDB's vectors, about 3 MB of CSV."""
ROW_GROUP_ROWS = 122_880
SORTED_ROWS = 50_000
"""Rows that a store sorts at once: where more do not fit into DuckDB's memory, a sort may fail."""
ENGINE: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "python_enable_replacements": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
}
"""No SQL name may mean a Python variable or fetch something from the network."""


_HOUR_MS = 3_600_000


class Selection(NamedTuple):
    """Rows to be rendered: ``sql`` gives all columns of ``table``, ``order`` follows ORDER BY."""

    table: Table
    sql: str
    parameters: Sequence[object]
    order: str
    limit: int | None = None


Source = Callable[[str, int], Iterator[Any]]
"""Gives Arrow batches of the rows, in their order, for a SELECT list and the most rows of a batch."""


def order_by(table: Table, newest_first: bool = False, *, then: Sequence[str] = ()) -> str:
    """The one order rows come in: time, key, and what else tells them apart; reversed as a whole."""
    names = dict.fromkeys((table.time, *(table.key or table.names), *then))
    way = " DESC NULLS FIRST" if newest_first else " ASC NULLS LAST"
    return ", ".join(quoted(name) + way for name in names)


def write_table(table: str, data: pa.Table, path: Path, format: Format) -> None:
    """Writes rows (columns of ``bus.frames.schema``) to ``path``, ordered by time and key.

    Raises Unavailable when the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            file.writelines(table_chunks(table, data, format))
    except OSError as error:
        raise Unavailable(
            f"cannot write the table {table}: {error.strerror}",
            where=str(path),
            hint="Check that the folder exists, is writable and has room.",
        ) from error


def table_chunks(table: str, data: pa.Table, format: Format) -> Iterator[bytes]:
    """The same file in chunks, for standard output."""
    shape = TABLES[table]
    with duckdb.connect(config=ENGINE) as connection:
        connection.register("given", storable(layout(table), data))
        rows = Selection(shape, "SELECT * FROM given", (), order_by(shape))
        yield from chunks(connection, rows, format)


def chunks(connection: duckdb.DuckDBPyConnection, rows: Selection, format: Format) -> Iterator[bytes]:
    """A file of the selected rows in chunks. Raises UsageError for a format that is none."""
    return rendered(rows.table, partial(read, connection, rows), format)


def rendered(table: Table, source: Source, format: Format) -> Iterator[bytes]:
    """A file of the rows of a source in chunks. Raises UsageError for a format that is none."""
    if format not in get_args(Format):
        raise UsageError(f"unknown format {format!r}", hint="Formats are csv, json and parquet.")
    if format == "parquet":
        return _parquet(table, source)
    return _csv(table, source) if format == "csv" else _json(table, source)


def read(
    connection: duckdb.DuckDBPyConnection, rows: Selection, what: str, rows_max: int = CHUNK_ROWS
) -> Iterator[Any]:
    """A ``Source`` of the rows that one connection selects."""
    limit = "" if rows.limit is None else f" LIMIT {int(rows.limit)}"
    sql = f"SELECT {what} FROM ({rows.sql}) AS selected ORDER BY {rows.order}{limit}"
    batches: Iterator[Any] = connection.sql(sql, params=list(rows.parameters)).to_arrow_reader(rows_max)
    return batches


def read_by_stretches(
    connection: duckdb.DuckDBPyConnection, rows: Selection, what: str, rows_max: int = CHUNK_ROWS
) -> Iterator[Any]:
    """The same of however many rows; of one state when the connection is in a transaction."""
    for within in _stretches(connection, rows):
        some = rows._replace(sql=f"SELECT * FROM ({rows.sql}) WHERE {within}")
        yield from read(connection, some, what, rows_max)


def _stretches(connection: duckdb.DuckDBPyConnection, rows: Selection) -> Sequence[str]:
    """Conditions that cut all rows into stretches of time, in their order, each of whole hours."""
    if rows.limit is not None:
        return ["true"]
    time = quoted(rows.table.time)
    hours = f"SELECT epoch_ms({time}) // {_HOUR_MS} AS hour FROM ({rows.sql})"
    sql = f"SELECT hour, count(*) FROM ({hours}) GROUP BY hour ORDER BY hour"
    counts = connection.execute(sql, list(rows.parameters)).fetchall()
    cuts, size = list[int](), 0
    for hour, count in counts:
        if hour is not None and size and size + count > SORTED_ROWS:
            cuts.append(hour * _HOUR_MS)
            size = 0
        size += count
    if not cuts:
        return ["true"]
    within = [f"{time} >= {_at(a)} AND {time} < {_at(b)}" for a, b in pairwise(cuts)]
    known = [f"{time} < {_at(cuts[0])}", *within, f"{time} >= {_at(cuts[-1])}", f"{time} IS NULL"]
    return known[::-1] if " DESC" in rows.order else known


def _at(ms: int) -> str:
    return f"make_timestamp_ms({ms})::TIMESTAMP_MS"


def amount_text(name: str) -> str:
    """SQL for an exact decimal as text without trailing zeros."""
    return f"rtrim(rtrim({quoted(name)}::VARCHAR, '0'), '.')"


def number_text(name: str) -> str:
    """SQL for the shortest text of a double; NULL for what is none."""
    return f"CASE WHEN isfinite({quoted(name)}) THEN {quoted(name)}::VARCHAR END"


def time_text(name: str) -> str:
    """SQL for a time in RFC 3339, with milliseconds only where they are not zero."""
    column = f"{quoted(name)}::TIMESTAMP"
    whole, broken = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%gZ"
    exact = f"epoch_ms({quoted(name)}) % 1000 = 0"
    return f"CASE WHEN {exact} THEN strftime({column}, '{whole}') ELSE strftime({column}, '{broken}') END"


_TEXTS: dict[Kind, Callable[[str], str]] = {
    Kind.TEXT: quoted,
    Kind.TIME: time_text,
    Kind.AMOUNT: amount_text,
    Kind.INTEGER: lambda name: f"{quoted(name)}::VARCHAR",
    Kind.NUMBER: number_text,
}


def _csv(table: Table, source: Source) -> Iterator[bytes]:
    yield (",".join(table.names) + "\n").encode()
    cells = ", ".join(f"coalesce({_csv_cell(column)}, '')" for column in table.columns)
    for batch in source(f"concat_ws(',', {cells}) || chr(10)", CHUNK_ROWS):
        yield _text_bytes(batch.column(0))


def _csv_cell(column: Column) -> str:
    text = _TEXTS[column.kind](column.name)
    if column.kind is not Kind.TEXT:
        return text
    within_quotes = f"""'"' || replace({text}, '"', '""') || '"'"""
    return f"""CASE WHEN regexp_matches({text}, '[,"\\r\\n]') THEN {within_quotes} ELSE {text} END"""


def _json(table: Table, source: Source) -> Iterator[bytes]:
    cells = ", ',', ".join(f"'\"{column.name}\":', {_json_cell(column)}" for column in table.columns)
    yield b"["
    between = b"\n"
    for batch in source(f"concat(',', chr(10), '{{', {cells}, '}}')", CHUNK_ROWS):
        body = _text_bytes(batch.column(0))
        if body:
            yield between + body[2:]
            between = b",\n"
    yield b"]\n" if between == b"\n" else b"\n]\n"


def _json_cell(column: Column) -> str:
    text = _TEXTS[column.kind](column.name)
    if column.kind is Kind.TEXT:
        text = f"to_json({text})::VARCHAR"
    elif column.kind is Kind.TIME:
        text = f"'\"' || {text} || '\"'"
    return f"coalesce({text}, 'null')"


def _parquet(table: Table, source: Source) -> Iterator[bytes]:
    fields = schema(table)
    wanted = fields.remove(fields.get_field_index(POSITION))
    file = _Chunks()
    with pq.ParquetWriter(pa.PythonFile(file, mode="w"), wanted, compression="zstd") as writer:
        for batch in source(listed(table.names), ROW_GROUP_ROWS):
            writer.write_table(pa.Table.from_batches([batch]).cast(wanted))
            yield file.take()
    yield file.take()


def _text_bytes(column: Any) -> bytes:
    """The texts of a column behind each other: its data buffer, without making a string of any."""
    whole = column.cast(pa.large_utf8())
    _, offsets, data = whole.buffers()
    if len(whole) == 0 or data is None:
        return b""
    bounds = memoryview(offsets).cast("q")
    return bytes(memoryview(data)[bounds[whole.offset] : bounds[whole.offset + len(whole)]])


class _Chunks:
    """A file that is written and taken away in pieces."""

    def __init__(self) -> None:
        self.closed = False
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken

    def flush(self) -> None:
        """Nothing waits anywhere."""

    def close(self) -> None:
        self.closed = True
