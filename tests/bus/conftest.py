"""Coroutine tests, and a log of each kind for the contract."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus.kafka_connection import Connection
from bus.kafka_topics import make
from bus.log import Log
from bus.log_kafka import KafkaLog, open_kafka
from bus.log_memory import MemoryLog
from bus.log_sqlite import open_log
from tests.bus.kafka_tools import settings_at

Opening = Callable[[], AbstractAsyncContextManager[Log]]

PATIENCE_S = 1800 if os.environ.get("METERFLOW_LONG") else 60
UNKNOWN = "unknown"
"""A topic that tests name and nobody writes to."""

KINDS: dict[str, Callable[[Path], Any]] = {"sqlite": open_log}
"""Kinds that open storage; ``memory`` has none."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    values = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.function(**values), PATIENCE_S))
    return True


async def kafka_log(address: str) -> KafkaLog:
    """A log with topics of its own."""
    settings = settings_at(address)
    connection = Connection(settings, "test")
    configuration: dict[str, dict[str, str]] = {settings.topic(UNKNOWN): {}}
    await connection.patiently("make a topic", lambda: make(connection, configuration))
    await connection.close()
    return await open_kafka(settings)


@pytest.fixture(params=["memory", "sqlite", "kafka"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Opens an empty log of each kind in turn."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Log]:
        kind: str = request.param
        log: Log
        if kind == "kafka":
            log = await kafka_log(request.getfixturevalue("kafka"))
        else:
            log = MemoryLog() if kind == "memory" else await KINDS[kind](tmp_path)
        try:
            yield log
        finally:
            await log.close()

    return opened
