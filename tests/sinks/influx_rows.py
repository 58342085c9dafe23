"""Rows of every table with everything in them that two stores could differ in, from a seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from metering.tables import POSITION, TABLES, Column, Kind, Table
from sinks.store_influx_flux import FREE_TEXTS

Row = dict[str, Any]
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
MINUTE_MS = 60_000
LONG_AGO_MS, SINCE_MS = NOON_MS - 400 * 86_400_000, NOON_MS + 97 * MINUTE_MS
NASTY = (
    "",
    "two\nlines",
    "two\r\nlines",
    "\r",
    'a "quote", and more',
    "\\n is no line feed",
    "${c} \\x41 \t",
    "汉字",
)
WORDS: dict[str, tuple[str, ...]] = {
    "plant": ("steel-1", "钢 厂", 'a "b" ${c} d\\e'),
    "point": ("main", "main, old", "水=表"),
    "scope": ("plant:steel-1", "line:steel-1/melt", 'plant:a "b" ${c} d\\e'),
    "product": ("", "billet"),
    "serial": ("", "A-17", "B 02"),
    "measures": ("electricity", "water"),
    "span": ("15m", "hour"),
    "window": ("1h", "24h"),
    "id": ("kwh-per-t", "热,耗"),
    "quality": ("valid", "estimated", "missing"),
    "reason": ("not_json", "unknown_point"),
    "hop": ("ingest", "sink"),
    "to": ("firing", "ok"),
    "unit": ("kWh", "m3"),
}
AMOUNTS = (
    "0",
    "-0.5",
    "0.1",
    "1234567.123456",
    "0.000000001",
    "123456789012345",
    "98765432.123456789",
    "0.3",
)
TIMES_MS = (
    *(NOON_MS + minute * MINUTE_MS for minute in range(40)),
    NOON_MS + 1,
    NOON_MS + 999,
    SINCE_MS,
    LONG_AGO_MS,
)


def frames(seed: int, per_table: int = 150) -> Iterator[tuple[str, list[Row]]]:
    """Batches of rows in the order of a log: open, final and revised ones, some withdrawn."""
    chance = random.Random(seed)
    for table in TABLES.values():
        story = _Story(table, chance)
        for position in range(1, per_table + 1):
            yield table.name, [story.next(position) for _ in range(1 if table.restated else 1 + position % 3)]


class _Story:
    """What is said of the keys of a table, each revision of a key with figures of its own."""

    def __init__(self, table: Table, chance: random.Random) -> None:
        self._table, self._chance = table, chance
        self._said: list[Row] = []
        self._revisions: defaultdict[tuple[Any, ...], int] = defaultdict(lambda: -1)

    def next(self, position: int) -> Row:
        row = {column.name: self._value(column) for column in self._table.columns}
        for begin, end in (("start", "end"), ("from", "to")):
            if begin in row and isinstance(row.get(end), int):
                row[begin] = row[end] - self._chance.choice((MINUTE_MS, MINUTE_MS, 900_123))
        if self._table.restated and self._said and self._chance.random() < 0.4:
            row |= self._chance.choice(self._said)
        self._said.append({name: row[name] for name in (*self._table.key, self._table.time)})
        if "reported" in row:
            row["reported"] = NOON_MS + position * 1000
        if "revision" in row:
            row |= self._version(tuple(row[name] for name in self._table.key))
        withdrawn = self._table.restated and self._chance.random() < 0.06
        return row | {POSITION: -position - 1 if withdrawn else position}

    def _version(self, key: tuple[Any, ...]) -> Row:
        self._revisions[key] += 1
        revision = self._revisions[key]
        if "state" not in self._table.names:
            return {"revision": revision}
        told = "revised" if revision else "final"
        return {"revision": revision, "state": "open" if self._chance.random() < 0.3 else told}

    def _value(self, column: Column) -> Any:
        choose, key = self._chance.choice, column.name in (*self._table.key, self._table.time)
        if not key and column.kind is not Kind.TEXT and choose((False, False, False, True)):
            return None
        if column.kind is Kind.TIME:
            may_lack = self._table.name == "ledger" or column.name == "installed"
            return None if may_lack and choose((True, False)) else choose(TIMES_MS)
        if column.kind is Kind.TEXT:
            return choose(self._words(column.name)) or None
        if column.kind is Kind.AMOUNT:
            return Decimal(choose(AMOUNTS))
        return (
            choose((0, 1, -7, 2**53 + 1))
            if column.kind is Kind.INTEGER
            else choose((0.1, 1.0, -2.5e-7, 1e21))
        )

    def _words(self, name: str) -> tuple[str, ...]:
        """Line breaks only where people or devices may write them."""
        if name in WORDS and (name != "reason" or not self._table.key):
            return WORDS[name]
        free = name in FREE_TEXTS.get(self._table.name, ())
        return NASTY if free else tuple(text for text in NASTY if "\n" not in text and "\r" not in text)
