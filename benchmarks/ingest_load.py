"""Publishes at QoS 1 as fast as it is acknowledged, for the ingest benchmark.

Everything is encoded before the clock starts: what is measured is the other side.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from benchmarks.ingest_site import message

_PUBACK_BYTES = 4


def chunks(numbers: range, size: int) -> list[tuple[int, bytes]]:
    """PUBLISH packets of ``size`` messages each with their count; packet ids go round in two halves."""
    out = []
    for turn, start in enumerate(range(numbers.start, numbers.stop, numbers.step * size)):
        part = range(start, min(start + numbers.step * size, numbers.stop), numbers.step)
        first = 1 + turn % 2 * size
        out.append((len(part), b"".join(packet(*message(n), first + i) for i, n in enumerate(part))))
    return out


def packet(topic: bytes, payload: bytes, packet_id: int) -> bytes:
    """A PUBLISH of QoS 1 with fewer than 128 bytes behind its header."""
    body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + payload
    return bytes((0x32, len(body))) + body


async def publish(port: int, client: int, parts: list[tuple[int, bytes]]) -> None:
    """Keeps two chunks under way until all are acknowledged."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    name = b"load%d" % client
    writer.write(
        bytes((0x10, 12 + len(name))) + b"\x00\x04MQTT\x04\x02\x00\x3c" + bytes((0, len(name))) + name
    )
    assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
    writer.write(parts[0][1])
    for i, (count, _) in enumerate(parts):
        if i + 1 < len(parts):
            writer.write(parts[i + 1][1])
        await reader.readexactly(count * _PUBACK_BYTES)
    writer.close()


async def load(port: int, messages: int, connections: int, window: int) -> None:
    """Prints how long it took until the last acknowledgement."""
    parts = [chunks(range(i, messages, connections), window // 2) for i in range(connections)]
    started_s = time.perf_counter()
    await asyncio.gather(*(publish(port, i, part) for i, part in enumerate(parts)))
    print(json.dumps({"seconds": time.perf_counter() - started_s}))


if __name__ == "__main__":
    uvloop.run(load(*map(int, sys.argv[1:5])))
