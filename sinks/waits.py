"""What the sinks do alike: look at the log, wait for records or the stop, rest, place rejected rows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pyarrow as pa

from bus.frames import decode_table
from bus.log import Log, Record
from metering.tables import POSITION

IDLE_S = 5.0


async def until_a_record(
    log: Log,
    offsets: Mapping[str, int],
    partition: int,
    stopping: asyncio.Event,
    patience_s: float | None = None,
) -> None:
    """Waits until one of the topics has a record at its offset, for the stop, or for five seconds.

    ``patience_s``: no longer than that.
    """
    idle_s = IDLE_S if patience_s is None else min(IDLE_S, patience_s)
    waits = [
        asyncio.ensure_future(log.wait(topic, offset, idle_s, partition)) for topic, offset in offsets.items()
    ]
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([*waits, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*waits, stopped):
            task.cancel()
        await asyncio.gather(*waits, stopped, return_exceptions=True)


async def rest(seconds: float, stopping: asyncio.Event) -> None:
    """Waits so long, or for the stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


def placed(record: Record) -> tuple[str, pa.Table]:
    """Rows of a rejected message; where they stand on the log tells a replay from a second one like it."""
    table, rows = decode_table(record.value)
    column = rows.schema.get_field_index(POSITION)
    return table, rows.set_column(column, POSITION, pa.array(np.full(len(rows), record.offset, np.int64)))
