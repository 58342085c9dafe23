"""Collectors, a relay that writes down what they and a real broker say, and publishers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from ingest.broker_settings import Broker
from ingest.collector import Collector
from tests.ingest.ingest_builders import NOW_MS, FaultyLog, connect, publish, reading, roster, until

TOPIC = "meterflow/v1/steel/main"
CLIENTS = ["native", "paho"]


@dataclass
class Heard:
    """What was said on one connection, in order: packet ids down (PUBLISH of QoS 1) and up (PUBACK)."""

    said: list[tuple[str, bytes]] = field(default_factory=list)
    closed: bool = False

    @property
    def waiting_peak(self) -> int:
        """The most messages that were not acknowledged at a time."""
        waiting = peak = 0
        for kind, _ in self.said:
            waiting += 1 if kind == "publish" else -1
            peak = max(peak, waiting)
        return peak

    def acknowledged_in_order(self) -> bool:
        """Whether every PUBACK was for the oldest message of this connection that had none yet."""
        waiting: list[bytes] = []
        for kind, packet_id in self.said:
            if kind == "publish":
                waiting.append(packet_id)
            elif not waiting or waiting.pop(0) != packet_id:
                return False
        return True

    def acknowledged(self) -> int:
        """How many PUBACKs went up."""
        return sum(kind == "puback" for kind, _ in self.said)


class Packets:
    """A stream cut into packets, independently of the code under test."""

    def __init__(self) -> None:
        self._data = b""

    def cut(self, data: bytes) -> Iterable[tuple[int, bytes]]:
        """First byte and body of every whole packet."""
        self._data += data
        while len(self._data) >= 2:
            length = shift = 0
            at = 1
            while at < len(self._data):
                byte = self._data[at]
                length |= (byte & 127) << shift
                shift, at = shift + 7, at + 1
                if byte < 128:
                    break
            else:
                return
            if len(self._data) < at + length:
                return
            yield self._data[0], self._data[at : at + length]
            self._data = self._data[at + length :]


class Relay:
    """Between collector and broker: writes down, cuts the line on demand."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.connections: list[Heard] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Ends every connection at once, as a cable that is pulled does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard, task = Heard(), asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.append(writer)
        try:
            down, up = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self.connections.append(heard)
        self._writers.append(up)
        await asyncio.gather(self._pass(reader, up, heard), self._pass(down, writer, heard))
        heard.closed = True

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
        packets = Packets()
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                for first, body in packets.cut(data):
                    self._write_down(heard, first, body)
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()

    def _write_down(self, heard: Heard, first: int, body: bytes) -> None:
        if first >> 4 == 3 and first & 6 == 2:
            split = 2 + int.from_bytes(body[:2], "big")
            heard.said.append(("publish", body[split : split + 2]))
        elif first >> 4 == 4:
            heard.said.append(("puback", body[:2]))


def broker(port: int, client: str = "native", **settings: Any) -> Broker:
    """Settings that are quick to try again."""
    settings = {"retry_s": 0.05, "retry_s_max": 0.3, **settings}
    return Broker(f"mqtt://127.0.0.1:{port}", client=client, **settings)  # type: ignore[arg-type]


@asynccontextmanager
async def collecting(
    settings: Broker, log: FaultyLog | None = None, *, listens: bool = True
) -> AsyncIterator[tuple[Collector, FaultyLog]]:
    """A collector at NOW for ever, when it listens."""
    log = log or FaultyLog()
    collector = Collector(log, roster(), settings, clock_ms=lambda: NOW_MS)
    await collector.start()
    try:
        if listens:
            await until(lambda: collector.listening, 10)
        yield collector, log
    finally:
        await collector.stop()


async def publish_readings(port: int, numbers: Iterable[int], *, client_id: str = "meter") -> None:
    """A reading for each number, QoS 1, at most a hundred under way; returns when all are acknowledged."""
    payloads = [reading(number, NOW_MS - number) for number in numbers]
    await publish_payloads(port, payloads, client_id=client_id)


async def publish_payloads(
    port: int, payloads: list[bytes], *, topic: str | bytes = TOPIC, client_id: str = "meter", qos: int = 1
) -> None:
    """These payloads on one topic; returns when the broker has acknowledged them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(connect(client_id=client_id))
    await reader.readexactly(4)
    for start in range(0, len(payloads), 100):
        part = payloads[start : start + 100]
        writer.write(b"".join(publish(topic, p, i + 1, qos=qos) for i, p in enumerate(part)))
        if qos:
            await reader.readexactly(4 * len(part))
    writer.write(b"\xe0\x00")
    await writer.drain()
    writer.close()


async def values(log: FaultyLog) -> list[int]:
    """The numbers of the readings on the log, in order."""
    return [row["value"][0] for row in await log.readings()]


def known(log: FaultyLog) -> list[int]:
    """The same for a condition, which cannot wait; the memory log does not, either."""
    found = values(log)
    try:
        found.send(None)
    except StopIteration as done:
        return list(done.value)
    raise AssertionError("the memory log does not wait")
