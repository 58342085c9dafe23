"""Coroutine tests."""

from __future__ import annotations

import asyncio
import inspect
import os

import pytest

LIMIT_S = 3600 if os.environ.get("METERFLOW_LONG") == "1" else 60


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    values = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.function(**values), LIMIT_S))
    return True
