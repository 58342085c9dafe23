"""A query of the results port as Flux: the rows of one stretch of time. Every value is a literal.

Only what narrows is said in Flux: time, tags, and texts that are fields. What a query means (newest,
as of, history, order, limit) is worked out by the same SQL as for the embedded store, over the rows
that come back.
"""

from __future__ import annotations

from dataclasses import replace

from metering import flux
from metering.query import Query
from metering.tables import POSITION, TABLES, Kind
from sinks.influx_layout import MS_NS, TIME_MAX_NS, TIME_MIN_NS, Measurement

FIRST_MS, LAST_MS = -(-TIME_MIN_NS // MS_NS), TIME_MAX_NS // MS_NS - 1
"""Whole milliseconds within what InfluxDB can store, each with room for what stands below it."""
FREE_TEXTS = {"rejected": ("topic", "point", "detail", "payload"), "verdict": ("by", "evidence")}
"""Columns of texts that people and devices write. They come as JSON: InfluxDB's CSV says CR LF for
each line feed in a text, and drops its carriage returns."""


def stretch(bucket: str, layout: Measurement, name: str, query: Query, first_ms: int, last_ms: int) -> str:
    """The rows of measurement ``name`` from ``first_ms`` to ``last_ms``, both included, as one table.

    Columns are those of the result table, ``_time`` in place of its time, ``position`` and ``unknown``.
    Each row is as it was written last: see ``flux.EACH_TIME_ONCE``.
    """
    free = FREE_TEXTS.get(layout.name, ())
    columns = ["_time", *layout.tags, *layout.fields]
    lines = [
        'import "json"' if free else "",
        _source(bucket, first_ms, last_ms),
        f"  |> filter(fn: (r) => r._measurement == {flux.text(name)}{_among(query, layout.tags)})",
        f"  {flux.EACH_TIME_ONCE}",
        '  |> drop(columns: ["_start", "_stop", "_measurement"])',
        '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
        _field_filter(layout, query),
        f"  |> keep(columns: {flux.texts(columns)})",
        *(_as_json(column) for column in free),
        "  |> group()",
    ]
    return "\n".join(filter(None, lines))


def edge(
    bucket: str, layout: Measurement, name: str, query: Query, first_ms: int, last_ms: int, *, newest: bool
) -> str:
    """The first (or, ``newest``, the last) instant between these two that may have a row, as ``_time``.

    Where the query asks for texts that are fields, one of them is looked at: a field is read many times
    faster than rows are put together from all of theirs.
    """
    selector, order = ("last", "true") if newest else ("first", "false")
    asked = _asked_fields(layout, query)
    of_field = f"r._field == {flux.text(POSITION)}"
    if asked:
        column, texts = next(iter(asked.items()))
        of_field = f"r._field == {flux.text(column)} and {_one_of('_value', texts)}"
    return "\n".join(
        (
            _source(bucket, first_ms, last_ms),
            f"  |> filter(fn: (r) => r._measurement == {flux.text(name)}{_among(query, layout.tags)})",
            f"  |> filter(fn: (r) => {of_field})",
            f"  |> {selector}()",
            '  |> keep(columns: ["_time"])',
            "  |> group()",
            f'  |> sort(columns: ["_time"], desc: {order})',
            "  |> limit(n: 1)",
        )
    )


def count(bucket: str, layout: Measurement, name: str, query: Query, first_ms: int, last_ms: int) -> str:
    """How many rows would have to be looked at between these two, as ``_value``."""
    return "\n".join(
        (
            _source(bucket, first_ms, last_ms),
            f"  |> filter(fn: (r) => r._measurement == {flux.text(name)}{_among(query, layout.tags)})",
            f"  |> filter(fn: (r) => r._field == {flux.text(POSITION)})",
            "  |> count()",
            "  |> group()",
            "  |> sum()",
        )
    )


def narrowed(layout: Measurement, query: Query) -> Query:
    """The query without what it asks of texts that are fields."""
    fields = _asked_fields(layout, query)
    return replace(query, equal={name: texts for name, texts in query.equal.items() if name not in fields})


def picks(layout: Measurement, query: Query) -> bool:
    """Whether the query asks for texts that are fields: then more rows are looked at than come back."""
    return bool(_asked_fields(layout, query))


def _source(bucket: str, first_ms: int, last_ms: int) -> str:
    """Flux's ranges end before ``stop``."""
    bounds = f"start: {flux.instant(first_ms)}, stop: {flux.instant(last_ms + 1)}"
    return f"from(bucket: {flux.text(bucket)})\n  |> range({bounds})"


def _field_filter(layout: Measurement, query: Query) -> str:
    """What is asked of columns that are fields, which are columns only after the pivot."""
    asked = " and ".join(_one_of(name, texts) for name, texts in _asked_fields(layout, query).items())
    return asked and f"  |> filter(fn: (r) => {asked})"


def _asked_fields(layout: Measurement, query: Query) -> dict[str, tuple[str, ...]]:
    names = {column.name for column in layout.columns if column.kind is Kind.TEXT}
    return {name: texts for name, texts in query.equal.items() if name in names and "" not in texts}


def _among(query: Query, names: tuple[str, ...]) -> str:
    """``and`` what columns of these names may be. The empty text means unknown, too: SQL sees to that."""
    asked = ((name, texts) for name, texts in query.equal.items() if name in names and "" not in texts)
    return "".join(f" and {_one_of(name, texts)}" for name, texts in asked)


def _one_of(name: str, texts: tuple[str, ...]) -> str:
    column = f"r[{flux.text(name)}]"
    return f"({' or '.join(f'{column} == {flux.text(text)}' for text in texts) or 'false'})"


def _as_json(column: str) -> str:
    return (
        f"  |> map(fn: (r) => ({{r with {column}: string(v: json.encode(v: "
        f'if exists r.{column} then r.{column} else ""))}}))'
    )


assert all(set(columns) <= set(TABLES[table].names) for table, columns in FREE_TEXTS.items())
