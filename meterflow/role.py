"""What all roles share: health and metrics, patience with services that are away, an orderly stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from starlette.applications import Starlette

from bus.log import RESULTS
from ingest.clock import wall_clock_ms
from meterflow import __version__
from meterflow import settings_made as made
from meterflow.logs import set_up
from meterflow.partitions import Partitions
from meterflow.settings import Settings
from meterflow.until_stopped import run_loop, until_stopped
from metering.errors import MeterflowError, Unavailable, UsageError
from web.health_routes import create_health_app
from web.server import Server, serve
from web.status import Status

if TYPE_CHECKING:
    from bus.log_kafka import AsJson, KafkaLog

T = TypeVar("T")

NO_ANSWER = "no answer yet"
PAUSE_S, PAUSE_S_MAX = 0.25, 5.0
"""The first and the longest pause before a service that is away is asked again."""
STOP_S = 9.0
"""A stop that takes longer is cut short: containers are killed after ten seconds."""
SWITCH_S = 0.0005
"""How long one thread may keep the others waiting."""

_log = structlog.get_logger(__name__)


class Role:
    """One role in one process: ``start``, then ``stop``, also when ``start`` failed.

    A part that fails ends the role (``failed``); a supervisor starts it again, and it goes on.
    """

    name = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting: dict[str, str] = {}
        """What it waits for, and why."""
        self.stack = AsyncExitStack()
        self._started_ms = wall_clock_ms()
        self._starting = True

    async def start(self) -> None:
        """Health first, so that a role that waits for its services says so."""
        sys.setswitchinterval(SWITCH_S)
        for fault in self.settings.warnings:
            _log.warning(fault.text(str(self.settings.file)))
        await self.listen()
        await self.begin()
        self._starting = False

    async def stop(self) -> None:
        """Stops the parts in the order opposite to their start."""
        await self.stack.aclose()

    async def listen(self) -> None:
        """Serves health and metrics."""
        app = create_health_app(self.status, token=made.page_token(self.settings))
        await self.serve(app)

    async def begin(self) -> None:
        """Starts what the role is for."""
        raise NotImplementedError

    def figures(self) -> Status:
        """What the role's parts say of themselves."""
        return Status(worker=None, sink=None)

    def status(self) -> Status:
        """A picture of the role."""
        return with_frame(self.figures(), self._started_ms, self._starting, self.waiting)

    # -- for the roles ----------------------------------------------------------------------------

    async def serve(self, app: Starlette) -> Server:
        """Serves an app at the role's address, until the stop."""
        key = "port" if self.name == "web" else f"{self.name}_port"
        with self.of_settings(f"http.host or http.{key}"):
            host, port = self.settings.values.http.host, made.role_port(self.settings, self.name)
            server = await serve(app, host, port)
        self.stack.push_async_callback(server.stop)
        self.run(server.watch())
        _log.info(f"{self.name} answers", address=server.address)
        return server

    @contextmanager
    def of_settings(self, keys: str) -> Iterator[None]:
        """What is wrong with a part's settings is told with their keys, not with the options of ``up``."""
        try:
            yield
        except UsageError as error:
            hint = f"Look at {keys} in {self.settings.file}."
            raise UsageError(error.what, where=error.where, hint=hint) from error

    def run(self, *parts: Awaitable[None]) -> None:
        """Runs parts until the stop; one that fails ends the role."""
        for part in parts:
            task = asyncio.ensure_future(part)
            task.add_done_callback(self._ended)
            self.stack.push_async_callback(_cancelled, task)

    def fail(self, error: BaseException) -> None:
        """Ends the role."""
        if not isinstance(error, MeterflowError):
            _log.error("a part has failed", exc_info=error)
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # seen; whoever waits for it gets it still

    async def patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """The call's answer, however long the service stays away; ``what`` it is, for people."""
        pause_s = PAUSE_S
        self.waiting[what] = NO_ANSWER
        while True:
            try:
                answer = await call()
            except Unavailable as error:
                if self.waiting[what] == NO_ANSWER:
                    _log.warning(f"waiting for {what}", cause=str(error))
                self.waiting[what] = error.what
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
            else:
                if self.waiting.pop(what) != NO_ANSWER:
                    _log.info(f"{what} answers now")
                return answer

    async def open_log(self, as_json: AsJson | None = None) -> KafkaLog:
        """The log, closed at the stop."""
        from bus.log_kafka import open_kafka

        settings = made.kafka(self.settings)
        log = await self.patiently("Kafka", lambda: open_kafka(settings, as_json=as_json))
        self.stack.push_async_callback(log.close)
        return log

    async def share(self, consumer: str, topic: str, work: Partitions[Any]) -> None:
        """Works on this copy's share of the partitions, until the stop hands them over."""
        from bus.kafka_shares import Shares

        shares = Shares(made.kafka(self.settings), consumer, topic, taken=work.take, given_up=work.give_up)
        work.lost = shares.again
        await self.patiently("Kafka", lambda: self.stack.enter_async_context(shares))
        self.run(shares.wait())

    async def own_bucket(self) -> None:
        """Waits until the bucket is known to be for these results. Raises UsageError when it is not."""
        from sinks.influx_mark import claim

        settings = made.influx(self.settings)
        log = made.kafka(self.settings)

        async def attempt() -> None:
            try:
                await asyncio.to_thread(claim, settings, log.topic(RESULTS))
            except UsageError:
                raise
            except MeterflowError as error:  # a token or a bucket that a person puts right meanwhile
                raise Unavailable(error.what, where=error.where, hint=error.hint) from error

        await self.patiently("InfluxDB", attempt)

    def _ended(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def with_frame(status: Status, started_ms: int, starting: bool, waiting: dict[str, str]) -> Status:
    """A status with what every role says: version, start, what it waits for."""
    problems = tuple(f"waiting for {what}: {why}" for what, why in waiting.items())
    return replace(
        status,
        version=__version__,
        started_ms=started_ms,
        starting=starting and not waiting,
        problems=problems + status.problems,
    )


def run_role(settings: Settings, make: Callable[[Settings], Role]) -> None:
    """Runs a role until SIGINT or SIGTERM."""
    set_up()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says of, our own errors say once

    async def main() -> None:
        role = make(settings)
        gc.freeze()  # modules and the site stay to the end: nobody need look through them again and again
        gc.enable()

        def greet() -> None:
            _log.info(f"{role.name} is running", name=settings.values.name)

        await until_stopped(role, greet, STOP_S)

    run_loop(main())
    _end()


def _end() -> None:
    """Ends the process: all is saved and closed, taking modules apart one by one only takes time."""
    with suppress(OSError, ValueError):  # nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
