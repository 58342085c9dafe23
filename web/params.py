"""Query parameters of the API: texts in, ``metering.query.Query`` out, or what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, cast, get_args

from starlette.datastructures import QueryParams

from metering.query import Format, Query
from metering.tables import TABLES, Kind, Table

ROWS_DEFAULT = 1_000
ROWS_MAX = 100_000
TABLE_PARAMETERS: Final = frozenset({"from", "to", "limit", "newest", "as_of", "history"})
EXPORT_PARAMETERS: Final = frozenset({"format", "from", "to", "as_of", "history"})
COLUMN_PREFIX = "column."
"""``column.to=firing`` names a column that a parameter hides."""

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLAGS: Mapping[str, bool] = {
    "1": True,
    "true": True,
    "yes": True,
    "": True,
    "0": False,
    "false": False,
    "no": False,
}


class BadParameter(Exception):
    """A request that cannot be answered as it stands: 400 with this text, or 404 for a table."""

    def __init__(self, what: str, hint: str = "", status: int = 400) -> None:
        super().__init__(what)
        self.what, self.hint, self.status = what, hint, status


def table_of(name: str) -> Table:
    """The table of a name in an address. Raises BadParameter (404)."""
    table = TABLES.get(name)
    if table is None:
        raise BadParameter(f"there is no table {name!r}", f"tables: {', '.join(TABLES)}", 404)
    return table


def instant_ms(name: str, text: str) -> int:
    """An RFC 3339 instant with zone in UTC milliseconds; a '+' that became a blank is mended."""
    match = _RFC3339.fullmatch(text.strip().replace(" ", "+"))
    hint = "use RFC 3339 with a zone, such as 2026-11-22T08:00:00Z or 2026-11-22T16:00:00+08:00"
    if match is None:
        raise BadParameter(f"{name}: {text!r} is not an instant", hint)
    *date, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone
    try:
        whole = datetime.fromisoformat("{}-{}-{}T{}:{}:{}".format(*date) + offset)
    except ValueError as error:
        raise BadParameter(f"{name}: {text!r} is not an instant: {error}", hint) from None
    since = whole - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + int((fraction or "0").ljust(3, "0")[:3])


def rows_query(name: str, params: QueryParams) -> Query:
    """The query of ``/api/rows``; every parameter that is none of ours must be a text column."""
    table = table_of(name)
    return Query(
        table.name,
        from_ms=_instant(params, "from"),
        to_ms=_instant(params, "to"),
        equal=_columns(table, params, TABLE_PARAMETERS),
        as_of_ms=_instant(params, "as_of"),
        history=_flag(params, "history"),
        newest_first=_flag(params, "newest"),
        limit=whole(params, "limit", ROWS_DEFAULT, ROWS_MAX),
    )


def as_of_ms(params: QueryParams) -> int | None:
    """The instant in ``as_of``, if there is one; nothing else may be asked. Raises BadParameter."""
    for name in params:
        if name != "as_of":
            raise BadParameter(f"{name!r} is not known here", "only as_of is")
    return _instant(params, "as_of")


def export_query(name: str, params: QueryParams) -> tuple[Query, Format]:
    """The query of ``/api/export`` and the format; without a limit."""
    table = table_of(name)
    query = Query(
        table.name,
        from_ms=_instant(params, "from"),
        to_ms=_instant(params, "to"),
        equal=_columns(table, params, EXPORT_PARAMETERS),
        as_of_ms=_instant(params, "as_of"),
        history=_flag(params, "history"),
    )
    return query, cast(Format, one_of(params, "format", get_args(Format), "csv"))


def whole(params: QueryParams, name: str, default: int, highest: int) -> int:
    """A whole number from 1 to ``highest``. Raises BadParameter."""
    text = params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= highest:
        raise BadParameter(f"{name}: {text!r} is not a whole number from 1 to {highest}")
    return int(text)


def one_of(params: QueryParams, name: str, choices: tuple[str, ...], default: str) -> str:
    """One of some words. Raises BadParameter."""
    text = params.get(name, default)
    if text not in choices:
        raise BadParameter(f"{name}: {text!r} is none of {', '.join(choices)}")
    return text


def _instant(params: QueryParams, name: Literal["from", "to", "as_of"]) -> int | None:
    text = params.get(name)
    return None if text is None else instant_ms(name, text)


def _flag(params: QueryParams, name: str) -> bool:
    text = params.get(name, "0").lower()
    if text not in _FLAGS:
        raise BadParameter(f"{name}: {text!r} is neither 1 nor 0")
    return _FLAGS[text]


def _columns(table: Table, params: QueryParams, reserved: frozenset[str]) -> dict[str, tuple[str, ...]]:
    texts = {column.name for column in table.columns if column.kind is Kind.TEXT}
    equal: dict[str, tuple[str, ...]] = {}
    for name in params:
        column = name.removeprefix(COLUMN_PREFIX)
        if name in reserved:
            continue
        if column not in texts:
            known = ", ".join(sorted(texts))
            raise BadParameter(f"{name!r} is no text column of {table.name}", f"columns: {known}")
        equal[column] = tuple(params.getlist(name))
    return equal
