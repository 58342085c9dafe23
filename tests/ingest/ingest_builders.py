"""Rosters, packets, logs and clients for the tests of ingest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bus.decision_frames import decode_decisions
from bus.frames import decode_readings, decode_table
from bus.log import READINGS, REJECTED, Entry
from bus.log_memory import MemoryLog
from ingest.decode import Decoded, Decoder, Delivery
from ingest.endpoint import Endpoint
from ingest.mqtt_events import V3, V5
from metering.decisions import Decision
from metering.errors import MeterflowError, Unavailable
from metering.policy import Policy
from metering.readings import Readings
from metering.roster import INTERVAL, REGISTER, Plant, Point, Roster
from metering.units import UNITS

NOW_MS = 1_795_334_400_000
"""2026-11-22T08:00:00Z."""
NOW = "2026-11-22T08:00:00Z"
TOPIC = "meterflow/v1/steel/main"


def roster(plants: Mapping[str, Mapping[str, tuple[str, str]]] | None = None) -> Roster:
    """Plants by id, points by id with what they read and their unit."""
    plants = plants or {
        "steel": {"main": (REGISTER, "kWh"), "intake": (REGISTER, "m3"), "books": (INTERVAL, "CNY")},
        "paper": {"main": (REGISTER, "kWh"), "rolls": (REGISTER, "t")},
    }
    points: list[Point] = []
    names: dict[str, dict[str, int]] = {}
    made: list[Plant] = []
    for number, (plant, described) in enumerate(plants.items()):
        first = len(points)
        for name, (reads, unit) in described.items():
            names.setdefault(plant, {})[name] = len(points)
            points.append(_point(len(points), number, name, reads, unit))
        indexes = tuple(range(first, len(points)))
        made.append(Plant(number, plant, plant, "Asia/Shanghai", "", (), indexes, ()))
    policy = Policy("test", "1", "", {}, {}, {})
    return Roster("1", policy, tuple(made), (), tuple(points), (), (), (), names)


def _point(index: int, plant: int, name: str, reads: str, unit: str) -> Point:
    return Point(
        index, plant, name, "electricity", reads, UNITS[unit],
        "", "", "supply", 1, 60_000, 60_000, 600_000, None, (),
    )  # fmt: skip


def decode(topic: str, payload: bytes | str | Any, plants: frozenset[str] | None = None) -> Decoded:
    """One message through the decoder, received at NOW."""
    if not isinstance(payload, bytes):
        payload = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    return Decoder(roster()).decode([Delivery([topic], [payload], NOW_MS, plants)])


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    """Accepted readings, in plain words."""
    return [
        {
            "plant": r.plant,
            "point": r.point.text(i),
            "time": int(r.time[i]),
            "start": int(r.start[i]),
            "value": (int(r.mantissa[i]), int(r.exponent[i])),
            "unit": r.unit.text(i),
            "serial": r.serial.text(i),
            "product": r.product.text(i),
            "revision": int(r.revision[i]),
            "seq": int(r.seq[i]),
            "quality": int(r.quality[i]),
            "flags": int(r.flags[i]),
            "received": int(r.received[i]),
        }
        for r in decoded.readings
        for i in range(len(r))
    ]


def sources(readings: Sequence[Readings]) -> list[tuple[str | None, str | None, bytes, str]]:
    """Of each reading the topic, the user and the digest of its message, and by what site it was taken."""
    found = []
    for one in readings:
        evidence = one.evidence
        assert evidence is not None
        for i, message in enumerate(evidence.message.tolist()):
            digest = bytes(evidence.digest[message])
            found.append((evidence.topic.text(i), evidence.user.text(i), digest, evidence.site))
    return found


def decision(verdict: str = "reset", by: str = "li.wei", **more: object) -> bytes:
    """A decision's payload, on an hour before NOW."""
    said = {"from": NOW_MS - 3_600_000, "to": NOW_MS, "verdict": verdict, "by": by, **more}
    return json.dumps(said).encode()


def reasons(decoded: Decoded) -> list[str]:
    """Why readings were refused, in order of receipt."""
    return [str(rejected.row["reason"]) for rejected in decoded.rejected]


# -- packets ---------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A remaining length."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def text(value: str | bytes) -> bytes:
    """A text with its length."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    """Any packet."""
    return bytes((first,)) + varint(len(body)) + body


def connect(
    version: int = V3, client_id: str = "c", *, flags: int = 2, keep_alive_s: int = 60,
    properties: bytes = b"", rest: bytes = b"",
) -> bytes:  # fmt: skip
    """A CONNECT; ``rest``: will, user name, password as ``flags`` announce them."""
    head = text("MQTT") + bytes((version, flags)) + keep_alive_s.to_bytes(2, "big")
    middle = varint(len(properties)) + properties if version == V5 else b""
    return packet(0x10, head + middle + text(client_id) + rest)


def publish(
    topic: str | bytes = TOPIC, payload: bytes = b"{}", packet_id: int = 1, *, version: int = V3,
    qos: int = 1, flags: int = 0, properties: bytes = b"",
) -> bytes:  # fmt: skip
    """A PUBLISH."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    middle = varint(len(properties)) + properties if version == V5 else b""
    return packet(0x30 | qos << 1 | flags, text(topic) + number + middle + payload)


def puback(packet_id: int) -> bytes:
    """A PUBACK of success, the same in both versions."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def reading(value: object = 1, time: object = NOW, **more: object) -> bytes:
    """A reading's payload."""
    return json.dumps({"time": time, "value": value, **more}).encode()


# -- a running endpoint ----------------------------------------------------------------------------


class FaultyLog(MemoryLog):
    """The memory log with storage that can be broken or stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.attempts = 0
        self.free = asyncio.Event()
        self.free.set()

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        self.attempts += 1
        await self.free.wait()
        if self.broken:
            raise Unavailable("the disk is full", where="log", hint="Make room.")
        await super().append(topics, partition)

    async def readings(self) -> list[dict[str, Any]]:
        """Every reading accepted, in order."""
        records = [r for r in await self.read(READINGS, 0, records_max=10_000) if not _decides(r.value)]
        return [row for record in records for row in rows(Decoded([decode_readings(record.value)], [], 0))]

    async def decisions(self) -> list[tuple[str, Decision]]:
        """Every decision accepted with its plant, in order."""
        records = [r for r in await self.read(READINGS, 0, records_max=10_000) if _decides(r.value)]
        return [(plant, one) for r in records for plant, each in [decode_decisions(r.value)] for one in each]

    async def rejected(self) -> list[dict[str, Any]]:
        """Every row of ``rejected``, in order."""
        records = await self.read(REJECTED, 0, records_max=10_000)
        return [row for record in records for row in decode_table(record.value)[1].to_pylist()]


def _decides(frame: bytes) -> bool:
    try:
        decode_decisions(frame)
    except MeterflowError:
        return False
    return True


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Endpoint, FaultyLog]]:
    """An endpoint on a free port, over a log that can be broken, at NOW for ever."""
    log = FaultyLog()
    settings = {"clock_ms": lambda: NOW_MS, **settings}
    endpoint = Endpoint(log, roster(), port=0, **settings)
    await endpoint.start()
    try:
        yield endpoint, log
    finally:
        await endpoint.stop()


@dataclass
class Client:
    """A raw socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *packets: bytes) -> None:
        """All at once."""
        self.writer.write(b"".join(packets))
        await self.writer.drain()

    async def expect(self, wanted: bytes) -> None:
        """These bytes come next."""
        found = await asyncio.wait_for(self.reader.readexactly(len(wanted)), 5)
        assert found == wanted, found.hex()

    async def silence(self, seconds: float) -> bool:
        """Whether nothing comes for a time."""
        try:
            return not await asyncio.wait_for(self.reader.read(1), seconds)
        except TimeoutError:
            return True

    async def rest(self) -> bytes:
        """Everything until the endpoint closes."""
        return await asyncio.wait_for(self.reader.read(), 5)


@asynccontextmanager
async def raw(endpoint: Endpoint, hello: bytes | None = None) -> AsyncIterator[Client]:
    """A raw connection, MQTT 3.1.1 and accepted unless another ``hello`` is said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    client = Client(reader, writer)
    try:
        await client.send(connect() if hello is None else hello)
        if hello is None:
            await client.expect(b"\x20\x02\x00\x00")
        yield client
    finally:
        writer.close()


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 counters are plain integers, nothing tells of them
            await asyncio.sleep(0.005)
