"""Revisions go on over a change of the site file: what a store was carried, and what it makes of later rows.

A store that took another's place (store_carry.py) tells the story of each figure from where the one before
left it, while the processors count from the new file's own beginning. For each key whose story is not the
processors' own, ``TABLE_carried`` says by how much later revisions are higher, and what was said of the last
one. A store that was carried nothing has no such tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sinks.store_layout import Layout, position_of, quoted, storable
from sinks.store_merge import Connection, in_time, same_key

CARRIED = "meterflow_carried"
"""One row: at which instant, and up to which position everything was carried."""
SITE = "site"
"""The ``cause`` of what a changed site file says otherwise."""


@dataclass(frozen=True, slots=True)
class Lifts:
    """Rows from before ``position`` were judged when they were carried; ``tables``: that have any to lift.

    Not ``final``: the change is still to come, and until then rows stay as they come.
    """

    position: int
    final: bool
    tables: frozenset[str]

    def lifted(self, connection: Connection, layout: Layout, frames: list[pa.Table]) -> list[pa.Table]:
        """Rows of the log, as this store tells their story."""
        if not layout.revised:
            return frames
        numbers = pa.array(np.arange(sum(map(len, frames))))
        staged = storable(layout, pa.concat_tables(frames)).append_column("_row", numbers)
        if layout.table.name in self.tables:
            where, bounds = in_time(layout, staged)
            its = f"SELECT * FROM {carried(layout)} t WHERE {where}"
            columns = ", ".join(_column(layout, name) for name in layout.names)
            join = f"LEFT JOIN ({its}) t ON {same_key(layout)}"
        else:
            join, bounds, columns = "", [], ", ".join(f"s.{quoted(name)}" for name in layout.names)
        sql = f"SELECT {columns} FROM staged s {join} WHERE {position_of('s')} >= ? ORDER BY s._row"
        rows = connection.sql(sql, params=[*bounds, self.position]).to_arrow_table()
        return [rows] if len(rows) else []


def carried(layout: Layout) -> str:
    """The table of what was carried of a result table."""
    return quoted(f"{layout.table.name}_carried")


def create_carried(connection: Connection, layout: Layout) -> None:
    """``own``: the processors' last revision of the key by then, -1 for none; ``lift``: on top of it."""
    key = ", ".join(map(quoted, layout.table.key))
    connection.execute(f"""
        CREATE TABLE {carried(layout)} AS
        SELECT {key}, 0::BIGINT AS own, 0::BIGINT AS lift, ''::VARCHAR AS cause,
            NULL::TIMESTAMP_MS AS reported
        FROM {layout.settled} LIMIT 0
    """)


def lifts_of(connection: Connection, names: set[str]) -> Lifts | None:
    """What a store with these tables was carried; None: nothing."""
    if CARRIED not in names:
        return None
    found = connection.execute(f"SELECT position, at_ms IS NOT NULL FROM {CARRIED}").fetchone()
    assert found is not None
    position, final = int(found[0]), bool(found[1])
    if not final:
        return Lifts(position, final, frozenset())
    tables = {name.removesuffix("_carried") for name in names - {CARRIED} if name.endswith("_carried")}
    some = {
        name for name in tables if connection.execute(f'SELECT 1 FROM "{name}_carried" LIMIT 1').fetchone()
    }
    return Lifts(position, final, frozenset(some))


def _column(layout: Layout, name: str) -> str:
    """A column of a row: said again as it was, it keeps the story it has; a later one is lifted."""
    own, revision = f"s.{quoted(name)}", "greatest(coalesce(s.revision, 0) + t.lift, 0)"
    again = "s.revision <= t.own"
    if layout.fills:
        again += " AND s.state IS DISTINCT FROM 'open'"
    state = f"WHEN {revision} > 0 THEN 'revised' ELSE 'final' END"
    told = {
        "revision": revision,
        "reported": f"CASE WHEN {again} THEN t.reported ELSE s.reported END",
        "state": f"CASE WHEN s.state = 'open' THEN 'open' {state}",
        "cause": f"CASE WHEN {again} THEN t.cause WHEN coalesce(s.cause, '') <> '' OR {revision} = 0"
        f" OR s.state = 'open' THEN s.cause ELSE '{SITE}' END",
    }
    if name not in told:
        return own
    return f"CASE WHEN t.lift IS NULL THEN {own} ELSE {told[name]} END AS {quoted(name)}"
