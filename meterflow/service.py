"""``meterflow up``: every part in one process.

Started from the log to the meters and stopped the other way round, so that nothing comes in that
nobody can take. A part that fails ends the service: a supervisor starts it again, and it goes on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from bus.log import READINGS, RESULTS, SITES
from bus.log_sqlite import SqliteLog, open_log
from ingest.clock import wall_clock_ms
from ingest.endpoint import Endpoint
from ingest.ticker import Ticker
from ingest.users import Users, load_users
from meterflow import __version__, memory, progress
from meterflow.folder import Folder, Running
from meterflow.given import site_files
from meterflow.log_age import LogKeeper, check_whole
from meterflow.news import News
from meterflow.paging import room_in
from meterflow.site_beside import NEXT
from meterflow.site_change import Coming, SiteChange
from meterflow.site_force import InForce, chosen, drop, finish, present
from meterflow.waits import patiently, until
from metering.errors import MeterflowError, Unavailable
from metering.roster import Roster
from processors.operators import Plants
from processors.state import FORMAT as STATE_FORMAT
from processors.worker import Worker
from simulators.publisher import publish_park
from sinks.archive_place import open_place
from sinks.archive_raw import Keep, of_payloads
from sinks.archive_sink import ArchiveSink
from sinks.sink import Sink
from sinks.store_carry import carry
from sinks.store_duckdb import DuckStore, open_store
from sinks.store_earlier import EarlierResults
from web.app import Applying, Deciding, Server, change_site, create_app, serve
from web.live import LiveFeed
from web.status import Progress, Status

_log = structlog.get_logger(__name__)

PART_STOP_S = 1.5
"""How long a stop waits for a part; what it leaves undone is done again from the log."""
STORE_WAIT_S = 10.0
"""How long a start waits for an export that still reads the store."""
HOLD_S = 1.0
"""How long those who ask for results wait for one that still reads, before a site file is put in force."""
SWITCH_S = 0.0005
"""How long one thread may keep the others waiting: the endpoint must not wait for the operators."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``up`` was asked for."""

    data: Path
    mqtt_host: str
    mqtt_port: int
    http_host: str
    http_port: int
    token: str | None
    users: Path | None
    simulate: bool
    seed: int
    decide: bool = True
    archive: str | None = None
    archive_every_s: float = 900.0
    keep_log_days: float | None = None
    raw: Keep | None = None
    site: Path | None = None
    apply: bool = True


NO_DECISIONS = "start meterflow up with --decide, or decide with: meterflow verdicts"
NO_SITE_FILES = "start meterflow up with --apply, or start it again with the changed site file"


class Service:
    """The parts of one process; ``start``, then ``stop``, also when ``start`` failed.

    ``failed`` gets the exception of the first part that ends by itself.
    """

    def __init__(self, roster: Roster, options: Options) -> None:
        self.roster, self.options = roster, options
        self.folder = Folder(options.data)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started_ms = wall_clock_ms()
        self._starting = True
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._site = options.site
        self._stop_simulator = threading.Event()
        self.keeper: LogKeeper | None = None

    @property
    def address(self) -> str:
        """Where this machine finds the page."""
        return _reachable(self.server.address)

    @property
    def mqtt_url(self) -> str:
        """Where this machine's meters connect to."""
        host = self.options.mqtt_host
        return _reachable(f"mqtt://{f'[{host}]' if ':' in host else host}:{self.endpoint.port}")

    async def start(self) -> None:
        """Raises UsageError for a port in use, a folder that is in use, or of a newer version."""
        sys.setswitchinterval(SWITCH_S)
        users: Users | None = load_users(self.options.users) if self.options.users else None
        self.folder.open()
        self.log: SqliteLog = await open_log(self.folder.path)
        self._stack.push_async_callback(self.log.close)
        await self._settle_site()
        await self._open_store()
        place = open_place(self.options.archive or str(self.folder.archive))
        site = site_files(self._site, self.roster)
        self.archive = ArchiveSink(self.log, place, site=site, age_s=self.options.archive_every_s)
        self.raw = await of_payloads(self.log, place, self.options.archive_every_s, self.options.raw)
        self.live = LiveFeed()
        self.news = News(self.live)
        self.sink = Sink(self.log, self.store, told=self.news.stored)
        self.endpoint = Endpoint(
            self.log, self.roster, host=self.options.mqtt_host, port=self.options.mqtt_port, users=users
        )
        self.endpoint.decoder.payloads = self.options.raw is not None
        self._stack.push_async_callback(self._stop_tasks)
        self.ticker = Ticker(self.log, self.endpoint)
        self.change = SiteChange(self)
        (self._working, *_) = self._run(
            self.worker.run(), self.sink.run(), self.archive.run(), self.ticker.run(), self.news.tell()
        )
        self._run(*(each.run() for each in self.raw))
        if self.options.keep_log_days is not None:
            self.keeper = LogKeeper(self.log, self.folder, place, self.options.keep_log_days)
            self._run(self.keeper.run())
        self._stack.push_async_callback(self.change.pause)
        await self._listen()
        self.folder.announce(Running(os.getpid(), self.address, self.options.token or "", self.mqtt_url))
        self._stack.callback(self.folder.retire)
        self._starting = False
        await self.change.resume()
        if self.options.simulate:
            self._simulate()

    async def stop(self) -> None:
        """Stops the parts, readings first; what is acknowledged is on the log."""
        await self._stack.aclose()

    async def _listen(self) -> None:
        self.results = EarlierResults(self.store, self.folder.stood)
        self.app = create_app(
            self.results,
            self.roster,
            status=self.status,
            token=self.options.token,
            live=self.live,
            deciding=Deciding(self.endpoint.take) if self.options.decide else Deciding(hint=NO_DECISIONS),
            applying=Applying(self.change) if self.options.apply else Applying(hint=NO_SITE_FILES),
        )
        self.server: Server = await serve(self.app, self.options.http_host, self.options.http_port)
        self._stack.push_async_callback(self.server.stop)
        await self.endpoint.start()
        self._stack.push_async_callback(self.endpoint.stop)
        self._run(self.server.watch(), self.endpoint.watch())

    def _run(self, *parts: Awaitable[None]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.ensure_future(part) for part in parts]
        for task in tasks:
            task.add_done_callback(self._ended)
        self._tasks += tasks
        return tasks

    async def _stop_tasks(self) -> None:
        archives = asyncio.gather(*(each.stop() for each in (self.archive, *self.raw)))
        archived = asyncio.ensure_future(asyncio.wait_for(archives, 2 * PART_STOP_S))
        for part in (self.worker, self.sink):
            with suppress(TimeoutError):
                await asyncio.wait_for(part.stop(), PART_STOP_S)
        with suppress(TimeoutError):
            await archived
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, MeterflowError):
            _log.error("a part has failed", exc_info=error)
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # seen; whoever waits for it gets it still

    # -- the store ------------------------------------------------------------------------------------

    async def _open_store(self) -> None:
        """Store and worker, in step with each other; what does not fit is made anew from the readings.

        The mark of the site is written last: a kill before it only has the same done again.
        """
        self._make_worker()
        mark, found = _mark(self.roster), self.folder.site()
        if mark != found:
            await check_whole(self.log, "the site file or its format has changed")
        fits = await self.worker.start() and mark == found
        if not fits:
            await check_whole(self.log, "the saved state is damaged")
        if not fits and self.folder.store.exists():
            aside = self.folder.put_aside()
            why = "the site file or its format has changed" if mark != found else "the saved state is damaged"
            _log.warning(
                f"{why}: everything is worked out anew from the readings on the log",
                results_before=str(aside),
            )
        self.store, fresh = await self._opened_store()
        self._stack.callback(self.store.close)
        lacks = await Sink(self.log, self.store).incomplete()
        if lacks or (fresh and not await self.log.first(READINGS)):
            await check_whole(self.log, "the results are lost, or an old copy")
            await self.log.forget(self.plants.consumer)
            await self.log.trim(RESULTS, await self.log.end(RESULTS))
            self._make_worker()
        self.folder.mark_site(mark)

    def _make_worker(self) -> None:
        self.plants = Plants(self.roster, room=room_in(self.folder.path))
        self.worker = Worker(self.log, self.plants, saved=memory.give_back)

    async def _opened_store(self) -> tuple[DuckStore, bool]:
        until_s = time.monotonic() + STORE_WAIT_S
        while True:
            try:
                return await asyncio.to_thread(open_store, self.folder.store)
            except Unavailable:
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(0.2)

    # -- the site file --------------------------------------------------------------------------------

    async def _settle_site(self) -> None:
        """Which site file is in force; what a kill left undone of a change is done now."""
        before, given = self.folder.given(), self.roster.version
        self.roster, path = await chosen(self.log, self.folder, self.roster)
        self._site = path or self._site
        now = await present(self.log)
        if now is not None and now.applied and now.version == self.roster.version:
            await asyncio.to_thread(finish, self.folder, now, _mark(self.roster))
        if self.folder.next() is not None and before != given:  # that word is older
            await self.log.forget(NEXT)
            await asyncio.to_thread(drop, self.folder)

    async def switch(self, coming: Coming) -> None:
        """The next site file is in force from one record of the log on, for ingest and for results.

        What the old worker had said by then is what was reported until now: the new store takes it over,
        while the old one is still asked. A part that fails here ends the service: the next start finds what
        is in force, and does what is left.
        """
        try:
            await self._halt(coming)
            now = await self._decide(coming)
            coming.task.add_done_callback(self._ended)
            self.worker, self.plants, self._working = coming.worker, coming.plants, coming.task
            self.roster, self._site = coming.roster, coming.path
            coming.beside.go_to(None)
            await asyncio.to_thread(carry, coming.beside.store, self.store, now.at_ms, now.results)
            await asyncio.to_thread(self.results.hold, HOLD_S)
            try:
                await self._exchange(coming, now)
            finally:
                self.results.release(self.store)
        except Exception as error:
            self._fail(error)
            raise

    async def _exchange(self, coming: Coming, now: InForce) -> None:
        await asyncio.to_thread(self.store.close)
        await asyncio.to_thread(coming.beside.store.close)
        await asyncio.to_thread(finish, self.folder, now, _mark(coming.roster))
        self.store, _ = await self._opened_store()
        self.sink = Sink(self.log, self.store, told=self.news.stored)
        self._run(self.sink.run())
        self.ticker.tell_anew()
        change_site(self.app, self.roster)

    async def _halt(self, coming: Coming) -> None:
        """Both workers at the same record of the log; no old one any more, and no sink."""
        at = coming.beside.stand()
        await until(lambda: self.worker.offset >= at, self._working)
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.sink.caught_up(), PART_STOP_S)
        await self.sink.stop()
        done = (await self.log.load(Plants.consumer)).done
        coming.beside.go_to(done)
        await until(lambda: coming.worker.offset >= done, coming.task)

    async def _decide(self, coming: Coming) -> InForce:
        """The record by which the next site file is in force. Before it nothing has happened."""
        async with coming.beside.turn:
            done, said = coming.beside.store.position(), None

            async def noted() -> None:
                nonlocal said
                ends = await self.log.end(READINGS), await self.log.end(RESULTS)
                said = InForce(coming.roster.version, True, *ends, self.endpoint.intake.now_ms())
                await patiently(self.log.adopt, Plants.consumer, NEXT, done, {SITES: [said.entry()]})

            await self.endpoint.change(coming.directory, noted)
            coming.beside.joined = True
            assert said is not None
            return said

    # -- small jobs -------------------------------------------------------------------------------

    def _simulate(self) -> None:
        loop = asyncio.get_running_loop()

        def publish() -> None:
            try:
                publish_park(
                    self.mqtt_url,
                    self.roster,
                    self.options.seed,
                    None,
                    self._stop_simulator,
                    state_path=self.folder.publisher,
                )
            except Exception as error:  # noqa: BLE001 whatever it is, the service tells and ends
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._fail, error)

        simulator = threading.Thread(target=publish, name="simulated-park", daemon=True)
        simulator.start()

        async def stop() -> None:
            self._stop_simulator.set()
            await asyncio.to_thread(simulator.join, PART_STOP_S)

        self._stack.push_async_callback(stop)

    # -- what the page is told --------------------------------------------------------------------

    def status(self) -> Status:
        counters, engine = self.endpoint.counters, self.plants.engine
        return Status(
            version=__version__,
            started_ms=self._started_ms,
            starting=self._starting,
            log_error=counters.append_error,
            worker=progress.of_worker(self.worker),
            sink=self._sink_progress(),
            archive=progress.of_archive(self.archive),
            partitions={"raw": dict(enumerate(map(progress.of_archive, self.raw)))},
            hops={"ingest": progress.ingested([counters]), "processors": progress.processed([engine])},
            rejected=dict(counters.rejected),
            log_ends={READINGS: self.worker.end, RESULTS: self.store.position()},
            last_seen_ms=progress.last_seen(engine),
            ledger_unbalanced=self.plants.rows.unbalanced,
            connections=counters.connections,
            events=progress.let_go(self.keeper, self.raw),
        )

    def _sink_progress(self) -> Progress:
        position = self.store.position()
        error = "the store does not take rows" if self.sink.stalled else ""
        idle_ms = int((time.monotonic() - self.sink.moved_s) * 1000) if self.sink.lag else 0
        return Progress(position, position + self.sink.lag, idle_ms, 0, True, error)


def _mark(roster: Roster) -> str:
    """Of which site file and format stored results are."""
    return f"{roster.version} {STATE_FORMAT}"


def _reachable(address: str) -> str:
    """An address that listens on every network, by a name that this machine can connect to."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
