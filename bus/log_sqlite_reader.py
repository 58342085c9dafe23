"""The reading side of the SQLite log: a few threads, each read on a connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping
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
        number, offset, done, names = await self._run(lambda c: _consumer(c, consumer, partition))
        return Snapshot(
            offset, _Chunks(names, lambda name: self._read(lambda c: _chunk(c, number, name))), done
        )

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


def _consumer(
    connection: sqlite3.Connection, consumer: str, partition: int
) -> tuple[int, int, int, dict[str, None]]:
    """Number, offset, done and the names of the chunks of one instant."""
    connection.execute("BEGIN")
    sql = "SELECT id, offset, done FROM consumer WHERE name = ? AND partition = ?"
    number, offset, done = connection.execute(sql, (consumer, partition)).fetchone() or (0, 0, 0)
    names = connection.execute("SELECT name FROM chunk WHERE consumer = ?", (number,)).fetchall()
    connection.execute("COMMIT")
    return number, offset, done, dict.fromkeys(name for (name,) in names)


def _chunk(connection: sqlite3.Connection, consumer: int, name: str) -> bytes:
    sql = "SELECT value FROM chunk WHERE consumer = ? AND name = ?"
    return bytes(connection.execute(sql, (consumer, name)).fetchall()[0][0])


class _Chunks(Mapping[str, bytes]):
    """A saved state's chunks, each read when it is asked for: all of them may be more than fits in memory.

    Raises Unavailable.
    """

    def __init__(self, names: Mapping[str, None], read: Callable[[str], bytes]) -> None:
        self._names, self._chunk = names, read

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return self._chunk(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
