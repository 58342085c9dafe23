"""Publishes readings of now at QoS 1, at a rate or as fast as acknowledged, for the benchmark publish."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from benchmarks.ingest_load import packet

PLANTS, POINTS = 4, 250
_WINDOW, _IDS, _PUBACK_BYTES = 4_000, 60_000, 4
_TICK_S = 0.01


class _Load:
    """One connection. ``sent`` and ``acknowledged`` count messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sent = self.acknowledged = 0
        self._reader, self._writer = reader, writer

    async def acknowledgements(self) -> None:
        """Counts PUBACKs for ever."""
        rest = 0
        while data := await self._reader.read(1 << 16):
            whole, rest = divmod(rest + len(data), _PUBACK_BYTES)
            self.acknowledged += whole

    def send(self, count: int) -> None:
        """So many more readings, of one point after the other, all of now."""
        now_ms = time.time_ns() // 1_000_000
        self._writer.write(b"".join(self._packet(n, now_ms) for n in range(self.sent, self.sent + count)))
        self.sent += count

    def _packet(self, number: int, now_ms: int) -> bytes:
        plant, point = number % PLANTS, number // PLANTS % POINTS
        payload = b'{"time":%d,"value":%d}' % (now_ms, 1000 + number // (PLANTS * POINTS))
        return packet(b"meterflow/v1/p%d/m%d" % (plant, point), payload, 1 + number % _IDS)


async def publish(port: int, messages: int, rate_hz: int) -> None:
    """Prints how long it took until the last acknowledgement. ``rate_hz`` 0: as fast as goes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    name = b"load-%d" % messages
    writer.write(
        bytes((0x10, 12 + len(name))) + b"\x00\x04MQTT\x04\x02\x00\x3c" + bytes((0, len(name))) + name
    )
    await reader.readexactly(4)
    load = _Load(reader, writer)
    counting = asyncio.create_task(load.acknowledgements())
    started_s = time.perf_counter()
    while load.acknowledged < messages:
        due = int((time.perf_counter() - started_s) * rate_hz) if rate_hz else messages
        room = load.acknowledged + _WINDOW - load.sent
        if (count := min(due, messages) - load.sent) > 0 and room > 0:
            load.send(min(count, room))
        await asyncio.sleep(_TICK_S if rate_hz else 0)
    print(json.dumps({"seconds": time.perf_counter() - started_s}))
    counting.cancel()
    writer.close()


if __name__ == "__main__":
    uvloop.run(publish(*map(int, sys.argv[1:4])))
