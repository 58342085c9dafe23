"""Runs something until SIGINT, SIGTERM or a failure of its own, and stops it within bounds."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Protocol

import structlog

from metering.errors import MeterflowError

_log = structlog.get_logger(__name__)


class Runnable(Protocol):
    """``start``, then ``stop``, also when ``start`` failed. ``failed`` gets what ends it by itself."""

    failed: asyncio.Future[None]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def run_loop(main: Coroutine[None, None, None]) -> None:
    """``asyncio.run``, on the faster loop where there is one."""
    try:
        from uvloop import run
    except ImportError:  # not made for this platform
        asyncio.run(main)
    else:
        run(main)


async def until_stopped(service: Runnable, greet: Callable[[], None], stop_s: float) -> None:
    """Starts, greets, waits for a reason to stop, stops.

    A stop that takes longer than ``stop_s`` is cut short: no worse than a kill. Raises MeterflowError
    when the service ended by itself.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    stopping = asyncio.create_task(_stopping(asked, service.failed))
    try:
        if await _started(service, stopping):
            greet()
            await stopping
    finally:
        _cut_short_after(stop_s, 0 if asked.is_set() else 1)
        await service.stop()
        stopping.cancel()
    if service.failed.done() and not asked.is_set():
        raise _failure(service.failed.exception())


async def _stopping(asked: asyncio.Event, failed: asyncio.Future[None]) -> None:
    """Waits for a reason to stop."""
    signalled = asyncio.ensure_future(asked.wait())
    await asyncio.wait((signalled, failed), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()


async def _started(service: Runnable, stopping: asyncio.Task[None]) -> bool:
    """Starts the service; false when there was a reason to stop before it ran."""
    starting = asyncio.create_task(service.start())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return False
    starting.result()
    return True


def _failure(error: BaseException | None) -> MeterflowError:
    if isinstance(error, MeterflowError):
        return error
    return MeterflowError(
        f"a part of the service has failed: {type(error).__name__}: {error}",
        hint="The log says more. Started again, the service goes on from what it has stored.",
    )


def _cut_short_after(seconds: float, code: int) -> None:
    def end() -> None:
        _log.warning("stopping takes too long and is cut short; nothing acknowledged is lost")
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
