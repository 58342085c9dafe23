"""The group commit over several partitions of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from bus.frames import decode_readings, decode_table
from bus.log import READINGS, REJECTED, Entry
from bus.log_memory import MemoryLog
from bus.partition import partition_of
from ingest.counters import Counters
from ingest.decode import Decoder, Delivery
from ingest.intake import Intake, Parcel
from metering.errors import Unavailable
from metering.roster import REGISTER
from tests.ingest.ingest_builders import NOW_MS, reading, roster, until

PARTITIONS = 4
PLANTS = [f"plant-{i}" for i in range(12)]
ROSTER = roster({plant: {f"{plant}-main": (REGISTER, "kWh")} for plant in PLANTS})


class PartedLog(MemoryLog):
    """Counts appends by partition; some partitions can be broken or slow."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.appends: list[int] = []
        self.broken: set[int] = set()
        self.under_way = self.side_by_side = 0

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        self.appends.append(partition)
        self.under_way += 1
        self.side_by_side = max(self.side_by_side, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if partition in self.broken:
            raise Unavailable(f"no leader for partition {partition}")
        await super().append(topics, partition)


class Meter:
    """Notes what was acknowledged."""

    def __init__(self) -> None:
        self.ids: list[bytes] = []

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        del parcels
        self.ids += ids


class Site:
    """An intake, its log and a meter of all plants."""

    def __init__(self) -> None:
        self.log, self.meter, self.counters = PartedLog(), Meter(), Counters()
        self.held: list[bool] = []
        clock = Decoder(ROSTER), self.counters, lambda: NOW_MS
        self.intake = Intake(self.log, *clock, 1 << 20, self.held.append)

    def send(self, plants: Sequence[str], payload: bytes, first_id: int = 1) -> list[bytes]:
        """A message a plant, in one parcel; gives their packet ids."""
        ids = [(first_id + i).to_bytes(2, "big") for i in range(len(plants))]
        topics = [f"meterflow/v1/{plant}/{plant}-main" for plant in plants]
        delivery = Delivery(topics, [payload] * len(plants), NOW_MS)
        self.intake.gather(Parcel(self.meter, delivery, ids), 100)
        return ids


async def test_a_plants_records_travel_on_its_partition() -> None:
    """Readings and rejected rows alike; what is of no plant goes to the first."""
    site = Site()
    running = asyncio.ensure_future(site.intake.run())
    site.send(PLANTS, reading(1))
    site.send(PLANTS, b"nonsense")
    site.send(["nobody"], reading(1))
    await site.intake.idle()
    running.cancel()
    for partition in range(PARTITIONS):
        mine = sorted(plant for plant in PLANTS if partition_of(plant, PARTITIONS) == partition)
        readings = await site.log.read(READINGS, 0, partition=partition)
        assert sorted(decode_readings(record.value).plant for record in readings) == mine
        rejected = await site.log.read(REJECTED, 0, partition=partition)
        assert sorted(record.key for record in rejected) == sorted(mine + [""] * (partition == 0))
        rows = sum(len(decode_table(record.value)[1]) for record in rejected)
        assert rows == len(mine) + (partition == 0)


async def test_appends_to_different_partitions_run_side_by_side() -> None:
    """One for each partition, none twice, and acknowledged once they are all through, in order."""
    site = Site()
    running = asyncio.ensure_future(site.intake.run())
    ids = site.send(PLANTS, reading(1))
    await site.intake.idle()
    running.cancel()
    wanted = {partition_of(plant, PARTITIONS) for plant in PLANTS}
    assert sorted(site.log.appends) == sorted(wanted)
    assert site.log.side_by_side == len(wanted) > 1
    assert site.meter.ids == ids


async def test_only_the_partition_that_failed_is_repeated() -> None:
    """Nothing is acknowledged until it works, the others are not written twice, reading is held."""
    site = Site()
    running = asyncio.ensure_future(site.intake.run())
    partition = partition_of(PLANTS[0], PARTITIONS)
    site.log.broken = {partition}
    ids = site.send(PLANTS, reading(1))
    await until(lambda: site.counters.append_errors >= 2)
    assert site.meter.ids == []
    assert site.intake.busy
    assert site.counters.append_error == f"no leader for partition {partition}"
    assert site.held == [True]
    site.log.broken = set()
    await site.intake.idle()
    running.cancel()
    assert site.meter.ids == ids
    assert (site.counters.append_error, site.held) == ("", [True, False])
    assert all(site.log.appends.count(other) == 1 for other in range(PARTITIONS) if other != partition)
    assert await site.log.end(READINGS, partition) == len(
        [plant for plant in PLANTS if partition_of(plant, PARTITIONS) == partition]
    )


async def test_two_failing_partitions_are_both_waited_for() -> None:
    """The first that comes back does not end the complaint about the other."""
    site = Site()
    running = asyncio.ensure_future(site.intake.run())
    one, two = sorted({partition_of(plant, PARTITIONS) for plant in PLANTS})[:2]
    site.log.broken = {one, two}
    site.send(PLANTS, reading(1))
    await until(lambda: site.counters.append_errors >= 2)
    site.log.broken = {two}
    await until(lambda: site.log.appends.count(one) == 2)
    await until(lambda: site.log.appends.count(two) >= 3)
    assert site.counters.append_error == f"no leader for partition {two}"
    assert site.meter.ids == []
    site.log.broken = set()
    await site.intake.idle()
    running.cancel()
    assert len(site.meter.ids) == len(PLANTS)
