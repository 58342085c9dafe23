"""The SQLite log when the power is cut, at many moments and in many ways."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import apsw
import pytest

from bus.log import READINGS, RESULTS, Entry
from bus.log_sqlite import SqliteLog, open_log
from bus.log_sqlite_file import FILE_NAME
from metering.errors import MeterflowError, Unavailable
from tests.bus.disk import Disk, Event, Mark, after_power_cut, broken

LONG = os.environ.get("METERFLOW_LONG") == "1"
POINTS = 1200 if LONG else 150
ROUNDS = 12
CHECKPOINT_BYTES = 200_000


@dataclass(slots=True)
class Known:
    """What callers had been told by a moment."""

    appended: set[bytes] = field(default_factory=set)
    saved: int = 0


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of disks are laid out in it."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


async def until_taken(call: Callable[[], Awaitable[None]]) -> None:
    """Tries again as long as the log is unavailable, as its callers do."""
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(0)


async def append_some(log: SqliteLog, disk: Disk, caller: str) -> None:
    """Appends to two topics at once, values of any size."""
    chooser = random.Random(caller)
    for i in range(ROUNDS):
        value = f"{caller}/{i}/".encode() + chooser.randbytes(chooser.choice([0, 30, 500, 6000, 40_000]))
        topics = {READINGS: [Entry("plant-1", value, i)], RESULTS: [Entry("plant-1", value, i)]}
        await until_taken(partial(log.append, topics))
        disk.mark(value)


async def save_some(log: SqliteLog, disk: Disk, first: int) -> None:
    """Saves a state of three chunks, two of them kept, and trims one topic behind it."""
    for i in range(first, first + ROUNDS):
        await until_taken(partial(log.save, "books", i, chunks(i), [f"chunk {(i + 1) % 3}"]))
        disk.mark(i)
        await until_taken(partial(log.trim, READINGS, i))


def chunks(i: int) -> dict[str, bytes]:
    """What the save number i writes."""
    return {"offset": b"%d" % i, f"chunk {i % 3}": bytes(i * 400)}


async def lived(folder: Path, disk: Disk, life: int = 0, *, failing: bool = False) -> None:
    """A log's life, from opening it to closing it, with several callers at once."""
    log = await open_log(folder, storage=disk, checkpoint_bytes=CHECKPOINT_BYTES)
    if failing:
        disk.fault = spells_of_failing_fsyncs(life)
    callers = [append_some(log, disk, f"{life}/{caller}") for caller in range(3)]
    await asyncio.gather(*callers, save_some(log, disk, 1 + life * ROUNDS))
    if failing:
        assert log.metrics().reopened > 2
        await end_badly(log, disk)
    await log.close()
    disk.fault = no_fault


async def end_badly(log: SqliteLog, disk: Disk) -> None:
    """The last commit fails, and so does all that closing does."""
    disk.fault = always_failing_fsyncs
    with pytest.raises(Unavailable):
        await log.append({READINGS: [Entry("", b"lost", 0)], RESULTS: [Entry("", b"lost", 0)]})


def known(events: list[Event | Mark]) -> Known:
    """What had been acknowledged."""
    told = Known()
    for event in events:
        if isinstance(event, Mark) and isinstance(event.what, bytes):
            told.appended.add(event.what)
        elif isinstance(event, Mark):
            told.saved = cast("int", event.what)
    return told


async def faults(folder: Path, told: Known) -> list[str]:
    """What is wrong with the log in a folder, when so much had been acknowledged."""
    log = await open_log(folder)
    readings = await log.read(READINGS, 0, records_max=10_000, bytes_max=1 << 30)
    results = await log.read(RESULTS, 0, records_max=10_000, bytes_max=1 << 30)
    ends = await log.end(READINGS), await log.end(RESULTS)
    state = await log.load("books")
    await log.append({READINGS: [Entry("", b"goes on", 0)]})
    goes_on = await log.read(READINGS, ends[0])
    await log.close()
    first = readings[0].offset if readings else ends[0]
    wrong = {
        "an acknowledged record is lost": not told.appended <= {r.value for r in results},
        "offsets are not dense": [r.offset for r in results] != list(range(ends[1])),
        "an append is half there": ends[0] != ends[1],
        "topics differ": [r.value for r in readings] != [r.value for r in results[first:]],
        "more is trimmed than asked": first > told.saved,
        "a saved state is lost": state.offset not in (told.saved, told.saved + 1),
        "a saved state is torn": dict(state.chunks) != kept_chunks(state.offset),
        "it does not go on": [r.value for r in goes_on] != [b"goes on"],
        "the file is corrupt": integrity(folder) != "ok",
    }
    return [what for what, is_so in wrong.items() if is_so]


def kept_chunks(i: int) -> dict[str, bytes]:
    """The state after save number i: its chunks and the one before it that it did not drop."""
    if i < 2:
        return chunks(i) if i else {}
    return chunks(i - 1) | chunks(i)


def integrity(folder: Path) -> str:
    """SQLite's own check of every page."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


async def found_after_cuts(scratch: Path, events: list[Event | Mark], points: int) -> dict[str, list[str]]:
    """What is wrong after cutting the power at so many moments, by moment and seed."""
    found: dict[str, list[str]] = {}
    for number in range(points):
        moment = number * len(events) // points + 1
        disk = after_power_cut(events[:moment], random.Random(number))
        with TemporaryDirectory(dir=scratch) as folder:
            for name, content in disk.items():
                (Path(folder) / name).write_bytes(content)
            try:
                wrong = await faults(Path(folder), known(events[:moment]))
            except MeterflowError as error:
                wrong = [f"it does not open: {error}"]
        if wrong:
            found[f"moment {moment}, seed {number}"] = wrong
    return found


def no_fault(operation: str, file: str) -> None:
    """A disk in order."""


def always_failing_fsyncs(operation: str, _: str) -> None:
    """A disk that makes nothing durable any more."""
    if operation == "sync":
        raise broken(apsw.IOError, sqlite3.SQLITE_IOERR_FSYNC)


def spells_of_failing_fsyncs(seed: int) -> Callable[[str, str], None]:
    """Some fsyncs fail alone, some with those after them, also on closing and opening again."""
    chooser = random.Random(seed)
    failing = 0

    def fail(operation: str, file: str) -> None:
        nonlocal failing
        if operation == "sync":
            failing = failing - 1 if failing else chooser.choice([0] * 12 + [1, 2, 3, 4, 5])
            if failing:
                always_failing_fsyncs(operation, file)

    return fail


async def test_a_power_cut_loses_nothing_that_was_acknowledged(scratch: Path) -> None:
    """At any write or fsync, whatever the disk made of what was not synced: T5."""
    disk = Disk()
    await lived(scratch / "log", disk)
    assert await found_after_cuts(scratch, disk.events, POINTS) == {}


async def test_a_failed_fsync_before_a_power_cut_loses_nothing_either(scratch: Path) -> None:
    """The kernel forgets what a failed fsync was to write; the log writes it again before it goes on."""
    disk = Disk()
    for life in range(3):
        await lived(scratch / "log", disk, life, failing=True)
    assert await found_after_cuts(scratch, disk.events, POINTS) == {}


async def test_a_log_that_does_not_sync_each_commit_is_found_out(scratch: Path) -> None:
    """The cuts can tell: with synchronous = NORMAL they lose acknowledged records."""
    disk = Disk(settings={"PRAGMA synchronous = FULL": "PRAGMA synchronous = NORMAL"})
    await lived(scratch / "log", disk)
    found = await found_after_cuts(scratch, disk.events, 40)
    assert "an acknowledged record is lost" in {what for wrong in found.values() for what in wrong}
