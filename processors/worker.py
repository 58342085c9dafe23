"""The worker: takes readings off the log, runs the operators, puts results on the log again.

The commit, in this order:

1. read records of readings from the offset on;
2. step the operators over them;
3. append the results (durable when append returns);
4. move the offset;
5. now and then, save what changed of the state together with the offset.

A kill between any two of them loses nothing: the work since the last saved state is done again and
gives the same rows, and stores keep the row with the highest position.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import pyarrow as pa
import structlog

from bus.frames import decode_readings, encode_table
from bus.log import READINGS, RESULTS, Entry, Log, Record
from metering.errors import Unavailable
from metering.roster import Roster
from processors import state
from processors.batch import LogRecord
from processors.engine import Engine
from processors.rows import Rows

_log = structlog.get_logger(__name__)

CONSUMER = "worker"
BATCH_BYTES_MAX = 1 << 20
BATCH_RECORDS_MAX = 500
SAVE_EVERY_S = 30.0
RETRY_S = 0.5
REST_RATIO, REST_S_MAX = 3, 0.1
IDLE_S = 1.0

Told = Callable[[list[tuple[str, pa.Table]]], None]


class Worker:
    """One partition's processor. ``run`` until ``stop``; plain attributes for metrics."""

    def __init__(self, log: Log, roster: Roster, *, partition: int = 0) -> None:
        self._log = log
        self._partition = partition
        self.engine = Engine(roster)
        self.rows = Rows(self.engine)
        self.offset = 0
        self.end = 0
        self.moved_s = time.monotonic()
        self.waiting_stamp_ms = 0
        self.error = ""
        self.running = False
        self.steps = 0
        self._ahead = False
        """Whether the operators have taken records whose results are not on the log yet."""
        self._saved_offset = 0
        self._saved_s = time.monotonic()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def start(self) -> bool:
        """Takes up the saved state; false when it is damaged or of another site file, and then forgotten.

        After false this worker is of no use any more: make another one.
        """
        snapshot = await self._log.load(CONSUMER, self._partition)
        if not await asyncio.to_thread(self._taken_up, snapshot.chunks):
            await self._log.forget(CONSUMER, self._partition)
            return False
        self.offset = self._saved_offset = snapshot.offset
        return True

    def _taken_up(self, chunks: Mapping[str, bytes]) -> bool:
        """Whether the engine has the saved state now. A damaged one is worth no more than none at all."""
        try:
            if not state.fits(self.engine, chunks):
                return False
            state.load(self.engine, chunks)
        except Exception as error:  # noqa: BLE001 bytes of a damaged disk may lead to anything
            _log.warning("the saved state cannot be taken up", cause=repr(error))
            return False
        return True

    async def run(self) -> None:
        """Works until ``stop``; what storage cannot take now is tried again, for ever."""
        self._stopped.clear()
        self.running = True
        try:
            while not self._stopping.is_set():
                await self._once()
            if not self._ahead:
                await self._save()
        finally:
            self.running = False
            self._stopped.set()

    async def stop(self) -> None:
        """Ends ``run`` after the batch in hand, state saved."""
        self._stopping.set()
        await self._stopped.wait()

    async def _once(self) -> None:
        try:
            records = await self._log.read(
                READINGS,
                self.offset,
                partition=self._partition,
                records_max=BATCH_RECORDS_MAX,
                bytes_max=BATCH_BYTES_MAX,
            )
            self.end = await self._log.end(READINGS, self._partition)
            if records:
                await self._work(records)
            else:
                await self._idle()
            if self.error:
                _log.info("results are written again")
                self.error = ""
        except Unavailable as error:
            await self._pause(error)

    async def _work(self, records: list[Record]) -> None:
        self.waiting_stamp_ms = records[0].stamp_ms
        self._ahead, started_s = True, time.monotonic()
        entries = await asyncio.to_thread(self._step, records)
        while entries:
            try:
                await self._log.append({RESULTS: entries}, self._partition)
                break
            except Unavailable as error:  # the operators have moved on: only the writing is repeated
                await self._pause(error)
                if self._stopping.is_set():
                    return
        self.offset = records[-1].offset + 1
        self._ahead = False
        self.moved_s = time.monotonic()
        self.steps += 1
        await self._rest(self.moved_s - started_s)
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            await self._save()

    def _step(self, records: list[Record]) -> list[Entry]:
        batch = [
            LogRecord(record.offset, record.stamp_ms, decode_readings(record.value) if record.value else None)
            for record in records
        ]
        tables: dict[str, list[pa.Table]] = {}
        for step in self.engine.step(batch):
            for name, rows in self.rows.emit(step):
                tables.setdefault(name, []).append(rows)
        stamp = records[-1].stamp_ms
        return [Entry(name, encode_table(name, _together(parts)), stamp) for name, parts in tables.items()]

    async def _rest(self, worked_s: float) -> None:
        """With nothing waiting, lets readings gather: a trickle costs a quarter of a core at most."""
        if await self._log.end(READINGS, self._partition) <= self.offset + 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(REST_RATIO * worked_s, REST_S_MAX))

    async def _idle(self) -> None:
        self.moved_s = time.monotonic()
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            await self._save()
        waits = [
            asyncio.ensure_future(self._log.wait(READINGS, self.offset, IDLE_S, self._partition)),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _save(self) -> None:
        self._saved_s = time.monotonic()
        if self.offset == self._saved_offset:
            return
        chunks, dropped = await asyncio.to_thread(state.dump, self.engine)
        while True:
            try:
                await self._log.save(CONSUMER, self.offset, chunks, dropped, self._partition)
                break
            except Unavailable as error:
                if self._stopping.is_set():  # what was not saved is worked out again from the log
                    return
                await self._pause(error)
        self._saved_offset = self.offset

    async def _pause(self, error: Unavailable) -> None:
        if not self.error:
            _log.error("results cannot be written now, readings wait on the log", cause=str(error))
        self.error = str(error)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), RETRY_S)


def _together(parts: list[pa.Table]) -> pa.Table:
    return (
        parts[0]
        if len(parts) == 1
        else pa.concat_tables(parts, promote_options="default").unify_dictionaries()
    )
