"""The file of the SQLite log: its schema, who owns it, and how it is opened.

``log.sqlite`` holds the records of all topics in one table. A record's id is its topic's id in
the high bits and its offset in the low ones, so that a topic is a range of one b-tree: no index,
and reading on is reading forward. Where a topic ends is not stored: it is its last record's
offset plus one, or ``first`` when all is trimmed, so that an append writes nothing but its rows.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bus.durable import sync_folder
from metering.errors import MeterflowError, Unavailable, UsageError

FILE_NAME = "log.sqlite"
LOCK_NAME = "lock"
FORMAT_VERSION = 2
APPLICATION_ID = 0x4D464C47
"""``MFLG`` in the file's header, so that another program's database is not taken for ours."""
OFFSET_BITS = 40
"""Offsets go to 10**12 in each of 8 million topics and partitions."""
BUSY_MS = 500
"""How long a call waits for a lock that somebody else holds on the file."""

_SCHEMA = (
    "CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL, partition INTEGER NOT NULL,"
    " first INTEGER NOT NULL, UNIQUE (name, partition))",
    "CREATE TABLE record (id INTEGER PRIMARY KEY, stamp_ms INTEGER NOT NULL, key TEXT NOT NULL,"
    " value BLOB NOT NULL)",
    "CREATE TABLE consumer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, partition INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, done INTEGER NOT NULL, UNIQUE (name, partition))",
    "CREATE TABLE chunk (consumer INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY (consumer, name))",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)
_FROM_1 = (
    "ALTER TABLE consumer ADD COLUMN done INTEGER NOT NULL DEFAULT 0",
    "UPDATE consumer SET done = offset",
    "PRAGMA user_version = 2",
)
"""Format 1 did not know how far a consumer's results reach beyond its saved state."""
_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA journal_size_limit = 67108864",
)

_MISTAKES = frozenset(
    (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE)
)
"""Bad code of a caller, or ours: raised as they are."""
_PASSING = {
    sqlite3.SQLITE_FULL: "Make room on that disk; work goes on by itself then.",
    sqlite3.SQLITE_IOERR: "Look at that disk and its free space; work goes on when it writes again.",
    sqlite3.SQLITE_BUSY: "Another program holds the file locked: close it.",
    sqlite3.SQLITE_LOCKED: "Another program holds the file locked: close it.",
    sqlite3.SQLITE_PROTOCOL: "Another program holds the file locked: close it.",
    sqlite3.SQLITE_READONLY: "Make the folder and its files writable for the user that runs this.",
    sqlite3.SQLITE_PERM: "Make the folder and its files writable for the user that runs this.",
    sqlite3.SQLITE_CANTOPEN: "Look whether the folder exists, is writable and has room.",
    sqlite3.SQLITE_NOMEM: "Give the machine more memory.",
}
"""What goes away without a new file, and what a person can do for it."""
_HINTS = _PASSING | {
    sqlite3.SQLITE_CORRUPT: "The file is damaged: restore the folder from a copy.",
    sqlite3.SQLITE_NOTADB: "The file is no log: restore the folder from a copy, or give another one.",
}


@dataclass(frozen=True, slots=True)
class Extent:
    """One topic's partition: its id in the file, and its kept offsets [first, end)."""

    id: int
    first: int = 0
    end: int = 0

    def row(self, offset: int) -> int:
        """The id of the record at an offset."""
        return self.id << OFFSET_BITS | offset


Topics = dict[tuple[str, int], Extent]


class Storage:
    """How the file is reached. Tests give another one, to cut the power or to break a disk."""

    def writer(self, path: Path) -> sqlite3.Connection:
        """A connection in autocommit mode, for use in one thread at a time."""
        return _connect(path, "rwc")

    def reader(self, path: Path) -> sqlite3.Connection:
        """The same, read-only: closed as the last one it would else write (a checkpoint)."""
        return _connect(path, "ro")

    def write_again(self, path: Path) -> None:
        """Writes a file's bytes once more in their places, where there is a file, and fsyncs it."""
        if path.exists():
            with path.open("r+b") as file:
                while piece := file.read(1 << 20):
                    file.seek(-len(piece), os.SEEK_CUR)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    timeout_s = BUSY_MS / 1000
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)


def wal_of(path: Path) -> Path:
    """The write-ahead log beside the file."""
    return path.with_name(path.name + "-wal")


@contextmanager
def our_errors(path: Path, doing: str) -> Iterator[None]:
    """Turns SQLite's errors into ours, once: what may pass by itself is Unavailable."""
    try:
        yield
    except OSError as error:
        what = f"the log cannot {doing}: {error.strerror}"
        raise Unavailable(what, where=str(path), hint=_PASSING[sqlite3.SQLITE_IOERR]) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # no code: no UTF-8
        if code in _MISTAKES:
            raise
        kind = Unavailable if code in _PASSING else MeterflowError
        hint = _HINTS.get(code, _HINTS[sqlite3.SQLITE_CORRUPT])
        raise kind(f"the log cannot {doing}: {error}", where=str(path), hint=hint) from error


def own(folder: Path) -> IO[str]:
    """Makes the folder ours until the returned file is closed. Raises UsageError when it is taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK_NAME).open("a+")
    except OSError as error:
        hint = "Give a folder that this user can write to."
        raise UsageError(f"cannot use the folder: {error.strerror}", where=str(folder), hint=hint) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _taken(folder, handle) from error
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    for named in (folder, folder.parent):
        sync_folder(named)
    return handle


def _taken(folder: Path, handle: IO[str]) -> UsageError:
    with handle:
        handle.seek(0)
        owner = handle.read(20).strip()
    process = f" (process {owner})" if owner else ""
    return UsageError(
        f"the service is already running on this folder{process}",
        where=str(folder),
        hint="Ask the running service, stop it first, or give another folder.",
    )


def open_writer(path: Path, storage: Storage) -> sqlite3.Connection:
    """The writing connection, its file made or checked. Raises UsageError on a file that is not ours."""
    connection = storage.writer(path)
    try:
        _check(path, connection)
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        _bring_up(connection, _pragma(connection, "user_version"))
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    version = _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (tables or version) and _pragma(connection, "application_id") != APPLICATION_ID:
        hint = "Give another folder."
        raise UsageError("this file is another program's database", where=str(path), hint=hint)
    if version > FORMAT_VERSION:
        raise UsageError(
            f"the log was written by a newer meterflow (format {version}, this one knows {FORMAT_VERSION})",
            where=str(path),
            hint="Update meterflow, or give another folder.",
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _bring_up(connection: sqlite3.Connection, version: int) -> None:
    """Makes a file what this version writes: a new one, or an older one, wholly or not at all."""
    statements = {0: _SCHEMA, 1: _FROM_1}.get(version, ())
    if not statements:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement)
    connection.execute("COMMIT")


def load_topics(connection: sqlite3.Connection) -> Topics:
    """Every topic's extent, from its last record."""
    rows = connection.execute("SELECT name, partition, id, first FROM topic").fetchall()
    return {(name, partition): _extent(connection, id_, first) for name, partition, id_, first in rows}


def _extent(connection: sqlite3.Connection, topic: int, first: int) -> Extent:
    low, high = topic << OFFSET_BITS, (topic + 1) << OFFSET_BITS
    sql = "SELECT max(id) FROM record WHERE id >= ? AND id < ?"
    last = connection.execute(sql, (low, high)).fetchone()[0]
    return Extent(topic, first, first if last is None else max(first, last - low + 1))


def file_bytes(path: Path) -> int:
    """The size of the file and its write-ahead log."""
    sizes = (_size(path), _size(wal_of(path)))
    return sum(sizes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
