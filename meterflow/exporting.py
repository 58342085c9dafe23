"""``meterflow export``: a result table from a running service, a stopped one, or a computation."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from meterflow import computed
from meterflow.folder import Folder, Running
from meterflow.given import instant_ms
from metering.errors import MeterflowError, UsageError
from metering.instants import rfc3339
from metering.query import Format, Query
from metering.tables import TABLES

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 600


def export(
    table: str,
    data: Path,
    settings: Path | None,
    form: Format,
    *,
    from_time: str | None,
    to_time: str | None,
    as_of: str | None,
    history: bool,
) -> None:
    """Writes the table to standard output: from the InfluxDB of ``settings``, else from a folder."""
    if table not in TABLES:
        raise UsageError(f"there is no table {table!r}", hint=f"Tables: {', '.join(TABLES)}.")
    if form == "parquet" and sys.stdout.isatty():
        raise UsageError(
            "Parquet is nothing for a terminal", where="--format", hint="Write it to a file: > FILE."
        )
    query = Query(
        table,
        from_ms=bound(from_time, "--from"),
        to_ms=bound(to_time, "--to"),
        as_of_ms=bound(as_of, "--as-of"),
        history=history,
    )
    for chunk in chunks(data, settings, query, form):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def bound(text: str | None, option: str) -> int | None:
    """An option's time in epoch milliseconds, None without one. Raises UsageError."""
    return None if text is None else instant_ms(text, option)


def chunks(data: Path, settings: Path | None, query: Query, form: Format) -> Iterator[bytes]:
    """The rows as a file: from the InfluxDB of ``settings``, else from a folder."""
    if settings is not None:
        return _remote(settings, query, form)
    if not data.is_dir():
        raise UsageError("there is no such data folder", where=str(data), hint="Name it with --data.")
    return _of_folder(Folder(data), query, form)


def save(parts: Iterable[bytes], file: Path) -> None:
    """Writes a file's parts."""
    with file.open("wb") as stream:
        stream.writelines(parts)


def _remote(file: Path, query: Query, form: Format) -> Iterator[bytes]:
    from meterflow.settings import load_settings
    from meterflow.settings_made import influx
    from sinks.store_influx import InfluxResults

    results = InfluxResults(influx(load_settings(file, ("influxdb",))))
    try:
        yield from results.export(query, form)
    finally:
        results.close()


def _of_folder(folder: Folder, query: Query, form: Format) -> Iterator[bytes]:
    folder.check()
    running = folder.running()
    if running is not None:
        return _asked(running, query, form)
    if folder.store.exists():
        return _stored(folder, query, form)
    return _computed(computed.file_of(folder, query.table), query, form)


def _asked(running: Running, query: Query, form: Format) -> Iterator[bytes]:
    """Asks the service that owns the folder; straight, whatever proxy the environment names."""
    bounds = {"from": query.from_ms, "to": query.to_ms, "as_of": query.as_of_ms}
    parameters = {"format": form} | {name: rfc3339(at) for name, at in bounds.items() if at is not None}
    if query.history:
        parameters["history"] = "true"
    texts = {name: list(values) for name, values in query.equal.items()}
    url = f"{running.address}api/export/{query.table}?{urlencode(parameters | texts, doseq=True)}"
    headers = {"Authorization": f"Bearer {running.token}"} if running.token else {}
    request = Request(url, headers=headers)  # noqa: S310 the address is what the service announced
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT_S) as answer:
            while chunk := answer.read(_CHUNK_BYTES):
                yield chunk
    except HTTPError as error:
        raise _refused(error, url) from error
    except (HTTPException, OSError) as error:
        raise MeterflowError(
            f"the service on this folder does not answer: {error}",
            where=running.address,
            hint="Is it just starting or stopping? Try again.",
        ) from error


def _refused(error: HTTPError, url: str) -> MeterflowError:
    text = error.read(4096).decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"])
    kind = UsageError if error.code == HTTPStatus.BAD_REQUEST else MeterflowError
    return kind(f"the service refused the export ({error.code}): {text}", where=url)


def _stored(folder: Folder, query: Query, form: Format) -> Iterator[bytes]:
    from sinks.store_duckdb import open_existing
    from sinks.store_earlier import EarlierResults

    store = open_existing(folder.store)
    try:
        yield from EarlierResults(store, folder.stood).export(query, form)
    finally:
        store.close()


def _computed(file: Path, query: Query, form: Format) -> Iterator[bytes]:
    """A table that compute wrote; it has no history."""
    if query.history or query.as_of_ms is not None:
        raise UsageError("compute writes no history", where=str(file), hint="Export from a service's folder.")
    if file.suffix == ".json":
        if form != "json" or query.from_ms is not None or query.to_ms is not None:
            raise UsageError(
                "the folder holds JSON files only",
                where=str(file),
                hint="Run compute with --format parquet or csv to select, or to have another format.",
            )
        yield file.read_bytes()
        return
    from sinks.render import table_chunks

    yield from table_chunks(query.table, _selected(computed.read(file, query.table), query), form)


def _selected(rows: Any, query: Query) -> Any:
    import pyarrow.compute as pc

    stamps = pc.cast(rows[TABLES[query.table].time], "int64")
    keep = None
    if query.from_ms is not None:
        keep = pc.greater(stamps, query.from_ms)
    if query.to_ms is not None:
        until = pc.less_equal(stamps, query.to_ms)
        keep = until if keep is None else pc.and_(keep, until)
    return rows if keep is None else rows.filter(keep)
