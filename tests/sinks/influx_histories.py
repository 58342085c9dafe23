"""Random lives of result rows: each key's rows as the processors would say them, in the order of the log."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pyarrow as pa

from bus.frames import schema
from metering.tables import POSITION, TABLES

FIRST_MS = 1_767_225_600_000
MINUTE_MS = 60_000
Row = dict[str, Any]


def table_of(table: str, rows: list[Row]) -> tuple[str, pa.Table]:
    """Rows as a frame has them; what they do not name is unknown, texts empty."""
    wanted = schema(TABLES[table])
    texts = {field.name for field in wanted if pa.types.is_string(field.type)}
    columns = [
        pa.array([row.get(f.name, "" if f.name in texts else None) for row in rows], f.type) for f in wanted
    ]
    return table, pa.table(columns, schema=wanted)


INSTALLATIONS: list[Row] = [
    {"serial": "", "installed": None},
    {"serial": "A-1", "installed": None},
    {"serial": "A-1", "installed": FIRST_MS - 86_400_001},
]
"""A serial number may come back to its point."""
KEYS: dict[str, list[Row]] = {
    "interval": [
        {"plant": 'steel, "1"', "point": "a=b", "end": FIRST_MS, "start": FIRST_MS - MINUTE_MS},
        {"plant": 'steel, "1"', "point": "a=b", "end": FIRST_MS, "start": FIRST_MS - MINUTE_MS - 7},
        {"plant": 'steel, "1"', "point": "a=b", "end": FIRST_MS + MINUTE_MS, "start": FIRST_MS},
        {"plant": "p\\q", "point": "ü", "end": FIRST_MS + 90 * 86_400_000, "start": FIRST_MS},
    ],
    "rollup": [
        {"scope": "plant:p", "measures": "output", "product": product, "span": span, "end": FIRST_MS + at}
        for product in ("", "billet")
        for span, at in (("day", 0), ("day", 86_400_000), ("month", 0))
    ],
    "intensity": [
        {"scope": "plant:p", "id": "kwh", "product": "", "window": "1h", "end": FIRST_MS + i * MINUTE_MS}
        for i in range(4)
    ],
    "verdict": [
        {"plant": "p", "point": "q", **which, "from": FIRST_MS - back, "to": FIRST_MS}
        for which in INSTALLATIONS
        for back in (MINUTE_MS, MINUTE_MS + 1)
    ],
    "alert": [{"id": "hot", "scope": "plant:p", "at": FIRST_MS + i} for i in range(3)],
    "ledger": [{"plant": "p", "point": "q", **which} for which in INSTALLATIONS],
}
AMOUNTS = {
    "interval": ("amount", "measured_share"),
    "rollup": ("amount", "kgce", "cost"),
    "intensity": ("numerator", "value"),
    "verdict": (),
    "alert": ("value",),
    "ledger": (),
}
EXACT = frozenset(("amount", "kgce", "cost", "numerator"))


def life(table: str, key: Row, positions: list[int], rng: random.Random) -> list[Row]:
    """What is said of one key at these positions: fills, is reported, revised, opened again, or is gone.

    It keeps what the processors keep: of two reported rows the later has a higher revision, or is the same.
    """
    fills = "state" in TABLES[table].names
    revised = "revision" in TABLES[table].names
    revision, reported, figures, rows = 0, False, dict[str, Any](), list[Row]()
    for position in positions:
        step = rng.choice(
            ("open", "report", "report", "same", "gone") if fills else ("report", "same", "gone")
        )
        if step == "same" and not (reported and figures):
            step = "report"
        if step == "report":
            revision += reported
            figures, reported = _figures(table, rng), True
        row = key | (figures if step in {"report", "same"} else _figures(table, rng))
        if step == "gone":
            revision += reported
            figures, reported = {}, True
        row |= {POSITION: -position - 1 if step == "gone" else position}
        if revised:
            row |= {"revision": revision, "reported": FIRST_MS + position * 1000}
        if fills:
            row["state"] = "open" if step == "open" else "revised" if revision else "final"
        rows.append(row)
    return rows


def _figures(table: str, rng: random.Random) -> Row:
    found: Row = {}
    for name in AMOUNTS[table]:
        number = rng.randrange(10**6) if rng.random() < 0.7 else None
        found[name] = None if number is None else Decimal(number) / 1000 if name in EXACT else number / 8
    if table == "ledger":
        found |= {"booked": rng.randrange(100), "to": FIRST_MS + rng.randrange(10**6), "balance": 0}
    return found


def lives(table: str, rng: random.Random, said: int = 12) -> list[Row]:
    """Rows of all keys of a table in the order of the log."""
    rows = []
    for key in KEYS[table]:
        positions = sorted(rng.sample(range(200), rng.randrange(said)))
        rows += life(table, key, positions, rng)
    return sorted(rows, key=lambda row: max(row[POSITION], -row[POSITION] - 1))
