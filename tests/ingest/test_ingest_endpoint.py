"""A running endpoint, spoken to byte by byte."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
import structlog

from ingest.endpoint import Endpoint
from ingest.mqtt_encode import PINGRESP
from ingest.mqtt_events import V5, Code, Limits
from metering.errors import UsageError
from tests.ingest.ingest_builders import (
    NOW_MS,
    TOPIC,
    Client,
    FaultyLog,
    connect,
    packet,
    puback,
    publish,
    raw,
    reading,
    roster,
    serving,
    text,
    until,
)

DISCONNECT = packet(0xE0, b"")


def reason_of(end: bytes) -> int:
    """The reason code of the DISCONNECT at the end of what came."""
    assert end[0] == 0xE0, end
    return end[2]


async def hello(client: Client) -> None:
    """Reads an MQTT 5 CONNACK away."""
    head = await client.reader.readexactly(2)
    assert (await client.reader.readexactly(head[1]))[1] == 0


async def test_a_message_is_acknowledged_after_it_is_in_the_log() -> None:
    """While the append hangs no PUBACK comes, for a second; then it does."""
    async with serving() as (endpoint, log), raw(endpoint) as client:
        log.free.clear()
        await client.send(publish(payload=reading(1), packet_id=7))
        assert await client.silence(1)
        assert await log.readings() == []
        log.free.set()
        await client.expect(puback(7))
        assert len(await log.readings()) == 1


async def test_a_broken_log_stops_acknowledgement_says_why_and_recovers_by_itself() -> None:
    """One clear message with the cause; every message is taken once it works again, in order."""
    with structlog.testing.capture_logs() as said:
        async with serving() as (endpoint, log), raw(endpoint) as client:
            log.broken = True
            await client.send(publish(payload=reading(1), packet_id=1))
            await until(lambda: log.attempts == 1)
            await client.send(publish(payload=reading(2), packet_id=2), packet(0xC0, b""))
            assert await client.silence(1.2)
            assert "the disk is full" in endpoint.counters.append_error
            assert endpoint.counters.acknowledged == 0
            log.broken = False
            await client.expect(puback(1))
            assert endpoint.counters.append_error == ""
            found = await client.reader.readexactly(6)
            assert found in (PINGRESP + puback(2), puback(2) + PINGRESP)
            assert [row["value"][0] for row in await log.readings()] == [1, 2]
    errors = [entry for entry in said if entry["log_level"] == "error"]
    assert len(errors) == 1
    assert "the disk is full" in errors[0]["cause"]


async def test_a_connection_made_while_the_log_is_broken_is_served_afterwards() -> None:
    """It waits unread, and no time-out ends it meanwhile."""
    limits = Limits(connect_timeout_s=0.1)
    async with serving(limits=limits) as (endpoint, log), raw(endpoint) as first:
        log.broken = True
        await first.send(publish(payload=reading(1)))
        await until(lambda: log.attempts >= 1)
        async with raw(endpoint, connect(client_id="late")) as late:
            assert await late.silence(0.8)
            log.broken = False
            await late.expect(b"\x20\x02\x00\x00")


async def test_reading_stops_when_too_much_is_gathered() -> None:
    """A stuck log costs bounded memory, and nothing is lost."""
    limits = Limits(gathered_bytes=100_000)
    async with serving(limits=limits) as (endpoint, log), raw(endpoint) as client:
        log.free.clear()
        count = 40_000
        stream = b"".join(publish(payload=reading(i), packet_id=1 + i % 60_000) for i in range(count))
        sending = asyncio.create_task(client.send(stream))
        await until(lambda: endpoint.intake.held)
        await asyncio.sleep(0.2)
        assert endpoint.counters.messages < count / 2
        log.free.set()
        await client.expect(b"".join(puback(1 + i % 60_000) for i in range(count)))
        await sending
        assert endpoint.counters.accepted == count


async def test_messages_of_many_connections_share_one_append() -> None:
    """What comes while one append is under way is one batch."""
    async with serving() as (endpoint, log), raw(endpoint) as one:
        log.free.clear()
        await one.send(publish(payload=reading(0)))
        await until(lambda: log.attempts == 1)
        async with raw(endpoint, connect(client_id="b")) as other:
            await other.expect(b"\x20\x02\x00\x00")
            for i in range(1, 4):
                await one.send(publish(payload=reading(i), packet_id=i))
                await other.send(publish("meterflow/v1/paper/main", reading(i), i))
            await until(lambda: endpoint.counters.messages == 7)
            log.free.set()
            await other.expect(b"".join(map(puback, (1, 2, 3))))
            await one.expect(b"".join(map(puback, (1, 1, 2, 3))))
        assert (log.attempts, endpoint.counters.batches) == (2, 2)
        assert {plant: hop.accepted for plant, hop in endpoint.counters.by_plant.items()} == {
            "steel": 4,
            "paper": 3,
        }


async def test_qos_0_is_taken_without_an_answer() -> None:
    """The same way, only quietly."""
    async with serving() as (endpoint, log), raw(endpoint) as client:
        await client.send(publish(payload=reading(1), qos=0), publish(payload=reading(2), packet_id=3))
        await client.expect(puback(3))
        assert len(await log.readings()) == 2
        assert endpoint.counters.acknowledged == 1


async def test_a_bad_message_is_acknowledged_and_its_row_written() -> None:
    """Else it would be sent again for ever."""
    async with serving() as (endpoint, log), raw(endpoint) as client:
        await client.send(publish(payload=b"nonsense", packet_id=1), publish(payload=reading(), packet_id=2))
        await client.expect(puback(1) + puback(2))
        (row,) = await log.rejected()
        assert (row["reason"], row["topic"], row["payload"]) == ("not_json", TOPIC, "nonsense")
        counters = endpoint.counters
        assert (counters.received, counters.accepted, counters.rejected) == (2, 1, {"not_json": 1})


async def test_the_stamp_of_records_never_goes_backwards() -> None:
    """Even when the machine's clock does."""
    clock = iter([NOW_MS, NOW_MS - 60_000, NOW_MS + 1])
    async with serving(clock_ms=lambda: next(clock)) as (endpoint, log), raw(endpoint) as client:
        for i in (1, 2, 3):
            await client.send(publish(payload=reading(i), packet_id=i))
            await client.expect(puback(i))
        stamps = [record.stamp_ms for record in await log.read("readings", 0)]
        assert stamps == [NOW_MS, NOW_MS, NOW_MS + 1]
        assert [row["received"] for row in await log.readings()] == stamps


@pytest.mark.parametrize("version", [4, 5])
async def test_an_oversize_message_leaves_a_row_and_the_service_up(version: int) -> None:
    """10 MB: 3.1.1 gets its PUBACK and goes on; MQTT 5 is told then that it was too large.

    Without the PUBACK, clients that keep what is unacknowledged would send it again for ever.
    """
    async with serving() as (endpoint, log), raw(endpoint, connect(version)) as client:
        big = publish(payload=b"8" * 10_000_000, version=version)
        await (client.expect(b"\x20\x02\x00\x00") if version == 4 else hello(client))
        sending = asyncio.create_task(
            client.send(big, publish(payload=reading(), packet_id=2, version=version))
        )
        await client.expect(puback(1))
        if version == 4:
            await client.expect(puback(2))
            await sending
        else:
            assert reason_of(await client.rest()) == Code.PACKET_TOO_LARGE
            await asyncio.gather(sending, return_exceptions=True)
        (row,) = await log.rejected()
        assert (row["reason"], len(row["payload"])) == ("too_large", 1_000)
        assert "10000" in row["detail"]
        async with raw(endpoint, connect(client_id="other")) as other:
            await other.expect(b"\x20\x02\x00\x00")


@pytest.mark.parametrize("topic", ["meterflow/v1/+/main", "#", "a\0b", "", b"\xff"])
async def test_an_invalid_topic_leaves_a_row_before_the_connection_ends(topic: str | bytes) -> None:
    """What came before it is acknowledged."""
    async with serving() as (endpoint, log), raw(endpoint, connect(V5)) as client:
        await hello(client)
        await client.send(publish(payload=reading(), version=V5), publish(topic, b"x", 2, version=V5))
        await client.expect(puback(1))
        assert reason_of(await client.rest()) == Code.TOPIC_NAME_INVALID
        (row,) = await log.rejected()
        assert (row["reason"], row["payload"]) == ("topic_invalid", "x")
        assert len(await log.readings()) == 1


async def test_a_breach_ends_the_connection_after_its_messages_are_acknowledged() -> None:
    """QoS 2 behind good messages, with the log stuck."""
    async with serving() as (endpoint, log), raw(endpoint, connect(V5)) as client:
        await hello(client)
        log.free.clear()
        await client.send(publish(payload=reading(), version=V5), publish(qos=2, version=V5))
        assert await client.silence(0.3)
        log.free.set()
        await client.expect(puback(1))
        assert reason_of(await client.rest()) == Code.QOS_NOT_SUPPORTED
        assert endpoint.counters.violations == {"qos_not_supported": 1}


async def test_a_client_that_only_listens_any_more_gets_its_acknowledgements() -> None:
    """As `printf ... | nc` does: its side is closed before the answer."""
    async with serving() as (endpoint, log), raw(endpoint) as client:
        log.free.clear()
        await client.send(publish(payload=reading(), packet_id=9))
        client.writer.write_eof()
        await until(lambda: endpoint.counters.messages == 1)
        log.free.set()
        assert await client.rest() == puback(9)


async def test_messages_of_a_client_that_is_gone_are_kept() -> None:
    """They were sent, so they are taken; nobody is answered."""
    async with serving() as (endpoint, log):
        log.free.clear()
        async with raw(endpoint) as client:
            await client.send(publish(payload=reading(), qos=0), DISCONNECT)
            await until(lambda: endpoint.counters.messages == 1)
        log.free.set()
        await until(lambda: endpoint.counters.accepted == 1)


async def test_a_will_is_published_when_the_client_dies_and_not_when_it_leaves() -> None:
    """Through the same checks as any message."""
    will = text(TOPIC) + text(reading(5))
    async with serving() as (endpoint, log):
        for farewell in (b"", DISCONNECT):
            async with raw(endpoint, connect(flags=6, rest=will)) as client:
                await client.expect(b"\x20\x02\x00\x00")
                await client.send(farewell)
        await until(lambda: endpoint.counters.connections == 0)
        await until(lambda: endpoint.counters.batches == 1)
        assert [row["value"] for row in await log.readings()] == [(5, 0)]


async def test_a_silent_client_is_let_go_after_one_and_a_half_keep_alives() -> None:
    """And a pinging one is not."""
    async with serving() as (endpoint, _), raw(endpoint, connect(V5, keep_alive_s=1)) as silent:
        await hello(silent)
        async with raw(endpoint, connect(client_id="alive", keep_alive_s=1)) as alive:
            await alive.expect(b"\x20\x02\x00\x00")
            started = time.monotonic()
            rest = asyncio.create_task(silent.rest())
            while not rest.done():
                await alive.send(packet(0xC0, b""))
                await alive.expect(PINGRESP)
                await asyncio.sleep(0.3)
            assert reason_of(await rest) == Code.KEEP_ALIVE_TIMEOUT
            assert 1.4 < time.monotonic() - started < 3


async def test_who_never_connects_is_let_go() -> None:
    """A TCP connection alone gets little time, and few bytes."""
    limits = Limits(connect_timeout_s=0.2, connect_bytes=1_000)
    async with serving(limits=limits) as (endpoint, _):
        async with raw(endpoint, b"\x10") as slow:
            assert await slow.rest() == b""
        async with raw(endpoint, b"\x10\xff\xff\x7f") as greedy:
            assert await greedy.rest() == b""


async def test_a_second_client_of_the_same_id_takes_over() -> None:
    """The first is told so."""
    async with serving() as (endpoint, _), raw(endpoint, connect(V5, "meter")) as first:
        await hello(first)
        async with raw(endpoint, connect(V5, "meter")) as second:
            await hello(second)
            assert reason_of(await first.rest()) == Code.SESSION_TAKEN_OVER
            await second.send(packet(0xC0, b""))
            await second.expect(PINGRESP)


async def test_connections_beyond_the_limit_are_closed() -> None:
    """Those that are there stay."""
    async with serving(limits=Limits(connections=1)) as (endpoint, _), raw(endpoint) as first:
        async with raw(endpoint, b"") as second:
            with pytest.raises((ConnectionResetError, AssertionError)):
                assert await second.rest()
        await first.send(packet(0xC0, b""))
        await first.expect(PINGRESP)


async def test_subscriptions_are_refused() -> None:
    """With the failure code, and the connection goes on."""
    async with serving() as (endpoint, _), raw(endpoint) as client:
        await client.send(
            packet(0x82, b"\0\7" + text("meterflow/#") + b"\1"), packet(0xA2, b"\0\x08" + text("a"))
        )
        await client.expect(b"\x90\x03\0\7\x80" + b"\xb0\x02\0\x08")


async def test_a_stop_acknowledges_what_is_under_way_and_says_goodbye() -> None:
    """MQTT 5 learns that the server goes; nobody's will is published."""
    will = text(TOPIC) + text(reading(5))
    log = FaultyLog()
    endpoint = Endpoint(log, roster(), port=0, clock_ms=lambda: NOW_MS)
    await endpoint.start()
    async with raw(endpoint, connect(V5, flags=6, rest=b"\0" + will)) as client:
        await hello(client)
        log.free.clear()
        await client.send(publish(payload=reading(1), version=V5))
        await until(lambda: log.attempts == 1)
        stopping = asyncio.create_task(endpoint.stop())
        await asyncio.sleep(0.1)
        log.free.set()
        await client.expect(puback(1))
        assert reason_of(await client.rest()) == Code.SERVER_SHUTTING_DOWN
        await stopping
    assert len(await log.readings()) == 1
    with pytest.raises(OSError, match=r"."):
        await asyncio.open_connection("127.0.0.1", endpoint.port)


async def test_a_stop_with_a_stuck_log_takes_three_seconds_at_most() -> None:
    """And acknowledges nothing."""
    log = FaultyLog()
    endpoint = Endpoint(log, roster(), port=0, clock_ms=lambda: NOW_MS)
    await endpoint.start()
    async with raw(endpoint) as client:
        log.free.clear()
        await client.send(publish(payload=reading(1)))
        await until(lambda: log.attempts == 1)
        started = time.monotonic()
        await endpoint.stop()
        assert time.monotonic() - started < 3
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert await client.rest()
    assert endpoint.counters.acknowledged == 0


async def test_a_port_in_use_says_what_to_do() -> None:
    """As does an address that is not this machine's."""
    async with serving() as (endpoint, log):
        with pytest.raises(UsageError) as taken:
            await Endpoint(log, roster(), port=endpoint.port).start()
        assert "in use" in taken.value.what
        assert "--mqtt-port" in taken.value.hint
        with pytest.raises(UsageError):
            await Endpoint(log, roster(), host="203.0.113.7", port=0).start()


async def test_random_bytes_never_take_the_service_down() -> None:
    """Whole packets with a byte changed, cut, repeated: from a seed."""
    chance = random.Random(7)
    good = [
        connect(), connect(V5, "five"), publish(payload=reading()), publish(version=V5), packet(0xC0, b""),
        packet(0x82, b"\0\1\0" + text("a") + b"\1"), DISCONNECT,
        publish(payload=b"[" + reading() + b",1]", qos=0),
    ]  # fmt: skip
    async with serving() as (endpoint, log):
        for _ in range(150):
            stream = bytearray(connect() + b"".join(chance.choices(good, k=6)))
            for _ in range(chance.randrange(4)):
                stream[chance.randrange(len(stream))] = chance.randrange(256)
            async with raw(endpoint, bytes(stream)) as client:
                client.writer.write_eof()
                await client.rest()
        await until(lambda: endpoint.counters.connections == 0)
        await asyncio.wait_for(endpoint.intake.idle(), 5)
        counters = endpoint.counters
        assert counters.received == counters.accepted + sum(counters.rejected.values())
        assert counters.accepted == len(await log.readings())
        assert sum(counters.rejected.values()) == len(await log.rejected())
        async with raw(endpoint) as client:
            await client.send(publish(payload=reading(), packet_id=4))
            await client.expect(puback(4))
