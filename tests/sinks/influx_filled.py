"""The contents of an embedded store in an InfluxDB bucket, written through the sink's own lines."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bus.frames import schema
from metering.tables import POSITION, TABLES, Kind
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import measurement
from sinks.influx_lines import lines
from sinks.influx_points import points
from sinks.store_layout import layout
from tests.real.influxd import Influx

Row = dict[str, Any]
LINES_MAX = 5000
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def settings_for(influxdb: Influx, bucket: str, token: str = "") -> InfluxSettings:
    return InfluxSettings(
        url=influxdb.url, org=influxdb.org, bucket=bucket, token=token or influxdb.token, timeout_s=10.0
    )


def fill_from_store(influxdb: Influx, bucket: str, store: Path) -> None:
    """Everything that a closed DuckDB store holds, as the sink would have left it.

    No row is the first of its key: what is unknown now was known once.
    """
    with duckdb.connect(str(store), read_only=True) as connection:
        for table in TABLES:
            stored = layout(table)
            newest = _all(connection, stored.names, stored.newest_tables, table)
            if stored.table.restated:
                fill(influxdb, bucket, table, _once(newest, stored.table.key))
            fill(influxdb, bucket, table, newest)
            if stored.revised:
                superseded = _all(connection, stored.names, (stored.superseded,), table)
                gone = newest.filter(pc.less(newest[POSITION], 0))
                fill(influxdb, bucket, table, pa.concat_tables([superseded, gone]), history=True)


def fill(influxdb: Influx, bucket: str, table: str, rows: pa.Table, *, history: bool = False) -> None:
    """Rows with the columns of ``bus.frames.schema``; each has to be storable."""
    if len(rows) == 0:
        return
    its = measurement(table)
    where = points(its, rows, history=history, topic="rejected", partition=0)
    assert where.storable.all()
    distinct = {(int(series), int(time)) for series, time in zip(where.series, where.times, strict=True)}
    assert len(distinct) == len(rows), "two rows are one point"
    made = lines(its, rows, where, history=history)
    for first in range(0, len(rows), LINES_MAX):
        write(influxdb, bucket, made.body(first, min(len(rows), first + LINES_MAX)))


def write(influxdb: Influx, bucket: str, body: bytes) -> None:
    """Lines with times in nanoseconds; raises urllib's HTTPError for any that are refused."""
    url = f"{influxdb.url}/api/v2/write?org={influxdb.org}&bucket={bucket}&precision=ns"
    request = urllib.request.Request(url, body, {"Authorization": f"Token {influxdb.token}"})
    with _OPENER.open(request, timeout=30):
        pass


def as_influx_holds(table: str, rows: list[Row]) -> Iterator[Row]:
    """Rows of the embedded store as InfluxDB has them: amounts are doubles, an empty text is unknown."""
    kinds = {column.name: column.kind for column in TABLES[table].columns}
    for row in rows:
        yield {name: _held(kinds[name], value) for name, value in row.items()}


def _held(kind: Kind, value: Any) -> Any:
    if kind is Kind.AMOUNT and value is not None:
        shortest = np.format_float_positional(float(value), trim="-")
        return Decimal(f"{Decimal(shortest).quantize(Decimal('1e-9')):f}")
    return value or None if kind is Kind.TEXT else value


def _once(rows: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """The same keys, every figure of theirs known."""
    arrays = [
        column
        if pa.types.is_string(column.type) or name in key
        else pc.fill_null(column, pa.scalar(1).cast(column.type))
        for name, column in zip(rows.column_names, rows.columns, strict=True)
        if name != POSITION
    ]
    return pa.table([*arrays, pc.abs(rows[POSITION])], rows.schema)


def _all(connection: duckdb.DuckDBPyConnection, names: Any, tables: tuple[str, ...], table: str) -> pa.Table:
    listed = ", ".join(f'"{name}"' for name in names)
    sql = " UNION ALL ".join(f"SELECT {listed} FROM {name}" for name in tables)
    found = connection.sql(sql).to_arrow_table()
    wanted = schema(TABLES[table])
    return pa.Table.from_arrays(
        [_zoned(found[field.name], field.type) for field in wanted], schema=wanted
    ).combine_chunks()


def _zoned(column: Any, kind: Any) -> Any:
    return column.cast(pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else column.cast(kind)
