"""Power cuts of the whole service: its log, its saved state, its store and its archive on one disk."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bus.frames import decode_readings
from bus.log import READINGS, RESULTS, Log, Record
from bus.log_sqlite import open_log
from bus.log_sqlite_look import done
from meterflow.folder import Folder
from meterflow.given import load_roster
from metering.errors import MeterflowError
from metering.roster import Roster
from processors.operators import Plants
from processors.worker import Worker
from simulators.recording import Message
from sinks.archive_check import check
from sinks.archive_place import FolderPlace
from sinks.archive_sink import CONSUMER, ArchiveSink
from sinks.store_duckdb import open_store
from tests.endurance.endurance_disk import Disk, Event, compiled, environment, events_of
from tests.endurance.endurance_world import (
    Publisher,
    World,
    differences,
    ready,
    service_of,
    settled,
    simulated,
    unbalanced,
)
from tests.meterflow.helper import eventually

Key = tuple[str, str, int]
"""Plant, point, time."""


@dataclass(slots=True)
class Outcome:
    """``rebuilt``: stores and states that were found damaged or lost, and are worked out from the log."""

    points: int = 0
    restarts: int = 0
    events: int = 0
    rebuilt: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The closing lines of a run."""
        kinds = ", ".join(f"{what} {count}" for what, count in sorted(self.rebuilt.items())) or "nothing"
        return "\n".join(
            [
                *self.faults[:20],
                f"{self.points} cuts in {self.events} operations, {self.restarts} started again to the end",
                f"worked out anew: {kinds}",
                f"faults {len(self.faults)}",
            ]
        )


@dataclass(slots=True)
class Marks:
    """How many messages were acknowledged when the trace was so long, ascending."""

    lengths: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def note(self, trace: Path, publisher: Publisher) -> None:
        """The count first: what it counts is on a trace that may have grown since."""
        count = len(publisher.first)
        self.lengths.append(trace.stat().st_size)
        self.counts.append(count)

    def at(self, length: int) -> int:
        place = bisect_right(self.lengths, length)
        return self.counts[place - 1] if place else 0


def run(
    folder: Path, seed: int, points: int, restarts: int, readings: int, say: Callable[[str], None]
) -> Outcome:
    """Records a life of the service, cuts the power at so many points, and looks at what is left."""
    world = simulated(folder, seed, readings, plants=2)
    trace = folder / "trace"
    marks, messages = _lived(folder, world, trace)
    events, roster = events_of(trace), load_roster(world.site)
    outcome = Outcome(points=points, events=len(events))
    say(f"{len(events)} operations, {trace.stat().st_size >> 20} MB, {len(messages)} messages acknowledged")
    disk, chance, taken = Disk(), random.Random(seed), 0
    again = {points * (number + 1) // (restarts + 1) for number in range(restarts)}
    keys = [_key(message) for message in messages]
    for number in range(points):
        moment = len(events) * (number + 1) // points
        for event in events[taken:moment]:
            disk.take(event)
        taken = moment
        with _scratch() as scratch:
            disk.cut(Path(scratch) / "data", chance)
            known = keys[: marks.at(events[moment - 1].behind)]
            found = asyncio.run(_looked_at(Path(scratch) / "data", known, roster, outcome.rebuilt))
            if number in again:
                outcome.restarts += 1
                shutil.rmtree(Path(scratch) / "data")
                disk.cut(Path(scratch) / "data", chance)
                found += _started_again(Path(scratch), world)
        outcome.faults += [f"cut {number}, behind {_named(events[moment - 1])}: {what}" for what in found]
        if number % 100 == 99:
            say(f"{number + 1} cuts, {len(outcome.faults)} faults")
    return outcome


def _scratch() -> TemporaryDirectory[str]:
    memory = Path("/dev/shm")
    return TemporaryDirectory(dir=memory if memory.is_dir() else None)


def _named(event: Event) -> str:
    return f"operation {event.operation} of {event.name} at byte {event.behind} of the trace"


def _lived(folder: Path, world: World, trace: Path) -> tuple[Marks, list[Message]]:
    """Two lives of the service with a stop between them; what was acknowledged when."""
    service = service_of(world, folder / "data", "--archive-every", "0.5")
    service.environment = environment(compiled(folder), service.folder, trace=trace)
    publisher, marks = Publisher(world, service, 0, 1), Marks()
    publisher.start()
    for part in (0.5, 1.0):
        service.launch()
        ready(service)
        publisher.go_on(part, 4.0)
        until_s = time.monotonic() + 120
        while len(publisher.first) < int(part * publisher.messages) and time.monotonic() < until_s:
            marks.note(trace, publisher)
            time.sleep(0.01)
        settled(service, 120)
        service.stop()
        marks.note(trace, publisher)
    eventually(lambda: not publisher.is_alive(), 60, "everything acknowledged")
    assert not publisher.error, publisher.error
    return marks, publisher.first


def _key(message: Message) -> Key:
    _, _, plant, point = message.topic.split("/")
    return plant, point, int(msgspec.json.decode(message.payload)["time"])


async def _looked_at(folder: Path, known: list[Key], roster: Roster, rebuilt: Counter[str]) -> list[str]:
    """What is wrong with a folder; counts what is worked out anew, which is no fault."""
    try:
        log = await open_log(folder)
    except MeterflowError as error:
        return [f"the log does not open: {error}"]
    try:
        there = {key for record in await _all(log, READINGS) for key in _keys(record)}
        found = [f"{len(set(known) - there)} acknowledged readings are lost"] * (not there >= set(known))
        worker = Worker(log, Plants(roster))
        rebuilt["state"] += not await worker.start()
        if worker.offset > await log.end(READINGS):
            found.append("the saved state is ahead of the log")
        if known and Folder(folder).site() is None:  # it is written before anything is acknowledged
            found.append("the mark of the site file is lost: all would be worked out anew")
        found += await _store_faults(folder, log, rebuilt)
        found += await _archive_faults(folder, log)
    except MeterflowError as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        await log.close()
    return found


async def _all(log: Log, topic: str) -> list[Record]:
    return await log.read(topic, 0, records_max=1 << 20, bytes_max=1 << 40)


def _keys(record: Record) -> list[Key]:
    if not record.value:  # a tick
        return []
    readings = decode_readings(record.value)
    names = [readings.point.text(i) or "" for i in range(len(readings))]
    return [(readings.plant, name, at) for name, at in zip(names, readings.time.tolist(), strict=True)]


async def _store_faults(folder: Path, log: Log, rebuilt: Counter[str]) -> list[str]:
    fresh_file = not (folder / "results.duckdb").exists()
    store, fresh = open_store(folder / "results.duckdb")
    store.close()
    rebuilt["store"] += fresh and not fresh_file
    rebuilt["store not there"] += fresh_file
    ahead = store.position() > await log.end(RESULTS)
    return ["the store is ahead of the log"] if ahead else []


async def _archive_faults(folder: Path, log: Log) -> list[str]:
    """After a start of the archive, which clears up what was left half done."""
    place = FolderPlace(folder / "archive")
    sink = ArchiveSink(log, place, age_s=3600)
    running = asyncio.create_task(sink.run())
    read = asyncio.create_task(sink.read_up_to(await log.end(READINGS)))
    await asyncio.wait({running, read}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    read.cancel()
    await sink.stop()
    with suppress(asyncio.CancelledError):
        await running
    report = check(place, done(folder, CONSUMER))
    return [f"archive: {problem.kind} {problem.path}: {problem.what}" for problem in report.problems]


def _started_again(scratch: Path, world: World) -> list[str]:
    """The service on that folder, to which everything is published once more: the tables of compute."""
    service = service_of(world, scratch / "data", "--archive-every", "0.5")
    publisher = Publisher(world, service, 0, 1)
    try:
        service.launch()
        ready(service)
        publisher.go_on(1.0, 0.5)
        publisher.start()
        eventually(lambda: not publisher.is_alive(), 120, "everything acknowledged")
        settled(service, 120)
        found = [
            f"{table}: {missing} rows missing, {more} more"
            for table, (missing, more) in differences(service, world, scratch / "tables").items()
            if missing or more
        ]
        found += unbalanced(service)
        service.stop()
    except AssertionError as error:
        return [f"started again: {error}"]
    finally:
        if service.process is not None:
            service.kill()
    return found
