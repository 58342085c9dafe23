"""Saves a worker's state beside its next batches, so that no reading waits for storage.

A dump is taken between two batches and holds what changed since the dump before. So none may be lost,
and none may overtake another: one that cannot be saved now is tried again until it is, and before that
no other is taken. Where the worker ends first, nothing more is saved: what a state does not hold is
worked out again from the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from bus.log import Log
from metering.errors import Unavailable
from processors.operators import Operators
from processors.worker_thread import apart

_log = structlog.get_logger(__name__)

SAVE_EVERY_S = 30.0
RETRY_S = 0.5


class Saver:
    """One partition's saved state, ``offset`` where it stands or will.

    ``turn``: those that share it save one after the other, as a state that is saved is in memory twice.
    ``stopping``: from then on nothing is tried again. ``saved``: called each time the state was saved, in the
    operators' thread. ``error``: why nothing can be saved now.
    """

    def __init__(
        self,
        log: Log,
        operators: Operators,
        partition: int,
        *,
        turn: asyncio.Lock,
        stopping: asyncio.Event,
        saved: Callable[[], None] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.offset = 0
        self.error = ""
        self._log = log
        self._operators = operators
        self._partition = partition
        self._turn = turn
        self._stopping = stopping
        self._after = saved
        self._clock_s = clock_s
        self._begun_s = self._clock_s()
        self._saving: asyncio.Task[bool] | None = None

    async def save_if_due(self, offset: int) -> None:
        """Called between batches, everything before ``offset`` in the state: dumps it, which is saved behind.

        Where another one is being saved it does nothing, and is to be called again. Raises what went wrong
        with the save before, NotOwner above all.
        """
        if not self._finished() or self._turn.locked() or self._clock_s() - self._begun_s < SAVE_EVERY_S:
            return
        self._begun_s = self._clock_s()
        if offset != self.offset:
            await self._begin(offset)

    async def finish(self, offset: int | None) -> None:
        """Waits for the save in hand; then saves the state at ``offset``, where one is given."""
        if self._saving is not None and not await self._saving:
            return
        if offset is not None and offset != self.offset:
            await self._begin(offset)
            await self.finish(None)

    async def end(self) -> None:
        """Gives up what is not saved yet."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)

    def _finished(self) -> bool:
        return self._saving is None or (self._saving.done() and self._saving.result())

    async def _begin(self, offset: int) -> None:
        await self._turn.acquire()
        try:
            chunks, dropped = await apart(self._operators.dump)
        except BaseException:
            self._turn.release()
            raise
        self.offset = offset
        self._saving = asyncio.create_task(self._saved(offset, chunks, dropped))
        self._saving.add_done_callback(lambda _: self._turn.release())

    async def _saved(self, offset: int, chunks: Mapping[str, bytes], dropped: Sequence[str]) -> bool:
        """Saves, however long that takes; false when it was stopped before."""
        while True:
            try:
                await self._log.save(self._operators.consumer, offset, chunks, dropped, self._partition)
            except Unavailable as error:
                if self._stopping.is_set():
                    return False
                self._note(str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), RETRY_S)
            else:
                self._note("")
                break
        del chunks
        await apart(self._operators.put_out)
        if self._after is not None:
            await apart(self._after)
        return True

    def _note(self, error: str) -> None:
        if error and not self.error:
            _log.error("the state cannot be saved now", cause=error)
        elif self.error and not error:
            _log.info("the state is saved again")
        self.error = error
