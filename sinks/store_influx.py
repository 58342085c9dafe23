"""The results port over InfluxDB: the same queries, order and files as over the embedded store.

A query is asked in stretches of time, each small enough for both sides' memory. The rows of a stretch
go into empty tables of the embedded store's shape, and its SQL says the rest, so that the two cannot
differ in what a query means. InfluxDB holds the nearest double of an amount: rows and files say its
shortest decimal, at most nine places of it. Up to 15 significant digits that is the amount itself.

An answer of several stretches is no single state: what is written meanwhile may be in the later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from metering.query import Format, Query
from metering.tables import POSITION
from sinks.influx_layout import Measurement, measurement
from sinks.render import ENGINE, Selection, read, rendered
from sinks.store_influx_ask import Influx, TooLarge
from sinks.store_influx_flux import FIRST_MS, LAST_MS, count, edge, narrowed, picks, stretch
from sinks.store_influx_rows import first_instant, first_number, rows
from sinks.store_influx_stride import BYTES_MAX, ROW_BYTES, ROWS_MAX, TARGET_BYTES, Stride
from sinks.store_layout import OPEN, layout, quoted, storable
from sinks.store_query import row_sql, row_values, selection

if TYPE_CHECKING:
    from sinks.influx_client import InfluxSettings


NEAR_MS = 86_400_000


class InfluxResults:
    """Implements ``metering.query.Results``. May be used from several threads; opens nothing until asked.

    ``position`` tells how far the results log is stored, which InfluxDB itself does not know.
    """

    def __init__(
        self,
        settings: InfluxSettings,
        *,
        position: Callable[[], int] = lambda: 0,
        target_bytes: int = TARGET_BYTES,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.position = position
        self._bucket = settings.bucket
        self._influx = Influx(settings)
        self._target_bytes, self._bytes_max = target_bytes, bytes_max

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """See ``metering.query.Results``. Raises UsageError for an unknown table or column, Unavailable
        when InfluxDB does not answer, MeterflowError when it refuses.
        """
        found: list[tuple[Any, ...]] = []
        table = selection(query).table
        left = _Left(query.limit)
        for connection, wanted in self._parts(query, left):
            its = connection.execute(row_sql(wanted), list(wanted.parameters)).fetchall()
            left.take(len(its))
            found += its
        return [row_values(table, row) for row in found]

    def export(self, query: Query, format: Format) -> Iterator[bytes]:
        """See ``metering.query.Results``; errors as of ``rows``. Bounded memory, however many rows."""
        table = selection(query).table
        yield from rendered(table, partial(self._batches, query), format)

    def close(self) -> None:
        """Lets go of the connections."""
        self._influx.close()

    def _batches(self, query: Query, what: str, rows_max: int) -> Iterator[Any]:
        """A ``sinks.render.Source``."""
        left = _Left(query.limit)
        for connection, wanted in self._parts(query, left):
            for batch in read(connection, wanted, what, rows_max):
                left.take(len(batch))
                yield batch

    def _parts(self, query: Query, left: _Left) -> Iterator[tuple[duckdb.DuckDBPyConnection, Selection]]:
        """What to select from which connection, part by part in the order of the rows."""
        if left.rows == 0:
            return
        for tables in self._stretches(query):
            with _holding(query.table, tables) as connection:
                yield connection, selection(replace(query, limit=left.rows))
            if left.rows == 0:
                return

    def _stretches(self, query: Query) -> Iterator[dict[str, Any]]:
        """Stored tables by name, stretch by stretch."""
        its = measurement(query.table)
        if its.time is None:  # how things stand now, all of it at one instant
            yield self._tables(its, query, FIRST_MS, LAST_MS, None)[0]
            return
        for part in self._nearest_first(its, query):
            yield from self._searched(its, part)

    def _nearest_first(self, its: Measurement, query: Query) -> Iterator[Query]:
        """Where a few rows of some text are asked for, the day with which the rows begin, then the others.

        To say where in all of a long past such rows are, InfluxDB has to look at every row of it.
        """
        bounds, given = None, query.from_ms if query.newest_first else query.to_ms
        if query.limit is not None and given is None and picks(its, query):
            bounds = self._bounds(its, narrowed(its, query))
        if bounds is None:
            yield query
        elif query.newest_first:
            yield replace(query, from_ms=bounds[1] - NEAR_MS, to_ms=bounds[1])
            yield replace(query, from_ms=bounds[0] - 1, to_ms=bounds[1] - NEAR_MS)
        else:
            yield replace(query, from_ms=bounds[0] - 1, to_ms=bounds[0] + NEAR_MS)
            yield replace(query, from_ms=bounds[0] + NEAR_MS, to_ms=bounds[1])

    def _searched(self, its: Measurement, query: Query) -> Iterator[dict[str, Any]]:
        """The stored tables of one part of the time."""
        bounds = self._bounds(its, query)
        if bounds is None:
            return
        enough = self._target_bytes if query.limit is None else query.limit * ROW_BYTES
        stride = Stride(
            *bounds,
            newest_first=query.newest_first,
            target_bytes=min(self._target_bytes, enough),
            width_max_ms=self._width_max_ms(its, query, *bounds),
        )
        for first_ms, last_ms in stride:
            bytes_max = None if stride.indivisible else self._bytes_max
            try:
                tables, size = self._tables(its, query, first_ms, last_ms, bytes_max)
            except TooLarge:
                stride.too_large()
                continue
            stride.took(size)
            yield tables

    def _bounds(self, its: Measurement, query: Query) -> tuple[int, int] | None:
        """The first and the last instant that may have rows."""
        first_ms = FIRST_MS if query.from_ms is None else max(FIRST_MS, query.from_ms + 1)
        last_ms = LAST_MS if query.to_ms is None else min(LAST_MS, query.to_ms)
        if first_ms > last_ms:
            return None
        first = self._edges(its, query, first_ms, last_ms, newest=False)
        last = self._edges(its, query, first_ms, last_ms, newest=True)
        return (min(first), max(last)) if first and last else None

    def _width_max_ms(self, its: Measurement, query: Query, first_ms: int, last_ms: int) -> int | None:
        """How long a stretch may be so that InfluxDB need not look at too many rows, if they are spread."""
        if not picks(its, query):
            return None  # the size of the answers says it
        ask = (count(self._bucket, its, name, query, first_ms, last_ms) for name in _names(its, query))
        looked_at = sum(first_number(self._influx.ask(flux)) for flux in ask)
        return (last_ms - first_ms + 1) * ROWS_MAX // max(1, looked_at)

    def _edges(
        self, its: Measurement, query: Query, first_ms: int, last_ms: int, *, newest: bool
    ) -> list[int]:
        ask = (
            edge(self._bucket, its, name, query, first_ms, last_ms, newest=newest)
            for name in _names(its, query)
        )
        found = (first_instant(self._influx.ask(flux)) for flux in ask)
        return [instant for instant in found if instant is not None]

    def _tables(
        self, its: Measurement, query: Query, first_ms: int, last_ms: int, bytes_max: int | None
    ) -> tuple[dict[str, Any], int]:
        """The stored tables of a stretch, and how many bytes they came in."""
        bodies = [
            self._influx.ask(stretch(self._bucket, its, name, query, first_ms, last_ms), bytes_max)
            for name in _names(its, query)
        ]
        return _stored(its, *(rows(its, body) for body in bodies)), sum(map(len, bodies))


def _names(its: Measurement, query: Query) -> tuple[str, ...]:
    """The measurements that a query needs."""
    history = its.revised and (query.history or query.as_of_ms is not None)
    return (its.name, its.history) if history else (its.name,)


def _stored(its: Measurement, newest: Any, superseded: Any = None) -> dict[str, Any]:
    """The embedded store's tables of these rows, by the names that its SQL has for them."""
    stored = layout(its.name)
    newest = newest.filter(pc.greater_equal(newest[POSITION], 0))
    none = newest.slice(0, 0)
    current, settled = (newest, none) if stored.has_current else (none, newest)
    if stored.fills:
        is_open = pc.fill_null(pc.equal(newest["state"], OPEN), False)
        current, settled = newest.filter(is_open), newest.filter(pc.invert(is_open))
    tables = {stored.current: current, stored.settled: settled}
    tables[stored.superseded] = none if superseded is None else superseded
    return {name: storable(stored, rows) for name, rows in tables.items()}


@contextmanager
def _holding(table: str, tables: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are these.

    A row may be in the history and, with the same revision, in the table: the sink writes the one
    before it overwrites the other, and a row may be opened again and closed as it was. It is shown once.
    """
    stored = layout(table)
    same = (*stored.table.key, "revision")
    with duckdb.connect(config=ENGINE) as connection:
        for name, its in tables.items():
            connection.register(name.strip('"'), its)
        if len(tables[stored.superseded]) and len(tables[stored.settled]):
            twice = " AND ".join(f"n.{name} IS NOT DISTINCT FROM s.{name}" for name in map(quoted, same))
            connection.execute(
                f"CREATE TEMP TABLE once AS SELECT * FROM {stored.superseded} s "
                f"WHERE s.{POSITION} < 0 OR NOT EXISTS (SELECT 1 FROM {stored.settled} n WHERE {twice})"
            )
            connection.register(stored.superseded.strip('"'), connection.table("once").to_arrow_table())
        yield connection


class _Left:
    """How many rows of a limit are left."""

    def __init__(self, rows: int | None) -> None:
        self.rows = rows

    def take(self, rows: int) -> None:
        """So many have been given."""
        if self.rows is not None:
            self.rows -= rows
