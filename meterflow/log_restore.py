"""``meterflow archive restore``: readings that the log has let go of are put back on it from the archive.

Each record at its own offset, with the readings and the evidence that it had. What the archive does not have,
records that only let time go on, become such records again, of the log time before them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bus.log import READINGS
from bus.log_sqlite import open_log
from meterflow.archive_records import archived_records, see_that_it_has
from meterflow.log_age import PARTITION
from sinks.archive_place import Place


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
        see_that_it_has(place, first)
        for some in archived_records(place, first):
            await log.put_back(READINGS, some, PARTITION)
        await log.put_back(READINGS, [], PARTITION, first=0)
        return first
    finally:
        await log.close()
