"""A worker on one register, and what it said."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bus.frames import decode_table, encode_readings
from bus.log import READINGS, RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.roster import Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site
from processors.worker import Worker
from tests.processors.log_driver import Reading, as_readings

SITE = """
meterflow: 1
plants:
  - id: p
    time_zone: UTC
    points:
      - {id: e, measures: electricity, reads: register, unit: kWh, expect_every: 60s, limit: 900 kW}
"""
START_MS = 1_767_571_200_000  # 2026-01-05T00:00Z
MINUTE_MS = 60_000


def one_register(tmp_path: Path) -> Roster:
    """One plant with one register."""
    (tmp_path / "site.yaml").write_text(SITE)
    return compile_roster(load_site(tmp_path / "site.yaml"))


def minutes(*which: int) -> list[Entry]:
    """A record of a reading at each of these minutes; the register counts a kWh a minute."""
    out = []
    for minute in which:
        at_ms = START_MS + minute * MINUTE_MS
        frame = encode_readings(as_readings([Reading("p", "e", at_ms, str(minute))], at_ms))
        out.append(Entry("p", frame, at_ms))
    return out


async def worked(worker: Worker, log: MemoryLog) -> None:
    """Runs a worker until it has done all there is, then ends it as a kill does: without saving."""
    task = asyncio.create_task(worker.run())
    while worker.offset < await log.end(READINGS) and not task.done():  # noqa: ASYNC110 a plain number
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def said(log: MemoryLog) -> list[dict[str, Any]]:
    """All rows of ``interval`` on the log, in their order."""
    frames = [decode_table(record.value) for record in await log.read(RESULTS, 0)]
    return [row for name, rows in frames if name == "interval" for row in rows.to_pylist()]


def run(test: Coroutine[Any, Any, None]) -> None:
    """A coroutine to its end, which is near."""
    asyncio.run(asyncio.wait_for(test, 30))
