"""The endpoint over the log that `meterflow up` uses: one SQLite file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from bus.frames import decode_readings
from bus.log import READINGS
from bus.log_sqlite import open_log
from bus.log_sqlite_file import FILE_NAME
from ingest.decode import Decoded
from ingest.endpoint import Endpoint
from tests.ingest.ingest_builders import NOW_MS, puback, publish, raw, reading, roster, rows, until


async def test_what_was_acknowledged_is_there_when_the_log_is_opened_again(tmp_path: Path) -> None:
    """Through frames and file, value by value."""
    log = await open_log(tmp_path)
    endpoint = Endpoint(log, roster(), port=0, clock_ms=lambda: NOW_MS)
    await endpoint.start()
    async with raw(endpoint) as client:
        await client.send(
            *(publish(payload=reading(f"{i}.50", unit="MWh"), packet_id=i) for i in range(1, 300))
        )
        await client.expect(b"".join(puback(i) for i in range(1, 300)))
    await endpoint.stop()
    await log.close()
    again = await open_log(tmp_path)
    frames = [decode_readings(record.value) for record in await again.read(READINGS, 0)]
    await again.close()
    found = rows(Decoded(frames, [], 0))
    assert [(row["value"], row["unit"]) for row in found] == [
        ((i * 100 + 50, -2), "MWh") for i in range(1, 300)
    ]


async def test_a_locked_store_stops_acknowledgement_until_it_is_free(tmp_path: Path) -> None:
    """Another program holds the file for writing; nothing is lost, nothing acknowledged meanwhile."""
    log = await open_log(tmp_path)
    endpoint = Endpoint(log, roster(), port=0, clock_ms=lambda: NOW_MS)
    await endpoint.start()
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    async with raw(endpoint) as client:
        await client.send(publish(payload=reading(1), packet_id=1))
        await client.expect(puback(1))
        other.execute("BEGIN IMMEDIATE")
        await client.send(publish(payload=reading(2), packet_id=2))
        assert await client.silence(1)
        await until(lambda: endpoint.counters.append_error, 10)
        other.execute("ROLLBACK")
        await client.expect(puback(2))
    other.close()
    await endpoint.stop()
    await log.close()
    assert endpoint.counters.append_error == ""
    assert endpoint.counters.accepted == 2
