"""Coroutine tests, and a log of each kind for the contract."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus.log import Log
from bus.log_memory import MemoryLog
from bus.log_sqlite import open_log

Opening = Callable[[], AbstractAsyncContextManager[Log]]

KINDS: dict[str, Callable[[Path], Any]] = {"sqlite": open_log}
"""Kinds that open storage; ``memory`` has none."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    values = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.function(**values), 60))
    return True


@pytest.fixture(params=["memory", "sqlite"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Opens an empty log of each kind in turn."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Log]:
        kind: str = request.param
        log: Log = MemoryLog() if kind == "memory" else await KINDS[kind](tmp_path)
        try:
            yield log
        finally:
            await log.close()

    return opened
