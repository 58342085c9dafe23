"""How the result tables lie in an InfluxDB 2 bucket: measurement, tags, time, fields. Defined once, here.

Each table is a measurement of its name; what newer rows have replaced is in ``TABLE_history``. A
point of InfluxDB is what measurement, tags and time say it is, and a second line for the same point
overwrites its fields. So the three have to be exactly a row's key, and of a history also its revision:

- **Tags** are the key's texts, and ``installed`` (when an installation begins) as RFC 3339. An empty one
  (``product`` of what is no product) has no tag, since line protocol knows no empty tag value; the tag
  ``without`` names it instead, so that such a series can be named by its tags alone. Ids and installations
  are those of the site file, so their number is bounded; what a stranger can choose (a rejected topic)
  never is a tag.
- **Time** is the table's time column. Its milliseconds are exact; what stands below the millisecond
  only tells rows apart. Tables whose key has no time (``ledger``, ``hop``) say how things stand now:
  one point for each key, at 1970-01-01T00:00:00Z, overwritten.
- The key of ``interval`` and ``verdict`` has a second time, where the row begins. The tag ``length``
  has the whole seconds from there to the end, and what is left, in milliseconds, is added to the
  time in nanoseconds. So a span of 60 s lies exactly at its end, under ``length=60``, and reads of
  odd lengths do not each make a series.
- ``TABLE_history`` has a row for each revision of a key that a newer one has replaced: microseconds
  hold the rest of ``length``, nanoseconds the revision up to 999, the tag ``revision_thousands`` what
  is above that. That a key has had no row since (position negative) is a row of its own, with the tag
  ``gone``. A row that was opened again and closed as it was stands in the history and, with the same
  revision, in the table: it is one, and readers show the table's.
- ``rejected`` has no key: what tells its rows apart is where they stand in the log. Microseconds are
  the record's offset, nanoseconds the row in it, each its last three digits; the tags ``log`` and
  ``partition`` say which log, ``row_thousands`` is for records of 1,000 rows and more. So up to a
  thousand records received in one millisecond are told apart.

Every other column is a field of one type, for ever: amounts and numbers float, integers and times
(UTC milliseconds) integer, texts string. Texts are always there; an unknown or empty one is a single
blank, and one of nothing but blanks has one more: InfluxDB 2.7 answers with other rows' texts where some
are empty (a series that begins with "a", "", "b" is answered as "a", "b", ""). The column ``time`` of
``rejected`` is the field ``measured``: InfluxDB drops a field called ``time`` without a word. An unknown
amount, number, integer or time is not written, and **what an older row of the same point said of it
stays in the bucket**: a deletion does not reach what InfluxDB is just writing to a file. So every row has
a text ``unknown`` that names the fields that do not count, joined by commas; a single blank where all
do, as where it is missing (rows of earlier versions). In a row that says that its key has none any more
it is ``*``; ``position``, -p - 1, says since when. Both stand in the table until the key has a row again;
the history keeps them. ``position`` (integer) orders the rows of one key: the highest p counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache

from metering.tables import HOP, LEDGER, POSITION, REJECTED, TABLES, Column, Kind, Table

LENGTH = "length"
"""Tag of tables whose key has two times: whole seconds between them."""
REVISION_THOUSANDS = "revision_thousands"
"""Tag of history rows of revision 1,000 and more: the thousands of it."""
PARTITION, TOPIC, ROW_THOUSANDS = "partition", "log", "row_thousands"
"""Tags of ``rejected``: partition and topic of the log that the row was read from, see above."""
WITHOUT = "without"
"""Tag that names the key's texts that are empty, joined by +; not there when none is."""
GONE = "gone"
"""Tag of a history's rows with a negative position."""
BLANK = " "
"""How an unknown text is stored, and what a text of nothing but blanks has one more of."""
UNKNOWN = "unknown"
"""Field that names those fields of its row that say nothing, whatever the bucket has of them."""
NO_MORE = "*"
"""What it says in place of names where the key has no row any more."""
FIELD_NAMES = {"time": "measured"}
"""Columns whose field has another name."""
STANDING_MS = 0
"""The time of points that say how things stand now."""
MS_NS = 1_000_000
TIME_MIN_NS, TIME_MAX_NS = -(1 << 63) + 2, (1 << 63) - 2
"""What InfluxDB can store: 1677-09-21 to 2262-04-11."""


class Field(Enum):
    """The type of a field."""

    FLOAT = "float"
    INTEGER = "integer"
    STRING = "string"


def field_name(column: str) -> str:
    """The name of a column's field."""
    return FIELD_NAMES.get(column, column)


_FIELDS = {
    Kind.TEXT: Field.STRING,
    Kind.TIME: Field.INTEGER,
    Kind.AMOUNT: Field.FLOAT,
    Kind.INTEGER: Field.INTEGER,
    Kind.NUMBER: Field.FLOAT,
}
_BEGINNINGS = {"interval": "start", "verdict": "from"}


@dataclass(frozen=True)
class Measurement:
    """Where each column of a result table is.

    ``tags``: columns that are tags, in the order of lines, those of ``instants`` times as RFC 3339;
    ``time``: the column that is the time's milliseconds, None for a table that says how things stand now;
    ``begins``: the key's other time, which is a field as well; ``marks``: tags that are no columns and
    only tell rows apart.
    """

    table: Table

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def history(self) -> str:
        """The measurement of superseded rows; there is none unless ``revised``."""
        return f"{self.table.name}_history"

    @cached_property
    def tags(self) -> tuple[str, ...]:
        if self.table is REJECTED:
            return ("reason",)
        texts = {column.name for column in self.table.columns if column.kind is Kind.TEXT}
        return tuple(sorted(name for name in self.table.key if name in texts | self.instants))

    @cached_property
    def instants(self) -> frozenset[str]:
        times = {column.name for column in self.table.columns if column.kind is Kind.TIME}
        return frozenset(times & {*self.table.key} - {self.time, self.begins})

    @property
    def marks(self) -> tuple[str, ...]:
        if self.table is REJECTED:
            return (TOPIC, PARTITION, ROW_THOUSANDS)
        return (LENGTH,) * (self.begins is not None)

    @property
    def time(self) -> str | None:
        return None if self.table in {LEDGER, HOP} else self.table.time

    @property
    def begins(self) -> str | None:
        return _BEGINNINGS.get(self.table.name)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are fields; ``position`` and ``unknown`` are fields as well."""
        placed = {*self.tags, self.time}
        return tuple(column for column in self.table.columns if column.name not in placed)

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Type of each field by name, ``position`` first."""
        fields = {POSITION: Field.INTEGER, UNKNOWN: Field.STRING}
        return fields | {field_name(c.name): _FIELDS[c.kind] for c in self.columns}

    @cached_property
    def fills(self) -> bool:
        """Whether rows may be ``open``; those leave no history."""
        return "state" in self.table.names

    @cached_property
    def revised(self) -> bool:
        """Whether there is a history."""
        return self.table.restated and "revision" in self.table.names


@lru_cache(maxsize=64)
def measurement(table: str) -> Measurement:
    return Measurement(TABLES[table])
