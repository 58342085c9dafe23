"""The embedded log: one SQLite file, written in groups, each one fsync.

Appends of many callers share a transaction: while one group is being made durable the next one
gathers. Readers have connections of their own and see only what is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bus.log import Entry, Record, Snapshot
from bus.log_sqlite_file import FILE_NAME, Extent, Storage, file_bytes, own
from bus.log_sqlite_reader import Readers
from bus.log_sqlite_store import (
    CHECKPOINT_BYTES,
    Change,
    Store,
    adopting,
    committing,
    forgetting,
    putting_back,
    saving,
    trimming,
)
from bus.log_sqlite_writer import Job, Writer
from metering.errors import MeterflowError

_NOTHING = Extent(0)
_FILES = Storage()


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """Since the log was opened. ``file_bytes`` is with the write-ahead log; ``waiting``: not yet durable."""

    appends: int
    appended_records: int
    commits: int
    checkpoints: int
    reopened: int
    last_commit_s: float
    waiting: int
    file_bytes: int


async def open_log(
    folder: Path, *, storage: Storage = _FILES, checkpoint_bytes: int = CHECKPOINT_BYTES
) -> SqliteLog:
    """Opens the log in a folder, making both where needed; the log belongs to the running event loop.

    Raises UsageError when another process has the folder, or a newer version wrote it.
    """
    lock = await asyncio.to_thread(own, folder)
    store = Store(folder / FILE_NAME, storage, checkpoint_bytes)
    try:
        await asyncio.to_thread(store.open)
    except BaseException:
        lock.close()
        raise
    return SqliteLog(store, Readers(store.path, storage), lock)


class SqliteLog:
    """``bus.log.Log`` on one file; made by ``open_log``. Its methods are called in one event loop."""

    def __init__(self, store: Store, readers: Readers, lock: IO[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._lock = lock
        self._readers = readers
        self._writer = Writer(store, self._settled)
        self._grown = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._appends = 0
        self._done: dict[tuple[str, int], int] = {}
        """Of consumers, as far as it is known here."""
        self._waiting = 0

    @property
    def partitions(self) -> int:
        return 1

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        self._appends += 1
        await self._write(Change(topics=topics, partition=partition, size=_size(topics)))

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        key = consumer, partition
        if key not in self._done:
            await self.load(consumer, partition)
        if done <= self._done[key]:
            return
        self._appends += 1
        write = committing(consumer, partition, done)
        before = self._done.pop(key)  # unknown until this one is heard of
        await self._write(Change(topics=topics, partition=partition, write=write, size=_size(topics)))
        self._done[key] = max(before, done)

    async def commit_part(
        self,
        consumer: str,  # noqa: ARG002 the file has one owner
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
        extent = self._extent(topic, partition)
        start = max(offset, extent.first)
        if start >= extent.end:
            return []
        return await self._readers.records(extent, start, records_max, bytes_max)

    async def first(self, topic: str, partition: int = 0) -> int:
        self._check_open()
        return self._extent(topic, partition).first

    async def end(self, topic: str, partition: int = 0) -> int:
        self._check_open()
        return self._extent(topic, partition).end

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        self._check_open()
        try:
            async with asyncio.timeout(timeout_s):
                while not self._has(topic, offset, partition):
                    if self._closing:
                        return False
                    await self._grown.wait()
        except TimeoutError:
            return False
        return True

    async def trim(self, topic: str, offset: int, partition: int = 0) -> None:
        goal = min(offset, self._extent(topic, partition).end)
        while self._extent(topic, partition).first < goal:
            await self._write(Change(write=trimming(topic, partition, goal)))

    async def put_back(
        self, topic: str, records: Sequence[Record], partition: int = 0, *, first: int | None = None
    ) -> None:
        """Has records again that were let go of; they count when ``first`` is given, with the last."""
        await self._write(Change(write=putting_back(topic, partition, records, first)))

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
        key, size = (consumer, partition), sum(map(len, chunks.values()))
        moves = offset > self._done.get(key, offset)
        if moves:
            del self._done[key]  # unknown until this one is heard of
        await self._write(Change(write=saving(consumer, partition, offset, chunks, dropped), size=size))
        if moves:
            self._done[key] = max(self._done.get(key, 0), offset)

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        self._check_open()
        snapshot = await self._readers.snapshot(consumer, partition)
        self._done[consumer, partition] = snapshot.done
        return snapshot

    async def forget(self, consumer: str, partition: int = 0) -> None:
        self._done.pop((consumer, partition), None)
        await self._write(Change(write=forgetting(consumer, partition)))

    async def adopt(
        self,
        consumer: str,
        of: str,
        done: int,
        topics: Mapping[str, Sequence[Entry]],
    ) -> None:
        """Appends records, and gives a consumer the state of another one, all or nothing.

        What came of all records before ``done`` is known of by then, wherever that is. Neither consumer may
        be saving or committing.
        """
        self._done.pop((of, 0), None)
        self._done.pop((consumer, 0), None)
        write = adopting(consumer, of, 0, done)
        await self._write(Change(topics=topics, write=write, size=_size(topics)))
        self._done[consumer, 0] = done

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    def metrics(self) -> LogMetrics:
        """Cheap: counters, and the size of two files."""
        counts = self._store.counts
        return LogMetrics(
            appends=self._appends,
            appended_records=counts.appended_records,
            commits=counts.commits,
            checkpoints=counts.checkpoints,
            reopened=counts.reopened,
            last_commit_s=counts.last_commit_s,
            waiting=self._waiting,
            file_bytes=file_bytes(self._store.path),
        )

    async def _close(self) -> None:
        self._wake()
        await asyncio.to_thread(self._writer.finish)
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._store.close)  # last, so that it empties the write-ahead log
        self._lock.close()

    async def _write(self, change: Change) -> None:
        self._check_open()
        job = Job(change, self._loop.create_future())
        self._waiting += 1
        self._writer.submit(job)
        await job.done

    def _settled(self, group: list[Job]) -> None:
        """In the writer's thread; the loop may be gone when a program ends without closing."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, group)

    def _tell(self, group: list[Job]) -> None:
        self._waiting -= len(group)
        for job in group:
            if job.done.done():  # its caller was cancelled
                continue
            if job.error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(job.error)
        self._wake()

    def _wake(self) -> None:
        """Has everybody who waits look again; they are few."""
        self._grown.set()
        self._grown = asyncio.Event()

    def _extent(self, topic: str, partition: int) -> Extent:
        return self._store.topics.get((topic, partition), _NOTHING)

    def _has(self, topic: str, offset: int, partition: int) -> bool:
        extent = self._extent(topic, partition)
        return extent.end > max(offset, extent.first)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise MeterflowError("the log is closed", where=str(self._store.path))


def _size(topics: Mapping[str, Sequence[Entry]]) -> int:
    return sum(len(entry.value) for entries in topics.values() for entry in entries)
