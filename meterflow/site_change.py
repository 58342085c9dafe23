"""A changed site file while the service runs: worked out beside the old one, then in force at once.

    validate -> keep its files -> work out everything anew, beside -> caught up -> switch

Until the switch the old file is in force and nothing of it is touched; a change that fails or is stopped
leaves nothing. A service that was stopped or killed goes on with it at its next start.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from bus.log import READINGS
from bus.log_sqlite import SqliteLog
from ingest.directory import Directory
from meterflow import memory
from meterflow.folder import Folder
from meterflow.given import SITE_FILE, load_roster, site_files, written
from meterflow.paging import room_in
from meterflow.site_beside import NEXT, Beside
from meterflow.site_force import drop, keep
from meterflow.waits import until
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.policy_load import read_policy
from metering.roster import Roster
from processors.operators import Plants
from processors.worker import Worker
from sinks.archive_sink import ArchiveSink
from sinks.sink import Sink
from sinks.store_carry import compare
from sinks.store_duckdb import DuckStore, open_store

NEAR_S = 1.0
"""Comparing that takes no longer may wait for the switch."""
COMPARED_MOST = 3
"""So often before the switch: each time what came while the last time took."""
NEAR_RECORDS = 50
"""So near to the live worker it is caught up: what is left is a moment's work."""
LOOK_S = 0.05
RETRY_S = 1.0
BATCH_BYTES_MAX = 1 << 20
"""Of the log at once: the live worker waits for no more than one such batch."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Coming:
    """The next site file's parts. ``task``: its worker's."""

    roster: Roster
    path: Path
    directory: Directory
    plants: Plants
    beside: Beside
    worker: Worker
    task: asyncio.Task[None]


class Host(Protocol):
    """The running service."""

    folder: Folder
    log: SqliteLog
    archive: ArchiveSink
    store: DuckStore
    sink: Sink
    worker: Worker
    roster: Roster

    @property
    def keeper(self) -> object | None:
        """What lets go of old readings; None: nothing does."""

    async def switch(self, coming: Coming) -> None:
        """Puts the next site file in force."""


class SiteChange:
    """One change at a time; ``web.site_changes.Changes``."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._version = host.folder.next() or ""
        self._state, self._error = "working" if self._version else "none", ""
        self._worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None

    def picture(self) -> dict[str, Any]:
        """``state``: none, working, switching, in force, stopped or failed; ``records`` done, of how many.

        ``version``: of the newest change since the start, ``in_force``: of the file that is.
        """
        worker = self._worker
        return {
            "state": self._state,
            "version": self._version,
            "in_force": self._host.roster.version,
            "records": worker.offset if worker else 0,
            "of": worker.end if worker else 0,
            "error": self._error or (worker.error if worker else ""),
        }

    async def begin(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        """Raises UsageError for files that cannot be right, and while another change is under way."""
        roster, files = await asyncio.to_thread(_checked, files)
        if self._under_way():
            if roster.version == self._version:
                return self.picture()
            raise UsageError(
                "another site file is being applied",
                hint="Wait until it is in force, or stop it with: meterflow apply --stop",
            )
        if roster.version == self._host.roster.version:
            self._worker = None
            self._state, self._error, self._version = "in force", "", roster.version
            return self.picture()
        if self._host.keeper is not None or await self._host.log.first(READINGS):
            raise UsageError(
                "the log lets go of readings (--keep-log), and a new site file needs all of them",
                hint="Stop the service, put them back with meterflow archive restore, and start it without.",
            )
        folder = self._host.folder
        path = await asyncio.to_thread(keep, folder, roster.version, files)
        await self._clear()
        folder.note_next(roster.version)
        self._start(roster, path)
        return self.picture()

    async def resume(self) -> None:
        """Goes on with the change that the service was stopped in."""
        if self._state != "working" or self._task is not None:
            return
        path = self._host.folder.sites / self._version / SITE_FILE
        try:
            roster = await asyncio.to_thread(load_roster, path)
        except (MeterflowError, OSError) as error:
            _log.error("the site file that was being applied cannot be read any more", cause=str(error))
            self._state, self._error = "failed", str(error)
            await self._clear()
            return
        self._start(roster, path)

    async def stop(self) -> dict[str, Any]:
        """The change under way is given up. Raises UsageError where there is none, or it is too late."""
        if self._state != "working":
            raise UsageError("no site file is being worked out", hint="There is nothing to stop.")
        await self.pause()
        await self._clear()
        self._state, self._error, self._worker = "stopped", "", None
        return self.picture()

    async def pause(self) -> None:
        """The service stops: the next start goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _under_way(self) -> bool:
        return self._state in ("working", "switching")

    def _start(self, roster: Roster, path: Path) -> None:
        self._state, self._error, self._version = "working", "", roster.version
        self._task = asyncio.create_task(self._work(roster, path))

    async def _clear(self) -> None:
        await self._host.log.forget(NEXT)
        await asyncio.to_thread(drop, self._host.folder)

    async def _work(self, roster: Roster, path: Path) -> None:
        coming: Coming | None = None
        _log.info("a site file is being worked out beside the one in force", site=str(path))
        try:
            coming = await self._opened(roster, path)
            await self._caught_up(coming)
            await self._archived(coming)
            await self._compared(coming)
            self._state = "switching"
            await self._host.switch(coming)
            self._state = "in force"
            _log.info("the site file is in force", site=str(path))
        except asyncio.CancelledError:
            await self._end(coming)
            raise
        except Exception as error:
            if coming is not None and coming.beside.joined:
                raise
            self._state, self._error = "failed", str(error) or repr(error)
            _log.error("the site file is not applied, the one before stays in force", exc_info=error)
            await self._end(coming)
            await self._clear()

    async def _opened(self, roster: Roster, path: Path) -> Coming:
        """Its store and its worker's state, in step with each other: else both begin anew."""
        directory = await asyncio.to_thread(Directory, roster)
        for _ in range(2):
            store, fresh = await asyncio.to_thread(open_store, self._host.folder.next_store)
            try:
                room = room_in(self._host.folder.path)
                plants = await asyncio.to_thread(Plants, roster, room=room)
                plants.batch_bytes_max = max(BATCH_BYTES_MAX, plants.batch_bytes_max // 4)
                beside = Beside(self._host.log, store)
                if fresh:
                    await self._host.log.forget(NEXT)
                self._worker = worker = Worker(beside, plants, saved=memory.give_back)
                if await worker.start() and worker.offset <= store.position():
                    if not worker.offset:  # there is something that can be adopted
                        await self._host.log.save(NEXT, 0, {})
                    task = asyncio.create_task(worker.run())
                    return Coming(roster, path, directory, plants, beside, worker, task)
            except BaseException:
                store.close()
                raise
            store.close()
            await self._host.log.forget(NEXT)
            self._host.folder.next_store.unlink()
        raise MeterflowError("the state of the next site file cannot be taken up")

    async def _caught_up(self, coming: Coming) -> None:
        """Until there is nearly nothing left to be worked out. Raises what its worker failed of."""
        while True:
            if coming.task.done():
                coming.task.result()
            near = coming.worker.end and coming.worker.offset + NEAR_RECORDS >= self._host.worker.offset
            empty = not await self._host.log.end(READINGS)
            if empty or (near and await coming.beside.rejected_lag() <= NEAR_RECORDS):
                return
            await asyncio.sleep(LOOK_S)

    async def _compared(self, coming: Coming) -> None:
        """What will have to be told otherwise is worked out before, until hardly anything is left."""
        for _ in range(COMPARED_MOST):
            started_s = time.monotonic()
            await self._compare(coming)
            near = time.monotonic() - started_s < NEAR_S
            await self._caught_up(coming)
            if near:
                return

    async def _compare(self, coming: Coming) -> None:
        """Both at the same record at least; the live one goes on."""
        at = coming.beside.stand()
        try:
            await until(lambda: min(coming.worker.offset, self._host.worker.offset) >= at, coming.task)
            await self._host.sink.caught_up()
            stopped = threading.Event()
            try:
                await asyncio.to_thread(compare, coming.beside.store, self._host.store, stopped)
            finally:
                stopped.set()
        except Unavailable as error:
            self._error = error.what
            await asyncio.sleep(RETRY_S)
        else:
            self._error = ""
        finally:
            coming.beside.go_to(None)

    async def _archived(self, coming: Coming) -> None:
        """The archive has the file before readings name it."""
        while True:
            try:
                await self._host.archive.keep_site(site_files(coming.path, coming.roster))
            except Unavailable as error:
                self._error = f"the archive does not take the site file: {error.what}"
                await asyncio.sleep(RETRY_S)
            else:
                self._error = ""
                return

    async def _end(self, coming: Coming | None) -> None:
        if coming is None or coming.beside.joined:
            return
        if not coming.task.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(coming.worker.stop(), 1.0)
            coming.task.cancel()
        await asyncio.gather(coming.task, return_exceptions=True)
        async with coming.beside.turn:
            await asyncio.to_thread(coming.beside.store.close)


def _checked(files: Mapping[str, bytes]) -> tuple[Roster, dict[str, bytes]]:
    """The roster of files that somebody sent, and the files with their policy pack. Raises UsageError."""
    with written(files) as folder:
        roster = load_roster(folder / SITE_FILE)
        pack, _ = read_policy(roster.policy.id, [folder])
        return roster, {SITE_FILE: files[SITE_FILE], f"{roster.policy.id}.yaml": pack}
