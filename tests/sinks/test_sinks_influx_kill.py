"""T3: the sink killed again and again while it stores: nothing missing, nothing twice, all values equal."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bus.frames import encode_table
from bus.log import REJECTED, RESULTS, Entry
from bus.log_sqlite import open_log
from metering.query import Query
from sinks.influx_client import InfluxSettings
from sinks.store_duckdb import DuckStore, open_store
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, life, table_of

LONG = bool(os.environ.get("METERFLOW_LONG"))
SEED = int(os.environ.get("METERFLOW_SEED", "20261122"))
ROWS, KILLS = (1_000_000, 50) if LONG else (30_000, 4)
CHILD = Path(__file__).with_name("child_influx.py")
RECORD_ROWS = 500


def history(rng: random.Random) -> list[list[Row]]:
    """Rows by record: most said once, one key in twenty several times, far apart on the log."""
    rows = list[Row]()
    for k in range(ROWS * 4 // 5):
        end = FIRST_MS + k // 20 * MINUTE_MS
        key = {"plant": "p", "point": f"q{k % 20}", "end": end, "start": end - MINUTE_MS}
        times = [k + rng.randrange(ROWS) for _ in range(4 if rng.random() < 0.05 else 0)]
        rows += life("interval", key, sorted({k, *times}), rng)
    rows.sort(key=lambda row: max(row["position"], -row["position"] - 1))
    return [rows[i : i + RECORD_ROWS] for i in range(0, len(rows), RECORD_ROWS)]


async def fill(folder: Path, records: Sequence[Sequence[Row]], store: DuckStore) -> None:
    """The log, and the embedded store as the oracle."""
    log = await open_log(folder)
    for rows in records:
        frame = table_of("interval", list(rows))
        await log.append({RESULTS: [Entry("interval", encode_table(*frame), FIRST_MS)]})
        store.write([frame], 0)
    refused = table_of("rejected", [{"received": FIRST_MS, "reason": "not_json", "topic": "t"}] * 3)
    await log.append({REJECTED: [Entry("", encode_table(*refused), FIRST_MS)] * 20})
    await log.close()


def plain(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """In any order; an unknown text is an empty one."""
    return sorted((tuple(None if value == "" else value for value in row.values()) for row in rows), key=str)


def test_a_sink_killed_at_any_moment_leaves_every_row_once(influxdb: Influx, tmp_path: Path) -> None:
    """Newest rows, history and rejected messages are those of a store that nobody killed."""
    rng = random.Random(SEED)
    duck, _ = open_store(tmp_path / "results.duckdb")
    asyncio.run(fill(tmp_path / "log", history(rng), duck))
    settings = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
    command = [sys.executable, str(CHILD), str(tmp_path / "log"), settings.url, settings.org, settings.bucket]
    kills = 0
    while True:
        child = subprocess.Popen(
            [*command, settings.token], stdout=subprocess.PIPE, text=True, cwd=CHILD.parents[2]
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        if kills < KILLS:
            try:
                child.wait(rng.uniform(0.02, ROWS / 200_000))
            except subprocess.TimeoutExpired:
                kills += 1
        else:
            child.wait(600)
        child.kill()
        if child.stdout.read() == "stored\n":
            break
    assert kills >= KILLS - 1, f"it was too fast to be killed: {kills}, seed {SEED}"
    _compare(InfluxResults(settings), duck)


def _compare(results: InfluxResults, duck: DuckStore) -> None:
    for history_too in (False, True):
        query = Query("interval", history=history_too)
        same = plain(results.rows(query)) == plain(duck.rows(query))
        assert same, f"seed {SEED}, history {history_too}"
    assert len(results.rows(Query("rejected"))) == 60
    results.close()
    duck.close()
