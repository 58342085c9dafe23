"""A disk below the whole service: what it was asked to do, and what is on it after a power cut.

The layer is endurance_disk.c, compiled where it is needed. From any prefix of what it wrote down a
folder can be laid out as a disk may hold it: what was fsynced; of the rest each write whole, torn at
sector edges, or not at all. Names go their own way: they are kept in order, as by a journal, up to
the last fsync of a folder or any moment behind it; so a file may be there without its bytes.
"""

from __future__ import annotations

import mmap
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
SECTOR_BYTES = 512
_HEAD = struct.Struct("<BQQHH")
_CREATE, _WRITE, _TRUNCATE, _SYNC, _RENAME, _REMOVE = range(1, 7)
_CONTROL = struct.Struct("<5i64s")
_NOT_ON_DISK = ("-shm",)
"""SQLite's index of its write-ahead log is made anew by whoever opens the file first."""


def compiled(folder: Path) -> Path:
    """The layer as a library. Raises FileNotFoundError where there is no compiler."""
    library = folder / "disk.so"
    words = ["cc", "-O2", "-fPIC", "-shared", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return library


def has_compiler() -> bool:
    return shutil.which("cc") is not None


class Control:
    """What the layer does to files now; the service sees a change at once."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(4096))
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4096)

    def set(self, *, write_error: int = 0, sync_error: int = 0, delay_s: float = 0, part: str = "") -> None:
        """Which errors writes and fsyncs give, and how long each waits before; of paths with that part."""
        _, _, _, failed, delayed, _ = _CONTROL.unpack_from(self._map)
        told = write_error, sync_error, round(delay_s * 1e6), failed, delayed, part.encode()
        _CONTROL.pack_into(self._map, 0, *told)

    @property
    def failed(self) -> int:
        """How many calls have failed."""
        return int(_CONTROL.unpack_from(self._map)[3])

    @property
    def delayed(self) -> int:
        """How many calls had to wait."""
        return int(_CONTROL.unpack_from(self._map)[4])


def environment(
    library: Path, folder: Path, *, trace: Path | None = None, control: Control | None = None
) -> dict[str, str]:
    """What a process's environment has to have for the layer to be below it."""
    said = {"LD_PRELOAD": str(library), "ENDURANCE_FOLDER": str(folder)}
    if trace is not None:
        said["ENDURANCE_TRACE"] = str(trace)
    if control is not None:
        said["ENDURANCE_CONTROL"] = str(control.path)
    return said


@dataclass(frozen=True, slots=True)
class Event:
    """One operation; ``behind``: the length of the trace with it."""

    operation: int
    name: str
    other: str
    at: int
    data: bytes
    behind: int


def events_of(trace: Path) -> list[Event]:
    """What was written down, without what is never on a disk."""
    return [event for event in _read(trace.read_bytes()) if not event.name.endswith(_NOT_ON_DISK)]


def _read(content: bytes) -> Iterator[Event]:
    place = 0
    while place < len(content):
        operation, at, length, name_size, other_size = _HEAD.unpack_from(content, place)
        start = place + _HEAD.size
        edges = (start, start + name_size, start + name_size + other_size)
        place = edges[2] + length
        name, other = (content[low:high].decode() for low, high in pairwise(edges))
        yield Event(operation, name, other, at, content[edges[2] : place], place)


@dataclass(slots=True)
class _File:
    """One file: what is surely on the disk, and what was asked for since."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)


_Change = tuple[str, str, _File | None]
"""A name is another's now (first, second), is a file's (first, file), or is gone (first)."""


@dataclass(slots=True)
class Disk:
    """Takes events one after the other."""

    names: dict[str, _File] = field(default_factory=dict)
    """As the programs see them."""
    kept: dict[str, _File] = field(default_factory=dict)
    """As they surely are on the disk."""
    changes: list[_Change] = field(default_factory=list)

    def take(self, event: Event) -> None:
        if event.operation == _CREATE:
            self._change((event.name, "", _File()))
        elif event.operation == _RENAME:
            self._change((event.name, event.other, None))
        elif event.operation == _REMOVE:
            self._change((event.name, "", None))
        elif event.operation == _SYNC:
            self._sync(event.name)
        elif event.name in self.names:  # else it was opened before its name went
            self.names[event.name].pending.append(event)

    def _change(self, change: _Change) -> None:
        _renamed(self.names, change)
        self.changes.append(change)

    def _sync(self, name: str) -> None:
        file = self.names.get(name)
        if file is None:  # a folder
            for change in self.changes:
                _renamed(self.kept, change)
            self.changes.clear()
            return
        for event in file.pending:
            _apply(file.synced, event, None)
        file.pending.clear()

    def cut(self, folder: Path, chance: random.Random) -> None:
        """Lays out what may be there after a power cut now."""
        names = dict(self.kept)
        for change in self.changes[
            : chance.choice((0, len(self.changes), chance.randint(0, len(self.changes))))
        ]:
            _renamed(names, change)
        keep, tear = chance.choice([(0.0, 0.0), (1.0, 0.0), (0.5, 0.3), (0.9, 0.5), (0.2, 0.9)])
        for name, file in names.items():
            content = bytearray(file.synced)
            for event in file.pending:
                if chance.random() < keep:
                    _apply(content, event, chance if chance.random() < tear else None)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _renamed(names: dict[str, _File], change: _Change) -> None:
    name, other, file = change
    if file is not None:
        names[name] = file
    elif other:
        moved = names.pop(name, None)
        if moved is not None:
            names[other] = moved
    else:
        names.pop(name, None)


def _apply(content: bytearray, event: Event, tearing: random.Random | None) -> None:
    if event.operation == _TRUNCATE:
        content.extend(bytes(max(0, event.at - len(content))))
        del content[event.at :]
        return
    start, end = event.at, event.at + len(event.data)
    edges = [start, *range((start // SECTOR_BYTES + 1) * SECTOR_BYTES, end, SECTOR_BYTES), end]
    pieces: Sequence[tuple[int, int]] = list(pairwise(edges)) if tearing is not None else [(start, end)]
    for low, high in pieces:
        if tearing is None or tearing.random() < 0.5:
            content.extend(bytes(max(0, high - len(content))))
            content[low:high] = event.data[low - start : high - start]
