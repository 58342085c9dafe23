"""The bucket is not taken on trust: emptied, restored, ahead of the log, or written to too late."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from bus.frames import encode_table
from bus.log import RESULTS, Entry, Log
from bus.log_memory import MemoryLog
from bus.log_sqlite import open_log
from metering.errors import NotOwner, UsageError
from metering.query import Query
from metering.tables import POSITION
from sinks import influx_sink, waits
from sinks.influx_client import InfluxSettings
from sinks.influx_sink import InfluxSink
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_front import Front
from tests.sinks.influx_gate import Gate
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of

CHILD = Path(__file__).with_name("child_influx.py")


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influx_sink, "CHECK_S", 0.1)
    monkeypatch.setattr(waits, "IDLE_S", 0.1)


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


def row(minute: int, amount: int = 1, revision: int = 0) -> Row:
    end = FIRST_MS + minute * MINUTE_MS
    story = {"state": "revised" if revision else "final", "revision": revision, "reported": end}
    key = {"plant": "p", "point": "main", "start": end - MINUTE_MS, "end": end}
    return key | story | {"amount": amount, POSITION: revision * 100_000 + minute}


async def put(log: Log, *rows: Row) -> None:
    frame = encode_table(*table_of("interval", list(rows)))
    await log.append({RESULTS: [Entry("interval", frame, FIRST_MS)]})


async def stored(log: Log, settings: InfluxSettings) -> str:
    """One run of a sink, until it has caught up; what it had to say at its end."""
    sink = InfluxSink(log, settings)
    task = asyncio.create_task(sink.run())
    await asyncio.wait_for(sink.caught_up(), 20)
    await sink.stop()
    await task
    await sink.close()
    return sink.reason


def amounts(settings: InfluxSettings) -> list[int]:
    results = InfluxResults(settings)
    found = [int(each["amount"]) for each in results.rows(Query("interval"))]
    results.close()
    return found


def empty(influxdb: Influx, settings: InfluxSettings) -> None:
    """Removes every point of the bucket."""
    every = {"start": "1970-01-01T00:00:00Z", "stop": "2200-01-01T00:00:00Z"}
    influxdb.call("POST", f"/api/v2/delete?org={settings.org}&bucket={settings.bucket}", every)


async def eventually(true: Callable[[], bool], patience_s: float = 15) -> None:
    begun = time.monotonic()
    while not await asyncio.to_thread(true):
        assert time.monotonic() - begun < patience_s
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("busy", [False, True])
def test_a_bucket_emptied_under_a_running_sink_is_filled_again(
    influxdb: Influx, settings: InfluxSettings, busy: bool
) -> None:
    """Also when the next batch comes before anybody looks."""

    async def play() -> None:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        task = asyncio.create_task(sink.run())
        for minute in range(20):
            await put(log, row(minute, minute))
            await sink.caught_up()
        await asyncio.to_thread(empty, influxdb, settings)
        if busy:
            await put(log, row(20, 20))
        await eventually(lambda: amounts(settings) == list(range(20 + busy)))
        await sink.stop()
        await task
        await sink.close()

    asyncio.run(play())


def test_a_bucket_emptied_while_no_sink_ran_is_filled_again(
    influxdb: Influx, settings: InfluxSettings
) -> None:
    """The log's position alone would have it that all is stored."""

    async def play() -> str:
        log = MemoryLog()
        for minute in range(5):
            await put(log, row(minute, minute))
        await stored(log, settings)
        empty(influxdb, settings)
        await put(log, row(5, 5))
        return await stored(log, settings)

    assert asyncio.run(play()) == ""
    assert amounts(settings) == list(range(6))


def test_a_bucket_restored_from_an_older_copy_is_filled_from_there_on(
    influxdb: Influx, settings: InfluxSettings
) -> None:
    """What it had then is not stored again."""
    elsewhere = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)

    async def play() -> tuple[int, int]:
        log = MemoryLog()
        for minute in range(5):
            await put(log, row(minute, minute))
        await stored(log, settings)
        for minute in range(5, 9):
            await put(log, row(minute, minute))
        await stored(log, elsewhere)
        sink = InfluxSink(log, settings)
        task = asyncio.create_task(sink.run())
        await eventually(lambda: sink.rows.total() == 4)
        await sink.stop()
        await task
        await sink.close()
        return sink.rows.total(), sink.position()

    assert asyncio.run(play()) == (4, 9)
    assert amounts(settings) == list(range(9))


def test_while_it_is_filled_again_the_sink_says_so(influxdb: Influx, settings: InfluxSettings) -> None:
    """With how much is missing still."""

    async def play() -> list[str]:
        log = MemoryLog()
        for minute in range(30):
            await put(log, row(minute))
        await stored(log, settings)
        empty(influxdb, settings)
        sink = InfluxSink(log, settings)
        await sink._load()
        said = [sink.reason]
        await sink.close()
        return [*said, await stored(log, settings)]

    first, last = asyncio.run(play())
    assert "stored again from the log, 30 records to go" in first
    assert last == ""


def test_results_that_the_log_has_let_go_of_are_missed_for_ever(
    influxdb: Influx, settings: InfluxSettings
) -> None:
    """The rest is stored; the remedy is named, also by the next run, until the bucket is another one."""

    async def play() -> list[str]:
        log = MemoryLog()
        for minute in range(8):
            await put(log, row(minute, minute))
        await log.trim(RESULTS, 5)
        said = [await stored(log, settings)]
        await put(log, row(8, 8))
        said.append(await stored(log, settings))
        other = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
        fresh = MemoryLog()
        await put(fresh, row(1))
        return [*said, await stored(fresh, other)]

    *said, other = asyncio.run(play())
    assert all("lacks 5 records" in each and "kafka.results" in each for each in said)
    assert other == ""
    assert amounts(settings) == [5, 6, 7, 8]


def test_a_bucket_that_is_ahead_of_the_log_is_refused(settings: InfluxSettings) -> None:
    """The two do not belong together: versions of rows are positions of another log."""

    async def play() -> None:
        log, other = MemoryLog(), MemoryLog()
        for minute in range(3):
            await put(log, row(minute))
        await stored(log, settings)
        await put(other, row(1))
        sink = InfluxSink(other, settings)
        with pytest.raises(UsageError, match="do not belong together"):
            await asyncio.wait_for(sink.run(), 10)
        await sink.close()

    asyncio.run(play())


def test_a_clean_restart_stores_nothing_again(settings: InfluxSettings) -> None:
    """Nor does a second one, and there is one point of a run, not three."""

    async def play() -> list[int]:
        log = MemoryLog()
        counts = []
        for minute in range(3):
            await put(log, row(minute))
            sink = InfluxSink(log, settings)
            task = asyncio.create_task(sink.run())
            await sink.caught_up()
            await sink.stop()
            await task
            counts += [sink.rows.total(), len(sink._runs._found())]
            await sink.close()
        return counts

    assert asyncio.run(play()) == [1, 1, 1, 1, 1, 1]


class Taken(MemoryLog):
    """A log on which another copy takes over when told."""

    taken = False

    async def confirm(self, consumer: str, partition: int = 0) -> None:
        await super().confirm(consumer, partition)
        if self.taken:
            raise NotOwner("gone")


def test_who_learns_that_it_was_given_up_has_its_last_batch_looked_after(
    settings: InfluxSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did since nobody knows; the owner stores it again."""
    monkeypatch.setattr(influx_sink, "CONFIRM_S", -1.0)

    async def play() -> None:
        theirs, ours = Taken(), MemoryLog()
        for log in (theirs, ours):
            await put(log, row(1))
        sink = InfluxSink(theirs, settings)
        task = asyncio.create_task(sink.run())
        await sink.caught_up()
        sink._runs.watching = False  # it does not see by itself that another run has begun
        await put(ours, row(2))
        owner = InfluxSink(ours, settings)
        owning = asyncio.create_task(owner.run())
        await owner.caught_up()
        stored_once = owner.rows.total()
        theirs.taken = True
        await put(theirs, row(2))
        with pytest.raises(NotOwner):
            await asyncio.wait_for(task, 30)
        await eventually(lambda: owner.rows.total() == stored_once + 1, 30)
        await owner.stop()
        await owning
        assert len(owner._runs._found()) == 1
        await asyncio.gather(sink.close(), owner.close())

    asyncio.run(play())


def test_a_request_of_a_frozen_process_that_lands_late_is_not_the_last_word(
    settings: InfluxSettings, tmp_path: Path
) -> None:
    """Frozen in the midst of it, and killed before it could say anything more."""
    rows = 5_000
    old, new = [row(i, 1) for i in range(rows)], [row(i, 2, revision=1) for i in range(rows)]

    async def prepare() -> None:
        log = await open_log(tmp_path)
        await put(log, *old)
        await log.close()

    async def go_on(gate: Gate, child: subprocess.Popen[bytes]) -> None:
        log = MemoryLog()
        await put(log, *old)
        await put(log, *new)
        sink = InfluxSink(log, settings)
        task = asyncio.create_task(sink.run())
        await asyncio.wait_for(sink.caught_up(), 30)
        assert amounts(settings) == [2] * rows
        gate.open()
        child.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(gate.answered.wait, 20)
        child.kill()
        await eventually(lambda: sink.rows.total() > 2 * rows)
        await eventually(lambda: amounts(settings) == [2] * rows)
        await sink.stop()
        await task
        await sink.close()

    asyncio.run(prepare())
    with Gate(settings.url, 300_000) as gate:
        command = [sys.executable, str(CHILD), str(tmp_path), gate.url, settings.org, settings.bucket]
        command += [settings.token, str(rows)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=CHILD.parents[2]) as child:
            try:
                assert gate.held.wait(30)
                child.send_signal(signal.SIGSTOP)
                asyncio.run(go_on(gate, child))
            finally:
                child.kill()
    results = InfluxResults(settings)
    assert len(results.rows(Query("interval", history=True))) == 2 * rows
    results.close()


class Held(Front):
    """Holds the first rows until told, whatever has become of whoever sent them, then passes them on."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.held, self.opened, self.landed = threading.Event(), threading.Event(), threading.Event()

    def write(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if body.startswith(b"meterflow_results") or self.held.is_set():
            super().write(handler, body)
            return
        self.held.set()
        self.opened.wait()
        self._passed_on(handler, body)
        self.landed.set()


def test_a_request_without_an_answer_that_lands_late_is_not_the_last_word(settings: InfluxSettings) -> None:
    """It was given up after its time-out and sent again, and a newer row came behind it."""

    async def play(front: Held) -> None:
        log = MemoryLog()
        await put(log, row(1, 1))
        sink = InfluxSink(log, replace(settings, url=front.url, timeout_s=0.5))
        task = asyncio.create_task(sink.run())
        await asyncio.wait_for(sink.caught_up(), 20)
        await put(log, row(1, 2, revision=1))
        await asyncio.wait_for(sink.caught_up(), 20)
        assert (amounts(settings), sink.rows.total()) == ([2], 2)
        front.opened.set()
        assert await asyncio.to_thread(front.landed.wait, 20)
        await eventually(lambda: sink.rows.total() > 2)
        await eventually(lambda: amounts(settings) == [2])
        await sink.stop()
        await task
        await sink.close()

    with Held(settings.url) as front:
        asyncio.run(play(front))
