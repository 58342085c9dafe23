"""The log of the seeded world: in memory, and each process sees it through a handle of its own.

Whoever calls stops before and behind every step that others can see, until the world lets it go on, or lets
the storage be unavailable, or ends the process there. An append on several partitions may happen in part, as
on Kafka. Whoever has taken up a consumer's state last owns its partition; others get NotOwner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from bus.log import RESULTS, Entry, Record, Snapshot
from bus.log_memory import MemoryLog
from bus.log_through import LogThrough
from metering.errors import NotOwner, Unavailable
from processors.operators import Plants

Gate = Callable[[str], Awaitable[bool]]
"""Waits for the world; false: the storage does not answer."""


@dataclass(slots=True)
class Disk:
    """What outlives processes. ``owners``: who took up a consumer's state last.

    ``ends``: of each partition where a commit of its plants ended in the results; ``again``: why something
    may rightly be on the log more than once.
    """

    log: MemoryLog
    owners: dict[tuple[str, int], object] = field(default_factory=dict)
    ends: dict[int, list[int]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)


class SeededLog(LogThrough):
    """One process's handle, by the port of ``bus.log.Log``."""

    def __init__(self, disk: Disk, gate: Gate, chance: Random) -> None:
        super().__init__(disk.log)
        self._disk, self._gate, self._chance = disk, gate, chance

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        size = sum(map(len, topics.values()))
        await self._before(f"append {size} to {partition}")
        if size > 1 and self.partitions > 1 and self._chance.random() < 0.1:
            part = {name: entries[: len(entries) // 2] for name, entries in topics.items()}
            await self._log.append(part, partition)
            await self._gate(f"half of an append to {partition}")
            raise Unavailable("only some of it was appended")
        await self._log.append(topics, partition)
        await self._behind(f"append to {partition}")

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        await self._before(f"commit {consumer}/{partition} up to {done}")
        self._check(consumer, partition)
        await self._log.commit(consumer, done, topics, partition)
        if consumer == Plants.consumer:
            self._disk.ends.setdefault(partition, []).append(await self._log.end(RESULTS, partition))
        await self._behind(f"commit {consumer}/{partition} up to {done}")

    async def commit_part(
        self, consumer: str, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        await self._before(f"part of a commit {consumer}/{partition}")
        self._check(consumer, partition)
        await self._log.commit_part(consumer, topics, partition)
        self._disk.again.add("parts")
        await self._behind(f"part of a commit {consumer}/{partition}")

    async def read(self, topic: str, offset: int, *, partition: int = 0, **most: int) -> list[Record]:
        """At times fewer than there are: as many as a network brings."""
        await self._before(f"read {topic}/{partition} from {offset}")
        brought = self._chance.choice((1, 1, 2, 3, 5, 10, 1000))
        most["records_max"] = min(brought, most.get("records_max", brought))
        found = await self._log.read(topic, offset, partition=partition, **most)
        await self._behind(f"read {topic}/{partition} from {offset}: {len(found)}")
        return found

    async def confirm(self, consumer: str, partition: int = 0) -> None:
        self._check(consumer, partition)

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        await self._before(f"save {consumer}/{partition} at {offset}")
        self._check(consumer, partition)
        await self._log.save(consumer, offset, chunks, dropped, partition)
        await self._behind(f"save {consumer}/{partition} at {offset}")

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        await self._before(f"load {consumer}/{partition}")
        self._disk.owners[consumer, partition] = self
        found = await self._log.load(consumer, partition)
        await self._behind(f"load {consumer}/{partition}: at {found.offset}, done {found.done}")
        return found

    async def forget(self, consumer: str, partition: int = 0) -> None:
        await self._before(f"forget {consumer}/{partition}")
        self._check(consumer, partition)
        await self._log.forget(consumer, partition)
        self._disk.again.add("forgotten")
        await self._behind(f"forget {consumer}/{partition}")

    def _check(self, consumer: str, partition: int) -> None:
        if self._disk.owners.get((consumer, partition)) is not self:
            raise NotOwner("somebody else works on it")

    async def _before(self, what: str) -> None:
        if not await self._gate(f"to {what}"):
            raise Unavailable("the storage takes nothing now")

    async def _behind(self, what: str) -> None:
        if not await self._gate(f"did {what}"):
            raise Unavailable("no answer")


async def tear(disk: Disk, consumer: str, partition: int, chance: Random) -> str:
    """Cuts a chunk of a saved state short, as a bad disk does; its name, empty where there is none."""
    snapshot = await disk.log.load(consumer, partition)
    if not snapshot.chunks:
        return ""
    name = chance.choice(sorted(snapshot.chunks))
    cut = snapshot.chunks[name][: chance.randrange(max(len(snapshot.chunks[name]), 1))]
    await disk.log.save(consumer, snapshot.offset, {name: cut}, (), partition)
    return name
