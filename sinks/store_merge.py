"""What happens to the stored rows when new ones come: the newest of each key stays, the rest is history.

Rows of one key are ordered by their version: position, then revision, then reported before open.
After any set of rows has come, in any order, cut and repetition,

- the newest row is the one with the highest version; of two with the same version, the one that
  came last (a replay brings the same row again);
- its history is every reported row (``state`` final or revised; any row of a table without states)
  that is not the newest and differs from the next reported row in revision or figures.

A row with a negative position says that its key has no row any more (store_layout.py, THERE). It is
a version like any other here.

That rests on one thing the processors keep: of two reported rows of a key the one with the higher
position has the higher revision, or the same revision and the same figures.

Nearly all rows are simple: their key is new, or replaces a row that is still filling. They are
inserted as they are. For the others, the contested ones, the whole chain of versions of their keys
is taken out, worked out anew, and put back.

The tables named ``staged``, ``taken``, ``added`` and ``gone`` in the SQL are the Arrow tables in the
Python variables of that name beside it: DuckDB finds them there, in half the time that registering
them takes.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.tables import POSITION
from sinks.store_layout import OPEN, Layout, listed, position_of, quoted, storable, union

_ROW = "_row"
_FRAME = "_frame"
Connection = duckdb.DuckDBPyConnection


def merge(connection: Connection, layout: Layout, frames: list[pa.Table]) -> None:
    """Puts frames of one table, in the order of the log, into the store's open transaction."""
    if not layout.table.restated:
        _append(connection, layout, frames)
        return
    rows = _thinned(connection, layout, _numbered(storable(layout, pa.concat_tables(frames))))
    clashes = _clashes(connection, layout, rows)
    contested = _repeated(connection, layout, rows)
    plain = clashes["newer"] & ~clashes["settled"]
    contested[clashes["row"][~plain]] = True
    if layout.fills:
        closing = clashes["row"][plain & _is_reported(rows)[clashes["row"]]]
        contested |= _with_history(connection, layout, rows, closing)
    plain &= ~contested[clashes["row"]]
    if plain.any():
        remove(connection, layout.current, clashes["id"][plain])
    _insert(connection, layout, rows.filter(pa.array(~contested)))
    if contested.any():
        _settle(connection, layout, rows.filter(pa.array(contested)), clashes)


def _clashes(connection: Connection, layout: Layout, staged: pa.Table) -> dict[str, NDArray[Any]]:
    """Stored rows with the key of a staged one: row (staged), settled, id (rowid), newer (the staged is).

    Versions are compared here, in arrays: as SQL rows they would cost more than the join.
    """
    wanted = listed(tuple(dict.fromkeys((*layout.table.key, *_version_names(layout)))))
    within, bounds = in_time(layout, staged)
    ranges = {layout.settled: f" WHERE {within}"}
    stored = " UNION ALL ".join(
        f"SELECT {wanted}, {table == layout.settled} AS _settled, rowid AS _id"
        f" FROM {table} t{ranges.get(table, '')}"
        for table in layout.newest_tables
    )
    versions = ", ".join(f"t.{name}" for name in _version_names(layout))
    sql = (
        f"SELECT s.{_ROW} AS _row, _settled, _id, {versions}"
        f" FROM ({stored}) t JOIN staged s ON {same_key(layout)}"
    )
    found = connection.execute(sql, bounds if layout.has_settled else []).fetchnumpy()
    row, settled = np.asarray(found["_row"]), np.asarray(found["_settled"])
    its = [_numbers(found[name], name) for name in _version_names(layout)]
    mine = [_numbers(staged[name].to_numpy(), name)[row] for name in _version_names(layout)]
    if layout.fills:
        its.append(settled)
        mine.append(_is_reported(staged)[row])
    return {"row": row, "settled": settled, "id": np.asarray(found["_id"]), "newer": _greater(mine, its)}


def _greater(ones: list[NDArray[Any]], others: list[NDArray[Any]]) -> NDArray[np.bool_]:
    """Compares column by column, the first that differs decides."""
    greater = np.zeros(len(ones[0]), bool)
    for one, other in zip(reversed(ones), reversed(others), strict=True):
        greater = (one > other) | ((one == other) & greater)
    return greater


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """An unknown revision counts as 0; positions as what they are without their sign."""
    known = np.ma.filled(values, 0) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if name == POSITION:
        known = np.maximum(known, -known - 1)
    return np.asarray(np.nan_to_num(known) if known.dtype.kind == "f" else known)


def _is_reported(rows: pa.Table) -> NDArray[np.bool_]:
    reported: NDArray[np.bool_] = pc.not_equal(pc.fill_null(rows["state"], ""), OPEN).to_numpy()
    return reported


def _numbered(rows: pa.Table) -> pa.Table:
    return rows.append_column(_ROW, pa.array(np.arange(len(rows))))


def _thinned(connection: Connection, layout: Layout, staged: pa.Table) -> pa.Table:
    """Without the rows that a newer staged one replaces and that leave no history.

    While much is caught up at once, a span fills many times in one batch; that is no contest.
    """
    if not _has_repeats(layout, staged) or not layout.has_current:
        return staged
    newest = f"row_number() OVER ({_by_key(layout)} ORDER BY {version_of(layout)} DESC, {_ROW} DESC) = 1"
    kept = f"{newest} OR {_reported(layout)}" if layout.revised else newest
    rows = connection.execute(f"SELECT {_ROW} FROM staged v QUALIFY {kept}").fetchnumpy()[_ROW]
    return _numbered(staged.take(pa.array(np.sort(rows))).drop_columns(_ROW))


def _repeated(connection: Connection, layout: Layout, staged: pa.Table) -> NDArray[np.bool_]:
    """Which staged rows share their key with another staged row."""
    repeated = np.zeros(len(staged), bool)
    if _has_repeats(layout, staged):
        sql = f"SELECT {_ROW} FROM staged QUALIFY count(*) OVER ({_by_key(layout)}) > 1"
        repeated[connection.execute(sql).fetchnumpy()[_ROW]] = True
    return repeated


def _has_repeats(layout: Layout, rows: pa.Table) -> bool:
    groups = rows.group_by(list(layout.table.key), use_threads=False).aggregate([])
    return len(groups) < len(rows)


def _by_key(layout: Layout) -> str:
    return f"PARTITION BY {listed(layout.table.key)}"


def _insert(connection: Connection, layout: Layout, rows: pa.Table) -> None:
    """Inserts newest rows where they belong: those still filling apart from the settled ones."""
    if not layout.fills:
        add(connection, layout, layout.current if layout.has_current else layout.settled, rows)
        return
    reported = _is_reported(rows)
    add(connection, layout, layout.current, rows.filter(pa.array(~reported)))
    add(connection, layout, layout.settled, rows.filter(pa.array(reported)))


def _settle(connection: Connection, layout: Layout, rows: pa.Table, clashes: dict[str, NDArray[Any]]) -> None:
    """Works out the contested keys anew from all their versions, staged and stored."""
    mine = np.isin(clashes["row"], rows[_ROW].to_numpy())
    ids = {table: _ids(clashes, mine, table == layout.settled) for table in layout.newest_tables}
    if layout.revised:
        ids[layout.superseded] = _superseded(connection, layout, rows)
    kept = _chains(connection, layout, rows, ids)
    for table, taken in ids.items():
        if len(taken):
            remove(connection, table, taken)
    newest = kept["newest"]
    _insert(connection, layout, kept.filter(newest))
    if layout.revised:
        add(connection, layout, layout.superseded, kept.filter(pc.invert(newest)))


def _ids(clashes: dict[str, NDArray[Any]], mine: NDArray[np.bool_], settled: bool) -> NDArray[np.int64]:
    return np.unique(clashes["id"][mine & (clashes["settled"] == settled)])


def _with_history(
    connection: Connection, layout: Layout, rows: pa.Table, closing: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which staged rows close a span that had been reported before it was opened again.

    Said again as it was, the older report is no history.
    """
    found = np.zeros(len(rows), bool)
    if len(closing):
        staged = rows.take(pa.array(np.unique(closing)))
        within, bounds = in_time(layout, staged)
        matching = f"{layout.superseded} t JOIN staged s ON {same_key(layout)}"
        sql = f"SELECT DISTINCT s.{_ROW} AS _row FROM {matching} WHERE {within}"
        found[connection.execute(sql, bounds).fetchnumpy()["_row"]] = True
    return found


def _superseded(connection: Connection, layout: Layout, staged: pa.Table) -> NDArray[np.int64]:
    within, bounds = in_time(layout, staged)
    matching = f"{layout.superseded} t JOIN staged s ON {same_key(layout)}"
    sql = f"SELECT DISTINCT t.rowid AS id FROM {matching} WHERE {within}"
    return np.asarray(connection.execute(sql, bounds).fetchnumpy()["id"])


def _chains(
    connection: Connection, layout: Layout, staged: pa.Table, ids: dict[str, NDArray[np.int64]]
) -> pa.Table:
    """The rows to keep of each contested key, with ``newest``: true for one, false for its history."""
    names, key = listed(layout.names), listed(layout.table.key)
    places = np.repeat(np.arange(len(ids)), [len(its) for its in ids.values()])
    taken = pa.table({"place": places, "id": np.concatenate(list(ids.values()))})
    assert len(staged)
    assert len(taken) == len(places)
    pool = [f"SELECT {names}, {_ROW} FROM staged"]
    for place, (table, its) in enumerate(ids.items()):
        if len(its):
            chosen = f"{_between(its)} AND rowid IN (SELECT id FROM taken WHERE place = {place})"
            pool.append(f"SELECT {names}, -1 FROM {table} WHERE {chosen}")
    version, reported, values = version_of(layout), _reported(layout), _values(layout)
    history = f"{reported} AND {values} IS DISTINCT FROM next_values" if layout.revised else "false"
    sql = f"""
        WITH pool AS ({" UNION ALL ".join(pool)}),
        versions AS (
            SELECT * FROM pool v
            QUALIFY row_number() OVER (PARTITION BY {key}, {version} ORDER BY {_ROW} DESC) = 1
        ),
        ranked AS (
            SELECT {names},
                row_number() OVER (PARTITION BY {key} ORDER BY {version} DESC) = 1 AS newest,
                lead({values}) OVER (PARTITION BY {key}, {reported} ORDER BY {version}) AS next_values
            FROM versions v
        )
        SELECT {names}, newest FROM ranked v WHERE newest OR ({history})
    """
    return connection.sql(sql).to_arrow_table()


def _append(connection: Connection, layout: Layout, frames: list[pa.Table]) -> None:
    """Adds rows that are never restated, each as often as the frame that has it most often.

    So a frame that comes again adds nothing, and two equal rows of one frame (the same nonsense
    twice in a message) both stay.
    """
    numbers = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    staged = storable(layout, pa.concat_tables(frames)).append_column(_FRAME, pa.array(numbers))
    positions = pc.min_max(staged[POSITION])
    names = listed(layout.names)
    copy = "row_number() OVER (PARTITION BY {}) AS copy"
    sql = f"""
        WITH came AS (SELECT {names}, {copy.format(f"{names}, {_FRAME}")} FROM staged),
        there AS (SELECT {names}, {copy.format(names)} FROM {layout.settled} WHERE {POSITION} BETWEEN ? AND ?)
        INSERT INTO {layout.settled} SELECT {names} FROM (
            SELECT DISTINCT * FROM came EXCEPT SELECT * FROM there
        ) ORDER BY {POSITION}
    """
    connection.execute(sql, [positions["min"].as_py(), positions["max"].as_py()])


def add(connection: Connection, layout: Layout, table: str, added: pa.Table) -> None:
    """Appends rows, whose keys the store does not have, to one of the stored tables."""
    if len(added):
        connection.execute(f"INSERT INTO {table} {union(layout.names, ('added',))}")


def remove(connection: Connection, table: str, ids: NDArray[np.int64]) -> None:
    """Takes rows out of one of the stored tables, by their rowids: at least one."""
    gone = pa.table({"id": ids})
    assert len(gone)
    connection.execute(f"DELETE FROM {table} WHERE {_between(ids)} AND rowid IN (SELECT id FROM gone)")


def _between(ids: NDArray[np.int64]) -> str:
    """Bounds of rowids, which keep DuckDB from looking at the rest of the table."""
    return f"rowid BETWEEN {int(ids.min())} AND {int(ids.max())}"


def in_time(layout: Layout, rows: pa.Table) -> tuple[str, list[int]]:
    """The time range of staged rows as a condition on ``t``: zone maps skip the rest of the table."""
    times = rows[layout.table.time]
    column = f"t.{quoted(layout.table.time)}"
    unknown = f"{column} IS NULL"
    if times.null_count == len(times):
        return unknown, []
    bounds = pc.min_max(times.cast(pa.int64()))
    known = f"{column} BETWEEN {_INSTANT} AND {_INSTANT}"
    where = f"({known} OR {unknown})" if times.null_count else known
    return where, [bounds["min"].as_py(), bounds["max"].as_py()]


_INSTANT = "make_timestamp_ms(?)::TIMESTAMP_MS"


def same_key(layout: Layout) -> str:
    return " AND ".join(f"t.{name} IS NOT DISTINCT FROM s.{name}" for name in map(quoted, layout.table.key))


def version_of(layout: Layout) -> str:
    """What orders the rows of one key, as a comparable SQL row."""
    if not layout.revised:
        return f"row({position_of('v')})"
    return f"row({position_of('v')}, coalesce(v.revision, 0), {_reported(layout)})"


def _version_names(layout: Layout) -> tuple[str, ...]:
    return (POSITION,) + ("revision",) * layout.revised


def _reported(layout: Layout) -> str:
    return f"(v.state IS DISTINCT FROM '{OPEN}')" if layout.fills else "true"


def _values(layout: Layout) -> str:
    if not layout.revised:
        return "NULL"
    return f"row({', '.join(f'v.{quoted(name)}' for name in layout.values)})"
