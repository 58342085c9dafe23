"""Groups of changes, each one transaction: the writing side of the SQLite log, without threads.

After an error the connection is given up. Before the next group the whole write-ahead log is
written again, bytes and places the same, and fsynced: once an fsync has failed, the kernel counts
the lost pages as clean and the next fsync says nothing, while they can still be read; SQLite would
build on them (Rebello et al., USENIX ATC 2020, "Can Applications Recover from fsync Failures?").
The file itself needs no such care: a checkpoint that failed is written again by the next one.
Then every topic must still reach as far as what was acknowledged.

Only this connection writes and checkpoints; readers do neither.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bus.log import Entry, Record
from bus.log_sqlite_file import (
    OFFSET_BITS,
    Extent,
    Storage,
    Topics,
    load_topics,
    open_writer,
    our_errors,
    wal_of,
)
from metering.errors import MeterflowError

ROWS_A_STATEMENT_MAX = 64
"""One statement inserts many rows: each statement gives up the interpreter's lock and has to win
it back from a busy event loop, which takes up to its switch interval of 5 ms."""
CHECKPOINT_BYTES = 32 << 20
"""The write-ahead log is moved into the file after so many bytes."""
TRIM_ROWS_MAX = 4096
TRIM_BYTES_MAX = 4 << 20
_FRAME_BYTES = 16 << 10
"""What a commit writes beside its values, roughly."""

Row = tuple[int, int, str, bytes]
Write = Callable[[sqlite3.Connection, Topics], None]
"""A change in the group's transaction; what it says of the topics counts when that commits."""


@dataclass(slots=True)
class Change:
    """What one caller wants done: records to append, or a write of another sort."""

    topics: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    partition: int = 0
    write: Write | None = None
    size: int = 0
    """Bytes of its values."""


@dataclass(slots=True)
class Counts:
    """Since the log was opened."""

    appended_records: int = 0
    commits: int = 0
    checkpoints: int = 0
    reopened: int = 0
    last_commit_s: float = 0.0


class Store:
    """Owns the writing connection; used by one thread at a time. ``topics`` is replaced, never changed."""

    def __init__(self, path: Path, storage: Storage, checkpoint_bytes: int = CHECKPOINT_BYTES) -> None:
        self.path = path
        self.topics: Topics = {}
        self.counts = Counts()
        self._storage = storage
        self._checkpoint_bytes = checkpoint_bytes
        self._unmoved_bytes = 0
        self._inode = 0
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        with our_errors(self.path, "be opened"):
            self._storage.write_again(wal_of(self.path))  # the process before may have died of an error
            self._connection = open_writer(self.path, self._storage)
            self.topics = load_topics(self._connection)
            self._inode = self.path.stat().st_ino

    def close(self) -> None:
        """Lets go of the file; SQLite moves the write-ahead log into it where it can."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def commit(self, group: Sequence[Change]) -> None:
        """Does all changes of the group in one durable transaction, or raises and did none."""
        started = time.perf_counter()
        self._check_in_place()
        connection = self._connection or self._reopened()
        with self._guarded("be written"):
            topics = self._with_new_topics(connection, group)
            rows = _rows(group, topics)
            _transact(connection, rows, [change.write for change in group if change.write], topics)
        self.topics = topics
        self.counts.commits += 1
        self.counts.appended_records += len(rows)
        self.counts.last_commit_s = time.perf_counter() - started
        self._unmoved_bytes += _FRAME_BYTES + sum(change.size for change in group)

    def checkpoint_if_due(self) -> None:
        """Moves a long write-ahead log into the file. Raises when that fails: then nothing is lost yet."""
        if self._connection is None or self._unmoved_bytes < self._checkpoint_bytes:
            return
        with self._guarded("be moved into its file"):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._unmoved_bytes = 0
        self.counts.checkpoints += 1

    def _check_in_place(self) -> None:
        """SQLite would go on writing to a file that has been deleted, where nobody finds it again."""
        try:
            in_place = self.path.stat().st_ino == self._inode
        except OSError:
            in_place = False
        if not in_place:
            what, hint = "the log's file was moved or deleted while in use", "Put it back and start again."
            raise MeterflowError(what, where=str(self.path), hint=hint)

    def _reopened(self) -> sqlite3.Connection:
        with our_errors(self.path, "be opened again"):
            self._storage.write_again(wal_of(self.path))
            connection = open_writer(self.path, self._storage)
            try:
                topics = self._verified(connection)
            except BaseException:
                connection.close()
                raise
        self._connection, self.topics, self._unmoved_bytes = connection, topics, 0
        self.counts.reopened += 1
        return connection

    def _verified(self, connection: sqlite3.Connection) -> Topics:
        """The topics of a file opened after an error, with everything acknowledged."""
        found = load_topics(connection)
        for name, before in self.topics.items():
            after = found.get(name)
            if after is None or after.end < before.end or not _last_readable(connection, after):
                what = f"acknowledged records of the topic {name[0]!r} are gone after an error of the disk"
                hint = "Replace the disk and restore the folder from a copy."
                raise MeterflowError(what, where=str(self.path), hint=hint)
        return found

    @contextmanager
    def _guarded(self, doing: str) -> Iterator[None]:
        """Around each use of the connection: errors become ours, and it is given up unless all is well."""
        try:
            with our_errors(self.path, doing):
                yield
        except BaseException as error:
            self._give_up(keep=_is_busy(error.__cause__))
            raise

    def _give_up(self, keep: bool) -> None:
        if keep and self._connection is not None:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                return
        self.close()

    def _with_new_topics(self, connection: sqlite3.Connection, group: Sequence[Change]) -> Topics:
        """A copy of the topics, with those that the group is the first to name; they stay if it fails."""
        named = {(name, change.partition) for change in group for name in change.topics}
        for name, partition in sorted(named - self.topics.keys()):
            sql = "INSERT INTO topic (name, partition, first) VALUES (?, ?, 0) RETURNING id"
            row = connection.execute(sql, (name, partition)).fetchall()
            self.topics = self.topics | {(name, partition): Extent(row[0][0])}
        return dict(self.topics)


def _is_busy(error: BaseException | None) -> bool:
    """Somebody else holds the file: nothing was written, the connection is as good as before."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _last_readable(connection: sqlite3.Connection, extent: Extent) -> bool:
    if extent.end == extent.first:
        return True
    sql = "SELECT value FROM record WHERE id = ?"
    return len(connection.execute(sql, (extent.row(extent.end - 1),)).fetchall()) == 1


def _rows(group: Sequence[Change], topics: Topics) -> list[Row]:
    """The rows of the group's records, in order; the topics' ends move behind them."""
    rows: list[Row] = []
    for change in group:
        for name, entries in change.topics.items():
            extent = topics[name, change.partition]
            first = extent.row(extent.end)
            rows.extend((first + i, e.stamp_ms, e.key, e.value) for i, e in enumerate(entries))
            topics[name, change.partition] = replace(extent, end=extent.end + len(entries))
    return rows


def _transact(connection: sqlite3.Connection, rows: list[Row], writes: list[Write], topics: Topics) -> None:
    if not writes and len(rows) <= ROWS_A_STATEMENT_MAX:
        _insert(connection, rows)  # a statement by itself is a transaction
        return
    connection.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), ROWS_A_STATEMENT_MAX):
        _insert(connection, rows[start : start + ROWS_A_STATEMENT_MAX])
    for write in writes:
        write(connection, topics)
    connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    if rows:
        places = ",".join(["(?,?,?,?)"] * len(rows))
        sql = f"INSERT INTO record (id, stamp_ms, key, value) VALUES {places}"
        connection.execute(sql, [value for row in rows for value in row])


def committing(name: str, partition: int, done: int) -> Write:
    """Moves forward how far a consumer's results reach, in the transaction that appends them."""

    def write(connection: sqlite3.Connection, _: Topics) -> None:
        sql = (
            "INSERT INTO consumer (name, partition, offset, done) VALUES (?, ?, 0, ?)"
            " ON CONFLICT (name, partition) DO UPDATE SET done = max(done, excluded.done)"
        )
        connection.execute(sql, (name, partition, done))

    return write


def saving(
    name: str, partition: int, offset: int, chunks: Mapping[str, bytes], dropped: Sequence[str]
) -> Write:
    """Moves a consumer's offset and changes its chunks."""

    def write(connection: sqlite3.Connection, _: Topics) -> None:
        sql = (
            "INSERT INTO consumer (name, partition, offset, done) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name, partition)"
            " DO UPDATE SET offset = excluded.offset, done = max(done, excluded.done) RETURNING id"
        )
        consumer = connection.execute(sql, (name, partition, offset, offset)).fetchall()[0][0]
        for chunk in dropped:
            connection.execute("DELETE FROM chunk WHERE consumer = ? AND name = ?", (consumer, chunk))
        for chunk, value in chunks.items():
            sql = "INSERT OR REPLACE INTO chunk (consumer, name, value) VALUES (?, ?, ?)"
            connection.execute(sql, (consumer, chunk, value))

    return write


def forgetting(name: str, partition: int) -> Write:
    """Removes a consumer with all its chunks."""

    def write(connection: sqlite3.Connection, _: Topics) -> None:
        found = "SELECT id FROM consumer WHERE name = ? AND partition = ?"
        connection.execute(f"DELETE FROM chunk WHERE consumer IN ({found})", (name, partition))
        connection.execute("DELETE FROM consumer WHERE name = ? AND partition = ?", (name, partition))

    return write


def adopting(name: str, of: str, partition: int, done: int) -> Write:
    """Gives a consumer the state of another one, in place of its own, and how far its results reach.

    Done again it changes nothing: the other one is not there any more.
    """

    def write(connection: sqlite3.Connection, topics: Topics) -> None:
        found = "SELECT id FROM consumer WHERE name = ? AND partition = ?"
        if not connection.execute(found, (of, partition)).fetchall():
            return
        forgetting(name, partition)(connection, topics)
        sql = "UPDATE consumer SET name = ? WHERE name = ? AND partition = ?"
        connection.execute(sql, (name, of, partition))
        committing(name, partition, done)(connection, topics)

    return write


def trimming(name: str, partition: int, offset: int) -> Write:
    """Lets go of one slice of the records before an offset; the topic's ``first`` says how far it came."""

    def write(connection: sqlite3.Connection, topics: Topics) -> None:
        extent = topics.get((name, partition))
        if extent is None or offset <= extent.first:
            return
        first = _slice_end(connection, extent, min(offset, extent.end))
        low = extent.id << OFFSET_BITS
        connection.execute("DELETE FROM record WHERE id >= ? AND id < ?", (low, low + first))
        connection.execute("UPDATE topic SET first = ? WHERE id = ?", (first, extent.id))
        topics[name, partition] = replace(extent, first=first)

    return write


def putting_back(name: str, partition: int, records: Sequence[Record], first: int | None) -> Write:
    """Records that a topic has let go of are in the file again; with ``first`` they count."""

    def write(connection: sqlite3.Connection, topics: Topics) -> None:
        extent = topics[name, partition]
        rows = [(extent.row(one.offset), one.stamp_ms, one.key, one.value) for one in records]
        assert all(one.offset < extent.first for one in records)
        connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", rows)
        if first is not None:
            connection.execute("UPDATE topic SET first = ? WHERE id = ?", (first, extent.id))
            topics[name, partition] = replace(extent, first=first)

    return write


def _slice_end(connection: sqlite3.Connection, extent: Extent, offset: int) -> int:
    """How far towards ``offset`` one slice goes: bounded in rows and bytes, at least one record."""
    sql = "SELECT length(value) FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    rows = connection.execute(sql, (extent.row(extent.first), extent.row(offset), TRIM_ROWS_MAX)).fetchall()
    size = 0
    for i, (length,) in enumerate(rows):
        size += length
        if i and size > TRIM_BYTES_MAX:
            return extent.first + i
    return extent.first + len(rows)
