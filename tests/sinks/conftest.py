"""Builders of result rows; what a test does not name gets a plain default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bus.frames import schema
from metering.tables import POSITION, TABLES
from sinks.store_duckdb import DuckStore, open_store

Row = dict[str, Any]
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z


def interval_row(point: str = "main", amount: str | None = "1", state: str = "final", **more: Any) -> Row:
    end = more.pop("end", NOON_MS)
    plain = {
        "plant": "steel-1",
        "point": point,
        "measures": "electricity",
        "start": end - 60_000,
        "end": end,
        "amount": None if amount is None else Decimal(amount),
        "unit": "kWh",
        "quality": "measured",
        "flags": "",
        "measured_share": 1.0,
        "state": state,
        "revision": 0,
        "cause": "readings",
        "reported": end + 1000,
        POSITION: 0,
    }
    return plain | more


def frame_of(table: str, rows: Sequence[Row]) -> tuple[str, pa.Table]:
    wanted = schema(TABLES[table])
    return table, pa.table(
        [pa.array([({POSITION: 0} | row).get(f.name) for row in rows], f.type) for f in wanted], schema=wanted
    )


@pytest.fixture
def interval() -> Callable[..., Row]:
    return interval_row


@pytest.fixture
def frame() -> Callable[[str, Sequence[Row]], tuple[str, pa.Table]]:
    return frame_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    opened, _ = open_store(tmp_path / "results.duckdb")
    yield opened
    opened.close()
