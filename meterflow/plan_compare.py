"""What differs between two states of the result tables: row by row, and by figure and period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from metering.tables import TABLES, Column, Kind, Table

COMPARED: Final = ("interval", "rollup", "intensity", "verdict", "alert", "ledger")
NAMED: Final = {
    "interval": ("plant", "point"),
    "rollup": ("scope", "measures", "product", "span"),
    "intensity": ("scope", "id", "product", "window"),
    "verdict": ("plant", "point"),
    "alert": ("id", "scope"),
    "ledger": ("plant", "point", "serial"),
}
"""By what the rows of a table are counted together."""
FIGURE: Final = {"rollup": "amount", "intensity": "value"}
PERIODS: Final = {"rollup": ("span", ("month", "year")), "intensity": ("window", ("day", "month", "year"))}
"""Of which spans and windows each changed figure is told by itself."""
_MEMORY: Final = "1GB"
_DIFFERS: Final = "change NOT IN ('same', 'open')"


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a table: ``same``, ``changed`` in a column of the set, ``added``, ``gone``; ``open``: still
    filling before, or only after, and not compared.
    """

    same: int = 0
    changed: int = 0
    added: int = 0
    gone: int = 0
    open: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Differing rows of one thing. ``before``, ``after``: of interval and rollup the sum of their amounts,
    as exact decimals; None where nothing is known, or nothing can be added up.
    """

    table: str
    of: dict[str, str]
    changed: int
    added: int
    gone: int
    from_ms: int
    to_ms: int
    before: str | None
    after: str | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a month, a year or a day, before and after; None: there is none. ``open``: so far."""

    table: str
    of: dict[str, str]
    end_ms: int
    before: str | None
    after: str | None
    unit: str | None
    open: bool


@dataclass(slots=True)
class Comparison:
    """``counts``: of each table; ``figures``: in the order of their periods."""

    counts: dict[str, Counts] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether all rows that are compared are the same."""
        return not any(one.changed or one.added or one.gone for one in self.counts.values())


class Comparer:
    """Compares tables as files: ``FOLDER/TABLE.before.parquet`` with ``FOLDER/TABLE.after.parquet``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection = duckdb.connect(
            str(folder / "compare.duckdb"), config={"memory_limit": _MEMORY, "threads": 2}
        )

    def close(self) -> None:
        """Lets go of its files."""
        self._connection.close()

    def compare(self, out: Path | None) -> Comparison:
        """All of them; what differs is also written to ``out``, a Parquet file for each table."""
        found = Comparison()
        for name in COMPARED:
            table = TABLES[name]
            self._connection.execute(_differing(table, self._folder))
            found.counts[name] = self._counts()
            found.differences += self._differences(table)
            if name in PERIODS:
                found.figures += self._figures(table)
            if out is not None:
                self._write(name, out)
        return found

    def points(self) -> list[str]:
        """``PLANT/POINT`` of every row of ``interval`` and ``ledger`` before."""
        files = [str(self._folder / f"{name}.before.parquet") for name in ("interval", "ledger")]
        sql = "SELECT DISTINCT plant || '/' || point FROM read_parquet(?, union_by_name=true) ORDER BY 1"
        return [point for (point,) in self._connection.execute(sql, [files]).fetchall()]

    def orphans(self) -> dict[str, dict[str, int]]:
        """Readings on the log that processors refuse now and did not before: point -> reason -> how many."""
        before, after = (
            f"SELECT split_part(topic, '/', 3) || '/' || coalesce(point, '') AS of, reason, count(*) AS n"
            f" FROM {_quoted(self._folder / f'rejected.{side}.parquet')}"
            " WHERE coalesce(payload, '') = '' GROUP BY ALL"
            for side in ("before", "after")
        )
        sql = f"""
            WITH before AS ({before}), after AS ({after})
            SELECT of, reason, after.n - coalesce(before.n, 0) AS more
            FROM after LEFT JOIN before USING (of, reason) WHERE more > 0 ORDER BY ALL
        """
        found: dict[str, dict[str, int]] = {}
        for point, reason, count in self._connection.execute(sql).fetchall():
            found.setdefault(point, {})[reason] = count
        return found

    def _counts(self) -> Counts:
        sql = "SELECT change, count(*) FROM differing GROUP BY 1"
        return Counts(**{str(change): int(n) for change, n in self._connection.execute(sql).fetchall()})

    def _differences(self, table: Table) -> list[Difference]:
        names = _names(NAMED[table.name])
        adds_up = "amount" in table.names
        sums = "sum(amount_before)::VARCHAR, sum(amount_after)::VARCHAR" if adds_up else "NULL, NULL"
        unit = "max(coalesce(unit_after, unit_before))" if "unit" in table.names else "NULL"
        counts = ", ".join(f"count(*) FILTER (change = '{word}')" for word in ("changed", "added", "gone"))
        sql = f"""
            SELECT [{names}], {counts}, epoch_ms(min(_from)), epoch_ms(max(_to)), {sums}, {unit}
            FROM differing WHERE {_DIFFERS} GROUP BY {names} ORDER BY {names}
        """
        found = self._connection.execute(sql).fetchall()
        return [
            Difference(
                table.name, _of(table, of), changed, added, gone, low, high, _plain(old), _plain(new), its
            )
            for of, changed, added, gone, low, high, old, new, its in found
        ]

    def _figures(self, table: Table) -> list[Figure]:
        names, figure = _names(NAMED[table.name]), FIGURE[table.name]
        column, spans = PERIODS[table.name]
        sql = f"""
            SELECT [{names}], epoch_ms(_to), {figure}_before::VARCHAR, {figure}_after::VARCHAR,
                coalesce(unit_after, unit_before), change = 'open'
            FROM differing WHERE "{column}" IN {spans}
                AND {figure}_before IS DISTINCT FROM {figure}_after
            ORDER BY _to, {names}
        """
        return [
            Figure(table.name, _of(table, of), end_ms, _plain(old), _plain(new), unit, is_open)
            for of, end_ms, old, new, unit, is_open in self._connection.execute(sql).fetchall()
        ]

    def _write(self, name: str, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        target = _quoted(out / f"{name}.parquet")
        sql = f"COPY (SELECT * EXCLUDE (_from, _to) FROM differing WHERE {_DIFFERS}) TO {target}"
        self._connection.execute(sql)


def _differing(table: Table, folder: Path) -> str:
    """Every key of both, what became of it, and both its rows' columns of the set."""
    end = table.time
    same = " AND ".join(f'before."{name}" IS NOT DISTINCT FROM after."{name}"' for name in table.key)
    start = next((name for name in ("start", "from") if name in table.names), end)
    kept = [column for column in table.columns if not column.of_log and column.name not in table.key]
    both = ", ".join(
        f'{side}."{column.name}" AS "{column.name}_{side}"' for column in kept for side in ("before", "after")
    )
    rows = [
        "(" + ", ".join(_comparable(side, column) for column in kept) + ")" for side in ("before", "after")
    ]
    has_state = "state" in table.names
    was_open = "before.state = 'open'" if has_state else "false"
    is_open = "after.state = 'open'" if has_state else "false"
    files = [_quoted(folder / f"{table.name}.{side}.parquet") for side in ("before", "after")]
    return f"""
        CREATE OR REPLACE TEMP TABLE differing AS
        SELECT {", ".join(f'{_either(name)} AS "{name}"' for name in table.key)}, CASE
            WHEN before._there AND {was_open} OR NOT coalesce(before._there, false) AND {is_open} THEN 'open'
            WHEN before._there IS NULL THEN 'added'
            WHEN after._there IS NULL THEN 'gone'
            WHEN {rows[0]} IS DISTINCT FROM {rows[1]} THEN 'changed'
            ELSE 'same' END AS change, {both}, {_either(start)} AS _from, {_either(end)} AS _to
        FROM (SELECT *, true AS _there FROM {files[0]}) AS before
        FULL JOIN (SELECT *, true AS _there FROM {files[1]}) AS after ON {same}
    """


def _either(name: str) -> str:
    """A column of the row that is there."""
    return f'coalesce(after."{name}", before."{name}")'


def _comparable(side: str, column: Column) -> str:
    """Texts that are empty and texts that are not there are the same."""
    name = f'{side}."{column.name}"'
    return f"coalesce({name}, '')" if column.kind is Kind.TEXT else name


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _of(table: Table, cells: Sequence[str]) -> dict[str, str]:
    return dict(zip(NAMED[table.name], cells, strict=True))


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _plain(text: Any) -> str | None:
    """A decimal without trailing zeros."""
    if text is None:
        return None
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else str(text)
