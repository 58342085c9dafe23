"""``meterflow process``: readings on the log become results on the log.

Copies share the partitions. Each partition that a copy owns has a worker over the plants whose readings
travel on it; the owner of the first one also adds up groups of the portions of all. Where the settings name
an archive, they share the partitions a second time, to archive them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from bus.log import PAYLOADS, READINGS, Log
from bus.partition import partition_of
from bus.rows_json import JsonRows
from meterflow import memory, progress
from meterflow import settings_made as made
from meterflow.given import load_roster, site_files
from meterflow.paging import room_in
from meterflow.partitions import Partitions
from meterflow.role import Role
from meterflow.settings import Settings
from meterflow.site_board import Board
from meterflow.site_mark import check_site
from metering.roster import Roster
from processors.operators import GroupsOfPlants, Operators, Plants
from processors.worker import Worker
from sinks import archive_raw
from sinks.archive_sink import CONSUMER, OF_READINGS, ArchiveSink, Kind
from web.status import Progress, Status, together


class PartitionWork:
    """The workers of one partition."""

    def __init__(self, plants: Plants, workers: list[Worker]) -> None:
        self.plants, self.workers = plants, workers

    async def run(self) -> None:
        """Until ``stop``; one that fails stops the others first."""
        runs = [asyncio.create_task(worker.run()) for worker in self.workers]
        try:
            await asyncio.wait(runs, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await self.stop()
            ended = await asyncio.gather(*runs, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def stop(self) -> None:
        """What is in hand is finished and saved."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    def progress(self) -> Progress:
        return together(progress.of_worker(worker) for worker in self.workers)


class ProcessRole(Role):
    """Workers on the partitions that this copy owns."""

    name = "process"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.roster: Roster = load_roster(settings.site)
        self.partitions = Partitions(self._work, self.fail)
        self.archives = Partitions(partial(self._archive, OF_READINGS), self.fail)
        self.raw = Partitions(partial(self._archive, archive_raw.OF_PAYLOADS), self.fail)
        self._saving = asyncio.Lock()
        self._room = room_in(Path(settings.values.process.scratch))
        self._results = made.kafka(settings).results

    async def begin(self) -> None:
        self.log: Log = await self.open_log(JsonRows())
        self._place = [partition_of(plant.id, self.log.partitions) for plant in self.roster.plants]
        await self.share(Plants.consumer, Plants.topic, self.partitions)
        if self.settings.values.archive is not None:
            await self.share(CONSUMER, READINGS, self.archives)
            if self.settings.values.archive.raw:
                await self.share(archive_raw.CONSUMER, PAYLOADS, self.raw)

    def figures(self) -> Status:
        parts = dict(self.partitions.parts)
        each = {partition: part.progress() for partition, part in parts.items()}
        archived, raw = (
            {place: progress.of_archive(part) for place, part in dict(kept.parts).items()}
            for kept in (self.archives, self.raw)
        )
        engines = [part.plants.engine for part in parts.values()]
        seen = [progress.last_seen(engine) for engine in engines]
        return Status(
            worker=together(each.values()),
            sink=None,
            archive=together(archived.values()) if self.settings.values.archive else None,
            partitions={"worker": each, "archive": archived, **({"raw": raw} if raw else {})},
            hops={"processors": progress.processed(engines)},
            log_ends={READINGS: sum(one.end for one in each.values())},
            last_seen_ms={point: at for some in seen for point, at in some.items()},
            events=progress.let_go(None, dict(self.raw.parts).values()),
            ledger_unbalanced=sum(part.plants.rows.unbalanced for part in parts.values()),
        )

    async def _work(self, partition: int) -> PartitionWork:
        return await self.patiently("Kafka", lambda: self._prepared(partition))

    async def _archive(self, kind: Kind, partition: int) -> ArchiveSink:
        its = self.settings.values.archive
        assert its is not None
        place, age_s = made.archive(self.settings), its.every_ms / 1000
        if kind is not OF_READINGS:
            raw, days = place.below(archive_raw.FOLDER), its.keep_raw_days
            return ArchiveSink(self.log, raw, partition, kind=kind, age_s=age_s, keep_days=days)
        site = site_files(self.settings.site, self.roster)
        return ArchiveSink(self.log, place, partition, site=site, age_s=age_s)

    async def _prepared(self, partition: int) -> PartitionWork:
        """Workers that have taken up what was saved."""
        await check_site(self.log, self.roster, self.settings, partition)
        await Board(self.log).say_results(self._results, partition, self.roster.version)
        plants = self._plants(partition)
        stages: list[Operators] = [plants]
        if partition == 0 and self.log.partitions > 1 and self.roster.groups:
            stages.append(GroupsOfPlants(self.roster, self._place, self._room))
        workers = [
            Worker(self.log, stage, partition=partition, saving=self._saving, saved=memory.give_back)
            for stage in stages
        ]
        for worker in workers:
            if not await worker.start():  # damaged, and forgotten: everything is worked out anew
                return await self._prepared(partition)
        return PartitionWork(plants, workers)

    def _plants(self, partition: int) -> Plants:
        if self.log.partitions == 1:
            return Plants(self.roster, room=self._room)
        own = [
            plant.id
            for plant, place in zip(self.roster.plants, self._place, strict=True)
            if place == partition
        ]
        return Plants(self.roster, plants=own, partition=partition, room=self._room)
