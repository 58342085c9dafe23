"""Rows that InfluxDB refuses: on the log with reason and line, everything else is stored."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from bus.frames import decode_table
from bus.log import REJECTED
from bus.log_memory import MemoryLog
from metering.query import Query
from metering.tables import POSITION
from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_sink import InfluxSink
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row
from tests.sinks.influx_running import caught_up, put, row, running

LONG = bool(os.environ.get("METERFLOW_LONG"))


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


POISON = (
    "store_wrong_type",
    "store_not_writable",
    "store_too_old",
    "store_not_writable",
    "store_not_parsed",
)
"""Why the rows of ``poison`` are refused, by turns."""


def poison(minute: int, i: int) -> Row:
    """Of another type, beyond all bounds of time, older than the retention, not writable, too long a name."""
    kinds: list[Row] = [
        {"point": "taken"},
        {"end": 2**45, "start": 2**45 - 1},
        {"end": FIRST_MS - 10**11, "start": 0},
        {"plant": "p\\"},
        {"point": "x" * 70_000},
    ]
    return row(minute) | kinds[i % len(kinds)]


def test_one_poison_line_in_each_batch_and_all_others_are_stored(influxdb: Influx) -> None:
    """T12: exactly those are in ``rejected``, with reason and line; all others are stored with their values.

    One good row of each batch has a NaN, which line protocol does not know: it is stored as unknown.
    """
    age_s = int(time.time() - FIRST_MS / 1000) + 86_400 * 30
    bucket = influxdb.bucket(retention_s=age_s)
    settings = InfluxSettings(influxdb.url, influxdb.org, bucket, influxdb.token)
    batches, size = (1000, 500) if LONG else (15, 50)
    behind = batches * size + 30 * 1440  # a type is taken for the whole week that InfluxDB keeps together
    taken = "\n".join(
        f"interval,length=60,plant=p,point=taken unit=1i {(FIRST_MS + (behind + i) * MINUTE_MS) * 10**6}"
        for i in range(batches)
    )
    client = InfluxClient(settings)
    client.write(taken.encode())
    client.close()
    nan = float("nan")

    async def play() -> tuple[InfluxSink, list[Row]]:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            for i in range(batches):
                minutes = range(i * size, (i + 1) * size)
                good = [
                    row(m, m % 997, "good", measured_share=nan if m % size == 7 else 1.0) for m in minutes
                ]
                await put(log, [*good[: i % size], poison(behind + i, i), *good[i % size :]])
                await caught_up(sink)
        rows: list[Row] = []
        for record in await log.read(REJECTED, 0, records_max=10_000):
            rows += decode_table(record.value)[1].to_pylist()
        return sink, rows

    sink, rejected = asyncio.run(play())
    assert len(rejected) == batches
    assert [each["reason"] for each in rejected] == [POISON[i % len(POISON)] for i in range(batches)]
    assert all(each["payload"] and each["detail"] and each["received"] for each in rejected)
    assert rejected[0]["payload"].startswith(f"interval,length=60,plant=p,point=taken position={behind}i")
    assert (sink.refused, sink.unshown) == (batches, 0)
    results = InfluxResults(settings)
    stored = results.rows(Query("interval", equal={"point": ("good",)}))
    wanted = [(m % 997, None if m % size == 7 else 1.0) for m in range(batches * size)]
    wrong = [i for i, each in enumerate(stored) if (each["amount"], each["measured_share"]) != wanted[i]]
    assert (len(stored), wrong) == (batches * size, [])
    assert len(results.rows(Query("rejected"))) == batches
    results.close()


def test_refused_rows_of_rejected_do_not_go_round_for_ever(settings: InfluxSettings) -> None:
    """They stay where they are, on the log, and are counted."""
    client = InfluxClient(settings)
    client.write(f"rejected,log=rejected,partition=0,reason=not_json topic=1i {FIRST_MS * 10**6}".encode())
    client.close()

    async def play() -> InfluxSink:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [{"received": FIRST_MS, "reason": "not_json", "topic": "t"}], "rejected")
            await caught_up(sink)
        assert await log.end(REJECTED) == 1
        return sink

    sink = asyncio.run(play())
    assert (sink.refused, sink.unshown) == (1, 1)


def test_how_things_stand_is_refused_once_by_a_bucket_that_forgets(influxdb: Influx) -> None:
    """Retention and ``ledger``, which stands at 1970: one row of ``rejected`` a table, not one a batch."""
    settings = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(retention_s=86_400), influxdb.token)

    async def play() -> int:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            for i in range(5):
                await put(log, [{"plant": "p", "point": "q", "to": i, "booked": i, POSITION: i}], "ledger")
                await caught_up(sink)
        return await log.end(REJECTED)

    assert asyncio.run(play()) == 1
