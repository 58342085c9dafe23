"""A table that ``compute`` wrote, read again: of ``meterflow export`` and ``meterflow verdicts``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from meterflow.folder import Folder
from meterflow.given import instant_ms
from metering.errors import UsageError
from metering.query import Format, Query
from metering.tables import POSITION, TABLES, Kind

if TYPE_CHECKING:
    import pyarrow as pa


def file_of(folder: Folder, table: str) -> Path:
    """The file of a table, the newest where it is there in several formats. Raises UsageError."""
    found = [file for kind in get_args(Format) if (file := folder.path / f"{table}.{kind}").exists()]
    if not found:
        hint = "Did up or compute write it?"
        raise UsageError("there are no results in this folder", where=str(folder.path), hint=hint)
    return max(found, key=lambda file: file.stat().st_mtime_ns)


def read(file: Path, table: str) -> pa.Table:
    """The rows of a Parquet or CSV file, in the columns of their table. Raises UsageError."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    from bus.frames import schema

    wanted = schema(TABLES[table])
    try:
        if file.suffix == ".parquet":
            rows = pq.read_table(file)
        else:
            rows = pc.read_csv(
                file,
                parse_options=pc.ParseOptions(newlines_in_values=True),
                convert_options=pc.ConvertOptions(
                    column_types={field.name: field.type for field in wanted},
                    null_values=[""],
                ),
            )
        zeros = pa.array([0] * len(rows), wanted.field(POSITION).type)
        return rows.append_column(POSITION, zeros).select(wanted.names).cast(wanted)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


class Computed:
    """The rows of a folder, as ``metering.query.Results`` gives them; there is no history."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """Those that ``equal`` selects, by time. Raises UsageError."""
        file, table = file_of(self._folder, query.table), TABLES[query.table]
        rows = _of_json(file, query.table) if file.suffix == ".json" else _of_arrow(file, query.table)
        rows = [row for row in rows if all(row[name] in words for name, words in query.equal.items())]
        order = (table.time, *table.key)
        rows.sort(key=lambda row: [row[name] for name in order], reverse=query.newest_first)
        return rows[: query.limit]


def _of_arrow(file: Path, table: str) -> list[dict[str, Any]]:
    import pyarrow as pa

    rows = read(file, table).drop_columns([POSITION])
    times = [rows.schema.get_field_index(name) for name in _times(table)]
    for at in times:
        rows = rows.set_column(at, rows.schema.field(at).name, rows.column(at).cast(pa.int64()))
    return list(rows.to_pylist())


def _of_json(file: Path, table: str) -> list[dict[str, Any]]:
    times = _times(table)
    try:
        rows = json.loads(file.read_bytes())
        return [row | {name: instant_ms(row[name]) for name in times if row[name]} for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(file, error) from error


def _times(table: str) -> list[str]:
    return [column.name for column in TABLES[table].columns if column.kind is Kind.TIME]


def _damaged(file: Path, error: Exception) -> UsageError:
    return UsageError(
        f"this is no table that compute wrote: {error}", where=str(file), hint="Run compute again."
    )
