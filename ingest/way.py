"""What all ways into the log share: a decoder for the present roster, an intake, its books, watched tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import structlog

from bus.log import Log
from ingest.counters import Counters
from ingest.decode import Decoder, Delivery
from ingest.directory import Directory
from ingest.intake import Intake, Parcel
from metering.errors import Unavailable
from metering.roster import Roster

_log = structlog.get_logger(__name__)
_MESSAGE_BYTES = 500
_TAKE_S = 10.0
"""How long a message of our own may wait to become durable."""


class _Self:
    """The service itself as a source of parcels."""

    def __init__(self) -> None:
        self.durable = asyncio.Event()

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """The parcel is durable."""
        del ids, parcels
        self.durable.set()


class Way:
    """Runs in one event loop. ``roster`` may be assigned at any time: the next batch sees it.

    ``hold``: told to stop taking anything in, or to go on. ``title``: what it is called when it fails.
    """

    title = ""

    def __init__(
        self,
        log: Log,
        decoder: Decoder,
        clock_ms: Callable[[], int],
        gathered_bytes_max: int,
        hold: Callable[[bool], None],
    ) -> None:
        self.counters = Counters()
        self.decoder = decoder
        self.intake = Intake(log, decoder, self.counters, clock_ms, gathered_bytes_max, hold)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def roster(self) -> Roster:
        return self.decoder.roster

    @roster.setter
    def roster(self, roster: Roster) -> None:
        self.decoder.roster = roster

    async def change(self, directory: Directory, noted: Callable[[], Awaitable[None]]) -> None:
        """From one place in the log on, another roster: what ``noted`` puts there lies behind all that was
        decoded by the roster before, and before all that is by the new one.
        """
        async with self.intake.between_batches():
            await noted()
            self.decoder.know(directory)

    async def take(self, topic: str, payload: bytes) -> str:
        """A message of the service's own, like a client's: empty when it is durable, else why it is refused.

        Raises Unavailable when the log does not take it in time; it may still get there.
        """
        delivery = Delivery((topic,), (payload,), self.intake.now_ms())
        refused = self.decoder.decode([delivery]).rejected
        if refused:
            row = refused[0].row
            return f"{row['detail'] or row['reason']}"
        sender = _Self()
        self.counters.messages += 1
        self.intake.gather(Parcel(sender, delivery, (b"",)), len(payload) + _MESSAGE_BYTES)
        try:
            await asyncio.wait_for(sender.durable.wait(), _TAKE_S)
        except TimeoutError:
            what = f"the log does not take it now: {self.counters.append_error or 'no answer yet'}"
            raise Unavailable(what, hint="Look whether it is there before you send it again.") from None
        return ""

    async def watch(self) -> None:
        """Waits until it is stopped; raises what ended one of its tasks before."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled():
                task.result()

    def _begin(self, part: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs the intake, and beside it this part, until ``_end``; the part's task."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.intake.run()), loop.create_task(part)]
        for task in self._tasks:
            task.add_done_callback(self._report)
        return self._tasks[-1]

    async def _end(self) -> None:
        """The part first: it may still have something to say to the intake."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _report(self, task: asyncio.Task[None]) -> None:
        """A task ends when it is cancelled or its way is stopped; anything else must be seen."""
        if not task.cancelled() and task.exception() is not None:
            _log.error(f"{self.title} has failed and takes nothing more", exc_info=task.exception())
