"""A store of the seeded world: rows by the merge rules of ``sinks/store_merge.py``, one row at a time.

Slow and plain on purpose; ``tests/simulators`` holds the embedded store against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import dropwhile, zip_longest
from typing import Any

import pyarrow as pa

from bus.frames import decode_table
from metering.tables import POSITION, TABLES
from sinks.store_layout import OPEN, layout

Key = tuple[Any, ...]
Row = dict[str, Any]
Version = tuple[int, int, bool]
"""Position, revision, whether it was reported."""
GONE = "gone"


class Shelf:
    """The newest row of each key and every reported one.

    ``position``: of the results, how far it has come; ``furthest``: how far it ever had.
    """

    def __init__(self) -> None:
        self.position = self.furthest = 0
        self.reported_ms = 0
        """The highest log time that any row of a plant names."""
        self.versions: dict[str, dict[Key, dict[Version, Row]]] = {name: {} for name in TABLES}
        self.said: list[tuple[str, Key, Row]] = []
        """Every row in the order in which it came."""

    def take(self, value: bytes) -> None:
        """A record of results."""
        name, rows = rows_of(value)
        its = self.versions[name]
        for key, version, row in rows:
            if name != "hop" and row.get("reported") is not None and not of_a_group(row):
                self.reported_ms = max(self.reported_ms, row["reported"])
            mine = key or (version[0], len(its))
            its.setdefault(mine, {})[version] = row
            self.said.append((name, mine, row))

    def newest(self, name: str) -> dict[Key, Row]:
        """The row of each key, without those that are no more."""
        found = ((key, rows[max(rows)]) for key, rows in self.versions[name].items())
        return {key: row for key, row in found if not row[GONE]}

    def history(self, name: str, key: Key) -> list[Row]:
        """Every reported row of a key that differs from the next one, oldest first; the last one last.

        An open row that was taken away was never reported.
        """
        rows = self.versions[name].get(key, {})
        every = [rows[version] for version in sorted(rows) if version[2]]
        chain = list(dropwhile(lambda row: row[GONE], every))
        values = (*layout(name).values, GONE)
        return [
            row
            for row, after in zip_longest(chain, chain[1:])
            if after is None or any(row.get(column) != after.get(column) for column in values)
        ]

    def as_of(self, name: str, at_ms: int) -> dict[Key, Row]:
        """What was reported by then."""
        out: dict[Key, Row] = {}
        for key, rows in self.versions[name].items():
            said = [version for version, row in rows.items() if version[2] and row["reported"] <= at_ms]
            if said and not rows[max(said)][GONE]:
                out[key] = rows[max(said)]
        return out


@lru_cache(maxsize=512)
def rows_of(value: bytes) -> tuple[str, list[tuple[Key, Version, Row]]]:
    """Table and rows of a record of results, which several shelves share: nobody may change them."""
    name, table = decode_table(value)
    out = []
    for row in plain(table):
        position = row.pop(POSITION)
        row[GONE] = position < 0
        version = (max(position, -position - 1), row.get("revision") or 0, row.get("state") != OPEN)
        out.append((tuple(row[each] for each in TABLES[name].key), version, row))
    return name, out


def of_a_group(row: Row) -> bool:
    return str(row.get("scope", "")).startswith("group:")


def plain(rows: pa.Table) -> Iterator[Row]:
    """Rows with instants as UTC milliseconds."""
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in rows.columns]
    names = tuple(rows.column_names)
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        yield dict(zip(names, values, strict=True))


@lru_cache(maxsize=16)
def columns_of_the_set(name: str) -> tuple[str, ...]:
    """Those that do not tell a row's story."""
    return tuple(column.name for column in TABLES[name].columns if not column.of_log)


def of_the_set(name: str, row: Row) -> Row:
    return {column: row[column] for column in columns_of_the_set(name)}
