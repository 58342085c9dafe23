"""The records of a log as they can be had again: from the archive where the log has let go of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bus.decision_frames import encode_decisions
from bus.frames import encode_readings
from bus.log import READINGS, Record
from bus.log_sqlite_look import kept, look
from meterflow.log_age import PARTITION
from metering.errors import UsageError
from sinks.archive_check import check
from sinks.archive_place import Place
from sinks.archive_reader import Archive

AT_ONCE = 500
"""Records of one piece."""
ROWS_MAX = 1 << 14
"""Readings of each plant in memory at a time, as far as files can be told apart."""


def all_records(folder: Path, place: Place, consumer: str) -> Iterator[list[Record]]:
    """Every record of a folder's log in order, some at a time; those that it let go of from the archive.

    They are without evidence. Raises UsageError where the archive does not have them, or the log lets go of
    more meanwhile. Nothing is written to either.
    """
    at, first = 0, kept(folder, READINGS, consumer, 0).first
    if first:
        see_that_it_has(place, first)
    for some in (archived_records(place, first, evidence=False), look(folder, READINGS, first=first)):
        for records in some:
            if records[0].offset != at or records[-1].offset != at + len(records) - 1:
                raise UsageError(
                    "the log has let go of readings meanwhile", where=str(folder), hint="Do it once more."
                )
            at += len(records)
            yield records


def see_that_it_has(place: Place, first: int) -> None:
    """Raises UsageError where an archive does not have all before an offset."""
    report = check(place, contents=False)
    if report.problems or report.until.get(PARTITION, 0) < first:
        raise UsageError(
            f"the log has let go of readings before offset {first}, and the archive does not have them all",
            where=place.where,
            hint="See: meterflow archive check. Put back what is missing from a copy of it; or name\n"
            "  the archive with --archive, where it is elsewhere.",
        )


def archived_records(place: Place, first: int, *, evidence: bool = True) -> Iterator[list[Record]]:
    """Those before an offset, in the order of the log.

    What the archive does not have, records that only let time go on, are such records, of the time before.
    """
    archive = Archive(place)
    plants = [_of_plant(archive, plant, evidence) for plant in archive.plants()]
    records = _with_ticks(heapq.merge(*plants, key=lambda record: record.offset), first)
    while some := list(islice(records, AT_ONCE)):
        yield some


def _with_ticks(records: Iterator[Record], first: int) -> Iterator[Record]:
    """All offsets, each with its log time: when it was received, and never before the one in front."""
    at, stamp_ms = 0, 0
    for record in records:
        if record.offset >= first:
            break
        stamp_ms, before_ms = max(stamp_ms, record.stamp_ms), stamp_ms or record.stamp_ms
        yield from (Record(offset, "", b"", before_ms) for offset in range(at, record.offset))
        yield Record(record.offset, record.key, record.value, stamp_ms)
        at = record.offset + 1
    yield from (Record(offset, "", b"", stamp_ms) for offset in range(at, first))


def _of_plant(archive: Archive, plant: str, evidence: bool) -> Iterator[Record]:
    decided = (
        Record(offset, plant, encode_decisions(plant, some), max(one.received_ms for one in some))
        for offset, some in archive.decisions(plant)
    )
    read = (
        Record(offset, plant, encode_readings(readings), int(readings.received.max()))
        for batch in archive.readings(plant, rows_max=ROWS_MAX, evidence=evidence)
        for offset, readings in batch.records()
    )
    return heapq.merge(decided, read, key=lambda record: record.offset)
