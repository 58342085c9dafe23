"""Ticks and books of an ingest."""

from __future__ import annotations

import asyncio

from bus.frames import decode_table, encode_readings
from bus.log import READINGS, RESULTS, Entry
from bus.log_memory import MemoryLog
from bus.partition import partition_of
from ingest.counters import Counters
from ingest.decode import Decoder, Delivery
from ingest.intake import Intake, Parcel
from ingest.ticker import Ticker
from tests.ingest.ingest_builders import NOW_MS, FaultyLog, decode, reading, roster


class Listener:
    """What a ticker sees of an endpoint or a collector."""

    def __init__(self, log: MemoryLog) -> None:
        self.counters = Counters()
        self.intake = Intake(log, Decoder(roster()), self.counters, lambda: NOW_MS, 1 << 20, lambda _: None)
        self.listening = True


async def ends(log: MemoryLog) -> list[int]:
    """How many records of readings each partition has."""
    return [await log.end(READINGS, partition) for partition in range(log.partitions)]


async def test_only_a_quiet_partition_gets_a_tick() -> None:
    """A record of readings says the time itself; a tick says it where none came since the last look."""
    log = MemoryLog(3)
    ticker = Ticker(log, Listener(log))
    await ticker.tick()
    assert await ends(log) == [0, 0, 0]
    await log.append({READINGS: [Entry("steel", b"x", NOW_MS)]}, 1)
    await ticker.tick()
    assert await ends(log) == [1, 1, 1]
    tick = (await log.read(READINGS, 0, partition=0))[0]
    assert (tick.key, tick.value, tick.stamp_ms) == ("", b"", NOW_MS)


async def test_nobody_ticks_who_does_not_listen() -> None:
    """A collector without its broker must not let patience run out; nor at once when it is back."""
    log = MemoryLog(2)
    listener = Listener(log)
    ticker = Ticker(log, listener)
    await ticker.tick()
    listener.listening = False
    for _ in range(5):
        await ticker.tick()
    listener.listening = True
    await ticker.tick()
    assert await ends(log) == [0, 0]
    await ticker.tick()
    assert await ends(log) == [1, 1]


async def test_no_tick_overtakes_readings_on_their_way() -> None:
    """Their stamps are older than the tick's would be."""
    log = MemoryLog()
    listener = Listener(log)
    ticker = Ticker(log, listener)
    await ticker.tick()
    delivery = Delivery(["meterflow/v1/steel/main"], [reading(1)], NOW_MS)
    listener.intake.gather(Parcel(None, delivery, (b"",)), 10)
    await ticker.tick()
    assert await ends(log) == [0]


async def test_the_books_of_a_plant_go_to_its_partition() -> None:
    """Only what has changed since; several ingests have hops of their own names."""
    log = MemoryLog(4)
    listener = Listener(log)
    ticker = Ticker(log, listener, name="north")
    listener.counters.add(decode("meterflow/v1/steel/main", reading(1)))
    listener.counters.add(decode("meterflow/v1/paper/main", "nonsense"))
    await ticker.tell_books()
    await ticker.tell_books()
    found = []
    for partition in range(4):
        for record in await log.read(RESULTS, 0, partition=partition):
            name, table = decode_table(record.value)
            assert (record.key, name) == ("hop", "hop")
            found += table.to_pylist()
            assert all(partition_of(row["plant"], 4) == partition for row in table.to_pylist())
    books = {row["plant"]: (row["hop"], row["received"], row["accepted"], row["rejected"]) for row in found}
    assert books == {"steel": ("ingest/north", 1, 1, 0), "paper": ("ingest/north", 1, 0, 1)}
    assert len(found) == 2
    assert all(row["balance"] == 0 for row in found)


async def test_a_log_that_takes_nothing_now_is_told_later() -> None:
    """The ticker outlives it, and says the same books when it works again."""
    log = FaultyLog()
    listener = Listener(log)
    listener.counters.add(decode("meterflow/v1/steel/main", reading(1)))
    running = asyncio.ensure_future(Ticker(log, listener, tick_s=0.02).run())
    log.broken = True
    await asyncio.sleep(0.1)
    assert not running.done()
    log.broken = False
    await asyncio.sleep(0.1)
    running.cancel()
    assert await log.end(RESULTS) == 1
    assert await log.end(READINGS) > 0


def test_a_frame_of_readings_is_no_tick() -> None:
    """What processors tell them apart by."""
    assert all(
        encode_readings(readings) for readings in decode("meterflow/v1/steel/main", reading(1)).readings
    )
