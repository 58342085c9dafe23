"""From the log into InfluxDB: nothing lost, nothing twice, what it refuses on the log."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bus.frames import decode_table, encode_table
from bus.log import REJECTED, RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.errors import MeterflowError, NotOwner, Unavailable
from metering.query import Query
from metering.tables import POSITION
from sinks import influx_sink, influx_writer, waits
from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_sink import InfluxSink
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx, InfluxServer
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of
from tests.sinks.influx_moody import Moody, Says

LONG = bool(os.environ.get("METERFLOW_LONG"))


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


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


def test_a_field_that_becomes_unknown_does_not_stay_as_it_was(settings: InfluxSettings) -> None:
    """The trap: the field sets of one point merge. An amount in doubt now must not show the old one."""

    async def play() -> None:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [row(1, 5), row(2, 6, state="open"), row(3, 7)])
            await caught_up(sink)
            await put(log, [row(1, None, state="revised", revision=1, position=9), row(2, None, position=9)])
            await caught_up(sink)

    asyncio.run(play())
    assert amounts(settings) == [None, None, 7]
    assert amounts(settings, history=True) == [5, None, None, 7]


def test_an_old_value_that_comes_again_is_not_the_last_word(settings: InfluxSettings) -> None:
    """The trap: a retry of an old value overwrites a newer one. A replay from the start changes nothing."""

    async def play() -> None:
        log = MemoryLog()
        for revision in range(4):
            await put(log, [row(1, revision, revision=revision, position=revision)])
        for _ in range(2):
            await log.forget("sink")
            sink = InfluxSink(log, settings)
            async with running(sink):
                await caught_up(sink)
        await log.append({RESULTS: (await _entries(log))[:1]})
        sink = InfluxSink(log, settings)
        async with running(sink):
            await caught_up(sink)

    asyncio.run(play())
    assert amounts(settings) == [3]
    assert amounts(settings, history=True) == [0, 1, 2, 3]


async def _entries(log: MemoryLog) -> list[Entry]:
    return [Entry(r.key, r.value, r.stamp_ms) for r in await log.read(RESULTS, 0)]


def test_a_sink_goes_on_where_the_log_says(settings: InfluxSettings) -> None:
    """The position is committed behind every batch; a second run reads nothing again."""

    async def play() -> list[int]:
        log, counts = MemoryLog(), []
        for minute in range(3):
            await put(log, [row(minute)])
            await put(log, [{"received": minute, "reason": "not_json"}], "rejected")
            sink = InfluxSink(log, settings)
            async with running(sink):
                await caught_up(sink)
            counts.append(sink.rows.total())
        assert (await log.load("sink")).done == 3
        return counts

    assert asyncio.run(play()) == [2, 2, 2]


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
                good = [row(m, m % 997, "good", measured_share=nan if m % size == 7 else 1.0) for m in minutes]
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


@pytest.mark.parametrize("trouble", ["token", "bucket"])
def test_a_revoked_token_or_a_deleted_bucket_raises_within_10_s_and_loses_nothing(
    influxdb: Influx, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """T13: stalled, with the setting and the remedy; when it is put right it goes on by itself."""
    monkeypatch.setattr(influx_writer, "PERSON_S", 0.2)
    monkeypatch.setattr(influx_sink, "CHECK_S", 0.5)
    monkeypatch.setattr(waits, "IDLE_S", 0.5)
    bucket = influxdb.bucket()
    token = influxdb.token_for(bucket, "read", "write") if trouble == "token" else influxdb.token
    settings = InfluxSettings(influxdb.url, influxdb.org, bucket, token)

    def break_it() -> Callable[[], object]:
        if trouble == "bucket":
            found = influxdb.call("GET", f"/api/v2/buckets?org={influxdb.org}&name={bucket}")["buckets"][0]
            influxdb.call("DELETE", f"/api/v2/buckets/{found['id']}")
            return lambda: influxdb.bucket(bucket)
        every = influxdb.call("GET", "/api/v2/authorizations")["authorizations"]
        path = next(f"/api/v2/authorizations/{each['id']}" for each in every if each["token"] == token)
        influxdb.call("PATCH", path, {"status": "inactive"})
        return lambda: influxdb.call("PATCH", path, {"status": "active"})

    async def play() -> float:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [row(1)])
            await caught_up(sink)
            mend = break_it()
            for minute in range(2, 20):
                await put(log, [row(minute)])
            alarm_s = await until(lambda: sink.person, 10)
            assert sink.stalled
            assert ("token_file" if trouble == "token" else "influxdb.bucket") in sink.reason
            assert token not in sink.reason
            mend()
            await caught_up(sink)
            await until(lambda: len(amounts(settings)) == 19)
            await until(lambda: not sink.reason)
        return alarm_s

    assert asyncio.run(play()) <= 10


def test_an_outage_costs_no_memory_and_is_caught_up(
    influx_server: Callable[..., InfluxServer],
) -> None:
    """T11: away while results go on; none lost, no more than 64 MiB, caught up at once."""
    server = influx_server()
    settings = InfluxSettings(server.url, server.org, server.bucket, server.token)
    frames, size = (600, 2000) if LONG else (60, 1000)

    async def play() -> tuple[int, float]:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [row(-1, position=0)])
            await caught_up(sink)
            server.kill()
            for i in range(frames):
                await put(log, [row(i * size + k, k % 7) for k in range(size)])
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await until(lambda: sink.failures >= 3)
            assert (sink.stalled, sink.person) == (True, False)
            await until(lambda: sink.lag > frames // 2)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            await asyncio.to_thread(server.start)
            begun = time.monotonic()
            await caught_up(sink, 120)
        return grown, time.monotonic() - begun

    grown_kib, caught_up_s = asyncio.run(play())
    assert grown_kib <= 64 << 10
    assert caught_up_s <= 120
    stored = len(amounts(settings))
    assert stored == frames * size + 1


def test_whatever_a_server_answers_in_between_nothing_is_lost_or_twice() -> None:
    """T11: 429 and 503, 413, resets, by turns, in the midst of batches."""
    moods = [Says(0), Says(503, b"{}"), Says(413), Says(429, b"{}", {"Retry-After": "0"}), Says(500)] * 3

    async def play(server: Moody) -> InfluxSink:
        log = MemoryLog()
        sink = InfluxSink(log, InfluxSettings(server.url, "o", "b", "t", batch_lines=50))
        async with running(sink):
            for i in range(20):
                await put(log, [row(i * 20 + k) for k in range(20)])
            await caught_up(sink, 60)
        return sink

    with Moody(*moods) as server:
        sink = asyncio.run(play(server))
        assert len(server.stored) == len(set(server.stored)) == 400
    assert (sink.stalled, sink.rows.total(), sink.refused) == (False, 400, 0)


class Lost(MemoryLog):
    """A log whose partition is another's from the second commit on, or that is away for a while."""

    error: MeterflowError
    commits = 0
    happens = False

    async def commit(self, consumer: str, done: int, topics: Any, partition: int = 0) -> None:
        self.commits += 1
        if self.commits == 2:
            if self.happens:
                await super().commit(consumer, done, topics, partition)
            raise self.error
        await super().commit(consumer, done, topics, partition)


def test_a_copy_that_lost_its_partition_ends(settings: InfluxSettings) -> None:
    """Somebody else stores it now: this one must not write any more."""

    async def play() -> None:
        log = Lost()
        log.error = NotOwner("gone")
        sink = InfluxSink(log, settings)
        await put(log, [row(1)])
        task = asyncio.create_task(sink.run())
        await caught_up(sink)
        await put(log, [row(2)])
        with pytest.raises(NotOwner):
            await asyncio.wait_for(task, 10)
        await sink.close()

    asyncio.run(play())


@pytest.mark.parametrize("happens", [True, False])
def test_a_commit_of_unknown_outcome_is_looked_up(settings: InfluxSettings, happens: bool) -> None:
    """Refused rows are on the log once, whether the commit had happened or not."""

    async def play() -> int:
        log = Lost()
        log.error, log.happens = Unavailable("no answer"), happens
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [row(1)])
            await caught_up(sink)
            await put(log, [row(2), row(3, plant="x\\")])
            await caught_up(sink)
        return await log.end(REJECTED)

    assert asyncio.run(play()) == 1


def test_a_record_that_cannot_be_read_stops_the_sink(settings: InfluxSettings) -> None:
    """It is not skipped."""

    async def play() -> None:
        log = MemoryLog()
        await log.append({RESULTS: [Entry("interval", b"torn", 0)]})
        sink = InfluxSink(log, settings)
        with pytest.raises(MeterflowError, match="cannot be read"):
            await asyncio.wait_for(sink.run(), 10)
        await sink.close()

    asyncio.run(play())
