"""Open rollup rows wait before they are stored: none is lost, none is the last word over a newer one."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pyarrow as pa
import pytest

from bus.log import REJECTED, RESULTS
from bus.log_memory import MemoryLog
from metering.query import Query
from metering.tables import POSITION
from sinks import influx_sink, influx_waiting
from sinks.influx_client import InfluxSettings
from sinks.influx_sink import InfluxSink
from sinks.influx_store import InfluxStore
from sinks.influx_waiting import LIMIT_S, ROWS_MAX, Frame, WaitingRoom
from sinks.store_duckdb import open_store
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, Row, lives, table_of
from tests.sinks.influx_moody import Moody, Says
from tests.sinks.influx_running import amounts, caught_up, put, row, running, until

HOUR_MS = 3_600_000
FOREVER_S = 3600.0


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may wait does so for as long as a test takes."""
    monkeypatch.setattr(influx_waiting, "COLLECT_S", FOREVER_S)


def rollup(amount: float, position: int, state: str = "open", scope: str = "plant:p", hour: int = 1) -> Row:
    end = FIRST_MS + hour * HOUR_MS
    key = {"scope": scope, "measures": "electricity", "span": "hour", "start": end - HOUR_MS, "end": end}
    return key | {"amount": amount, "state": state, "revision": 0, POSITION: position}


def stored(settings: InfluxSettings, *, history: bool = False) -> list[tuple[str, float]]:
    results = InfluxResults(settings)
    found = results.rows(Query("rollup", history=history))
    results.close()
    return [(each["state"], float(each["amount"])) for each in found]


def test_whatever_waits_and_crashes_the_bucket_has_what_the_embedded_store_has(
    influxdb: Influx, tmp_path: Path
) -> None:
    """Newest rows and history; a crash goes back to what the room says is stored."""
    for seed in range(4):
        rng = random.Random(seed)
        rows = lives("rollup", rng)
        settings = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
        store, room, now_s = InfluxStore(settings), WaitingRoom(), 0.0
        while room.read < len(rows) or not room.empty:
            done = min(room.read + rng.randrange(9), len(rows))
            some = [table_of("rollup", [each]) for each in rows[room.read : done]]
            now_s += rng.choice((0.1, 0.5, 2.0))
            assert store.store(room.sift(some, done, now_s)) == []
            if rng.random() < 0.1:
                store.close()
                store = InfluxStore(settings)
                room.restart(room.stored)
                continue
            assert store.store(room.next(now_s, whole=rng.random() < 0.1)) == []
        store.close()
        duck, _ = open_store(tmp_path / f"{seed}.duckdb")
        duck.write([table_of("rollup", rows)], 0)
        results = InfluxResults(settings)
        for query in (Query("rollup"), Query("rollup", history=True)):
            assert told(results.rows(query)) == told(duck.rows(query)), f"seed {seed}"
        results.close()
        duck.close()


def told(rows: list[Row]) -> list[list[tuple[str, object]]]:
    return sorted(([(n, None if v == "" else v) for n, v in each.items()] for each in rows), key=str)


def test_nothing_waits_longer_than_the_limit_under_constant_load() -> None:
    """Every batch says every key again, and the room hands each out in time, in pieces."""
    room, step_s, keys = WaitingRoom(), 0.15, 3_000
    since: dict[str, float] = {}
    largest, behind = 0, 0
    for number in range(100):
        now_s = number * step_s
        rows = [rollup(number, number, scope=f"plant:{k}") for k in range(keys)]
        for each in rows:
            since.setdefault(each["scope"], now_s)
        assert room.sift([table_of("rollup", rows)], number + 1, now_s) == []
        left = scopes(room.next(now_s))
        assert all(now_s - since.pop(scope) <= LIMIT_S for scope in left)
        assert all(now_s - first_s <= LIMIT_S for first_s in since.values())
        largest, behind = max(largest, len(left)), max(behind, room.read - room.stored)
    assert 0 < largest <= keys // 3
    assert behind * step_s <= 2 * LIMIT_S


def scopes(frames: list[Frame]) -> list[str]:
    return [scope for _, rows in frames for scope in rows["scope"].to_pylist()]


def test_steps_that_take_long_do_not_prolong_the_wait() -> None:
    """What is behind the limit leaves whole."""
    room = WaitingRoom()
    rows = [rollup(1, 1, scope=f"plant:{k}") for k in range(5_000)]
    room.sift([table_of("rollup", rows)], 1, 0.0)
    assert len(scopes(room.next(1.5))) < 5_000
    room.next(LIMIT_S)
    assert (room.empty, room.stored) == (True, 1)


def test_a_full_room_is_emptied_at_once() -> None:
    """Memory is bounded: by rows, of which a key may have many."""
    room = WaitingRoom()
    table, rows = table_of("rollup", [rollup(1, 1, scope=f"plant:{k}") for k in range(1_000)])
    for number in range(ROWS_MAX // 1_000 + 1):
        assert room.next(0.0) == []
        room.sift([(table, rows)], number + 1, 0.0)
    assert len(scopes(room.next(0.0))) == 1_000
    assert room.empty


def test_what_is_more_than_open_does_not_wait() -> None:
    """Other tables, reported rows, and rows that say that a key has none any more."""
    room = WaitingRoom()
    states = [rollup(1, 1, "final", hour=1), rollup(2, 2, "revised", hour=2), rollup(3, -4, hour=3)]
    frames = [
        table_of("rollup", [*states, rollup(4, 4, hour=4)]),
        table_of("interval", [row(1, state="open")]),
    ]
    urgent = room.sift(frames, 1, 0.0)
    assert sorted((table, len(rows)) for table, rows in urgent) == [("interval", 1), ("rollup", 3)]
    assert room.stored == 0


def test_a_reported_row_calls_along_what_waits_for_its_end() -> None:
    """Collected or about to leave, the older first; others go on waiting."""
    room = WaitingRoom()
    many = [rollup(1, 1, scope=f"plant:{k}", hour=9) for k in range(2_000)]
    room.sift([table_of("rollup", [*many, rollup(1, 1, hour=10), rollup(1, 1, hour=11)])], 1, 0.0)
    assert len(scopes(room.next(1.0))) == 1_000
    room.sift([table_of("rollup", [rollup(2, 2, hour=10)])], 2, 1.1)
    urgent = room.sift([table_of("rollup", [rollup(3, 3, "final", hour=10)])], 3, 1.2)
    assert pa.concat_tables([rows for _, rows in urgent])[POSITION].to_pylist() == [1, 2, 3]
    assert len(scopes(room.next(1.3, whole=True))) == 1_001
    assert room.stored == 3


@pytest.mark.usefixtures("patient")
def test_a_kill_while_rows_wait_loses_none(settings: InfluxSettings) -> None:
    """The position does not pass them; the next run stores them."""

    async def play() -> tuple[int, list[tuple[str, float]]]:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        await put(log, [rollup(1, 1)], "rollup")
        await put(log, [row(2)])
        task = asyncio.create_task(sink.run())
        await until(lambda: sink.rows["interval"] == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sink.close()
        said = sink.position(), stored(settings)
        async with running(InfluxSink(log, settings)):
            await asyncio.sleep(0.5)
        assert (await log.load("sink")).done == 2
        return said

    assert asyncio.run(play()) == (0, [])
    assert stored(settings) == [("open", 1)]
    assert amounts(settings) == [1]


@pytest.mark.usefixtures("patient")
def test_a_stop_in_order_stores_what_waits(settings: InfluxSettings) -> None:
    """And the position is behind everything."""

    async def play() -> tuple[int, int]:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [rollup(1, 1)], "rollup")
            await put(log, [row(2)])
            await until(lambda: sink.rows["interval"] == 1)
            waiting = sink.position()
        return waiting, sink.position()

    assert asyncio.run(play()) == (0, 2)
    assert stored(settings) == [("open", 1)]


@pytest.mark.usefixtures("patient")
def test_a_stop_does_not_wait_for_an_influxdb_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits comes again from the log."""
    monkeypatch.setattr(influx_sink, "STOP_S", 0.2)

    def judge(lines: list[bytes]) -> Says | None:
        return Says(503, b"{}") if any(line.startswith(b"rollup") for line in lines) else None

    async def play(server: Moody) -> tuple[float, int]:
        log = MemoryLog()
        sink = InfluxSink(log, InfluxSettings(server.url, "o", "b", "t"))
        async with running(sink):
            await put(log, [rollup(1, 1)], "rollup")
            await put(log, [row(2)])
            await until(lambda: sink.rows["interval"] == 1)
            begun_s = time.monotonic()
            await sink.stop()
            return time.monotonic() - begun_s, sink.position()

    with Moody(judge=judge) as server:
        stop_s, position = asyncio.run(play(server))
    assert stop_s < 2
    assert position == 0


def test_an_open_row_does_not_overwrite_a_newer_reported_one(settings: InfluxSettings) -> None:
    """The reported row does not wait, and what waited of its key is not stored behind it."""

    async def play() -> list[tuple[str, float]]:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [rollup(1, 1)], "rollup")
            await put(log, [row(2)])
            await until(lambda: sink.rows["interval"] == 1)
            await put(log, [rollup(2, 3, "final")], "rollup")
            await until(lambda: sink.rows["rollup"] > 0)
            said = stored(settings)
            await put(log, [rollup(1, 2)], "rollup")  # older than what stands there
            await caught_up(sink)
        return said

    assert asyncio.run(play()) == [("final", 2)]
    assert stored(settings) == [("final", 2)]
    assert stored(settings, history=True) == [("final", 2)]


@pytest.mark.usefixtures("patient")
def test_a_bucket_that_is_emptied_while_rows_wait_is_filled_again(
    influxdb: Influx, settings: InfluxSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the position has not moved yet: what was stored behind it is read again."""
    monkeypatch.setattr(influx_sink, "CHECK_S", 0.2)

    async def play() -> int:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [rollup(1, 1)], "rollup")
            await put(log, [row(2)])
            await until(lambda: sink.rows["interval"] == 1)
            span = {"start": "1970-01-01T00:00:00Z", "stop": "2200-01-01T00:00:00Z"}
            influxdb.call("POST", f"/api/v2/delete?org={settings.org}&bucket={settings.bucket}", span)
            assert amounts(settings) == []
            await put(log, [row(3)])
            await until(lambda: amounts(settings) == [1, 1])
            return sink.position()

    assert asyncio.run(play()) == 0
    assert stored(settings) == [("open", 1)]


@pytest.mark.usefixtures("patient")
def test_a_refused_row_is_said_once_with_all_that_waits(settings: InfluxSettings) -> None:
    """The position moves together with it, so that a kill does not say it again."""

    async def play() -> tuple[int, int]:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [rollup(1, 1)], "rollup")
            await put(log, [row(2), row(3, plant="x\\")])
            await until(lambda: sink.position() == 2)
            return sink.position(), await log.end(REJECTED)

    assert asyncio.run(play()) == (2, 1)
    assert stored(settings) == [("open", 1)]


def test_a_quiet_log_leaves_nothing_waiting(settings: InfluxSettings) -> None:
    """Without any further record, and the sink says that it has caught up."""

    async def play() -> int:
        log = MemoryLog()
        sink = InfluxSink(log, settings)
        async with running(sink):
            await put(log, [rollup(1, 1)], "rollup")
            await caught_up(sink, LIMIT_S + 2)
            assert await log.end(RESULTS) == sink.position()
            assert stored(settings) == [("open", 1)]
            await until(lambda: sink.lag == 0, 1)
            return sink.lag

    assert asyncio.run(play()) == 0
