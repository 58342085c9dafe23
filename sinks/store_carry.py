"""A new site file's store takes over the story of the one whose place it takes.

Its rows are compared with those that were reported until then. What says the same keeps its revision, when it
was reported and why. What differs is one revision more, with the cause ``site``, reported at the change; what
the new store had told itself on the way was told to nobody, and goes. What is no more is a row that is gone.
Each key then has one history, over the change.

It goes by stretches of time, so that any store fits into little memory, and in one transaction. Most of it
can be done before, while both stores are still told (``compare``): then only the keys that either was told
anything of since are left (store_since.py), and the instant of the change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.tables import POSITION, TABLES
from sinks.store_duckdb import DuckStore
from sinks.store_layout import (
    CARRIED_VERSION,
    COMPARED_VERSION,
    STORE,
    YEAR_9999_MS,
    Layout,
    layout,
    listed,
    quoted,
    union,
)
from sinks.store_lift import CARRIED, SITE, carried, create_carried
from sinks.store_merge import Connection, add, remove, same_key, version_of
from sinks.store_since import Earlier, earlier, touched, within_time

STRETCH_ROWS = 200_000
"""So many rows are compared at once, where their times let them be told apart."""
HOUR_MS = 3_600_000
PENDING_MS = YEAR_9999_MS
"""When something was reported by a change that is still to come."""
_NEVER = -(1 << 60)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Stopped(Exception):
    """Nothing was changed."""


def compare(store: DuckStore, before: DuckStore, stop: threading.Event) -> None:
    """``carry`` for now, while ``before`` goes on being told; to be done again, and then by ``carry``.

    Both have to hold everything of before ``store``'s position. What ``store`` is told from then on stays as
    it is until the next time. Raises Stopped when it is to ``stop``.
    """
    if store.carried:
        return
    _bring(store, before, None, store.position(), stop)


def carry(store: DuckStore, before: DuckStore, at_ms: int, results: int) -> None:
    """``store``, which stands at a position of the readings, becomes the one behind ``before``.

    From then on it stands at ``results`` of the results' log. Done a second time it changes nothing.
    """
    if store.carried:
        return
    _bring(store, before, at_ms, results, threading.Event())


def _bring(
    store: DuckStore, before: DuckStore, at_ms: int | None, results: int, stop: threading.Event
) -> None:
    """``at_ms``: when the change was; None: not yet."""
    position, since = store.position(), store.compared
    now = _Now(PENDING_MS if at_ms is None else at_ms, position)

    def put(cursor: Connection) -> None:
        for its in filter(lambda its: its.revised, map(layout, TABLES)):
            if since is None:
                create_carried(cursor, its)
            for part in _parts(cursor, before, its, since):
                if stop.is_set():
                    raise Stopped
                with before.reading() as old:
                    _carry(cursor, old, its, part, now, since)
            if since is not None and at_ms is not None:
                _date(cursor, its, at_ms)
        at = f"{'NULL' if at_ms is None else at_ms}::BIGINT AS at_ms, {position}::BIGINT AS position"
        if since is None:
            cursor.execute(f"CREATE TABLE {CARRIED} AS SELECT {at}")
        else:
            cursor.execute(
                f"UPDATE {CARRIED} SET at_ms = s.at_ms, position = s.position FROM (SELECT {at}) s"
            )
        version = COMPARED_VERSION if at_ms is None else CARRIED_VERSION
        cursor.execute(f"UPDATE {STORE} SET version = {version}")

    store.change(put, results)
    store.look_again()


def _parts(new: Connection, before: DuckStore, its: Layout, since: int | None) -> Sequence[str | pa.Table]:
    """Conditions on ``t`` that part all reported rows; or, once compared, the keys told something since."""
    with before.reading() as old:
        return list(_stretches(new, old, its)) if since is None else touched((new, old), its, since)


def _date(cursor: Connection, its: Layout, at_ms: int) -> None:
    """What was compared before the change was reported by the change."""
    at, pending = (f"make_timestamp_ms({ms})::TIMESTAMP_MS" for ms in (at_ms, PENDING_MS))
    for table in (*its.reported_tables, carried(its)):
        cursor.execute(f"UPDATE {table} SET reported = {at} WHERE reported = {pending}")
    if its.fills:
        cursor.execute(f"UPDATE {its.current} SET revision = 0 WHERE revision < 0")


def _stretches(new: Connection, old: Connection, its: Layout) -> Iterator[str]:
    """Conditions on ``t`` that part all reported rows."""
    time = f"t.{quoted(its.table.time)}"
    counts: dict[int | None, int] = {}
    for connection in (new, old):
        sql = f"""
            SELECT epoch_ms({time}) // {HOUR_MS} AS hour, count(*)
            FROM ({union(its.names, its.reported_tables)}) t GROUP BY 1
        """
        for hour, count in connection.execute(sql).fetchall():
            counts[hour] = counts.get(hour, 0) + count
    if counts.pop(None, 0):
        yield f"{time} IS NULL"
    hours = sorted(hour for hour in counts if hour is not None)
    while hours:
        rows, first = 0, hours[0]
        last = first
        while hours and (not rows or rows + counts[hours[0]] <= STRETCH_ROWS):
            last = hours.pop(0)
            rows += counts[last]
        bounds = [f"make_timestamp_ms({hour * HOUR_MS})::TIMESTAMP_MS" for hour in (first, last + 1)]
        within = f"{time} >= {bounds[0]} AND {time} < {bounds[1]}"
        parts = -(-rows // (2 * STRETCH_ROWS))
        texts = ", ".join(f"t.{quoted(name)}" for name in its.table.key if name != its.table.time)
        for part in range(parts):
            yield within + (f" AND hash({texts}) % {parts} = {part}" if parts > 1 else "")


@dataclass(frozen=True, slots=True)
class _Now:
    """When, and before which record. What was told lies before what is filling, that before the rest."""

    at_ms: int
    position: int

    @property
    def told(self) -> int:
        return max(self.position - 2, 0)

    @property
    def filling(self) -> int:
        return max(self.position - 1, 0)


@dataclass(slots=True)
class _Judged:
    """Of each key that is not alike: what was reported of it, and what the new store says.

    ``told``, ``said``: revision of the last reported row, -1 for none; ``told_there``, ``said_there``: it is
    no row that is gone; ``same``: they say the same; ``opened``: the new store's is still filling.
    """

    told: Ints
    told_there: Bools
    said: Ints
    said_there: Bools
    same: Bools
    opened: Bools
    kept: Bools = field(init=False)
    lifted: Bools = field(init=False)
    gone: Bools = field(init=False)
    becomes: Ints = field(init=False)

    def __post_init__(self) -> None:
        was = self.told >= 0
        self.same = self.same | (was & ~self.told_there & ~self.said_there)
        silent = self.opened & (self.said < 0)
        differs = ~self.same & ~silent
        self.kept = self.same & ~self.opened
        self.lifted = differs & self.said_there
        self.gone = differs & self.told_there & ~self.said_there
        self.becomes = np.where(self.lifted | self.gone, self.told + 1, self.told)


def _carry(
    new: Connection, old: Connection, its: Layout, part: str | pa.Table, now: _Now, since: int | None
) -> None:
    """The keys of one part."""
    then = None
    if isinstance(part, str):
        within = part
        settled, superseded = (_rows(old, its, table, within) for table in its.reported_tables)
        unlike = _unlike(new, its, within, settled, superseded)
    else:
        assert since is not None
        within, unlike = within_time(its, part), part
        settled, superseded = (_rows(old, its, table, within, unlike) for table in its.reported_tables)
        then = earlier(new, its, unlike, since)
    if not len(unlike):
        return
    told = _before(_chains(new, its, pa.concat_tables([settled, superseded]), unlike), now.told)
    own = {table: _with_ids(new, its, table, within, unlike) for table in its.stored_tables}
    reported = pa.concat_tables([own[table] for table in its.reported_tables])
    said = _chains(new, its, reported, unlike)
    said = said.filter(said["last"])
    opened = own[its.current] if its.fills else None
    if opened is not None and then is not None:
        opened = _with(opened, "revision", then.opened(opened))
    judged = _judged(new, its, (told, said), opened, len(unlike), then)
    for table, rows in own.items():
        if len(rows):
            remove(new, table, rows["_id"].to_numpy())
    _put(new, its, judged, (told, said, opened), now)
    _note(new, its, judged, unlike, told, now.at_ms)


def _rows(old: Connection, its: Layout, table: str, within: str, keys: pa.Table | None = None) -> pa.Table:
    """Of all keys, or of these."""
    join = "" if keys is None else f"JOIN keys s ON {same_key(its)}"
    columns = ", ".join(f"t.{quoted(name)}" for name in its.names)
    return old.sql(f"SELECT {columns} FROM {table} t {join} WHERE {within}").to_arrow_table()


def _unlike(new: Connection, its: Layout, within: str, settled: pa.Table, superseded: pa.Table) -> pa.Table:
    """The keys whose newest reported row, or whose history, is another in a shown column; numbered ``_n``."""
    names, key = its.table.names, its.table.key
    assert settled.schema == superseded.schema
    shown = f"{listed(names)}, {POSITION} < 0 AS _gone"
    rows = [f"row({', '.join(f'{side}.{quoted(n)}' for n in (*names, '_gone'))})" for side in "st"]
    either = ", ".join(f"coalesce(s.{name}, t.{name}) AS {name}" for name in map(quoted, key))
    here = f"SELECT {shown} FROM {its.superseded} t WHERE {within}"
    there = f"SELECT {shown} FROM superseded"
    sql = f"""
        WITH unlike AS (
            SELECT {either} FROM (SELECT {shown} FROM settled) s
            FULL JOIN (SELECT {shown} FROM {its.settled} t WHERE {within}) t ON {same_key(its)}
            WHERE {rows[0]} IS DISTINCT FROM {rows[1]}
            UNION SELECT {listed(key)} FROM (({here}) EXCEPT ALL ({there}))
            UNION SELECT {listed(key)} FROM (({there}) EXCEPT ALL ({here}))
        )
        SELECT *, row_number() OVER () - 1 AS _n FROM unlike
    """
    return new.sql(sql).to_arrow_table()


def _chains(new: Connection, its: Layout, rows: pa.Table, unlike: pa.Table) -> pa.Table:
    """Reported rows with the number of their key, ``last``: whether it is the newest of it."""
    assert rows.num_columns
    assert len(unlike)
    columns = ", ".join(f"v.{quoted(name)}" for name in its.names)
    on = same_key(its).replace("t.", "v.")
    sql = f"""
        SELECT {columns}, s._n,
            row_number() OVER (PARTITION BY s._n ORDER BY {version_of(its)} DESC) = 1 AS last
        FROM rows v JOIN unlike s ON {on}
    """
    return new.sql(sql).to_arrow_table()


def _before(rows: pa.Table, position: int) -> pa.Table:
    """A worker that was stopped within a batch may have said some of it."""
    its = rows[POSITION].to_numpy()
    return _with(rows, POSITION, np.clip(its, -position - 1, position))


def _with_ids(new: Connection, its: Layout, table: str, within: str, unlike: pa.Table) -> pa.Table:
    assert len(unlike)
    columns = ", ".join(f"t.{quoted(name)}" for name in its.names)
    join = f"{table} t JOIN unlike s ON {same_key(its)}"
    sql = f"SELECT {columns}, s._n, t.rowid AS _id FROM {join} WHERE {within}"
    return new.sql(sql).to_arrow_table()


def _judged(
    new: Connection,
    its: Layout,
    chains: tuple[pa.Table, pa.Table],
    opened: pa.Table | None,
    keys: int,
    then: Earlier | None,
) -> _Judged:
    told, said = chains
    last = told.filter(told["last"])
    figures = [c.name for c in its.table.columns if not c.of_log and c.name not in its.table.key]
    both = [f"row({', '.join(f'{side}.{quoted(name)}' for name in figures)})" for side in "ts"]
    sql = f"SELECT t._n FROM last t JOIN said s USING (_n) WHERE {both[0]} IS NOT DISTINCT FROM {both[1]}"
    alike = new.execute(sql).fetchnumpy()["_n"]
    told_at, told_there = _of_keys(last, keys)
    said_at, said_there = _of_keys(said, keys)
    if then is not None:
        said_at = then.said(said, said_at)
        said_there &= said_at >= 0
    same, filling = np.zeros(keys, bool), np.zeros(keys, bool)
    same[np.asarray(alike)] = True
    if opened is not None:
        filling[opened["_n"].to_numpy()] = True
    return _Judged(told_at, told_there, said_at, said_there, same & told_there & said_there, filling)


def _of_keys(rows: pa.Table, keys: int) -> tuple[Ints, Bools]:
    revision, there = np.full(keys, -1, np.int64), np.zeros(keys, bool)
    n = rows["_n"].to_numpy()
    revision[n] = pc.fill_null(rows["revision"], 0).to_numpy()
    there[n] = rows[POSITION].to_numpy() >= 0
    return revision, there


def _put(
    new: Connection,
    its: Layout,
    judged: _Judged,
    rows: tuple[pa.Table, pa.Table, pa.Table | None],
    now: _Now,
) -> None:
    told, said, opened = rows
    n, last = told["_n"].to_numpy(), told["last"].to_numpy(zero_copy_only=False)
    add(new, its, its.settled, told.filter(pa.array(last & judged.kept[n])))
    add(new, its, its.superseded, told.filter(pa.array(~(last & judged.kept[n]))))
    lifted = said.filter(pa.array(judged.lifted[said["_n"].to_numpy()]))
    gone = told.filter(pa.array(last & judged.gone[n]))
    for changed, position in ((lifted, now.told), (gone, -now.told - 1)):
        retold = _retold(its, judged, changed, position, now.at_ms)
        filling = judged.opened[retold["_n"].to_numpy()]
        add(new, its, its.settled, retold.filter(pa.array(~filling)))
        add(new, its, its.superseded, retold.filter(pa.array(filling)))
    if opened is not None and len(opened):
        n = opened["_n"].to_numpy()
        lift = judged.becomes[n] - judged.said[n]
        lowest = _NEVER if now.at_ms == PENDING_MS else 0
        opened = _with(opened, "revision", np.maximum(opened["revision"].to_numpy() + lift, lowest))
        add(new, its, its.current, _with(opened, POSITION, np.full(len(n), now.filling)))


def _retold(its: Layout, judged: _Judged, rows: pa.Table, position: int, at_ms: int) -> pa.Table:
    """Rows as the site file's change says them."""
    revision = judged.becomes[rows["_n"].to_numpy()]
    rows = _with(_with(rows, "revision", revision), POSITION, np.full(len(rows), position))
    rows = _with(rows, "reported", np.full(len(rows), at_ms))
    if not its.fills:
        return rows
    rows = _with(rows, "cause", np.full(len(rows), SITE, object))
    return _with(rows, "state", np.where(revision > 0, "revised", "final").astype(object))


def _with(rows: pa.Table, name: str, values: NDArray[np.generic]) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.set_column(at, name, pa.array(values).cast(rows.schema.field(at).type))


def _note(
    new: Connection, its: Layout, judged: _Judged, unlike: pa.Table, told: pa.Table, at_ms: int
) -> None:
    """What later rows of these keys are to be lifted by."""
    last = told.filter(told["last"])
    cause = "r.cause" if its.fills else "NULL"
    stays = pa.table(
        {
            "_n": np.arange(len(unlike)),
            "own": judged.said,
            "lift": judged.becomes - judged.said,
            "kept": judged.same,
        }
    )
    assert len(stays) == len(unlike) >= len(last)
    key = ", ".join(f"u.{quoted(name)}" for name in its.table.key)
    new.execute(f"""
        INSERT INTO {carried(its)}
        SELECT {key}, s.own, s.lift, CASE WHEN s.kept THEN {cause} ELSE '{SITE}' END,
            CASE WHEN s.kept THEN r.reported ELSE make_timestamp_ms({at_ms})::TIMESTAMP_MS END
        FROM unlike u JOIN stays s USING (_n) LEFT JOIN last r USING (_n)
    """)
