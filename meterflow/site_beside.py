"""The worker of the next site file, beside the live one: its results go into a store of their own.

It reads the same log from the first reading on. When it has caught up it becomes the live one without
being stopped: from then on its results go where the live one's went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bus.frames import decode_table
from bus.log import READINGS, REJECTED, RESULTS, Entry, Record, Snapshot
from bus.log_sqlite import SqliteLog
from bus.log_through import LogThrough
from sinks.store_duckdb import DuckStore
from sinks.waits import placed

NEXT = "next"
"""Under this name the log keeps its state until it is the live one."""
_REJECTED_BYTES_MAX = 2 << 20


class Beside(LogThrough):
    """``bus.log.Log`` for one worker. Until ``joined`` what it commits goes into ``store``, whose position is
    then up to which record of the readings that is.

    ``turn``: held by whoever keeps it from committing and saving. ``stand`` and ``go_to`` say how far it may
    read, until it is joined.
    """

    def __init__(self, log: SqliteLog, store: DuckStore) -> None:
        super().__init__(log)
        self.store = store
        self.joined = False
        self.turn = asyncio.Lock()
        self._read = 0
        self._limit: int | None = None
        self._moved = asyncio.Event()

    def stand(self) -> int:
        """It reads no further; up to where it has read."""
        self._limit = max(self._read, self.store.position())
        return self._limit

    def go_to(self, limit: int | None) -> None:
        """So far and no further; None: as far as there is anything."""
        self._limit = limit
        self._moved.set()
        self._moved = asyncio.Event()

    async def read(self, topic: str, offset: int, *, partition: int = 0, **most: int) -> list[Record]:
        found = await super().read(topic, offset, partition=partition, **most)
        if topic == READINGS and self._limit is not None:
            found = [record for record in found if record.offset < self._limit]
        if topic == READINGS and found:
            self._read = max(self._read, found[-1].offset + 1)
        return found

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        if topic != READINGS or self._limit is None or offset < self._limit:
            return await super().wait(topic, offset, timeout_s, partition)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), timeout_s)
        return False

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        async with self.turn:
            if self.joined:
                await self._log.commit(consumer, done, topics, partition)
            else:
                await self._store(topics, done)

    async def commit_part(
        self, consumer: str, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        async with self.turn:
            if self.joined:
                await self._log.commit_part(consumer, topics, partition)
            else:
                await self._store(topics, self.store.position())

    async def confirm(self, consumer: str, partition: int = 0) -> None:
        await self._log.confirm(consumer, partition)

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        async with self.turn:
            await self._log.save(self._name(consumer), offset, chunks, dropped, partition)

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        snapshot = await self._log.load(self._name(consumer), partition)
        if self.joined:
            return snapshot
        return Snapshot(snapshot.offset, snapshot.chunks, max(snapshot.offset, self.store.position()))

    async def forget(self, consumer: str, partition: int = 0) -> None:
        async with self.turn:
            await self._log.forget(self._name(consumer), partition)

    async def rejected_lag(self) -> int:
        """Records of rejected messages that its store does not have yet."""
        return await self._log.end(REJECTED) - self.store.rejected_position()

    def _name(self, consumer: str) -> str:
        return consumer if self.joined else NEXT

    async def _store(self, topics: Mapping[str, Sequence[Entry]], position: int) -> None:
        """With what was rejected meanwhile, which no worker has to do with."""
        behind = self.store.rejected_position()
        rejected = await self._log.read(REJECTED, behind, bytes_max=_REJECTED_BYTES_MAX)
        await asyncio.to_thread(self._write, topics.get(RESULTS, ()), rejected, position)

    def _write(self, results: Sequence[Entry], rejected: Sequence[Record], position: int) -> None:
        frames = [decode_table(entry.value) for entry in results]
        frames += [placed(record) for record in rejected]
        self.store.write(frames, position, rejected[-1].offset + 1 if rejected else None)
