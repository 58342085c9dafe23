"""The thread in which the operators of all workers of a process compute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_thread = ThreadPoolExecutor(1, "operators")
"""One for all: only one of them can compute at a time, and together they would only hinder each other
(four of them took 1.7 times the CPU) and keep four batches in memory."""


async def apart(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls in the operators' thread, the loop goes on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(call, *args, **kwargs))
