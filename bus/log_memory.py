"""The log in memory: for tests, ``compute`` and the simulated world. As durable as the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from bus.limits import within
from bus.log import PORTIONS, Entry, Record, Snapshot
from metering.errors import MeterflowError


@dataclass(slots=True)
class _Topic:
    """The records from offset ``first`` on, and who waits for the next."""

    first: int = 0
    records: list[Record] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> int:
        return self.first + len(self.records)

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


class MemoryLog:
    """``bus.log.Log`` without storage; belongs to one event loop."""

    def __init__(self, partitions: int = 1) -> None:
        self._partitions = partitions
        self._topics: dict[tuple[str, int], _Topic] = {}
        self._snapshots: dict[tuple[str, int], Snapshot] = {}
        self._closed = False

    @property
    def partitions(self) -> int:
        return self._partitions

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        self._check_open()
        for name, entries in topics.items():
            topic = self._topic(name, 0 if name == PORTIONS else partition)
            for entry in entries:
                topic.records.append(Record(topic.end, entry.key, entry.value, entry.stamp_ms))
            if entries:
                topic.wake()

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        before = await self.load(consumer, partition)
        if done > before.done:
            await self.append(topics, partition)
            self._snapshots[consumer, partition] = replace(before, done=done)

    async def commit_part(
        self,
        consumer: str,  # noqa: ARG002 one process has it all
        topics: Mapping[str, Sequence[Entry]],
        partition: int = 0,
    ) -> None:
        await self.append(topics, partition)

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        records_max: int = 1000,
        bytes_max: int = 8 << 20,
    ) -> list[Record]:
        self._check_open()
        found = self._topic(topic, partition)
        start = max(offset - found.first, 0)
        return within(islice(found.records, start, start + records_max), bytes_max)

    async def first(self, topic: str, partition: int = 0) -> int:
        self._check_open()
        return self._topic(topic, partition).first

    async def end(self, topic: str, partition: int = 0) -> int:
        self._check_open()
        return self._topic(topic, partition).end

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        self._check_open()
        found = self._topic(topic, partition)
        try:
            async with asyncio.timeout(timeout_s):
                while found.end <= max(offset, found.first) and not self._closed:
                    await found.grown.wait()
        except TimeoutError:
            return False
        return not self._closed

    async def trim(self, topic: str, offset: int, partition: int = 0) -> None:
        self._check_open()
        found = self._topic(topic, partition)
        gone = min(max(offset - found.first, 0), len(found.records))
        del found.records[:gone]
        found.first += gone

    async def confirm(self, consumer: str, partition: int = 0) -> None:  # noqa: ARG002 one process has it all
        self._check_open()

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        before = await self.load(consumer, partition)
        kept = {name: chunk for name, chunk in before.chunks.items() if name not in dropped}
        done = max(before.done, offset)
        self._snapshots[consumer, partition] = Snapshot(offset, kept | dict(chunks), done)

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        self._check_open()
        return self._snapshots.get((consumer, partition), Snapshot(0, {}))

    async def forget(self, consumer: str, partition: int = 0) -> None:
        self._check_open()
        self._snapshots.pop((consumer, partition), None)

    async def close(self) -> None:
        self._closed = True
        for topic in self._topics.values():
            topic.wake()

    def _topic(self, name: str, partition: int) -> _Topic:
        return self._topics.setdefault((name, partition), _Topic())

    def _check_open(self) -> None:
        if self._closed:
            raise MeterflowError("the log is closed", where="memory")
