"""What came since two stores were compared (store_carry.py): the keys to be compared again, and what was
found of them then.

A key that was told anything has a row from that position on. Rows from before are as they were put then:
what the processors counted of such a key is kept in ``TABLE_carried``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.tables import POSITION
from sinks.store_layout import Layout, listed, quoted
from sinks.store_lift import carried
from sinks.store_merge import Connection, remove, same_key

APART_MS = 6 * 3_600_000
"""Keys whose times are so far apart are looked for one after the other, not with all rows between them."""
_UNKNOWN = -(1 << 60)
KEYS = 50_000
"""So many keys at once."""


def touched(stores: tuple[Connection, Connection], its: Layout, since: int) -> list[pa.Table]:
    """The keys with rows from a position on, numbered ``_n``, in parts."""
    late = f"({POSITION} >= {since} OR {POSITION} < {-since})"
    key, time = listed(its.table.key), quoted(its.table.time)
    asked = " UNION ".join(f"SELECT {key} FROM {table} WHERE {late}" for table in its.stored_tables)
    found = pa.concat_tables([store.sql(asked).to_arrow_table() for store in stores])
    assert found.num_columns
    keys = stores[0].sql(f"SELECT DISTINCT {key} FROM found ORDER BY {time} NULLS FIRST").to_arrow_table()
    times = keys[its.table.time].cast(pa.int64()).fill_null(_UNKNOWN).to_numpy()
    gaps = np.flatnonzero(np.diff(times) > APART_MS) + 1
    cuts = np.union1d(np.concatenate([[0], gaps, [len(keys)]]), np.arange(0, len(keys), KEYS)).tolist()
    parts = (keys.slice(first, last - first) for first, last in pairwise(cuts))
    return [part.append_column("_n", pa.array(np.arange(len(part)))) for part in parts]


def within_time(its: Layout, keys: pa.Table) -> str:
    """A condition on ``t`` that the rows of some keys meet; times are all known, or none is."""
    time = f"t.{quoted(its.table.time)}"
    bounds = pc.min_max(keys[its.table.time].cast(pa.int64()))
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    if first is None:
        return f"{time} IS NULL"
    low, high = (f"make_timestamp_ms({ms})::TIMESTAMP_MS" for ms in (first, last))
    return f"{time} BETWEEN {low} AND {high}"


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was found of some keys. ``position``: since when; ``n``: those that had a story of their own."""

    position: int
    n: NDArray[np.int64]
    own: NDArray[np.int64]
    lift: NDArray[np.int64]

    def said(self, rows: pa.Table, said: NDArray[np.int64]) -> NDArray[np.int64]:
        """``said`` of each key as the processors count: ``rows`` are the newest, some put here then."""
        fresh = np.zeros(len(said), bool)
        fresh[rows["_n"].to_numpy()[self._since(rows)]] = True
        stale = ~fresh[self.n]
        said = said.copy()
        said[self.n[stale]] = self.own[stale]
        return said

    def opened(self, rows: pa.Table) -> NDArray[np.int64]:
        """The revisions of rows that are filling, as the processors count."""
        lift = np.zeros(int(rows["_n"].to_numpy().max(initial=0)) + 1, np.int64)
        mine = self.n < len(lift)
        lift[self.n[mine]] = self.lift[mine]
        revision: NDArray[np.int64] = rows["revision"].to_numpy()
        return np.where(self._since(rows), revision, revision - lift[rows["_n"].to_numpy()])

    def _since(self, rows: pa.Table) -> NDArray[np.bool_]:
        its = rows[POSITION].to_numpy()
        return np.asarray(np.maximum(its, -its - 1) >= self.position)


def earlier(new: Connection, its: Layout, keys: pa.Table, position: int) -> Earlier:
    """Of these keys; it is taken out, to be noted anew."""
    within = within_time(its, keys)
    sql = f"""
        SELECT s._n, t.own, t.lift, t.rowid AS _id
        FROM {carried(its)} t JOIN keys s ON {same_key(its)} WHERE {within}
    """
    found = new.execute(sql).fetchnumpy()
    n, own, lift, ids = (np.asarray(found[name]) for name in ("_n", "own", "lift", "_id"))
    if len(ids):
        remove(new, carried(its), ids)
    return Earlier(position, n, own, lift)
