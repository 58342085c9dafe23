"""``meterflow up``: every part in one process, started in the order of the data and stopped in it too."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import structlog
from bus.log import READINGS, REJECTED, RESULTS, Entry
from bus.log_sqlite import SqliteLog, open_log
from ingest.endpoint import Endpoint, wall_clock_ms
from ingest.users import Users, load_users
from metering.query import Query
from metering.roster import Roster
from processors.worker import Worker
from simulators.publisher import publish_park
from sinks.sink import Sink
from sinks.store_duckdb import DuckStore, open_store
from web.app import Server, create_app, serve
from web.live import LiveFeed
from web.status import Hop, Progress, Status

from meterflow import __version__
from meterflow.folder import Folder, Running

_log = structlog.get_logger(__name__)

TICK_S = 5.0
STATUS_S = 1.0
LIVE_EVERY_S = 0.5
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


class Service:
    """The parts of one process; ``start``, then ``stop``."""

    def __init__(self, roster: Roster, options: Options) -> None:
        self.roster, self.options = roster, options
        self.folder = Folder(options.data)
        self._started_ms = wall_clock_ms()
        self._starting = True
        self._tasks: list[asyncio.Task[None]] = []
        self._simulator: threading.Thread | None = None
        self._stop_simulator = threading.Event()
        self._rejected: Counter[str] = Counter()
        self._log_error = ""
        self._told_s = 0.0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Raises UsageError for a port in use, a folder that is in use, or of a newer version."""
        sys.setswitchinterval(SWITCH_S)
        self.folder.open()
        self.log: SqliteLog = await open_log(self.folder.path)
        await self._open_store()
        self.sink = Sink(self.log, self.store)
        self.live = LiveFeed()
        users: Users | None = load_users(self.options.users) if self.options.users else None
        self.endpoint = Endpoint(
            self.log, self.roster, host=self.options.mqtt_host, port=self.options.mqtt_port, users=users
        )
        app = create_app(self.store, self.roster, status=self.status, token=self.options.token, live=self.live)
        self.server: Server = await serve(app, self.options.http_host, self.options.http_port)
        await self.endpoint.start()
        for part in (self.worker.run(), self.sink.run(), self._ticks(), self._tell()):
            task = asyncio.create_task(part)  # type: ignore[arg-type]
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        self.folder.announce(Running(_pid(), self.server.address, self.options.token or ""))
        self._starting = False
        if self.options.simulate:
            self._simulate()

    async def stop(self) -> None:
        """Stops the parts, readings first; what is acknowledged is on the log."""
        self._stop_simulator.set()
        await self.endpoint.stop()
        if self._simulator is not None:
            await asyncio.to_thread(self._simulator.join, 3.0)
        for task in self._tasks[2:]:
            task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.worker.stop(), 3.0)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.sink.stop(), 3.0)
        await self.server.stop()
        self.folder.retire()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()
        await self.log.close()

    async def _open_store(self) -> None:
        """Store and worker, in step with each other; what does not fit is made anew from the readings."""
        self.worker = Worker(self.log, self.roster)
        same_site = await self.worker.start()
        if not same_site:
            _log.info("the site file has changed: everything is worked out anew from the readings on the log")
            _move_aside(self.folder.store)
        self.store: DuckStore
        self.store, fresh = await asyncio.to_thread(open_store, self.folder.store)
        if fresh or not same_site or await Sink(self.log, self.store).incomplete():
            await self.log.forget("worker")
            await self.log.trim(RESULTS, await self.log.end(RESULTS))
            self.worker = Worker(self.log, self.roster)

    # -- small jobs -------------------------------------------------------------------------------

    async def _ticks(self) -> None:
        """Puts the time on the log while no reading does: patience runs on the log's own time."""
        last = -1
        while True:
            end = await self.log.end(READINGS)
            if end == last:
                with suppress(Exception):
                    await self.log.append({READINGS: [Entry("", b"", self.endpoint.intake.now_ms())]})
                end += 1
            last = end
            await asyncio.sleep(TICK_S)

    async def _tell(self) -> None:
        """Tells open pages that rows were stored."""
        position = -1
        while True:
            await asyncio.sleep(LIVE_EVERY_S)
            stored = self.store.position() + self.store.rejected_position()
            if stored != position:
                position = stored
                self.live.publish("stored", {"position": stored, "tables": {}})

    def _simulate(self) -> None:
        def publish() -> None:
            try:
                publish_park(
                    f"mqtt://127.0.0.1:{self.endpoint.port}", self.roster, self.options.seed, None,
                    self._stop_simulator, state_path=self.folder.publisher,
                )  # fmt: skip
            except Exception:
                _log.exception("the simulated park has stopped")

        self._simulator = threading.Thread(target=publish, name="simulated-park", daemon=True)
        self._simulator.start()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("a part has failed; stopping", exc_info=task.exception())
            if not self.failed.done():
                self.failed.set_exception(task.exception() or RuntimeError())

    # -- what the page is told --------------------------------------------------------------------

    def status(self) -> Status:
        counters, engine = self.endpoint.counters, self.worker.engine
        hop = engine.hop
        processed = Hop(*(int(c.sum()) for c in (hop.received, hop.accepted, hop.duplicate, hop.rejected)))
        rejected = sum(counters.rejected.values())
        ingested = Hop(counters.received, counters.accepted, 0, rejected)
        return Status(
            version=__version__, started_ms=self._started_ms, starting=self._starting,
            log_error=counters.append_error, worker=self._worker_progress(), sink=self._sink_progress(),
            hops={"ingest": ingested, "processors": processed}, rejected=dict(counters.rejected),
            log_ends={READINGS: self.worker.end, RESULTS: self.store.position()},
            last_seen_ms=self._last_seen(), ledger_unbalanced=self.worker.rows.unbalanced,
            connections=counters.connections,
        )  # fmt: skip

    def _worker_progress(self) -> Progress:
        worker = self.worker
        waits = worker.end > worker.offset
        behind = wall_clock_ms() - worker.waiting_stamp_ms if waits and worker.waiting_stamp_ms else 0
        idle = int((time.monotonic() - worker.moved_s) * 1000) if waits else 0
        return Progress(worker.offset, worker.end, idle, behind, worker.running, worker.error)

    def _sink_progress(self) -> Progress:
        position = self.store.position()
        error = "the store does not take rows" if self.sink.stalled else ""
        return Progress(position, position + self.sink.lag, 0, 0, True, error)

    def _last_seen(self) -> Mapping[str, int]:
        plants, seen = self.roster.plants, self.worker.engine.progress.seen
        return {
            f"{plants[p.plant].id}/{p.id}": int(seen[p.index]) for p in self.roster.points if seen[p.index] > 0
        }


def _move_aside(path: Path) -> None:
    """Keeps the results of the site file before, under a name with the time."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for file in (path, path.with_name(path.name + ".wal")):
        if file.exists():
            file.rename(file.with_name(f"{file.name}.{stamp}"))


def _pid() -> int:
    import os

    return os.getpid()


