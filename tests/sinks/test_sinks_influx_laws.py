"""InfluxDB holds what the embedded store holds, whatever the batches, crashes and replays on the way."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from metering.query import Query
from sinks.influx_client import InfluxSettings
from sinks.influx_store import InfluxStore
from sinks.store_duckdb import open_store
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, KEYS, Row, lives, table_of

SEEDS = range(400) if os.environ.get("METERFLOW_LONG") else range(1)


def batches(rows: list[Row], rng: random.Random) -> list[list[Row]]:
    """Rows cut into batches, with crashes: what was not committed comes again, cut in another way."""
    found, at = [], 0
    while at < len(rows):
        size = rng.randrange(1, 9)
        found.append(rows[at : at + size])
        at += size if rng.random() < 0.7 else rng.randrange(size)
    return found


def queries(table: str) -> list[Query]:
    asked = [Query(table)]
    if table != "ledger":
        asked.append(Query(table, history=True))
        asked += [Query(table, as_of_ms=FIRST_MS + position * 1000) for position in (20, 100, 180)]
    return asked


def told(rows: list[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
    """Rows in any order; an unknown text is an empty one."""
    plain = [[(name, None if value == "" else value) for name, value in row.items()] for row in rows]
    return sorted(plain, key=str)


@pytest.mark.parametrize("table", list(KEYS))
def test_any_batches_and_any_replay_leave_what_the_embedded_store_has(
    influxdb: Influx, tmp_path: Path, table: str
) -> None:
    """The same rows, newest and history and as of any time; a restart forgets what the sink remembered."""
    for seed in SEEDS:
        rng = random.Random(f"{table} {seed}")
        rows = lives(table, rng)
        settings = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
        store = InfluxStore(settings)
        duck, _ = open_store(tmp_path / f"{seed}.duckdb")
        for batch in batches(rows, rng):
            assert store.store([table_of(table, batch)]) == []
            duck.write([table_of(table, batch)], 0)
            if rng.random() < 0.3:
                store.close()
                store = InfluxStore(settings)
        store.close()
        results = InfluxResults(settings)
        for query in queries(table):
            assert told(results.rows(query)) == told(duck.rows(query)), f"seed {seed}, {query}"
        results.close()
        duck.close()
