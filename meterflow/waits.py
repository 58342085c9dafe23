"""Waiting for other parts of the process, and for the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import structlog

from metering.errors import MeterflowError, Unavailable

RETRY_S = 0.5
LOOK_S = 0.005

P = ParamSpec("P")
_log = structlog.get_logger(__name__)


async def patiently(call: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
    """Until the log takes it."""
    while True:
        try:
            return await call(*args, **kwargs)
        except Unavailable as error:
            _log.error("the log does not take the change of the site file now", cause=str(error))
            await asyncio.sleep(RETRY_S)


async def until(there: Callable[[], bool], part: asyncio.Task[None]) -> None:
    """Until ``part`` has come there. Raises what it failed of."""
    while not there():
        if part.done():
            part.result()
            raise MeterflowError("a part has stopped")
        await asyncio.sleep(LOOK_S)
