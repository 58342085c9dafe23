"""From the log into InfluxDB: nothing lost, nothing twice, what it refuses on the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bus.log import REJECTED, RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.errors import MeterflowError, NotOwner, Unavailable
from sinks import influx_sink, influx_writer, waits
from sinks.influx_client import InfluxSettings
from sinks.influx_sink import InfluxSink
from tests.real.influxd import Influx
from tests.sinks.influx_moody import Moody, Says
from tests.sinks.influx_running import amounts, caught_up, put, row, running, until


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


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
