"""Tables of meter exports, row by row: CSV, Excel, Parquet.

Each source gives its rows as (place, cells): the line, row or record number from 1 as a person
finds it in the file, and one cell for each wanted column. A cell is a text as it stands in the
file, or a datetime where the format has such a type. Numbers of Excel and Parquet become the
shortest text that gives the same number again, never through anything narrower.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from metering.errors import UsageError
from metering.faults import did_you_mean
from simulators.convert_map import FileForm

Cell = str | datetime
Row = tuple[int, list[Cell]]
Progress = Callable[[int, int], None]
"""Called now and then with what is done and the whole, in a unit of the source's choice."""
PROGRESS_ROWS = 2_000
SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".parquet")


def read_table(
    source: Path, form: FileForm, columns: Sequence[str], progress: Progress | None = None
) -> Iterator[Row]:
    """The rows of the wanted columns. Raises UsageError for a file or a column that is not there."""
    suffix = source.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{suffix or 'a file without a suffix'} cannot be converted",
            where=str(source),
            hint=f"export the data as one of {', '.join(SUFFIXES)}",
        )
    tell = progress or _tell_nobody
    try:
        match suffix:
            case ".xlsx" | ".xlsm":
                yield from _excel(source, form, columns, tell)
            case ".parquet":
                yield from _parquet(source, columns, tell)
            case _:
                yield from _csv(source, form, columns, tell)
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror or error}", where=str(source), hint="give the path of a file"
        ) from error


def _tell_nobody(_done: int, _whole: int) -> None:
    return


def _csv(source: Path, form: FileForm, columns: Sequence[str], tell: Progress) -> Iterator[Row]:
    whole = source.stat().st_size
    with source.open(encoding=form.encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=form.delimiter)
        try:
            header = _csv_header(reader, form)
            _is_divided(header, columns, f"{source}:{form.header_line}")
            wanted = _wanted(header, columns, f"{source}:{form.header_line}")
            yield from _csv_rows(reader, wanted, stream, whole, tell)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"is not {form.encoding} text: {error.reason}",
                where=f"{source}:{_undecoded(source, form.encoding)}",
                hint=f"set file.encoding in the mapping file, for example {_encoding(source)}",
            ) from error
        except csv.Error as error:
            raise UsageError(
                f"is not CSV: {error}", where=f"{source}:{reader.line_num}", hint="check quotes and delimiter"
            ) from error
    tell(whole, whole)


def _undecoded(source: Path, encoding: str) -> int:
    """The first line that is no text of this encoding, from 1."""
    with source.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return 1


def _encoding(source: Path) -> str:
    """What a file may be that is not what it was taken for."""
    with source.open("rb") as stream:
        return "utf-16" if stream.read(2) in (b"\xff\xfe", b"\xfe\xff") else "gb18030 or latin-1"


def _is_divided(header: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Raises UsageError where another mark stands between the columns than was said."""
    marks = [mark for mark in ";\t|," if len(header) == 1 and mark in header[0]]
    for mark in marks:
        if columns[0] in (name.strip().strip('"') for name in header[0].split(mark)):
            name = "tab" if mark == "\t" else mark
            raise UsageError(
                f"all of the header is one column: {header[0]!r}",
                where=where,
                hint=f"set file.delimiter: '{name}' in the mapping file",
            )


def _csv_header(reader: Any, form: FileForm) -> list[str]:
    """The first record that ends on the header's line or behind it: titles may stand above."""
    for record in reader:
        if reader.line_num >= form.header_line:
            return [str(name).strip() for name in record]
    return []


def _csv_rows(reader: Any, wanted: list[int], stream: TextIO, whole: int, tell: Progress) -> Iterator[Row]:
    last = max(wanted)
    count = 0
    for record in reader:
        count += 1
        if count % PROGRESS_ROWS == 0:
            tell(min(stream.buffer.tell(), whole), whole)
        if not record:
            continue
        if len(record) <= last:
            record = record + [""] * (last + 1 - len(record))  # noqa: PLW2901
        yield reader.line_num, [record[i] for i in wanted]


def _excel(source: Path, form: FileForm, columns: Sequence[str], tell: Progress) -> Iterator[Row]:
    import openpyxl  # noqa: PLC0415  takes a tenth of a second, and only Excel needs it

    try:
        book = openpyxl.load_workbook(source, read_only=True, data_only=True)
    except (ValueError, KeyError, openpyxl.utils.exceptions.InvalidFileException, _zip_error()) as error:
        raise UsageError(
            f"is not an Excel workbook: {error}", where=str(source), hint="save it as .xlsx or as CSV"
        ) from error
    try:
        sheet = _sheet(book, form.sheet, source)
        whole = sheet.max_row or 0
        rows = sheet.iter_rows(min_row=form.header_line, values_only=True)
        header = [_text(name).strip() for name in next(rows, ())]
        wanted = _wanted(header, columns, f"{source}:{form.header_line}")
        for number, row in enumerate(rows, form.header_line + 1):
            if number % PROGRESS_ROWS == 0:
                tell(min(number, whole), whole)
            if any(cell is not None for cell in row):
                yield number, [_cell(row[i]) if i < len(row) else "" for i in wanted]
        tell(whole, whole)
    finally:
        book.close()


def _zip_error() -> type[Exception]:
    from zipfile import BadZipFile  # noqa: PLC0415

    return BadZipFile


def _sheet(book: Any, name: str | None, source: Path) -> Any:
    if name is None:
        return book.worksheets[0]
    if name not in book.sheetnames:
        raise UsageError(
            f"there is no sheet {name!r}", where=str(source), hint=did_you_mean(name, book.sheetnames)
        )
    return book[name]


def _parquet(source: Path, columns: Sequence[str], tell: Progress) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(source)
    except pa.ArrowInvalid as error:
        raise UsageError(f"is not Parquet: {error}", where=str(source), hint="check what wrote it") from error
    with file:
        _wanted(file.schema_arrow.names, columns, str(source))
        whole, number = file.metadata.num_rows, 0
        for batch in file.iter_batches(PROGRESS_ROWS, columns=list(dict.fromkeys(columns))):
            cells = {name: _parquet_cells(batch.column(name)) for name in batch.schema.names}
            for row in zip(*(cells[name] for name in columns), strict=True):
                number += 1
                yield number, list(row)
            tell(number, whole)


def _parquet_cells(column: Any) -> list[Cell]:
    import pyarrow as pa  # noqa: PLC0415

    kind = column.type
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return ["" if value is None else str(np.float32(value)) for value in column.to_pylist()]
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return [_cell(value) for value in column.to_pylist()]


def _cell(value: object) -> Cell:
    return value if isinstance(value, datetime) else _text(value)


def _text(value: object) -> str:
    """A number's shortest exact text, a date's ISO form; nothing is the empty text."""
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:f}"
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _wanted(header: Sequence[str], columns: Sequence[str], where: str) -> list[int]:
    for column in columns:
        if header.count(column) == 1:
            continue
        if column in header:
            raise UsageError(
                f"the column {column!r} is there {header.count(column)} times",
                where=where,
                hint="give the columns different names",
            )
        raise UsageError(
            f"there is no column {column!r}",
            where=where,
            hint=did_you_mean(column, header) or "check file.header_line and file.delimiter",
        )
    return [list(header).index(column) for column in columns]
