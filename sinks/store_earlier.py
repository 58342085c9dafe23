"""What was reported before the site file changed: the stores of then, asked for instants of then.

A changed site file has everything worked out anew, as if it had always been in force; what the new store
says was reported last month was not. The store before is kept, and answers for the time before the change.
"""

from __future__ import annotations

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

    Raises UsageError where the one of then is gone.
    """

    def __init__(self, newest: Results, stood: Stood) -> None:
        self._newest, self._stood = newest, stood

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
        stood = None if query.as_of_ms is None else self._stood(query.as_of_ms)
        if stood is None:
            yield self._newest
            return
        store = _opened(*stood)
        try:
            yield store
        finally:
            store.close()


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
