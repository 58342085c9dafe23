"""Tables larger than DuckDB's memory: a file of all rows, from the process that writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.query import Query
from sinks import render
from sinks.store_duckdb import DuckStore, open_store
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of

SERIES, SETTLED, OPEN = 20, 100_000, 10_000


def row(k: int) -> Row:
    end = FIRST_MS + k // SERIES * MINUTE_MS
    key = {"plant": "p", "point": f"q{k % SERIES:02}", "start": end - MINUTE_MS, "end": end}
    state = "final" if k < SETTLED else "open"
    return key | {"amount": k, "state": state, "revision": 0, "reported": end, "position": k}


@pytest.fixture
def store(tmp_path: Path) -> DuckStore:
    """Rows of two states, and those that are open not in the file yet but in its log."""
    store, _ = open_store(tmp_path / "results.duckdb", memory_limit="24MB")
    for first in range(0, SETTLED + OPEN, 10_000):
        store.write([table_of("interval", [row(k) for k in range(first, first + 10_000)])], first)
    return store


def test_all_rows_are_exported_in_order_with_little_memory(store: DuckStore) -> None:
    """Each once, by time and key."""
    file = b"".join(store.export(Query("interval"), "csv")).decode()
    lines = [line.split(",") for line in file.splitlines()[1:]]
    assert [int(line[5]) for line in lines] == list(range(SETTLED + OPEN))
    store.close()


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("sorted_rows", [1, 500])
def test_however_it_is_cut_the_file_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sorted_rows: int, newest_first: bool
) -> None:
    """Stretches of an hour, of several, and all at once; rows without a time where they belong."""
    store, _ = open_store(tmp_path / "results.duckdb")
    rows = [
        {"plant": f"p{k}", "point": "q", "to": FIRST_MS + k * 7 * MINUTE_MS, "position": k}
        for k in range(999)
    ]
    store.write([table_of("ledger", [*rows, {"plant": "none", "point": "q", "position": 9999}])], 1)
    query = Query("ledger", newest_first=newest_first)
    whole = b"".join(store.export(query, "csv"))
    monkeypatch.setattr(render, "SORTED_ROWS", sorted_rows)
    assert b"".join(store.export(query, "csv")) == whole
    assert whole.count(b"\n") == 1001
    store.close()
