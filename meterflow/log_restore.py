"""``meterflow archive restore``: readings that the log has let go of are put back on it from the archive.

Each record at its own offset, with the readings and the evidence that it had. What the archive does not have,
records that only let time go on, become such records again, of the log time before them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from bus.decision_frames import encode_decisions
from bus.frames import encode_readings
from bus.log import READINGS, Record
from bus.log_sqlite import open_log
from meterflow.log_age import PARTITION
from metering.errors import UsageError
from sinks.archive_check import check
from sinks.archive_place import Place
from sinks.archive_reader import Archive

AT_ONCE = 500
"""Records of one transaction."""

Ints = NDArray[np.int64]


def restore(folder: Path, place: Place) -> None:
    """Raises UsageError where a service runs, or the archive does not have all that is to be put back."""
    records = asyncio.run(_restore(folder, place))
    click.echo(f"{records} records are on the log again" if records else "the log has all of its readings")


async def _restore(folder: Path, place: Place) -> int:
    log = await open_log(folder)
    try:
        first = await log.first(READINGS, PARTITION)
        if not first:
            return 0
        _see_that_it_has(place, first)
        archive = Archive(place)
        stamps = _stamps(archive, first)
        some: list[Record] = []
        for record in _records(archive, first, stamps):
            some.append(record)
            if len(some) == AT_ONCE:
                await log.put_back(READINGS, some, PARTITION)
                some = []
        await log.put_back(READINGS, some, PARTITION, first=0)
        return first
    finally:
        await log.close()


def _see_that_it_has(place: Place, first: int) -> None:
    report = check(place, contents=False)
    if report.problems or report.until.get(PARTITION, 0) < first:
        raise UsageError(
            f"the archive does not have all records before offset {first}",
            where=place.where,
            hint="See: meterflow archive check. Put back what is missing from a copy of the archive.",
        )


def _stamps(archive: Archive, first: int) -> Ints:
    """The log time of each record: when it was received, and never before the one in front of it."""
    stamps = np.zeros(first, np.int64)
    for plant in archive.plants():
        for batch in archive.readings(plant, evidence=False):
            mine = batch.offset < first
            np.maximum.at(stamps, batch.offset[mine], batch.readings.received[mine])
        for offset, decisions in archive.decisions(plant):
            if offset < first:
                stamps[offset] = max(one.received_ms for one in decisions)
    known = np.flatnonzero(stamps)
    if len(known):
        stamps[: known[0]] = stamps[known[0]]
    return np.maximum.accumulate(stamps)


def _records(archive: Archive, first: int, stamps: Ints) -> Iterator[Record]:
    """All of them, not in order; at last those that let time go on."""
    there = np.zeros(first, bool)
    for plant in archive.plants():
        for offset, decisions in archive.decisions(plant):
            if offset < first:
                there[offset] = True
                yield Record(offset, plant, encode_decisions(plant, decisions), int(stamps[offset]))
        for batch in archive.readings(plant):
            for offset, readings in batch.records():
                if offset < first:
                    there[offset] = True
                    yield Record(offset, plant, encode_readings(readings), int(stamps[offset]))
    for offset in np.flatnonzero(~there).tolist():
        yield Record(offset, "", b"", int(stamps[offset]))
