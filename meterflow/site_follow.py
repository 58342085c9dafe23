"""A copy of ingest takes up a site file that was applied, between two batches, without a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from bus.log import SITES, Log
from ingest.clock import wall_clock_ms
from ingest.directory import Directory
from meterflow.given import SITE_FILE, load_roster, written
from meterflow.site_board import Applied, Board, Decoding
from metering.errors import MeterflowError, Unavailable
from metering.instants import rfc3339
from metering.roster import Roster

LOOK_S, RETRY_S, LEAVE_S = 1.0, 1.0, 2.0
_log = structlog.get_logger(__name__)


class Follower:
    """``start``, then ``run`` until cancelled, then ``leave``.

    ``switch``: decodes by another file from now on, and says since which offset in each partition.
    """

    def __init__(
        self,
        log: Log,
        given: Roster,
        copy: str,
        switch: Callable[[Directory, Applied], Awaitable[list[int]]],
    ) -> None:
        self._log, self._given, self._copy, self._switch = log, given.version, copy, switch
        self._board = Board(log)
        self._version, self._since = given.version, [0] * log.partitions
        self._taken: Applied | None = None

    async def start(self, given: Roster) -> tuple[Roster, Applied | None]:
        """What counts: the file that was applied since this one was given, or this one."""
        await self._board.look()
        self._taken = self._board.site
        applied = self._board.instead_of(given.version)
        if applied is None:
            return given, None
        _log.warning(
            "the site file in force is the one that was applied; the one given is older",
            applied=rfc3339(applied.at_ms),
            version=applied.version,
        )
        self._version = applied.version
        return await asyncio.to_thread(roster_of, applied), applied

    async def run(self, since: list[int]) -> None:
        """Says by which file this copy decodes, and takes up each one that is applied."""
        self._since = since
        asked, told = self._board.asked, False
        while True:
            try:
                if not told or self._board.asked is not asked:
                    asked, told = self._board.asked, False
                    await self._say()
                    told = True
                await self._log.wait(SITES, self._board.read, LOOK_S)
                await self._board.look()
                if self._board.site is not self._taken:
                    await self._take()
                    told = False
            except Unavailable as error:
                _log.warning("the topic of site files does not answer", cause=str(error))
                await asyncio.sleep(RETRY_S)

    async def leave(self) -> None:
        """Says that this copy has stopped, if that can be said at once."""
        with suppress(MeterflowError, TimeoutError):
            await asyncio.wait_for(self._say(gone=True), LEAVE_S)

    async def _take(self) -> None:
        applied = self._board.site
        assert applied is not None
        try:
            roster = await asyncio.to_thread(roster_of, applied)
        except Unavailable:
            raise
        except MeterflowError as error:
            _log.error("the site file that was applied is not taken: the one before stays", cause=str(error))
        else:
            directory = await asyncio.to_thread(Directory, roster)
            self._since = await self._switch(directory, applied)
            self._version = applied.version
            _log.info("decodes by the site file that was applied", version=self._version, since=self._since)
        self._taken = applied

    async def _say(self, *, gone: bool = False) -> None:
        what = Decoding(self._given, self._version, self._since, wall_clock_ms(), gone)
        await self._board.say_copy(self._copy, what)


def roster_of(applied: Applied) -> Roster:
    """The roster of a file that was applied. Raises UsageError for one that this version does not take."""
    with written(applied.contents()) as folder:
        return load_roster(folder / SITE_FILE)
