"""What the archive gives back of a log is what was on it, record by record."""

from __future__ import annotations

import asyncio
import random
from itertools import chain
from pathlib import Path

import numpy as np

from bus.decision_frames import encode_decisions
from bus.frames import encode_readings
from bus.log import READINGS, Entry, Record
from bus.log_sqlite import open_log
from bus.log_sqlite_look import look
from meterflow.archive_records import all_records, archived_records
from meterflow.archive_tail import whole
from metering.decisions import Decision
from sinks.archive_place import FolderPlace
from sinks.archive_sink import ArchiveSink
from tests.sinks.archive_builders import usual

BEGIN_MS = 1_767_225_600_000
RECORDS = 120


def entry(chance: random.Random, number: int) -> Entry:
    """A record of one of three plants, readings or a decision; or one that only lets time go on."""
    at, plant = BEGIN_MS + number * 60_000, f"plant-{chance.randrange(3)}"
    kind = chance.random()
    if kind < 0.2:
        return Entry("", b"", at)
    if kind < 0.3:
        decision = Decision("main", None, at - 60_000, at, "reset", "ada", received_ms=at)
        return Entry(plant, encode_decisions(plant, [decision]), at)
    count = chance.randrange(1, 5)
    time = at - 1000 - np.arange(count) * chance.choice((1000, 86_400_000))
    late = usual(time, np.arange(count), plant=plant)
    late.received[:] = at
    return Entry(plant, encode_readings(late), at)


async def archived(folder: Path, place: FolderPlace, entries: list[Entry], kept: int) -> None:
    """A log of them, archived, that has let go of those before ``kept``; the last ten are not archived."""
    log = await open_log(folder)
    try:
        for number, one in enumerate(entries):
            if number == len(entries) - 10:
                sink = ArchiveSink(log, place, cost_max=2000)
                task = asyncio.ensure_future(sink.run())
                await sink.read_up_to(number)
                await sink.stop()
                await task
            await log.append({READINGS: [one]})
        await log.trim(READINGS, kept, 0)
    finally:
        await log.close()


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    """In order, each at its offset with its bytes; from the archive, and behind it from the log."""
    chance = random.Random(3)
    entries = [entry(chance, number) for number in range(RECORDS)]
    place, folder = FolderPlace(tmp_path / "archive"), tmp_path / "data"
    folder.mkdir()
    asyncio.run(archived(folder, place, entries, RECORDS - 30))
    wanted = [(n, one.key, one.value) for n, one in enumerate(entries)]
    found = list(chain(*all_records(folder, place, "nobody")))
    assert [(one.offset, one.key, one.value) for one in found] == wanted
    assert [one.stamp_ms for one in found if one.value] == [one.stamp_ms for one in entries if one.value]
    stamps = [one.stamp_ms for one in found]
    assert stamps == sorted(stamps)
    some: list[Record] = list(chain(*archived_records(place, 50)))
    assert [(one.offset, one.key, one.value) for one in some] == wanted[:50]


def test_what_is_not_archived_yet_is_found_on_the_log(tmp_path: Path) -> None:
    """Each reading and decision once, of both together."""
    chance = random.Random(4)
    entries = [entry(chance, number) for number in range(RECORDS)]
    place, folder = FolderPlace(tmp_path / "archive"), tmp_path / "data"
    folder.mkdir()
    asyncio.run(archived(folder, place, entries, 5))
    on_the_log = [one.offset for one in chain(*look(folder, READINGS, first=RECORDS - 10)) if one.value]
    with whole(folder, place) as both:
        found: list[int] = []
        for plant in ("plant-0", "plant-1", "plant-2"):
            found += [int(at) for batch in both.readings(plant) for at in np.unique(batch.offset)]
            found += [offset for offset, _ in both.decisions(plant)]
    assert sorted(found) == [n for n, one in enumerate(entries) if one.value]
    assert set(on_the_log) <= set(found)
