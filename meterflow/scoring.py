"""``meterflow score``: results beside the truth of a simulated world."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import duckdb

from meterflow.computed import file_of, read
from meterflow.folder import Folder
from meterflow.scoring_faults import MISSING, OUTCOMES, RIGHT, UNOBSERVABLE, WRONG, Judged, judged
from metering.errors import UsageError

TABLES = ("interval", "rollup", "intensity", "verdict", "rejected")
SHOWN = 20
AMOUNTS = {"interval": ("plant", "point"), "rollup": ("scope", "measures", "product", "span")}
CONVERTED = {"interval": (), "rollup": ("kgce", "kgco2e")}
"""Columns of the same amount in other units."""
SAYS_MEASURED = "r.state <> 'open' AND r.measured_share = 1"
EXACTNESS = 1e-12
"""A ratio is a double: so much of it its last digits may be off."""

_HIDDEN = """
    SELECT f.plant, f.point, f."from" AS a, f."to" AS b, p.measures
    FROM fault f JOIN (SELECT DISTINCT scope, measures FROM true_rollup) p
      ON p.scope = 'point:' || f.plant || '/' || f.point
    WHERE f.figures = 'wrong'
"""
"""What the books cannot know: from when to when, of what."""

_OF = {
    "interval": "h.plant = t.plant AND h.point = t.point",
    "rollup": "h.measures = t.measures AND (t.scope = 'plant:' || h.plant"
    " OR t.scope = 'point:' || h.plant || '/' || h.point OR t.scope LIKE 'line:' || h.plant || '/%'"
    " OR t.scope LIKE 'group:%')",
    "intensity": "(t.scope = 'plant:' || h.plant OR t.scope LIKE 'group:%')",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """How far the figures of one point, account or window are off; amounts in their unit, as text."""

    table: str
    name: str
    rows: int
    measured: int
    false_final: int
    unobservable: int
    unsaid: int
    worst_measured: str
    worst_other: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What is to be said of results: of every point, account and window, and of every fault."""

    figures: tuple[Figures, ...]
    faults: tuple[Judged, ...]

    @property
    def false_final(self) -> int:
        return sum(row.false_final for row in self.figures)

    @property
    def measured(self) -> int:
        return sum(row.measured for row in self.figures)

    @property
    def verdicts(self) -> dict[str, int]:
        """How many of them are what."""
        counts = Counter(one.outcome for one in self.faults)
        return {word: counts[word] for word in OUTCOMES}

    @property
    def kinds(self) -> dict[str, dict[str, int]]:
        """Of each kind of fault how many verdicts are what."""
        kinds: dict[str, Counter[str]] = {}
        for one in self.faults:
            kinds.setdefault(one.kind, Counter())[one.outcome] += 1
        return {kind: dict(sorted(kinds[kind].items())) for kind in sorted(kinds)}

    @property
    def good(self) -> bool:
        return not (self.false_final or self.verdicts[WRONG] or self.verdicts[MISSING])


def scored(truth: Path, data: Path) -> Scored:
    """Raises UsageError where one of the two is not what it should be."""
    base = _opened(truth, data)
    figures = [row for table in AMOUNTS for row in _amounts(base, table)] + _intensities(base)
    return Scored(tuple(figures), tuple(judged(base)))


def score(truth: Path, data: Path, as_json: bool) -> int:
    """Prints the score; 1 when a figure is false or a verdict wrong or missing."""
    found = scored(truth, data)
    if as_json:
        said: dict[str, Any] = {"false_final": found.false_final, "verdicts": found.verdicts}
        said["unobservable_figures"] = sum(row.unobservable for row in found.figures)
        said["kinds"] = found.kinds
        said["amiss"] = [asdict(one) for one in _amiss(found)]
        said["figures"] = [asdict(row) for row in found.figures]
        click.echo(json.dumps(said))
    else:
        _print(found)
    return 0 if found.good else 1


def _opened(truth: Path, data: Path) -> duckdb.DuckDBPyConnection:
    base = duckdb.connect(":memory:", config={"threads": 2})
    base.execute("SET TimeZone = 'UTC'")
    wanted = ["true_interval.parquet", "true_rollup.parquet", "faults.csv"]
    missing = [name for name in wanted if not (truth / name).exists()]
    if missing:
        raise UsageError(
            f"there is no {missing[0]}", where=str(truth), hint="Give what simulate --truth wrote."
        )
    for name in ("true_interval", "true_rollup", "true_intensity"):
        path = truth / f"{name}.parquet"
        if path.exists():
            base.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet(?)", [str(path)])
    base.execute(
        "CREATE TABLE fault AS SELECT * REPLACE (coalesce(status, '') AS status,"
        ' CAST("from" AS TIMESTAMPTZ) AS "from", CAST("to" AS TIMESTAMPTZ) AS "to")'
        " FROM read_csv(?, header = true, all_varchar = true)",
        [str(truth / "faults.csv")],
    )
    for table in TABLES:
        file = file_of(Folder(data), table)
        if file.suffix == ".json":
            raise UsageError("JSON is not scored", where=str(file), hint="Let compute write Parquet or CSV.")
        rows = read(file, table)
        base.register("given", rows)
        base.execute(f"CREATE TABLE {table} AS SELECT * FROM given")
        base.unregister("given")
    base.execute(f"CREATE TABLE hidden AS {_HIDDEN}")
    return base


def _amounts(base: duckdb.DuckDBPyConnection, table: str) -> list[Figures]:
    """Amounts by point or account; what is called measured where there is no truth is false, too.

    So is what a roll-up says it is in kgce or kgCO2e.
    """
    keys = AMOUNTS[table]
    every = (*keys, "start", "end")
    name = " || ' ' || ".join(f'coalesce(t."{key}", r."{key}")' for key in keys)
    same = " AND ".join(f't."{key}" = r."{key}"' for key in every)
    bad = ["coalesce(abs(r.amount - t.amount) > t.uncertainty, true)"]
    bad += [
        f"r.{unit} IS NOT NULL AND coalesce(abs(r.{unit} - t.{unit}) > t.{unit}_uncertainty, true)"
        for unit in CONVERTED[table]
    ]
    return _figures(
        base,
        table,
        f"""
        SELECT {name} AS name, t.amount IS NOT NULL AND r.{keys[0]} IS NULL AS unsaid,
          {SAYS_MEASURED} AND r.quality = 'valid' AND r.amount IS NOT NULL AS measured,
          abs(r.amount - t.amount) AS off, ({" OR ".join(bad)}) AS bad,
          EXISTS (SELECT 1 FROM hidden h WHERE {_OF[table]} AND h.a < t."end" AND h.b > t.start) AS dark
        FROM true_{table} t FULL JOIN {table} r ON {same}
        """,
    )


def _intensities(base: duckdb.DuckDBPyConnection) -> list[Figures]:
    """Ratios: both sides, and that the value is one by the other."""
    if not base.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'true_intensity'").fetchall():
        return []
    keys = ("scope", "id", "product", '"window"', "start", '"end"')
    same = " AND ".join(f"t.{key} = r.{key}" for key in keys)
    per = "CASE WHEN r.unit LIKE '%/10000 CNY' THEN 10000 ELSE 1 END"
    ratio = f"CAST(r.numerator AS DOUBLE) / CAST(r.denominator AS DOUBLE) * {per}"
    return _figures(
        base,
        "intensity",
        f"""
        SELECT t.scope || ' ' || t.id || ' ' || t."window" AS name, r.scope IS NULL AS unsaid,
          {SAYS_MEASURED} AND r.value IS NOT NULL AS measured, abs(r.value - t.value * {per}) AS off,
          coalesce(abs(r.numerator - t.numerator) > t.numerator_uncertainty
            OR abs(r.denominator - t.denominator) > t.denominator_uncertainty
            OR abs(r.value - {ratio}) > {EXACTNESS} * abs(r.value), true) AS bad,
          EXISTS (SELECT 1 FROM hidden h WHERE {_OF["intensity"]} AND h.a < t."end" AND h.b > t.start) AS dark
        FROM true_intensity t LEFT JOIN intensity r ON {same}
        """,
    )


def _figures(base: duckdb.DuckDBPyConnection, table: str, compared: str) -> list[Figures]:
    found = base.execute(
        f"""
        SELECT name, count(*), count_if(measured), count_if(measured AND bad AND NOT dark),
          count_if(measured AND bad AND dark), count_if(unsaid),
          max(off) FILTER (measured), max(off) FILTER (NOT coalesce(measured, false))
        FROM ({compared}) GROUP BY name ORDER BY name
        """
    ).fetchall()
    return [
        Figures(table, name, rows, measured, false, dark, unsaid, _plain(worst), _plain(other))
        for name, rows, measured, false, dark, unsaid, worst, other in found
    ]


def _plain(number: object) -> str:
    """Without trailing zeros; empty where there is none."""
    return "" if number is None else f"{number:f}".rstrip("0").rstrip(".")


def _amiss(found: Scored) -> list[Judged]:
    return [one for one in found.faults if one.outcome not in {RIGHT, UNOBSERVABLE}]


def _print(found: Scored) -> None:
    for row in found.figures:
        if row.false_final:
            click.echo(f"{row.table} {row.name}: {row.false_final} of {row.measured} measured are false")
    amiss = _amiss(found)
    for one in amiss[:SHOWN]:
        click.echo(f"{one.outcome}: {one.text()}")
    if len(amiss) > SHOWN:
        click.echo(f"... and {len(amiss) - SHOWN} more; --json has them all")
    counts = ", ".join(f"{count} {word}" for word, count in found.verdicts.items())
    click.echo(f"false final: {found.false_final} of {found.measured} measured figures; verdicts: {counts}")
