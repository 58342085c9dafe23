"""What tests of the InfluxDB sink do alike: run one, put rows on its log, wait, look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bus.frames import encode_table
from bus.log import REJECTED, RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.query import Query
from metering.tables import POSITION
from sinks.influx_client import InfluxSettings
from sinks.influx_sink import InfluxSink
from sinks.store_influx import InfluxResults
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of


@asynccontextmanager
async def running(sink: InfluxSink) -> AsyncIterator[None]:
    task = asyncio.create_task(sink.run())
    try:
        yield
        await asyncio.wait_for(sink.stop(), 15)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sink.close()


async def put(log: MemoryLog, rows: list[Row], table: str = "interval", stamp_ms: int = FIRST_MS) -> None:
    topic = REJECTED if table == "rejected" else RESULTS
    await log.append({topic: [Entry(table, encode_table(*table_of(table, rows)), stamp_ms)]})


async def caught_up(sink: InfluxSink, patience_s: float = 30) -> None:
    await asyncio.wait_for(sink.caught_up(), patience_s)


async def until(true: Callable[[], bool], patience_s: float = 10) -> float:
    """Waits until it is true; how long that took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < patience_s
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


def row(minute: int, amount: float | None = 1, point: str = "main", **more: Any) -> Row:
    end = FIRST_MS + minute * MINUTE_MS
    known = {} if amount is None else {"amount": amount}
    story = {"state": "final", "revision": 0, "reported": end, POSITION: minute}
    return {"plant": "p", "point": point, "start": end - MINUTE_MS, "end": end} | known | story | more


def amounts(settings: InfluxSettings, *, history: bool = False) -> list[Any]:
    results = InfluxResults(settings)
    found = results.rows(Query("interval", history=history))
    results.close()
    return [None if each["amount"] is None else float(each["amount"]) for each in found]
