"""``meterflow export``: a result table from a running service, a stopped one, or a computation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from metering.errors import MeterflowError, UsageError
from metering.query import Query
from metering.tables import TABLES

from meterflow.folder import Folder, Running

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 600


def export(
    table: str, data: Path, form: str, *, from_time: str | None, to_time: str | None, as_of: str | None, history: bool
) -> None:
    """Writes the table to standard output."""
    if table not in TABLES:
        raise UsageError(f"there is no table {table!r}", hint=f"Tables: {', '.join(TABLES)}.")
    if not data.is_dir():
        raise UsageError("there is no such data folder", where=str(data), hint="Name it with --data.")
    bounds = {"from": _instant(from_time, "--from"), "to": _instant(to_time, "--to"), "as_of": _instant(as_of, "--as-of")}
    for chunk in _chunks(table, Folder(data), form, bounds, history):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _instant(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", where=option, hint="RFC 3339: 2026-11-22T08:00:00+08:00.") from None
    if instant.tzinfo is None:
        raise UsageError(f"{text!r} has no zone", where=option, hint="Add Z, or an offset such as +08:00.")
    return round(instant.timestamp() * 1000)


def _chunks(table: str, folder: Folder, form: str, bounds: dict[str, int | None], history: bool) -> Iterator[bytes]:
    running = folder.running()
    if running is not None:
        return _asked(running, table, form, bounds, history)
    query = Query(table, bounds["from"], bounds["to"], as_of_ms=bounds["as_of"], history=history)
    if folder.store.exists():
        return _stored(folder, query, form)
    for ending in ("parquet", "csv", "json"):
        file = folder.path / f"{table}.{ending}"
        if file.exists():
            return _computed(file, ending, query, form)
    raise UsageError("there are no results in this folder", where=str(folder.path), hint="Did up or compute write it?")


def _asked(running: Running, table: str, form: str, bounds: dict[str, int | None], history: bool) -> Iterator[bytes]:
    """Asks the service that owns the folder."""
    parameters: dict[str, Any] = {"format": form}
    for name, instant in bounds.items():
        if instant is not None:
            parameters[name] = datetime.fromtimestamp(instant / 1000).astimezone().isoformat(timespec="milliseconds")
    if history:
        parameters["history"] = "true"
    url = f"{running.address}api/export/{table}?{urlencode(parameters)}"
    request = Request(url, headers={"Authorization": f"Bearer {running.token}"} if running.token else {})  # noqa: S310
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            while chunk := answer.read(_CHUNK_BYTES):
                yield chunk
    except HTTPError as error:
        raise MeterflowError(f"the service refused the export: {error.read().decode()[:500]}", where=url) from error
    except (URLError, OSError) as error:
        raise MeterflowError(
            f"the service on this folder does not answer: {error}", where=running.address,
            hint="Is it just starting or stopping? Try again.",
        ) from error  # fmt: skip


def _stored(folder: Folder, query: Query, form: str) -> Iterator[bytes]:
    from sinks.store_duckdb import open_store

    store, _ = open_store(folder.store)
    try:
        yield from store.export(query, form)  # type: ignore[arg-type]
    finally:
        store.close()


def _computed(file: Path, ending: str, query: Query, form: str) -> Iterator[bytes]:
    """A table that compute wrote; it has no history."""
    if query.history or query.as_of_ms is not None:
        raise UsageError("compute writes no history", where=str(file), hint="Export from a service's folder.")
    if ending != "parquet":
        if form != ending or query.from_ms is not None or query.to_ms is not None:
            raise UsageError(
                f"the folder holds {ending} files only", where=str(file),
                hint="Run compute with --format parquet to select, or to have another format.",
            )  # fmt: skip
        yield file.read_bytes()
        return
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from sinks.render import table_chunks

    rows = pq.read_table(file)
    stamps = pc.cast(rows[TABLES[query.table].time], "int64")
    if query.from_ms is not None:
        rows = rows.filter(pc.greater(stamps, query.from_ms))
        stamps = pc.cast(rows[TABLES[query.table].time], "int64")
    if query.to_ms is not None:
        rows = rows.filter(pc.less_equal(stamps, query.to_ms))
    yield from table_chunks(query.table, rows, form)  # type: ignore[arg-type]
