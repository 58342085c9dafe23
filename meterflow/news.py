"""What was stored, told to open pages: which tables and scopes, and how far back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from metering.tables import TABLES
from web.live import LiveFeed

LIVE_EVERY_S = 0.5
"""What is stored meanwhile is told together."""


class News:
    """Gathers what the sink stores and publishes it as ``stored`` events."""

    def __init__(self, live: LiveFeed) -> None:
        self._live = live
        self._tables: dict[str, dict[str, Any]] = {}

    def stored(self, frames: Sequence[tuple[str, pa.Table]]) -> None:
        """Notes the rows of one flush."""
        for table, rows in frames:
            if len(rows):
                self._note(table, rows)

    def _note(self, table: str, rows: pa.Table) -> None:
        times = pc.min_max(pc.cast(rows[TABLES[table].time], pa.int64()))
        first, last = times["min"].as_py(), times["max"].as_py()
        found = self._tables.setdefault(table, {"rows": 0, "scopes": set(), "from": first, "to": last})
        found["rows"] += len(rows)
        found["scopes"] |= _scopes(rows)
        if first is not None:
            found["from"] = first if found["from"] is None else min(found["from"], first)
            found["to"] = last if found["to"] is None else max(found["to"], last)

    async def tell(self) -> None:
        """Publishes what came, for ever."""
        number = 0
        while True:
            await asyncio.sleep(LIVE_EVERY_S)
            if self._tables:
                number += 1
                told, self._tables = self._tables, {}
                tables = {name: found | {"scopes": sorted(found["scopes"])} for name, found in told.items()}
                self._live.publish("stored", {"position": number, "tables": tables})


def _scopes(rows: pa.Table) -> set[str]:
    if "scope" in rows.column_names:
        return set(rows["scope"].unique().to_pylist())
    if "plant" in rows.column_names:
        return {f"plant:{plant}" for plant in rows["plant"].unique().to_pylist()}
    return set()
