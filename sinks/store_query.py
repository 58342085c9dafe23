"""A query of the results port as SQL over the stored tables. Every value is a parameter."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from metering.errors import UsageError
from metering.query import Query
from metering.tables import TABLES, Kind, Table
from sinks.render import Selection, amount_text, order_by
from sinks.store_layout import (
    THERE,
    YEAR_1_MS,
    YEAR_9999_MS,
    Layout,
    layout,
    listed,
    position_of,
    quoted,
    union,
)

_INSTANT = "make_timestamp_ms(?)::TIMESTAMP_MS"
"""In the column's own type: a cast on the column's side would keep zone maps from being used."""


def selection(query: Query) -> Selection:
    """The rows that a query asks for. Raises UsageError for an unknown table or column."""
    if query.table not in TABLES:
        raise UsageError(f"unknown table {query.table!r}", hint=f"Tables are {', '.join(TABLES)}.")
    stored = layout(query.table)
    sql, parameters = _source(stored, query)
    then = ("revision", "position") if query.history and stored.revised else ()
    order = order_by(stored.table, query.newest_first, then=then)
    if query.limit is not None:
        sql, parameters = _head(stored.table, sql, query), parameters * 2
    return Selection(stored.table, sql, parameters, order, query.limit)


def row_sql(rows: Selection) -> str:
    """SQL for rows as Python takes them: times as milliseconds, amounts as exact text."""
    columns = ", ".join(f"{_plain(c.kind, c.name)} AS {quoted(c.name)}" for c in rows.table.columns)
    limit = "" if rows.limit is None else f" LIMIT {int(rows.limit)}"
    return f"SELECT {columns} FROM ({rows.sql}) AS selected ORDER BY {rows.order}{limit}"


def row_values(table: Table, row: tuple[Any, ...]) -> dict[str, Any]:
    """One fetched row as the port gives it."""
    return {
        column.name: Decimal(value) if column.kind is Kind.AMOUNT and value is not None else value
        for column, value in zip(table.columns, row, strict=True)
    }


def _plain(kind: Kind, name: str) -> str:
    column = quoted(name)
    if kind is Kind.TIME:
        return f"epoch_ms({column})"
    if kind is Kind.AMOUNT:
        return amount_text(name)
    return f"CASE WHEN isfinite({column}) THEN {column} END" if kind is Kind.NUMBER else column


def _source(stored: Layout, query: Query) -> tuple[str, list[object]]:
    where, parameters = _where(stored.table, query)
    if query.as_of_ms is None and not query.history:
        return _filtered(stored, stored.newest_tables, where), parameters
    if not stored.has_settled:
        raise UsageError(
            f"the table {stored.table.name} keeps no history",
            hint="Leave out --as-of and --history: it holds the books as they stand now.",
        )
    if query.as_of_ms is not None:
        where.append(f"{quoted(_said(stored))} <= {_INSTANT}")
        parameters.append(_instant(query.as_of_ms))
    if query.history or not stored.revised:
        return _filtered(stored, stored.reported_tables, where), parameters
    return _as_of(stored, where), parameters * 2


def _as_of(stored: Layout, where: list[str]) -> str:
    """The newest row of each key among those reported by then.

    A settled row that was said by then is it; only where it was not, the superseded ones count. So
    the big table is not sorted.
    """
    key = ", ".join(map(quoted, stored.table.key))
    same = " AND ".join(f"n.{name} IS NOT DISTINCT FROM o.{name}" for name in map(quoted, stored.table.key))
    return f"""
        WITH newest AS (SELECT * FROM {stored.settled} WHERE {" AND ".join(where)}),
        older AS (
            SELECT * FROM {stored.superseded} s WHERE {" AND ".join(where)}
            QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {position_of("s")} DESC, revision DESC) = 1
        )
        SELECT {listed(stored.names)} FROM newest WHERE {THERE}
        UNION ALL
        SELECT {listed(stored.names)} FROM older o
        WHERE {THERE} AND NOT EXISTS (SELECT 1 FROM newest n WHERE {same})
    """


def _head(table: Table, sql: str, query: Query) -> str:
    """The rows among which the first ``limit`` are, found by their time alone.

    Sorting all columns of a big table to show a hundred rows takes seconds; its times take 0.1.
    """
    time = quoted(table.time)
    direction, last, within = ("DESC", "min", ">=") if query.newest_first else ("ASC", "max", "<=")
    known = f"SELECT {time} AS t FROM ({sql}) WHERE {time} IS NOT NULL"
    times = f"{known} ORDER BY t {direction} LIMIT {int(query.limit or 0)}"
    return f"SELECT * FROM ({sql}) WHERE {time} IS NULL OR {time} {within} (SELECT {last}(t) FROM ({times}))"


def _filtered(stored: Layout, tables: tuple[str, ...], where: list[str]) -> str:
    return f"SELECT * FROM ({union(stored.names, tables)}) WHERE {' AND '.join([THERE, *where])}"


def _where(table: Table, query: Query) -> tuple[list[str], list[object]]:
    where, parameters = ["true"], list[object]()
    time = quoted(table.time)
    for bound, sign in ((query.from_ms, ">"), (query.to_ms, "<=")):
        if bound is not None:
            where.append(f"{time} {sign} {_INSTANT}")
            parameters.append(_instant(bound))
    for name, texts in query.equal.items():
        where.append(_among(table, name, texts))
        parameters += texts
    return where, parameters


def _among(table: Table, name: str, texts: tuple[str, ...]) -> str:
    """A column among texts; the empty text means an unknown one too, as it does in every file."""
    if (name, Kind.TEXT) not in {(column.name, column.kind) for column in table.columns}:
        known = ", ".join(column.name for column in table.columns if column.kind is Kind.TEXT)
        raise UsageError(f"{table.name} has no text column {name!r}", hint=f"It has {known}.")
    if not texts:
        return "false"
    among = f"{quoted(name)} IN ({', '.join('?' * len(texts))})"
    return f"({among} OR {quoted(name)} IS NULL)" if "" in texts else among


def _instant(ms: int) -> int:
    return max(YEAR_1_MS, min(YEAR_9999_MS, ms))


def _said(stored: Layout) -> str:
    return "reported" if "reported" in stored.table.names else stored.table.time
