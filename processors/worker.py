"""The worker: takes records off the log, runs operators over them, puts what comes of them on it again.

The commit, in this order:

1. read records of the operators' topic from the offset on;
2. step the operators over them;
3. append what comes of them in parts, where it is more than one (operators.PART_BYTES_MAX): few
   readings can have millions of rows, which no storage takes in one transaction;
4. commit: append the last part and move the consumer's position ``done``, all or nothing;
5. now and then, dump what changed of the state, which is saved with the offset it stands at while the
   next batches are worked on (processors.worker_saver).

A kill between any two of them loses nothing: what came between the saved state and ``done`` is stepped
again, and its results, which are on the log already, are dropped. Nothing is said twice, except parts
before the last one, when the kill comes among them: ``done`` is still before all of them, so that they
are said again, the same revisions with the same figures. Of these a store keeps one, and its history
gets none more, since positions and revisions of what was reported ascend together. Whoever has lost the
partition to somebody else is told so by the commit, and stops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import structlog

from bus.log import Log, Record
from metering.errors import Unavailable
from processors.operators import Operators, Part
from processors.worker_saver import Saver
from processors.worker_thread import apart

_log = structlog.get_logger(__name__)

BATCH_RECORDS_MAX, BATCH_RECORD_BYTES = 500, 1 << 14
RETRY_S = 0.5
REST_RATIO, REST_S_MAX = 3, 0.1
IDLE_S = 1.0


def records_max(bytes_max: int) -> int:
    """How many records are taken at once, where they may have so many bytes."""
    return max(BATCH_RECORDS_MAX, bytes_max // BATCH_RECORD_BYTES)


class Worker:
    """One partition's processor. ``run`` until ``stop``; plain attributes for metrics.

    ``saving``: workers that share it save one after the other, as a state that is saved is in memory twice.
    ``saved``: called each time the state was saved, when much of what was in memory is not any more.
    ``clock_s``: by which it rests and saves; a simulated world has one of its own.
    """

    def __init__(
        self,
        log: Log,
        operators: Operators,
        *,
        partition: int = 0,
        saving: asyncio.Lock | None = None,
        saved: Callable[[], None] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._operators = operators
        self._clock_s = clock_s
        self._topic, self._consumer = operators.topic, operators.consumer
        self._partition = partition
        self.offset = 0
        self.end = 0
        self.moved_s = self._clock_s()
        self.waiting_stamp_ms = 0
        self.error = ""
        self.running = False
        self.steps = 0
        self._done = 0
        """Results of everything before it are on the log."""
        self._ahead = False
        """Whether the operators have taken records whose results are not on the log yet."""
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        turn = saving or asyncio.Lock()
        self.saver = Saver(
            log, operators, partition, turn=turn, stopping=self._stopping, saved=saved, clock_s=clock_s
        )

    async def start(self) -> bool:
        """Takes up the saved state; false when it is damaged or of another site file, and then forgotten.

        After false this worker is of no use any more: make another one.
        """
        snapshot = await self._log.load(self._consumer, self._partition)
        if not await asyncio.to_thread(self._taken_up, snapshot.chunks):
            await self._log.forget(self._consumer, self._partition)
            return False
        self.offset = self.saver.offset = snapshot.offset
        self._done = snapshot.done
        return True

    def _taken_up(self, chunks: Mapping[str, bytes]) -> bool:
        """Whether the operators have the saved state now. A damaged one is worth no more than none at all."""
        try:
            if not self._operators.fits(chunks):
                return False
            self._operators.load(chunks)
        except Unavailable:  # which is no damage
            raise
        except Exception as error:  # noqa: BLE001 bytes of a damaged disk may lead to anything
            _log.warning("the saved state cannot be taken up", cause=repr(error))
            return False
        return True

    async def run(self) -> None:
        """Works until ``stop``; what storage cannot take now is tried again, for ever.

        Raises NotOwner when somebody else has taken over the partition.
        """
        self._stopped.clear()
        self.running = True
        try:
            while not self._stopping.is_set():
                await self._once()
            await self.saver.finish(None if self._ahead else self.offset)
        finally:
            await self.saver.end()
            self.running = False
            self._stopped.set()

    async def stop(self) -> None:
        """Ends ``run`` after the batch in hand, state saved."""
        self._stopping.set()
        await self._stopped.wait()

    async def _once(self) -> None:
        await self.saver.save_if_due(self.offset)
        try:
            records = await self._log.read(
                self._topic,
                self.offset,
                partition=self._partition,
                records_max=records_max(self._operators.batch_bytes_max),
                bytes_max=self._operators.batch_bytes_max,
            )
            self.end = await self._log.end(self._topic, self._partition)
            doing = self._work(records) if records else self._idle()
            del records  # or it would hold them until their results are said
            await doing
            if self.error:
                _log.info("results are written again")
                self.error = ""
        except Unavailable as error:
            await self._pause(error)

    async def _work(self, records: list[Record]) -> None:
        said = records[0].offset < self._done
        if said:
            records = [record for record in records if record.offset < self._done]
        self.waiting_stamp_ms = records[0].stamp_ms
        self._ahead, started_s = True, self._clock_s()
        offset = records[-1].offset + 1
        parts = self._operators.parts(records)
        del records
        if not await self._told(parts, offset, said=said):
            return
        self.offset = offset
        self._ahead = False
        self.moved_s = self._clock_s()
        self.steps += 1
        await self._rest(self.moved_s - started_s)

    async def _told(self, parts: Iterator[Part], offset: int, *, said: bool) -> bool:
        """Takes all parts, and says them where they were not ``said``; false when it was stopped before."""
        while (part := await apart(next, parts, None)) is not None:
            if not said and not await self._committed(part, offset):
                return False
        return True

    async def _committed(self, part: Part, offset: int) -> bool:
        """Says results, however long that takes; false when it was stopped before."""
        while True:
            try:
                if part.last:
                    await self._log.commit(self._consumer, offset, part.topics, self._partition)
                    self._done = offset
                else:
                    await self._log.commit_part(self._consumer, part.topics, self._partition)
                return True
            except Unavailable as error:  # the operators have moved on: only the writing is repeated
                await self._pause(error)
            if self._stopping.is_set():
                return False

    async def _rest(self, worked_s: float) -> None:
        """With nothing waiting, lets readings gather: a trickle costs a quarter of a core at most."""
        if await self._log.end(self._topic, self._partition) <= self.offset + 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(REST_RATIO * worked_s, REST_S_MAX))

    async def _idle(self) -> None:
        self.moved_s = self._clock_s()
        waits = [
            asyncio.ensure_future(self._log.wait(self._topic, self.offset, IDLE_S, self._partition)),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _pause(self, error: Unavailable) -> None:
        if not self.error:
            _log.error("results cannot be written now, readings wait on the log", cause=str(error))
        self.error = str(error)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), RETRY_S)
