"""An event loop in which nothing happens by itself: no clock, no threads, no sockets.

When nothing can go on, ``quiet`` is asked what happens next; it may let something go on or move ``now_s``.
What is called in another thread is called at once. So what tasks do is a function of what ``quiet`` does.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

Quiet = Callable[[float | None], None]
"""Told how many seconds it is to the next timer; None where there is none."""


class SeededLoop(asyncio.SelectorEventLoop):
    """``now_s``: its time, from 0 on."""

    def __init__(self, quiet: Quiet) -> None:
        self.now_s = 0.0
        super().__init__(_Asking(quiet))

    def time(self) -> float:
        return self.now_s

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Any,  # noqa: ARG002 it is called here
        func: Callable[..., Any],
        *args: Any,
    ) -> asyncio.Future[Any]:
        """Calls it now."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 it belongs to whoever waits
            done.set_exception(error)
        return done


class _Asking(selectors.SelectSelector):
    def __init__(self, quiet: Quiet) -> None:
        super().__init__()
        self._quiet = quiet

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """No socket ever has anything."""
        if timeout is None or timeout > 0:
            self._quiet(timeout)
        return []
