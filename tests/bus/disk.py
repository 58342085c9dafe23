"""A disk whose power can be cut: SQLite on a file layer that writes down what it is asked to do.

The layer (a VFS, by apsw) passes everything on to real files and keeps a list of all writes and
fsyncs. From any prefix of that list it can lay out what a disk may hold after a power cut there:
what was fsynced, and of the rest each write whole, torn at sector edges, or not at all. It can
also fail: a failed fsync loses what was not yet synced for good, as Linux does, while the
programs still see it in the page cache.
"""

from __future__ import annotations

import errno
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal, cast

import apsw

from bus.log_sqlite_file import Storage

SECTOR_BYTES = 512
Operation = Literal["create", "write", "truncate", "delete", "sync", "sync failed"]
_numbers = count()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing asked of the disk; ``at`` is an offset, or the size to truncate to."""

    operation: Operation
    file: str
    at: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something the program knew at this moment, such as an acknowledgement."""

    what: object


@dataclass(slots=True)
class Disk(Storage):
    """``fault`` is asked before each write and fsync and may raise an error of apsw's."""

    events: list[Event | Mark] = field(default_factory=list)
    fault: Callable[[str, str], None] = field(default=lambda *_: None)
    settings: dict[str, str] = field(default_factory=dict)
    """Statements to be replaced, to see that a weaker setting is found out."""
    name: str = field(default_factory=lambda: f"recording-{next(_numbers)}")
    _layer: Any = None

    def writer(self, path: Path) -> sqlite3.Connection:
        """A connection on this disk."""
        return self._connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)

    def reader(self, path: Path) -> sqlite3.Connection:
        """The same, read-only."""
        return self._connect(path, apsw.SQLITE_OPEN_READONLY)

    def write_again(self, path: Path) -> None:
        """As the log does it; the bytes are the same, so the file itself need not be touched."""
        if path.exists():
            self._try("write", path.name)
            self.events.append(Event("write", path.name, 0, path.read_bytes()))
            self._try("sync", path.name)
            self.events.append(Event("sync", path.name))

    def _try(self, operation: str, file: str) -> None:
        try:
            self.fault(operation, file)
        except apsw.Error as error:
            if operation == "sync":
                self.events.append(Event("sync failed", file))
            raise OSError(errno.EIO, "injected") from error

    def _connect(self, path: Path, flags: int) -> sqlite3.Connection:
        self._layer = self._layer or _Layer(self)
        with _errors():
            connection = apsw.Connection(str(path), flags, self.name)
        connection.set_busy_timeout(500)
        return cast("sqlite3.Connection", _Connection(connection, self.settings))

    def mark(self, what: object) -> None:
        """Notes an acknowledgement among the events."""
        self.events.append(Mark(what))


class _Layer(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        return _File(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.disk.events.append(Event("delete", Path(filename).name))


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.file = Path(path or "temporary").name
        if path and not Path(path).exists():
            disk.events.append(Event("create", self.file))
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.fault("write", self.file)
        self.disk.events.append(Event("write", self.file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self.disk.events.append(Event("truncate", self.file, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        try:
            self.disk.fault("sync", self.file)
        except apsw.Error:
            self.disk.events.append(Event("sync failed", self.file))
            raise
        self.disk.events.append(Event("sync", self.file))


class _Connection:
    """As much of sqlite3's connection as the log uses; its errors, too."""

    def __init__(self, connection: apsw.Connection, settings: dict[str, str]) -> None:
        self._connection = connection
        self._settings = settings

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Rows:
        with _errors():
            return _Rows(self._connection.execute(self._settings.get(sql, sql), tuple(values)).fetchall())

    def close(self) -> None:
        with _errors():
            self._connection.close()


class _Rows:
    def __init__(self, rows: list[Any]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        ours = sqlite3.OperationalError(str(error))
        ours.sqlite_errorcode = getattr(error, "extendedresult", 0)
        raise ours from error


def broken(kind: type[apsw.Error], code: int) -> apsw.Error:
    """An error to be raised by ``Disk.fault``."""
    error: Any = kind("injected")
    error.extendedresult = code
    assert isinstance(error, apsw.Error)
    return error


@dataclass(slots=True)
class _Image:
    """One file: what is surely on the disk, and what was asked for since."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)


def after_power_cut(events: Sequence[Event | Mark], chooser: random.Random) -> dict[str, bytes]:
    """The files of a disk whose power was cut after these events, as the chooser lets it happen."""
    files: dict[str, _Image] = {}
    for event in events:
        if isinstance(event, Event):
            _happen(files, event)
    keep, tear = chooser.choice([(0.0, 0.0), (1.0, 0.0), (0.5, 0.3), (0.9, 0.5), (0.2, 0.9)])
    for image in files.values():
        for event in image.pending:
            if chooser.random() < keep:
                _apply(image.synced, event, chooser if chooser.random() < tear else None)
    return {name: bytes(image.synced) for name, image in files.items()}


def _happen(files: dict[str, _Image], event: Event) -> None:
    if event.operation == "delete":
        files.pop(event.file, None)
        return
    image = files.setdefault(event.file, _Image())
    if event.operation == "sync":
        for pending in image.pending:
            _apply(image.synced, pending, None)
    if event.operation in ("sync", "sync failed"):
        image.pending.clear()
    else:
        image.pending.append(event)


def _apply(content: bytearray, event: Event, tearing: random.Random | None) -> None:
    if event.operation == "truncate":
        del content[event.at :]
        return
    start, end = event.at, event.at + len(event.data)
    edges = [start, *range((start // SECTOR_BYTES + 1) * SECTOR_BYTES, end, SECTOR_BYTES), end]
    for low, high in pairwise(edges):
        if tearing is None or tearing.random() < 0.5:
            content.extend(bytes(max(0, high - len(content))))
            content[low:high] = event.data[low - start : high - start]
