"""The port through which the page and the export read results; implemented in sinks/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Format = Literal["csv", "json", "parquet"]


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows of which table.

    ``from_ms`` and ``to_ms`` bound the table's time column: from < time <= to. ``equal`` maps a
    column to the texts it may have. ``as_of_ms``: the rows as they were reported at that instant
    (final and revised ones); ``history``: every reported row, superseded ones too. Rows come
    ordered by time and key, ``newest_first`` turns that round.
    """

    table: str
    from_ms: int | None = None
    to_ms: int | None = None
    equal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    as_of_ms: int | None = None
    history: bool = False
    newest_first: bool = False
    limit: int | None = None


class Results(Protocol):
    """Read access to the result tables. Calls block; web runs them in threads."""

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """Rows as dictionaries in column order: times as int milliseconds, amounts as
        ``decimal.Decimal`` (normalised, no exponent), numbers as float, unknowns as None.
        """

    def export(self, query: Query, format: Format) -> Iterator[bytes]:
        """The same rows as a file in chunks. CSV and JSON (one array of objects): times in
        RFC 3339 with Z, amounts as exact decimals without trailing zeros, empty (null) when
        unknown.
        """

    def position(self) -> int:
        """The results-log offset up to which everything is stored."""
