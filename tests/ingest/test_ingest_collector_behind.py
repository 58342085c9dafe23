"""A broker that has much to send again before it answers: the collector takes it, and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ingest import collector_codec, collector_link, collector_paho
from ingest.mqtt_events import V3
from tests.ingest.collector_builders import CLIENTS, Packets, broker, collecting
from tests.ingest.ingest_builders import NOW_MS, publish, reading, until

ANSWER_S, PAUSE_S, MESSAGES = 0.5, 0.1, 20
TOPIC = "meterflow/v1/steel/main"
CONNECT, SUBSCRIBE = 1, 8


@asynccontextmanager
async def slow_broker() -> AsyncIterator[tuple[int, list[int]]]:
    """Its port, and the connections made to it. Before each SUBACK it sends messages, one at a time."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        packets = Packets()
        while data := await reader.read(1 << 16):
            for first, body in packets.cut(data):
                if first >> 4 == CONNECT:
                    writer.write(b"\x20\x02\x01\x00")
                elif first >> 4 == SUBSCRIBE:
                    await send(writer)
                    writer.write(b"\x90\x03" + body[:2] + b"\x01")
        writer.close()

    async def send(writer: asyncio.StreamWriter) -> None:
        for number in range(MESSAGES):
            writer.write(publish(TOPIC, reading(number, NOW_MS - number), qos=0))
            await asyncio.sleep(PAUSE_S)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], connections


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_answer_behind_messages_is_waited_for(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the first connection: another one would have everything sent again."""
    for module in (collector_codec, collector_link, collector_paho):
        monkeypatch.setattr(module, "ANSWER_S", ANSWER_S)
    async with slow_broker() as (port, connections):
        settings = broker(port, client, protocol=V3, watch_drops=False)
        async with collecting(settings, listens=False) as (collector, _):
            await until(lambda: collector.listening, 20)
            assert collector.counters.messages == MESSAGES
            assert (len(connections), collector.status.retried) == (1, 0)
