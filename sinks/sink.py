"""From the log into the store: results and rejected messages, as fast as they come, none skipped.

The batching is natural: whatever came while the last batch was being stored is the next one. When
it has caught up, the sink rests three times as long as that took, so that a trickle of results never
costs more than a quarter of a core.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa

from bus.frames import decode_table
from bus.log import REJECTED, RESULTS, Log, Record
from metering.errors import Unavailable, UsageError
from sinks.store_duckdb import DuckStore
from sinks.waits import placed, rest, until_a_record

log = logging.getLogger(__name__)

Frame = tuple[str, pa.Table]
BATCH_BYTES_MAX = 2 << 20
"""Of encoded records: some 100,000 rows, 30 MB when decoded."""
BATCH_BYTES_MIN = 64 << 10
"""What a batch is halved down to while the store does not take it."""
KEPT_RECORDS = 1000
"""Stored results that stay in the log, for whoever else reads it."""
REST_RATIO, REST_S_MAX = 3, 0.25
RETRY_S = (0.1, 5.0)


class Sink:
    """Stores one partition's results. One ``run`` at a time; counters are plain and may be read any time.

    ``rows``: stored by table; ``flushes``; ``flush_s``: how long the last took; ``lag``: records not
    yet stored; ``failures``: flushes that the store refused; ``stalled``: true while it does;
    ``moved_s``: when it last stored something, or had nothing to store (monotonic clock). ``told`` is
    called with what was stored, after each flush.
    """

    def __init__(
        self,
        source: Log,
        store: DuckStore,
        *,
        partition: int = 0,
        kept_records: int = KEPT_RECORDS,
        told: Callable[[Sequence[Frame]], None] | None = None,
    ) -> None:
        self.rows: Counter[str] = Counter()
        self.flushes = 0
        self.flush_s = 0.0
        self.lag = 0
        self.failures = 0
        self.stalled = False
        self.moved_s = time.monotonic()
        self._log = source
        self._store = store
        self._partition = partition
        self._kept_records = kept_records
        self._told = told
        self._trimmed = 0
        self._bytes_max = BATCH_BYTES_MAX
        self._retry_s = RETRY_S[0]
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stored = asyncio.Event()
        self._stopped.set()

    async def incomplete(self) -> bool:
        """Whether the log lacks results that the store lacks too: then the processors must start anew.

        So it is after the store was lost, or restored from an old copy. Raises UsageError when the
        store is ahead of the log, which means that the two do not belong together.
        """
        position = self._store.position()
        await self._check_not_ahead()
        found = await self._log.read(RESULTS, position, partition=self._partition, records_max=1)
        first = found[0].offset if found else await self._log.end(RESULTS, self._partition)
        return first > position

    async def run(self) -> None:
        """Stores until ``stop``. What the store cannot take now is tried again, for ever.

        Raises MeterflowError for a record that cannot be read: nothing is skipped.
        """
        self._stopped.clear()
        try:
            await self._check_not_ahead()
            while not self._stopping.is_set():
                await self._sleep(await self._try())
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Ends ``run`` when the batch in hand is stored; the rest waits in the log."""
        self._stopping.set()
        await self._stopped.wait()

    async def caught_up(self) -> None:
        """Waits until everything that is in the log now is stored."""
        results, rejected = await self._ends()
        while self._store.position() < results or self._store.rejected_position() < rejected:
            stored = self._stored
            await stored.wait()

    async def _try(self) -> float:
        """One batch; the seconds to rest before the next."""
        try:
            return await self._step()
        except Unavailable as error:
            self._refused(error)
        self._retry_s, waited = min(self._retry_s * 2, RETRY_S[1]), self._retry_s
        return waited

    async def _step(self) -> float:
        ends = await self._measure()
        if not self.lag:
            self.moved_s = time.monotonic()
            await self._wait()
            return 0.0
        results = await self._read(RESULTS, self._store.position())
        rejected = await self._read(REJECTED, self._store.rejected_position())
        started = time.perf_counter()
        frames = await asyncio.to_thread(self._write, results, rejected, ends)
        self._taken(frames, time.perf_counter() - started)
        await self._measure()
        await self._trim()
        return 0.0 if self.lag else min(self.flush_s * REST_RATIO, REST_S_MAX)

    async def _read(self, topic: str, offset: int) -> list[Record]:
        return await self._log.read(topic, offset, partition=self._partition, bytes_max=self._bytes_max)

    def _write(
        self, results: Sequence[Record], rejected: Sequence[Record], ends: tuple[int, int]
    ) -> list[Frame]:
        """Where nothing could be read before an end that was known, the log has let go of it all."""
        frames = [decode_table(record.value) for record in results]
        frames += [placed(record) for record in rejected]
        self._store.write(frames, _behind(results, ends[0]), _behind(rejected, ends[1]))
        return frames

    def _taken(self, frames: Sequence[Frame], seconds: float) -> None:
        if self.stalled:
            log.warning("the result store takes rows again")
        self.stalled = False
        self._retry_s, self._bytes_max = RETRY_S[0], BATCH_BYTES_MAX
        for table, rows in frames:
            self.rows[table] += len(rows)
        if self._told is not None:
            self._told(frames)
        self.flushes += 1
        self.flush_s = seconds
        self.moved_s = time.monotonic()
        self._stored.set()
        self._stored = asyncio.Event()

    def _refused(self, error: Unavailable) -> None:
        """Said once, not at every try; smaller batches may pass where memory was short."""
        if not self.stalled:
            log.error("results cannot be stored now; they wait in the log: %s", error)
        self.stalled = True
        self.failures += 1
        self._bytes_max = max(self._bytes_max // 2, BATCH_BYTES_MIN)

    async def _trim(self) -> None:
        """Results can be had again from the readings, so the log need not keep them; rejected ones stay."""
        offset = self._store.position() - self._kept_records
        if offset - self._trimmed >= max(self._kept_records, 1):
            await self._log.trim(RESULTS, offset, self._partition)
            self._trimmed = offset

    async def _measure(self) -> tuple[int, int]:
        results, rejected = await self._ends()
        self.lag = results - self._store.position() + rejected - self._store.rejected_position()
        return results, rejected

    async def _ends(self) -> tuple[int, int]:
        results = await self._log.end(RESULTS, self._partition)
        return results, await self._log.end(REJECTED, self._partition)

    async def _check_not_ahead(self) -> None:
        results, rejected = await self._ends()
        if self._store.position() > results or self._store.rejected_position() > rejected:
            raise UsageError(
                "the result store is ahead of the log: they do not belong together",
                where=str(self._store.path),
                hint="Restore the log that belongs to it, or move the store away to have it rebuilt.",
            )

    async def _wait(self) -> None:
        """Until a record comes, or the stop."""
        offsets = {RESULTS: self._store.position(), REJECTED: self._store.rejected_position()}
        await until_a_record(self._log, offsets, self._partition, self._stopping)

    async def _sleep(self, seconds: float) -> None:
        await rest(seconds, self._stopping)


def _behind(records: Sequence[Record], end: int) -> int:
    return records[-1].offset + 1 if records else end
