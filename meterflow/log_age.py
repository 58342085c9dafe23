"""How long the log keeps readings: for ever, or as long as it is told, and never less than is needed.

Let go of is only what the archive holds, and the saved state has in it. What works everything out anew needs
all readings on the log, and says so where some have gone, instead of making results of a part of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from bus.decision_frames import DECISIONS_FORMAT
from bus.frames import OtherFormat, decode_readings
from bus.log import READINGS, Record
from bus.log_sqlite import SqliteLog
from bus.log_sqlite_look import kept
from ingest.clock import wall_clock_ms
from meterflow.folder import Folder
from metering.errors import MeterflowError, UsageError
from metering.instants import rfc3339
from processors.operators import Plants
from sinks.archive_check import check
from sinks.archive_place import Place

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
EVERY_S = 3600.0
PARTITION = 0
NEWEST_RECORDS, NEWEST_BYTES = 50, 1 << 24
"""So many records are looked at to know which version wrote last."""


@dataclass(frozen=True, slots=True)
class Due:
    """Records of readings on the log: ``first`` to ``end``, those before ``until`` may go. ``why``: not more.

    ``first_ms``, ``until_ms``: log times of the first record and of the first that stays; None: none.
    """

    first: int
    until: int
    end: int
    first_ms: int | None
    until_ms: int | None
    why: str

    @property
    def records(self) -> int:
        """How many may go."""
        return self.until - self.first


def due(folder: Path, place: Place, before_ms: int) -> Due:
    """What of a folder's log is older than an instant, archived, and in the saved state. Blocks."""
    found = kept(folder, READINGS, Plants.consumer, before_ms)
    until, why = found.older, ""
    if found.older > found.first:
        report = check(place, contents=False)
        archived = report.until.get(PARTITION, 0)
        if report.problems:
            until, why = found.first, "the archive is not whole: see meterflow archive check"
        elif archived < until:
            until, why = max(archived, found.first), "the archive does not hold more yet"
        if found.saved < until:
            until, why = max(found.saved, found.first), "a start needs the others: more was not saved yet"
    until_ms = kept(folder, READINGS, Plants.consumer, before_ms, at=until).at_ms
    return Due(found.first, until, found.end, found.first_ms, until_ms, why)


class LogKeeper:
    """Lets go of readings older than so many days, each hour. ``let_go``: records since the start."""

    def __init__(self, source: SqliteLog, folder: Folder, place: Place, days: float) -> None:
        self.let_go = 0
        self._log, self._folder, self._place, self._keep_ms = source, folder, place, round(days * DAY_MS)
        self._told = ""

    async def run(self) -> None:
        """For ever; what cannot be done now is tried again an hour later."""
        while True:
            try:
                await self.step()
            except MeterflowError as error:
                self._tell(str(error))
            await asyncio.sleep(EVERY_S)

    async def step(self) -> None:
        """Lets go of what is due now."""
        if self._folder.next() is not None:
            self._tell("a site file is being applied, which needs all of them")
            return
        before_ms = wall_clock_ms() - self._keep_ms
        found = await asyncio.to_thread(due, self._folder.path, self._place, before_ms)
        self._tell(found.why)
        if not found.records:
            return
        await self._log.trim(READINGS, found.until, PARTITION)
        self.let_go += found.records
        until = "all" if found.until_ms is None else f"those received before {rfc3339(found.until_ms)}"
        log.warning(
            "the log has let go of %d records of readings (%s, before offset %d); the archive has them",
            found.records,
            until,
            found.until,
        )

    def _tell(self, why: str) -> None:
        if why and why != self._told:
            log.warning("the log keeps readings that are older than it was told to: %s", why)
        self._told = why


async def check_whole(source: SqliteLog, why: str) -> None:
    """Raises UsageError where the log has let go of readings: results would be of a part of them; and where
    its newest ones are of a later version, before anything is put aside for what cannot be worked out.
    """
    if first := await source.first(READINGS, PARTITION):
        raise gone(first, why)
    newest = max(0, await source.end(READINGS, PARTITION) - NEWEST_RECORDS)
    for record in await source.read(READINGS, newest, records_max=NEWEST_RECORDS, bytes_max=NEWEST_BYTES):
        _check_known(record, why)


def _check_known(record: Record, why: str) -> None:
    try:
        if record.value:  # else it is a tick
            decode_readings(record.value)
    except OtherFormat as error:
        if error.found != DECISIONS_FORMAT:
            raise UsageError(f"{why}, but {error.what}", hint=error.hint) from None
    except MeterflowError:
        pass  # damaged: told when it is read, with its place


def gone(first: int, why: str) -> UsageError:
    """Nothing can be worked out anew from this log."""
    return UsageError(
        f"{why}, but the log has let go of the readings before offset {first} (--keep-log)",
        hint="Results of a part of the readings would be wrong. The archive has all; put them back with\n"
        "    meterflow archive restore --data DIR\n"
        "  and do it again. The log lets go of them anew when it is started with --keep-log.",
    )


def show(folder: Path, place: Place, days: float, *, as_json: bool) -> None:
    """What ``up --keep-log`` would let go of now."""
    found = due(folder, place, wall_clock_ms() - round(days * DAY_MS))
    if as_json:
        click.echo(json.dumps({**asdict(found), "records": found.records}))
        return
    since = "" if found.first_ms is None else f", the first of {rfc3339(found.first_ms)}"
    click.echo(f"the log has {found.end - found.first} records of readings{since}")
    if found.until_ms is not None:
        since = f", those before {rfc3339(found.until_ms)}"
    click.echo(
        f"up --keep-log {days:g} would let go of {found.records} of them{since if found.records else ''}"
    )
    if found.why:
        click.echo(f"not of more: {found.why}")
