"""T3: the sink killed again and again while it stores: nothing missing, nothing twice, all values equal."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
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
CHILD = Path(__file__).with_name("child_influx_serve.py")
AGAIN, SAID, APART = 0.02 if LONG else 0.05, 4, 30_000
"""How many keys are said again, how often, and how far apart on the log: InfluxDB deletes slowly."""
RECORD_ROWS, RECORDS_TOGETHER = 500, 20
SERIES = 20
TOGETHER = 2 if LONG else SERIES
"""Series that are compared at once: rows as dictionaries take a kilobyte each."""
OFTEN_BYTES = 128 << 10
REJECTED_RECORDS = 20
PAUSE_S = 0.2 if LONG else 0.05


def history(rng: random.Random) -> list[list[Row]]:
    """Rows by record: most said once, some keys several times, far apart on the log."""
    rows = list[Row]()
    for k in range(round(ROWS / (1 + SAID * AGAIN))):
        end = FIRST_MS + k // SERIES * MINUTE_MS
        key = {"plant": "p", "point": f"q{k % SERIES}", "end": end, "start": end - MINUTE_MS}
        times = [k + rng.randrange(APART) for _ in range(SAID if rng.random() < AGAIN else 0)]
        rows += life("interval", key, sorted({k, *times}), rng)
    rows.sort(key=lambda row: max(row["position"], -row["position"] - 1))
    return [rows[i : i + RECORD_ROWS] for i in range(0, len(rows), RECORD_ROWS)]


async def fill(folder: Path, records: Sequence[Sequence[Row]], store: DuckStore) -> None:
    """The log, and the embedded store as the oracle."""
    log = await open_log(folder)
    for first in range(0, len(records), RECORDS_TOGETHER):
        frames = [table_of("interval", list(rows)) for rows in records[first : first + RECORDS_TOGETHER]]
        await log.append({RESULTS: [Entry("interval", encode_table(*frame), FIRST_MS) for frame in frames]})
        store.write(frames, 0)
    refused = table_of("rejected", [{"received": FIRST_MS, "reason": "not_json", "topic": "t"}] * 3)
    await log.append({REJECTED: [Entry("", encode_table(*refused), FIRST_MS)] * REJECTED_RECORDS})
    await log.close()


def plain(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """In any order; an unknown text is an empty one."""
    return sorted((tuple(None if value == "" else value for value in row.values()) for row in rows), key=str)


def test_a_sink_killed_at_any_moment_leaves_every_row_once(influxdb: Influx, tmp_path: Path) -> None:
    """Newest rows, history and rejected messages are those of a store that nobody killed.

    The kills are spread over the whole log, however quick the machine is.
    """
    rng = random.Random(SEED)
    duck, _ = open_store(tmp_path / "results.duckdb", memory_limit="1GB")
    records = history(rng)
    asyncio.run(fill(tmp_path / "log", records, duck))
    settings = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
    where = [str(tmp_path / "log"), settings.url, settings.org, settings.bucket, settings.token]
    positions = [
        _killed_behind(where, len(records) * kill // (KILLS + 1), rng.uniform(0, PAUSE_S))
        for kill in range(KILLS)
    ]
    assert max(positions) < len(records), f"it was too fast to be killed: {positions}, seed {SEED}"
    _finished(where, len(records))
    print(f"{sum(map(len, records))} rows, {KILLS} kills, at {positions} of {len(records)}")  # noqa: T201
    _compare(InfluxResults(settings), duck)


def _killed_behind(where: list[str], position: int, after_s: float) -> int:
    """Runs a sink, kills it so long after it has come to a position; the last it has told of."""
    with _started(where) as child:
        assert child.stdout is not None
        told = -1
        while told < position:
            told = json.loads(child.stdout.readline())["position"]
        time.sleep(after_s)
        child.kill()
        said = [line for line in child.stdout.read().split("\n") if line.endswith("}")]
    return json.loads(said[-1])["position"] if said else told


def _finished(where: list[str], end: int) -> None:
    """Runs a sink until nothing is left on the log, and ends it."""
    with _started(where) as child:
        assert child.stdout is not None
        told = {"position": 0, "rejected": 0}
        while told["position"] < end or told["rejected"] < REJECTED_RECORDS:
            told = json.loads(child.stdout.readline())
        child.terminate()
        child.stdout.read()
    assert child.returncode == 0


def _started(where: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), *where, str(OFTEN_BYTES)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHILD.parents[2])


def _compare(results: InfluxResults, duck: DuckStore) -> None:
    for history_too in (False, True):
        for first in range(0, SERIES, TOGETHER):
            series = tuple(f"q{k}" for k in range(first, first + TOGETHER))
            query = Query("interval", equal={"point": series}, history=history_too)
            ours, wanted = (Counter(plain(store.rows(query))) for store in (results, duck))
            wrong, missing = list((ours - wanted).items()), list((wanted - ours).items())
            again = f"seed {SEED}, asked again, right: {Counter(plain(results.rows(query))) == wanted}"
            assert wrong + missing == [], f"{again}; not {missing}, but {wrong}"
        query = Query("interval", history=history_too)
        assert _lines(results, query) == _lines(duck, query)
    assert len(results.rows(Query("rejected"))) == 3 * REJECTED_RECORDS
    results.close()
    duck.close()


def _lines(store: InfluxResults | DuckStore, query: Query) -> int:
    return sum(part.count(b"\n") for part in store.export(query, "csv"))
