"""Any query gives the same rows and the same files from InfluxDB as from the embedded store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.errors import UsageError
from metering.query import Format, Query
from metering.tables import TABLES, Kind
from sinks.render import table_chunks
from sinks.store_duckdb import DuckStore, open_store
from sinks.store_influx import InfluxResults
from sinks.store_layout import layout
from tests.real.influxd import Influx
from tests.sinks.conftest import frame_of
from tests.sinks.influx_filled import as_influx_holds, fill_from_store, settings_for
from tests.sinks.influx_rows import NOON_MS, TIMES_MS, WORDS, frames

EXAMPLES = 600 if os.environ.get("METERFLOW_LONG") else 40
SEED = int(os.environ.get("METERFLOW_SEED", "1"))
TOGETHER = 25
SMALL = 20_000
"""Bytes of a stretch's answer, so that every query takes several."""
ROWS = 400 if os.environ.get("METERFLOW_LONG") else 100
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


class Pair(NamedTuple):
    """The same results twice: embedded, and in InfluxDB as one stretch or many."""

    duck: DuckStore
    whole: InfluxResults
    cut: InfluxResults


@pytest.fixture(scope="module")
def both(influxdb: Influx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path: Path = tmp_path_factory.mktemp("laws") / "results.duckdb"
    store, _ = open_store(path)
    said = [frame_of(table, rows) for table, rows in frames(SEED, ROWS)]
    for first in range(0, len(said), TOGETHER):
        store.write(said[first : first + TOGETHER], 1)
    store.close()
    bucket = influxdb.bucket()
    fill_from_store(influxdb, bucket, path)
    where = settings_for(influxdb, bucket)
    store, _ = open_store(path)
    pair = Pair(store, InfluxResults(where), InfluxResults(where, target_bytes=SMALL, bytes_max=4 * SMALL))
    yield pair
    for opened in pair:
        opened.close()


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any query that the port takes."""
    table = TABLES[draw(st.sampled_from(sorted(TABLES)))]
    instants = st.none() | st.sampled_from(TIMES_MS) | st.integers(NOON_MS - 2, NOON_MS + 3_000_000)
    texts = [column.name for column in table.columns if column.kind is Kind.TEXT]
    words = st.sampled_from(("", "open", "final", "revised", "nobody", *sum(WORDS.values(), ())))
    one_of = st.lists(words, max_size=3).map(tuple)
    names = draw(st.lists(st.sampled_from(texts), max_size=2, unique=True))
    likely = {
        name: st.lists(st.sampled_from((*WORDS.get(name, ("", "open")), "")), max_size=3) for name in names
    }
    equal = {name: tuple(draw(likely[name])) if draw(st.booleans()) else draw(one_of) for name in names}
    return Query(
        table.name,
        from_ms=draw(instants),
        to_ms=draw(instants),
        equal=equal,
        as_of_ms=draw(st.none() | st.integers(NOON_MS, NOON_MS + 160_000)),
        history=draw(st.booleans()),
        newest_first=draw(st.booleans()),
        limit=draw(st.none() | st.integers(0, 40)),
    )


def answer(ask: Callable[[Query], Any], query: Query) -> Any:
    """Rows, or what is wrong with the query."""
    try:
        return ask(query)
    except UsageError as error:
        return str(error)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=CHECKS)
@given(query=queries())
def test_any_query_gives_the_rows_that_the_embedded_store_gives(both: Pair, query: Query) -> None:
    """Same rows, same order, same columns, same types; amounts as the nearest double's shortest decimal."""
    wanted = answer(both.duck.rows, query)
    for results in (both.whole, both.cut):
        found = answer(results.rows, query)
        if isinstance(wanted, str):
            assert found == wanted
            continue
        held = list(as_influx_holds(query.table, wanted))
        assert found == held
        assert [[*row] for row in found] == [[*row] for row in held]
        assert [list(map(type, row.values())) for row in found] == [
            list(map(type, row.values())) for row in held
        ]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
@pytest.mark.parametrize("table", sorted(TABLES))
def test_whole_tables_are_the_same_files(both: Pair, table: str, format: Format) -> None:
    """Line by line in CSV and JSON, row by row in Parquet; in one stretch and in many."""
    has_history = layout(table).has_settled
    query = Query(table, history=has_history)
    rows = list(as_influx_holds(table, both.duck.rows(query)))
    assert rows, "a table without rows shows nothing"
    wanted = b"".join(table_chunks(table, frame_of(table, rows)[1], format))
    for results in (both.whole, both.cut):
        assert comparable(b"".join(results.export(query, format)), format) == comparable(wanted, format)


def comparable(file: bytes, format: Format) -> Any:
    """The lines or rows of a file. Their order is what the rows' own law shows: ``table_chunks`` knows
    nothing of revisions.
    """
    if format == "parquet":
        return sorted(map(str, pq.read_table(io.BytesIO(file)).to_pylist()))
    return sorted(line.rstrip(b",") for line in file.splitlines())


def test_the_data_shows_what_it_should(both: Pair) -> None:
    """Every revised table has superseded rows, rows still open, and unknown values."""
    for name in ("interval", "rollup", "intensity"):
        newest = both.duck.rows(Query(name))
        assert {"open", "final", "revised"} <= {row["state"] for row in newest}
        assert len(both.duck.rows(Query(name, history=True))) > len(
            [row for row in newest if row["state"] != "open"]
        )
        assert any(row["measured_share"] is None for row in newest)
