"""The result tables: names, columns, keys. One definition for processors, stores, exports and docs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a column holds; stores map it to their types."""

    TEXT = "text"
    TIME = "time"  # UTC milliseconds; RFC 3339 in text formats
    AMOUNT = "amount"  # exact decimal with up to 9 places; empty when unknown
    INTEGER = "integer"
    NUMBER = "number"  # nearest double of a last division; empty when unknown


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result table."""

    name: str
    kind: Kind
    of_log: bool = False
    """True: a function of the log (the result's story); false: of the set of readings."""


@dataclass(frozen=True, slots=True)
class Table:
    """``key`` identifies a row; ``time`` is the column that ``--from`` and ``--to`` select by.

    ``restated``: a newer row with the same key replaces the older one, which goes to the history.
    Otherwise rows are only ever added (``rejected``).
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time: str
    restated: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _text(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, Kind.TEXT) for name in names)


def _time(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, Kind.TIME) for name in names)


def _amount(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, Kind.AMOUNT) for name in names)


_STORY = (
    Column("state", Kind.TEXT, of_log=True),
    Column("revision", Kind.INTEGER, of_log=True),
    Column("cause", Kind.TEXT, of_log=True),
    Column("reported", Kind.TIME, of_log=True),
)
_SHARE = Column("measured_share", Kind.NUMBER)

INTERVAL = Table(
    "interval",
    (
        *_text("plant", "point", "measures"),
        *_time("start", "end"),
        *_amount("amount"),
        *_text("unit", "quality", "flags"),
        _SHARE,
        *_STORY,
    ),
    key=("plant", "point", "end", "start"),
    time="end",
)
ROLLUP = Table(
    "rollup",
    (
        *_text("scope", "measures", "product", "span"),
        *_time("start", "end"),
        *_amount("amount"),
        *_text("unit"),
        *_amount("kgce", "kgco2e", "cost"),
        *_text("covers", "quality"),
        _SHARE,
        *_STORY,
    ),
    key=("scope", "measures", "product", "span", "end"),
    time="end",
)
INTENSITY = Table(
    "intensity",
    (
        *_text("scope", "id", "product", "window"),
        *_time("start", "end"),
        *_amount("numerator", "denominator"),
        Column("value", Kind.NUMBER),
        *_text("unit"),
        Column("target", Kind.NUMBER),
        *_text("covers", "reason"),
        _SHARE,
        Column("uncertainty", Kind.NUMBER),
        *_text("policy"),
        *_STORY,
    ),
    key=("scope", "id", "product", "window", "end"),
    time="end",
)
VERDICT = Table(
    "verdict",
    (
        *_text("plant", "point", "serial"),
        *_time("from", "to"),
        *_text("verdict", "status", "by", "evidence"),
        Column("revision", Kind.INTEGER, of_log=True),
        Column("reported", Kind.TIME, of_log=True),
        *_time("installed"),
    ),
    key=("plant", "point", "serial", "installed", "from", "to"),
    time="to",
)
ALERT = Table(
    "alert",
    (
        *_text("id", "scope"),
        *_time("at"),
        *_text("to"),
        Column("value", Kind.NUMBER),
        Column("threshold", Kind.NUMBER),
        *_time("window_end"),
        Column("revision", Kind.INTEGER, of_log=True),
        Column("reported", Kind.TIME, of_log=True),
    ),
    key=("id", "scope", "at"),
    time="at",
)
REJECTED = Table(
    "rejected",
    (
        Column("received", Kind.TIME, of_log=True),
        *_text("topic", "point"),
        *_time("time"),
        *_text("reason", "detail", "payload"),
    ),
    key=(),
    time="received",
    restated=False,
)
LEDGER = Table(
    "ledger",
    (
        *_text("plant", "point", "serial"),
        *_time("from", "to"),
        *(Column(n, Kind.INTEGER) for n in ("first", "last", "booked", "held", "written_off", "balance")),
        *_time("installed"),
    ),
    key=("plant", "point", "serial", "installed"),
    time="to",
)
HOP = Table(
    "hop",
    (
        *_text("hop", "plant"),
        *(
            Column(n, Kind.INTEGER, of_log=True)
            for n in ("received", "accepted", "duplicate", "rejected", "balance")
        ),
        Column("reported", Kind.TIME, of_log=True),
    ),
    key=("hop", "plant"),
    time="reported",
)

TABLES: dict[str, Table] = {
    table.name: table for table in (INTERVAL, ROLLUP, INTENSITY, VERDICT, ALERT, REJECTED, LEDGER, HOP)
}
KEYS_FORMAT = 2
"""Of the keys above: where they change, stored rows of before name nothing, and are worked out anew."""
POSITION = "position"
"""Hidden column of every stored row: the offset of the log record that produced it."""
