"""Serves the app inside an event loop that belongs to somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn
from starlette.applications import Starlette

from metering.errors import MeterflowError, UsageError
from web.live import LiveFeed
from web.metrics import Metrics
from web.security import Guard, is_loopback

STOP_S = 2
LAG_EVERY_S = 0.5


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Server:
    """A running server; ``host`` and ``port`` are what it listens on (a port of 0 is resolved)."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        self._live: LiveFeed = app.state.live
        self._metrics: Metrics = app.state.metrics
        self._listener = listener
        self.host, self.port = listener.getsockname()[:2]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
        )
        self._uvicorn = _Uvicorn(config)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    async def start(self) -> None:
        """Returns when requests are answered."""
        self._tasks = [
            asyncio.create_task(self._uvicorn.serve([self._listener])),
            asyncio.create_task(self._measure_lag()),
        ]
        while not self._uvicorn.started:
            if self._tasks[0].done():
                self._tasks[0].result()
                raise MeterflowError("the web server ended while it was being started", where=self.address)
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Ends the event streams, finishes answers that are under way, within about two seconds."""
        self._live.close()
        self._uvicorn.should_exit = True
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    async def watch(self) -> None:
        """Waits until serving ends; raises what ended it before its time."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled():
                task.result()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._metrics.loop_lag_s = max(0.0, loop.time() - due_s)


async def serve(app: Starlette, host: str = "127.0.0.1", port: int = 18080) -> Server:
    """Starts serving; beyond this machine only with a token.

    Raises UsageError when the port is taken or not allowed, the address is not this machine's, or
    the app has no token and ``host`` is reached from elsewhere.
    """
    guard: Guard = app.state.guard
    if not guard.required and not is_loopback(host):
        raise UsageError(
            "the page is not served beyond this machine without a token",
            where=f"{host}:{port}",
            hint="configure a token, or serve on 127.0.0.1 (the default)",
        )
    server = Server(app, _listen(host, port))
    await server.start()
    return server


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise UsageError(
            f"cannot listen there: {port} is no port", where=host, hint="ports go from 1 to 65535"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UsageError(f"cannot listen there: {error}", where=f"{host}:{port}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: Exception) -> UsageError:
    where = f"{host}:{port}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return UsageError(
            "the port of the page is in use",
            where=where,
            hint="stop what uses it, or choose another with --http-port",
        )
    if number == errno.EACCES:
        return UsageError("this port needs rights we do not have", where=where, hint="choose one above 1023")
    return UsageError(f"cannot listen there: {error}", where=where, hint="give an address of this machine")
