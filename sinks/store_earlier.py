"""What was reported before the site file changed: the stores of then, asked for instants of then.

A changed site file has everything worked out anew, as if it had always been in force; what the new store
says was reported last month was not. The store before is kept, and answers for the time before the change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metering.errors import MeterflowError, Unavailable, UsageError
from metering.instants import rfc3339
from metering.query import Format, Query, Results
from sinks.store_duckdb import DuckStore, open_existing

Stood = Callable[[int], tuple[Path, int] | None]
"""The file of the store that stood at an instant, and until when; None: the newest."""


class EarlierResults:
    """``metering.query.Results`` of the newest store, and for ``as_of`` of the one that stood then.

    Raises UsageError where the one of then is gone. The newest can be exchanged for another one: ``hold``,
    then ``release``.
    """

    def __init__(self, newest: Results, stood: Stood) -> None:
        self._newest, self._stood = newest, stood
        self._readers = 0
        self._held = False
        self._changed = threading.Condition()

    def hold(self, timeout_s: float) -> None:
        """Returns when nobody reads, and nobody begins to.

        It waits so long at once; those who came meanwhile may read before it tries again.
        """
        while True:
            with self._changed:
                self._held = True
                if self._changed.wait_for(lambda: not self._readers, timeout_s):
                    return
                self.release(self._newest)
            time.sleep(timeout_s)

    def release(self, newest: Results) -> None:
        """Whoever was held reads from this one."""
        with self._changed:
            self._newest, self._held = newest, False
            self._changed.notify_all()

    def rows(self, query: Query) -> list[dict[str, Any]]:
        with self._of(query) as results:
            return results.rows(query)

    def export(self, query: Query, format: Format) -> Iterator[bytes]:
        with self._of(query) as results:
            yield from results.export(query, format)

    def position(self) -> int:
        """Of the newest store."""
        return self._newest.position()

    @contextmanager
    def _of(self, query: Query) -> Iterator[Results]:
        with self._reading() as newest:
            stood = None if query.as_of_ms is None else self._stood(query.as_of_ms)
            if stood is None:
                yield newest
                return
        store = _opened(*stood)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def _reading(self) -> Iterator[Results]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held)
            self._readers += 1
            newest = self._newest
        try:
            yield newest
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()


def _opened(path: Path, until_ms: int) -> DuckStore:
    until = rfc3339(until_ms)
    if not path.exists():
        raise UsageError(
            f"what was reported before {until}, when the site file changed, is not here any more:"
            f" {path.name} is gone",
            where=str(path),
            hint=f"Put that file back, or ask for an instant from {until} on.",
        )
    try:
        return open_existing(path)
    except Unavailable:
        raise
    except MeterflowError as error:
        hint = f"Read that file with DuckDB, or ask for an instant from {until} on."
        raise UsageError(error.what, where=str(path), hint=hint) from error
