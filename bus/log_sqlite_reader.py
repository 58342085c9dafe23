"""The reading side of the SQLite log: a few threads, each read on a connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from bus.limits import within
from bus.log import Record, Snapshot
from bus.log_sqlite_file import OFFSET_BITS, Extent, Storage, our_errors

THREADS = 2
_OFFSET_MASK = (1 << OFFSET_BITS) - 1
_Result = TypeVar("_Result")


class Readers:
    """Connections are opened when needed, kept while they work, and given up after an error."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self._path = path
        self._storage = storage
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="log-reader")
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()

    async def records(self, extent: Extent, start: int, records_max: int, bytes_max: int) -> list[Record]:
        """The records of [start, end) within the limits."""
        stop = extent.row(min(extent.end, start + records_max))
        return await self._run(lambda c: records_of(c, extent.row(start), stop, bytes_max))

    async def snapshot(self, consumer: str, partition: int) -> Snapshot:
        return await self._run(lambda c: _snapshot(c, consumer, partition))

    def close(self) -> None:
        """Waits for the reads under way. Blocks."""
        self._threads.shutdown()
        while (connection := self._take()) is not None:
            connection.close()

    async def _run(self, read: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    def _read(self, read: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with our_errors(self._path, "be read"), self._connection() as connection:
            return read(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = self._take() or self._storage.reader(self._path)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def _take(self) -> sqlite3.Connection | None:
        try:
            return self._idle.get_nowait()
        except Empty:
            return None


def records_of(connection: sqlite3.Connection, start: int, stop: int, bytes_max: int) -> list[Record]:
    """The records with ids in [start, stop), as many as fit."""
    sql = "SELECT id, stamp_ms, key, value FROM record WHERE id >= ? AND id < ? ORDER BY id"
    cursor = connection.execute(sql, (start, stop))
    try:
        found = (Record(id_ & _OFFSET_MASK, key, value, stamp) for id_, stamp, key, value in cursor)
        return within(found, bytes_max)
    finally:
        cursor.close()  # an open one would keep the write-ahead log from starting anew


def _snapshot(connection: sqlite3.Connection, consumer: str, partition: int) -> Snapshot:
    """Offset and chunks of one instant."""
    connection.execute("BEGIN")
    sql = "SELECT id, offset, done FROM consumer WHERE name = ? AND partition = ?"
    found = connection.execute(sql, (consumer, partition)).fetchone() or (0, 0, 0)
    chunks = connection.execute("SELECT name, value FROM chunk WHERE consumer = ?", found[:1]).fetchall()
    connection.execute("COMMIT")
    return Snapshot(found[1], dict(chunks), found[2])
