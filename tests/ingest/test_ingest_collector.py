"""The collector behind a real Mosquitto, by both clients."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from bus.frames import decode_readings
from bus.log import READINGS
from ingest.mqtt_events import V3, V5
from tests.ingest.collector_builders import (
    CLIENTS,
    TOPIC,
    Relay,
    broker,
    collecting,
    known,
    publish_payloads,
    publish_readings,
    values,
)
from tests.ingest.ingest_builders import NOW_MS, connect, decision, publish, reading, sources, until
from tests.real.mosquitto import Mosquitto

Start = Callable[..., Mosquitto]


pytestmark = pytest.mark.parametrize("client", CLIENTS)


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_readings_come_through_the_broker(client: str, protocol: int, mosquitto_server: Start) -> None:
    """In both versions: each once, in order, each acknowledged once and in order of receipt."""
    server = mosquitto_server()
    async with Relay(server.port) as relay:
        settings = broker(relay.port, client, protocol=protocol)
        async with collecting(settings) as (collector, log):
            await publish_readings(server.port, range(1000))
            await until(lambda: collector.counters.acknowledged == 1000)
            assert await values(log) == list(range(1000))
            assert collector.status.waiting == 0
        assert relay.connections[0].acknowledged() == 1000
        assert relay.connections[0].acknowledged_in_order()


async def test_readings_through_the_broker_know_their_messages(client: str, mosquitto_server: Start) -> None:
    """The digest is of the very bytes that were published; no user: the broker does not tell who it was."""
    server = mosquitto_server()
    payloads = [b' {"time":%d , "value":"%d"}\n' % (NOW_MS - i, i) for i in range(20)]
    async with collecting(broker(server.port, client)) as (collector, log):
        await publish_payloads(server.port, payloads)
        await until(lambda: collector.counters.acknowledged == 20)
        found = sources([decode_readings(record.value) for record in await log.read(READINGS, 0)])
        assert found == [(TOPIC, None, sha256(payload).digest(), "1") for payload in payloads]


async def test_nothing_is_acknowledged_before_the_log_has_it(client: str, mosquitto_server: Start) -> None:
    """The trap of automatic acknowledgement: a full disk keeps every PUBACK back, and loses nothing."""
    server = mosquitto_server()
    async with Relay(server.port) as relay, collecting(broker(relay.port, client)) as (collector, log):
        log.broken = True
        await publish_readings(server.port, range(50))
        await until(lambda: collector.counters.append_errors)
        assert relay.connections[0].acknowledged() == 0
        assert not collector.listening
        log.broken = False
        await until(lambda: collector.counters.acknowledged == 50)
        assert await values(log) == list(range(50))
        assert collector.listening


async def test_a_slow_log_is_felt_by_the_broker(client: str, mosquitto_server: Start) -> None:
    """The broker keeps what is beyond the receive maximum; memory does not grow with what waits."""
    server = mosquitto_server()
    async with Relay(server.port) as relay:
        settings = broker(relay.port, client, receive_maximum=40)
        async with collecting(settings) as (collector, log):
            log.free.clear()
            await publish_readings(server.port, range(100))
            await until(lambda: collector.status.waiting == 40)
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await publish_readings(server.port, range(100, 5000))
            await asyncio.sleep(0.2)
            assert collector.status.waiting == relay.connections[0].waiting_peak == 40
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 16_384
            log.free.set()
            await until(lambda: collector.counters.acknowledged == 5000, 30)
            assert await values(log) == list(range(5000))


async def test_messages_of_qos_0_do_not_fill_the_memory(client: str, mosquitto_server: Start) -> None:
    """No receive maximum holds them back: the collector stops reading while the log is stuck."""
    server = mosquitto_server()
    payload = reading(1, seq=1, serial="s" * 150, pad="x" * 3000)
    async with collecting(broker(server.port, client)) as (collector, log):
        log.free.clear()
        await publish_payloads(server.port, [payload] * 20_000, qos=0)
        await until(lambda: collector.intake.held, 10)
        await asyncio.sleep(0.3)
        assert collector.counters.bytes < 16 << 20
        log.free.set()
        await until(lambda: not collector.intake.held)


async def test_a_busy_event_loop_is_not_overrun(client: str, mosquitto_server: Start) -> None:
    """What comes while nothing can be taken stays with the broker, not in a thread's memory."""
    server = mosquitto_server()
    payloads = [reading(1, seq=1, pad="x" * 3000)] * 20_000
    async with collecting(broker(server.port, client)) as (collector, _):
        publishing = threading.Thread(
            target=lambda: asyncio.run(publish_payloads(server.port, payloads, qos=0))
        )
        publishing.start()
        publishing.join()  # the event loop stands still meanwhile
        time.sleep(0.5)  # noqa: ASYNC251
        await asyncio.sleep(0)
        assert collector.counters.bytes < 4 << 20
        await until(lambda: collector.counters.messages > 1_000)


async def test_poison_is_rejected_and_acknowledged(client: str, mosquitto_server: Start) -> None:
    """A message that cannot be a reading must not hold its place in the window for ever."""
    server = mosquitto_server()
    poison = [b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"time":1,"value":NaN}', b"9" * 5000, b"null", b"\0"]
    settings = broker(server.port, client, receive_maximum=3, filters=("#",))
    async with collecting(settings) as (collector, log):
        await publish_payloads(server.port, poison * 3)
        for topic in (
            "meterflow/v1/steel/nobody",
            "meterflow/v1/none/main",
            "other",
            "meterflow/v1/paper/main/x",
        ):
            await publish_payloads(server.port, [reading(1)], topic=topic)
        await publish_readings(server.port, [7])
        await until(lambda: collector.counters.acknowledged == len(poison) * 3 + 5)
        assert await values(log) == [7]
        assert len(await log.rejected()) == len(poison) * 3 + 4


async def test_a_point_of_another_plant_is_refused_by_its_topic(client: str, mosquitto_server: Start) -> None:
    """Who a reading is from is said by the topic, which the broker's rights are for, not by the payload."""
    server = mosquitto_server()
    async with collecting(broker(server.port, client)) as (collector, log):
        forged = reading(1, plant="paper", point="rolls")
        await publish_payloads(server.port, [forged], topic="meterflow/v1/steel")
        await publish_payloads(server.port, [reading(1)], topic="meterflow/v1/steel/rolls")
        await until(lambda: collector.counters.acknowledged == 2)
        assert [row["reason"] for row in await log.rejected()] == [
            "unknown_point",
            "point_of_other_plant",
        ] or ({row["reason"] for row in await log.rejected()} == {"point_of_other_plant"})


async def test_a_retained_reading_comes_once_for_a_new_subscription(
    client: str, mosquitto_server: Start
) -> None:
    """It is an old reading again; MQTT 5 does not send it at every reconnect."""
    server = mosquitto_server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(connect() + publish(TOPIC, reading(5, NOW_MS), flags=1))
    await reader.readexactly(8)
    writer.close()
    async with Relay(server.port) as relay, collecting(broker(relay.port, client)) as (collector, log):
        await until(lambda: collector.counters.acknowledged == 1)
        relay.cut()
        await until(lambda: collector.counters.connected == 2 and collector.listening)
        await publish_readings(server.port, [6])
        await until(lambda: collector.counters.acknowledged == 2)
        assert await values(log) == [5, 6]


async def test_a_stop_acknowledges_what_the_log_has(client: str, mosquitto_server: Start) -> None:
    """Nothing comes twice after an orderly stop and start."""
    server = mosquitto_server()
    settings = broker(server.port, client)
    async with collecting(settings) as (_, log):
        await publish_readings(server.port, range(500))
    await publish_readings(server.port, range(500, 1000))
    async with collecting(settings, log) as (collector, _):
        await until(lambda: len(set(known(log))) == 1000 and not collector.status.waiting, 10)
        assert sorted(await values(log)) == list(range(1000))
        assert collector.status.sessions_lost == 0


async def test_an_error_inside_the_connection_is_seen_and_survived(
    client: str, mosquitto_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap of a network thread that dies silently: status tells, and the next connection works."""
    server = mosquitto_server()
    async with collecting(broker(server.port, client)) as (collector, log):
        generation: Any = collector._generation
        if client == "paho":
            monkeypatch.setattr(generation.link, "_learn", lambda _: 1 / 0)
        else:
            monkeypatch.setattr(generation.link._arrivals, "receive", lambda _: 1 / 0)
        await publish_readings(server.port, [1])
        await until(lambda: collector.status.retried, 20)
        await until(lambda: collector.counters.accepted == 1, 20)
        assert await values(log) == [1]
        await until(lambda: collector.counters.connected == 2)


@pytest.mark.parametrize("decisions", [True, False])
async def test_a_broker_is_asked_for_decisions_only_where_they_are_wanted(
    client: str, decisions: bool, mosquitto_server: Start
) -> None:
    """A message does not say who published it, so that somebody has to say that the broker knows."""
    server = mosquitto_server()
    async with collecting(broker(server.port, client, decisions=decisions)) as (collector, log):
        await publish_payloads(server.port, [decision()], topic=f"{TOPIC}/decision")
        await publish_readings(server.port, [7])
        await until(lambda: collector.counters.acknowledged == 2)
        assert [one.verdict for _, one in await log.decisions()] == ["reset"] * decisions
        assert [row["reason"] for row in await log.rejected()] == ["not_permitted"] * (not decisions)
        assert await values(log) == [7]
        assert collector.counters.received == collector.counters.accepted + (not decisions) == 2
