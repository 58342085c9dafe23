"""How the result tables lie in the DuckDB file, and the SQL names that are made from them.

Each result table is kept in up to three:

- ``TABLE_current``: rows that are replaced in place and leave no history: those whose ``state`` is
  ``open``, and all of a table without revisions (``ledger``, ``hop``). Small, rewritten all the time.
- ``TABLE_settled``: the newest reported row of each key. Big, almost only ever appended to.
- ``TABLE_superseded``: reported rows that a newer one has replaced. Small.

A key has its newest row in ``current`` or in ``settled``, never in both. There is no primary key, no
UNIQUE and no index: replaying them after a crash is where DuckDB has lost files. What keeps keys
apart is the merge (store_merge.py), and the transaction that holds the log position with the rows.
Times are naive timestamps in UTC milliseconds, so that nothing depends on a session's time zone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.frames import schema
from metering.tables import POSITION, TABLES, Kind, Table

STORE_VERSION = 1
CARRIED_VERSION = 2
"""Of a store that was carried a story (store_carry.py): what does not know of it would tell it wrongly."""
COMPARED_VERSION = 3
"""Of one that was compared with the one before, and has not taken its place yet."""
YEAR_1_MS, YEAR_9999_MS = -62_135_596_800_000, 253_402_300_799_999
"""The instants that RFC 3339 can write."""
STORE = "meterflow_store"
OPEN = "open"
"""The ``state`` of a row that is still filling."""
_TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.TIME: "TIMESTAMP_MS",
    Kind.AMOUNT: "DECIMAL(38,9)",
    Kind.INTEGER: "BIGINT",
    Kind.NUMBER: "DOUBLE",
}
_WORDS = pa.dictionary(pa.int32(), pa.utf8())


THERE = f"{POSITION} >= 0"
"""A row with a negative position, -p - 1, says that since position p its key has no row. It is kept,
so that an older row that comes again finds it newer, and never shown."""


def position_of(alias: str) -> str:
    """SQL for the log position of a row, shown or not."""
    return f"greatest({alias}.{POSITION}, -{alias}.{POSITION} - 1)"


def quoted(name: str) -> str:
    """An SQL identifier; ``from``, ``to``, ``start`` and ``end`` are keywords without the quotes."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, names))


@dataclass(frozen=True)
class Layout:
    """The stored tables of one result table. ``fills``: rows may be open; ``revised``: has a history."""

    table: Table

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*self.table.names, POSITION)

    @cached_property
    def fills(self) -> bool:
        return "state" in self.table.names

    @cached_property
    def revised(self) -> bool:
        return self.table.restated and "revision" in self.table.names

    @cached_property
    def has_current(self) -> bool:
        return self.table.restated and (self.fills or not self.revised)

    @cached_property
    def has_settled(self) -> bool:
        return self.revised or not self.table.restated

    @property
    def current(self) -> str:
        return quoted(f"{self.table.name}_current")

    @property
    def settled(self) -> str:
        return quoted(f"{self.table.name}_settled")

    @property
    def superseded(self) -> str:
        return quoted(f"{self.table.name}_superseded")

    @cached_property
    def newest_tables(self) -> tuple[str, ...]:
        """Those that together hold the newest row of each key."""
        return (self.current,) * self.has_current + (self.settled,) * self.has_settled

    @cached_property
    def reported_tables(self) -> tuple[str, ...]:
        """Those that together hold every row ever reported and kept."""
        if not self.revised:
            return self.newest_tables
        return (self.settled, self.superseded)

    @cached_property
    def stored_tables(self) -> tuple[str, ...]:
        return self.newest_tables + (self.superseded,) * self.revised

    @cached_property
    def values(self) -> tuple[str, ...]:
        """What makes two reported rows of a key differ: the revision and, with a state, the figures."""
        figures = tuple(c.name for c in self.table.columns if not c.of_log and c.name not in self.table.key)
        return (*figures, "revision") if self.fills else ("revision",)

    @cached_property
    def naive(self) -> Any:
        """The Arrow schema of a frame with times as the store keeps them: milliseconds without zone."""
        fields = (field.with_type(_naive(field.type)) for field in schema(self.table))
        return pa.schema(list(fields))

    @cached_property
    def coded(self) -> Any:
        """The same with texts as numbers of words."""
        fields = (f.with_type(_WORDS) if f.type == pa.utf8() else f for f in self.naive)
        return pa.schema(list(fields))

    def create(self) -> list[str]:
        kinds = {column.name: _TYPES[column.kind] for column in self.table.columns}
        kinds[POSITION] = "BIGINT"
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in kinds.items())
        made = [f"CREATE TABLE {name} ({columns})" for name in self.stored_tables]
        made.append(self._view(self.table.name, self.newest_tables))
        if self.revised:
            made.append(self._view(f"{self.table.name}_history", self.reported_tables))
        return made

    def _view(self, name: str, tables: tuple[str, ...]) -> str:
        there = f"SELECT {listed(self.table.names)} FROM ({union(self.names, tables)}) WHERE {THERE}"
        return f"CREATE VIEW {quoted(name)} AS {there}"


def storable(layout: Layout, rows: pa.Table, *, coded: bool = False) -> pa.Table:
    """Rows of a frame as the store keeps them; a time beyond the years 1 to 9999 (ever) is unknown.

    ``coded``: texts are numbers of words.
    """
    rows = rows.cast(layout.coded if coded else layout.naive)
    for column in layout.table.columns:
        if column.kind is Kind.TIME:
            rows = _bounded(rows, column.name)
    return rows


def _bounded(rows: pa.Table, name: str) -> pa.Table:
    times = rows[name].cast(pa.int64())
    extremes = pc.min_max(times)
    first, last = extremes["min"].as_py(), extremes["max"].as_py()
    if first is None or (first >= YEAR_1_MS and last <= YEAR_9999_MS):
        return rows
    known = pc.and_(pc.greater_equal(times, YEAR_1_MS), pc.less_equal(times, YEAR_9999_MS))
    bounded = pc.if_else(known, rows[name], pa.scalar(None, rows[name].type))
    return rows.set_column(rows.schema.get_field_index(name), name, bounded)


def union(names: tuple[str, ...], tables: tuple[str, ...]) -> str:
    return " UNION ALL ".join(f"SELECT {listed(names)} FROM {table}" for table in tables)


def create_store() -> list[str]:
    """The statements that make an empty store."""
    made = [statement for table in TABLES.values() for statement in layout(table.name).create()]
    made.append(f"CREATE TABLE {STORE} (version BIGINT, shape VARCHAR, results BIGINT, rejected BIGINT)")
    return made


@lru_cache(maxsize=1)
def shape() -> str:
    """A fingerprint of all stored columns: a store of another shape is rebuilt, not altered.

    ALTER TABLE is among what has made write-ahead logs unreadable, and everything stored can be had
    again from the log.
    """
    text = "\n".join(statement for statement in create_store())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=64)
def layout(table: str) -> Layout:
    return Layout(TABLES[table])


def _naive(kind: Any) -> Any:
    return pa.timestamp("ms") if pa.types.is_timestamp(kind) else kind
