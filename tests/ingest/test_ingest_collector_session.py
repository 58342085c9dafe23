"""The collector's session with the broker: kept, lost, changed, taken over (T14)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ingest.mqtt_events import V3, V5
from metering.errors import Unavailable
from tests.ingest.collector_builders import (
    CLIENTS,
    Relay,
    broker,
    collecting,
    known,
    publish_payloads,
    publish_readings,
    values,
)
from tests.ingest.ingest_builders import FaultyLog, reading, until
from tests.real.mosquitto import Mosquitto

Start = Callable[..., Mosquitto]
pytestmark = pytest.mark.parametrize("client", CLIENTS)


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_what_was_published_while_the_collector_was_away_comes(
    client: str, protocol: int, mosquitto_server: Start
) -> None:
    """The trap of a clean start: the session queues, and is taken up by the same client id."""
    server = mosquitto_server()
    settings = broker(server.port, client, protocol=protocol)
    async with collecting(settings) as (_, log):
        pass
    await publish_readings(server.port, range(300))
    async with collecting(settings, log) as (collector, _):
        await until(lambda: collector.counters.acknowledged == 300)
        assert await values(log) == list(range(300))
        assert collector.status.sessions_lost == 0


async def test_a_broker_restarted_with_its_sessions_loses_nothing(
    client: str, mosquitto_server: Start
) -> None:
    """No alarm, and what it had queued comes."""
    server = mosquitto_server(persistent=True)
    settings = broker(server.port, client)
    async with collecting(settings) as (_, log):
        await publish_readings(server.port, range(100))
    await publish_readings(server.port, range(100, 200))
    server.stop()
    async with collecting(settings, log, listens=False) as (collector, _):
        await until(lambda: collector.status.retried)
        await asyncio.to_thread(server.start)
        await until(lambda: collector.listening)
        await until(lambda: set(known(log)) == set(range(200)))
        assert collector.status.sessions_lost == 0


async def test_a_broker_that_forgets_the_session_is_an_alarm_every_time(
    client: str, mosquitto_server: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    """Seen each time it is restarted without persistence, counted, logged, told; then readings go on."""
    server = mosquitto_server()
    async with collecting(broker(server.port, client)) as (collector, log):
        for lost in (1, 2, 3):
            await asyncio.to_thread(server.stop)
            await until(lambda: not collector.listening)
            await asyncio.to_thread(server.start)
            await until(lambda: collector.listening)
            assert collector.status.sessions_lost == lost
            assert collector.status.session_lost_ms
            await publish_readings(server.port, [lost])
            await until(lambda n=lost: collector.counters.accepted == n)  # type: ignore[misc]
        assert await values(log) == [1, 2, 3]
    assert capfd.readouterr().out.count("has lost the collector's session") == 3


async def test_a_session_lost_while_the_collector_was_not_running_is_seen(
    client: str, mosquitto_server: Start
) -> None:
    """The memory of it is kept with the log; a first start and another broker are no loss."""
    server, other = mosquitto_server(), mosquitto_server()
    async with collecting(broker(server.port, client)) as (first, log):
        assert first.status.sessions_lost == 0
    server.stop()
    server.start()
    async with collecting(broker(server.port, client), log) as (second, _):
        assert second.status.sessions_lost == 1
    async with collecting(broker(other.port, client), log) as (third, _):
        assert third.status.sessions_lost == 0


async def test_an_acknowledgement_of_an_older_connection_is_never_sent(
    client: str, mosquitto_server: Start
) -> None:
    """The trap of packet ids: the line is cut with messages on their way to the log, again and again."""
    server = mosquitto_server()
    async with Relay(server.port) as relay:
        settings = broker(relay.port, client, receive_maximum=50)
        async with collecting(settings) as (collector, log):
            for turn in range(5):
                log.free.clear()
                await publish_readings(server.port, range(turn * 100, turn * 100 + 100))
                await until(lambda: collector.status.waiting)
                relay.cut()
                await until(lambda: not collector.counters.connections)
                log.free.set()
                await until(lambda t=turn: collector.counters.accepted >= 100 * t + 100)  # type: ignore[misc]
                await until(lambda: collector.listening and not collector.status.waiting)
            assert collector.status.discarded >= 5
            assert set(await values(log)) == set(range(500))
        assert len(relay.connections) == 6
        assert all(heard.acknowledged_in_order() for heard in relay.connections)


async def test_an_unreachable_log_gathers_one_window_only(client: str, mosquitto_server: Start) -> None:
    """A line that is cut again and again meanwhile does not pile up what is delivered again."""
    server = mosquitto_server()
    async with Relay(server.port) as relay:
        settings = broker(relay.port, client, receive_maximum=50)
        async with collecting(settings) as (collector, log):
            log.broken = True
            await publish_readings(server.port, range(100))
            await until(lambda: collector.counters.append_errors)
            for _ in range(5):
                relay.cut()
                await asyncio.sleep(0.1)
            assert collector.counters.messages <= 50
            log.broken = False
            await until(lambda: collector.listening and set(range(100)) == set(known(log)))


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_what_the_broker_dropped_while_the_collector_was_away_is_an_alarm(
    client: str, protocol: int, mosquitto_server: Start
) -> None:
    """The trap of a queue that is full: Mosquitto drops without a word, but it counts."""
    server = mosquitto_server(settings=["max_queued_messages 10", "sys_interval 1"])
    settings = broker(server.port, client, protocol=protocol)
    async with collecting(settings) as (first, log):
        await until(lambda: first._drops.count == 0)
        assert first.status.dropped_by_broker == 0
    await publish_readings(server.port, range(200))
    await asyncio.sleep(1.2)
    async with collecting(settings, log) as (collector, _):
        await until(lambda: collector.status.dropped_by_broker)
        await until(lambda: collector.counters.acknowledged)
        assert collector.status.dropped_by_broker + len(await values(log)) == 200
        assert collector.counters.rejected.total() == 0


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_filters_of_older_settings_are_ended(
    client: str, protocol: int, mosquitto_server: Start
) -> None:
    """The trap of a persistent session: it keeps the old filters unless somebody ends them."""
    server = mosquitto_server()
    old, new = ("meterflow/v1/steel/#", "other/#"), ("meterflow/v1/paper/#",)
    async with collecting(broker(server.port, client, filters=old, protocol=protocol)) as (_, log):
        pass
    async with collecting(broker(server.port, client, filters=new, protocol=protocol), log) as (collector, _):
        await publish_readings(server.port, [1])
        await publish_payloads(server.port, [b"x"], topic="other/thing")
        await publish_payloads(server.port, [reading(2)], topic="meterflow/v1/paper/main")
        await until(lambda: collector.counters.acknowledged)
        await asyncio.sleep(0.1)
        assert (collector.counters.accepted, collector.counters.messages) == (1, 1)
        assert await values(log) == [2]


async def test_a_kill_between_two_steps_of_a_filter_change_leaves_no_filter_behind(
    client: str, mosquitto_server: Start
) -> None:
    """What the broker may have is remembered before it is asked for."""
    server = mosquitto_server()
    first, second, third = ("a/#",), ("b/#",), ("meterflow/v1/#",)
    async with collecting(broker(server.port, client, filters=first)) as (_, log):
        pass

    class Forgetful(FaultyLog):
        saves = 0

        async def save(self, *arguments: object, **more: object) -> None:
            if self.saves:  # the process is killed before the second save
                raise Unavailable("killed")
            self.saves += 1
            await super().save(*arguments, **more)  # type: ignore[arg-type]

    killed = Forgetful()
    killed._snapshots = log._snapshots
    async with collecting(broker(server.port, client, filters=second), killed, listens=False) as (dying, _):
        await until(lambda: dying.status.retried)
    async with collecting(broker(server.port, client, filters=third), log) as (collector, _):
        for topic in ("a/1", "b/1"):
            await publish_payloads(server.port, [b"x"], topic=topic)
        await publish_readings(server.port, [1])
        await until(lambda: collector.counters.acknowledged)
        await asyncio.sleep(0.1)
        assert collector.counters.messages == 1


async def test_a_broker_that_falls_silent_is_noticed(client: str, mosquitto_server: Start) -> None:
    """Its machine is gone without a word: only the keep-alive tells, and the collector says so."""
    server = mosquitto_server()
    async with collecting(broker(server.port, client, keep_alive_s=1)) as (collector, log):
        await asyncio.sleep(2.5)
        assert (collector.listening, collector.status.retried) == (True, 0), "pings keep a quiet line open"
        server.pause()
        await until(lambda: not collector.listening, 10)
        server.resume()
        await until(lambda: collector.listening, 15)
        await publish_readings(server.port, [1])
        await until(lambda: collector.counters.accepted)
        assert await values(log) == [1]


async def test_two_collectors_with_one_client_id_are_told_of_each_other(
    client: str, mosquitto_server: Start
) -> None:
    """The broker throws one out for the other: they say so, and do not fight at full speed."""
    server = mosquitto_server()
    settings = broker(server.port, client, retry_s_max=1.0)
    async with collecting(settings) as (first, _):
        async with collecting(settings) as (second, _):
            await until(lambda: max(c.status.retried for c in (first, second)) >= 4, 10)
            told = first.status.error + second.status.error
            assert "client_id" in told
            before = first.counters.connected + second.counters.connected
            await asyncio.sleep(1)
            assert first.counters.connected + second.counters.connected - before < 8
        await until(lambda: first.listening, 10)


async def test_several_collectors_share_the_plants(client: str, mosquitto_server: Start) -> None:
    """Each with a client id of its own and filters that do not overlap: each reading comes once."""
    server = mosquitto_server()
    steel = broker(server.port, client, client_id="c1", filters=("meterflow/v1/steel/#",))
    paper = broker(server.port, client, client_id="c2", filters=("meterflow/v1/paper/#",))
    async with collecting(steel) as (one, log), collecting(paper, log) as (two, _):
        await publish_readings(server.port, range(50))
        await publish_payloads(server.port, [reading(i) for i in range(50)], topic="meterflow/v1/paper/main")
        await until(lambda: one.counters.acknowledged == two.counters.acknowledged == 50)
        assert len(await values(log)) == 100
