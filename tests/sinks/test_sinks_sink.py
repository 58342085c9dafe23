"""From the log into the store, with nothing skipped and nothing twice."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bus.frames import encode_table
from bus.log import REJECTED, RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.query import Query
from sinks.sink import Sink
from sinks.store_duckdb import DuckStore

Builder = Callable[..., Any]


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[None]:
    task = asyncio.create_task(sink.run())
    try:
        yield
        await asyncio.wait_for(sink.stop(), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def entry(table: str, rows: pa.Table) -> Entry:
    return Entry(table, encode_table(table, rows), 0)


async def caught_up(sink: Sink) -> None:
    await asyncio.wait_for(sink.caught_up(), 10)


def test_results_and_rejected_messages_are_stored(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Both topics, in one store, with both positions."""

    async def play() -> Sink:
        log, rejected = MemoryLog(), {"received": 1, "topic": "t", "reason": "no JSON"}
        sink = Sink(log, store)
        async with running(sink):
            for position in range(5):
                row = interval(f"p{position}", position=position)
                await log.append({RESULTS: [entry(*frame("interval", [row]))]})
            await log.append({REJECTED: [entry(*frame("rejected", [rejected]))] * 2})
            await caught_up(sink)
        return sink

    sink = asyncio.run(play())
    assert len(store.rows(Query("interval"))) == 5
    assert len(store.rows(Query("rejected"))) == 2, "two messages alike are two"
    assert (store.position(), store.rejected_position()) == (5, 2)
    assert sink.rows == {"interval": 5, "rejected": 2}
    assert sink.flushes >= 1
    assert (sink.lag, sink.stalled) == (0, False)


def test_a_sink_goes_on_where_the_store_is(store: DuckStore, interval: Builder, frame: Builder) -> None:
    """A second run reads nothing again."""

    async def play() -> Sink:
        log, sink = MemoryLog(), None
        for n in range(3):
            await log.append({RESULTS: [entry(*frame("interval", [interval(f"p{n}")]))]})
            sink = Sink(log, store)
            async with running(sink):
                await caught_up(sink)
        assert sink is not None
        return sink

    sink = asyncio.run(play())
    assert sink.rows == {"interval": 1}
    assert len(store.rows(Query("interval"))) == 3


class Refusing(DuckStore):
    """A store with no room for its first writes."""

    refusals = 3
    refused: threading.Event

    def write(
        self, frames: Sequence[tuple[str, pa.Table]], position: int, rejected: int | None = None
    ) -> None:
        if self.refusals:
            self.refusals -= 1
            self.refused.set()
            raise Unavailable("no room", hint="make some")
        super().write(frames, position, rejected)


def refusing(folder: Path) -> Refusing:
    store = Refusing(folder / "results.duckdb")
    store.refused = threading.Event()
    return store


def test_what_the_store_refuses_is_tried_again_and_said_once(
    tmp_path: Path, interval: Builder, frame: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk delays results and loses none; the log has one line for it, and one for its end."""
    store = refusing(tmp_path)

    async def play() -> Sink:
        log = MemoryLog()
        await log.append({RESULTS: [entry(*frame("interval", [interval()]))]})
        sink = Sink(log, store)
        async with running(sink):
            await caught_up(sink)
        return sink

    with caplog.at_level(logging.WARNING):
        sink = asyncio.run(play())
    assert sink.failures == 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "no room" in caplog.text
    assert len(store.rows(Query("interval"))) == 1
    store.close()


def test_a_stop_ends_a_sink_whose_store_refuses(tmp_path: Path, interval: Builder, frame: Builder) -> None:
    """The rest waits in the log; a full disk does not keep the service from stopping."""
    store = refusing(tmp_path)
    store.refusals = 1_000_000

    async def play() -> None:
        log = MemoryLog()
        await log.append({RESULTS: [entry(*frame("interval", [interval()]))]})
        sink = Sink(log, store)
        async with running(sink):
            await asyncio.to_thread(store.refused.wait, 10)

    asyncio.run(play())
    assert store.position() == 0
    store.close()


def test_a_record_that_cannot_be_read_stops_the_sink(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """It is not skipped: what came before is stored, what comes behind waits."""

    async def play() -> None:
        log = MemoryLog()
        sink = Sink(log, store)
        await log.append({RESULTS: [entry(*frame("interval", [interval()]))]})
        await log.append({RESULTS: [Entry("interval", b"torn", 0)]})
        with pytest.raises(MeterflowError, match="cannot be read"):
            await asyncio.wait_for(sink.run(), 10)

    asyncio.run(play())
    assert store.position() <= 1


def test_stored_results_leave_the_log_and_rejected_messages_stay(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Results can be computed again; a rejected message is kept for its resubmission."""

    async def play() -> tuple[int, int]:
        log = MemoryLog()
        sink = Sink(log, store, kept_records=10)
        async with running(sink):
            await log.append({RESULTS: [entry(*frame("interval", [interval()]))] * 50})
            await log.append({REJECTED: [entry(*frame("rejected", [{"received": 1}]))] * 50})
            await caught_up(sink)
        return (await log.read(RESULTS, 0))[0].offset, (await log.read(REJECTED, 0))[0].offset

    assert asyncio.run(play()) == (40, 0)


def test_a_store_that_lacks_what_the_log_has_let_go_is_incomplete(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """Then the processors must compute everything again, and the sink stores what there is."""

    async def play() -> list[bool]:
        log = MemoryLog()
        sink = Sink(log, store)
        said = [await sink.incomplete()]
        for n in range(3):
            await log.append({RESULTS: [entry(*frame("interval", [interval(f"p{n}")]))]})
        said.append(await sink.incomplete())
        await log.trim(RESULTS, 2)
        said.append(await sink.incomplete())
        async with running(sink):
            await caught_up(sink)
        return [*said, await sink.incomplete()]

    assert asyncio.run(play()) == [False, False, True, False]
    assert [row["point"] for row in store.rows(Query("interval"))] == ["p2"]


def test_a_log_that_has_let_go_of_everything_is_caught_up_with(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """When old results were thrown away on purpose, nobody waits for them."""

    async def play() -> None:
        log = MemoryLog()
        await log.append({RESULTS: [entry(*frame("interval", [interval()]))] * 3})
        await log.trim(RESULTS, 3)
        sink = Sink(log, store)
        async with running(sink):
            await caught_up(sink)

    asyncio.run(play())
    assert store.position() == 3


def test_a_store_ahead_of_its_log_is_refused(store: DuckStore) -> None:
    """A log that was replaced would bring new results at old offsets, and they would be skipped."""
    store.write([], 5)

    async def play() -> None:
        with pytest.raises(UsageError, match="ahead of the log"):
            await Sink(MemoryLog(), store).run()

    asyncio.run(play())
