"""What every ingest puts on the log beside readings: the time while there are none, and its books.

Patience runs on the log's own time, so somebody has to say that it passes. But only who listens may:
where nobody can be heard, silence says nothing about the meters.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from bus.frames import encode_rows
from bus.log import READINGS, RESULTS, Entry, Log
from bus.partition import partition_of
from ingest.counters import Counters
from ingest.intake import Intake
from metering.errors import Unavailable

TICK_S = 5.0

_Books = tuple[int, int, int]


class Ingest(Protocol):
    """An endpoint or a collector."""

    @property
    def intake(self) -> Intake: ...

    @property
    def counters(self) -> Counters: ...

    @property
    def listening(self) -> bool:
        """Whether a reading sent now would come."""


class Ticker:
    """Ticks on quiet partitions, and rows of ``hop``, for one ingest. ``run`` until cancelled.

    ``name``: which of several ingests this is, '' for the only one; its hop is ``ingest`` or ``ingest/NAME``.
    """

    def __init__(self, log: Log, ingest: Ingest, *, name: str = "", tick_s: float = TICK_S) -> None:
        self._log, self._ingest, self._tick_s = log, ingest, tick_s
        self.hop = f"ingest/{name}" if name else "ingest"
        self._ends: dict[int, int] = {}
        self._said: dict[str, _Books] = {}

    async def run(self) -> None:
        """Once every ``tick_s``; what the log cannot take now is said the next time."""
        while True:
            await asyncio.sleep(self._tick_s)
            with suppress(Unavailable):  # readings wait, too; the intake tells
                await self.tick()
            with suppress(Unavailable):
                await self.tell_books()

    async def tick(self) -> None:
        """Puts the time on every partition on which no record came since the last call.

        Not while readings are on their way to the log: their stamps are older. Not after a time of
        not listening either, before a whole span of listening has passed.
        """
        if not self._ingest.listening or self._ingest.intake.busy:
            self._ends.clear()
            return
        for partition in range(self._log.partitions):
            end = await self._log.end(READINGS, partition)
            if self._ends.get(partition) == end and not self._ingest.intake.busy:
                tick = Entry("", b"", self._ingest.intake.now_ms())
                await self._log.append({READINGS: [tick]}, partition)
                end = await self._log.end(READINGS, partition)
            self._ends[partition] = end

    def tell_anew(self) -> None:
        """All books are told again, as a store that is new does not have them."""
        self._said.clear()

    def move(self, log: Log) -> None:
        """From now on the books are among the results of this log: those of another site file."""
        self._log = log
        self.tell_anew()

    async def tell_books(self) -> None:
        """Puts the books of every plant that has changed, since the ingest was made, on its partition."""
        books = self._ingest.counters.by_plant.items()
        now = {plant: (hop.received, hop.accepted, hop.rejected) for plant, hop in books}
        changed: dict[int, dict[str, _Books]] = {}
        for plant, counts in now.items():
            if self._said.get(plant) != counts:
                changed.setdefault(partition_of(plant, self._log.partitions), {})[plant] = counts
        for partition, plants in changed.items():
            stamp_ms, position = self._ingest.intake.now_ms(), await self._log.end(READINGS, partition)
            rows = [self._row(plant, counts, stamp_ms) for plant, counts in plants.items()]
            await self._log.append(
                {RESULTS: [Entry("hop", encode_rows("hop", rows, position), stamp_ms)]}, partition
            )
            self._said |= plants

    def _row(self, plant: str, counts: _Books, stamp_ms: int) -> dict[str, object]:
        received, accepted, rejected = counts
        return {
            "hop": self.hop,
            "plant": plant,
            "received": received,
            "accepted": accepted,
            "duplicate": 0,
            "rejected": rejected,
            "balance": received - accepted - rejected,
            "reported": stamp_ms,
        }
