"""Table rows from the operators' numbers: names for codes, exact decimals for integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pyarrow as pa

from metering.roster import Roster
from metering.tables import INTENSITY, INTERVAL
from metering.units import CANONICAL
from processors.changes import Touched
from processors.columns import (
    DOUBTFUL,
    ESTIMATE,
    FLAGS,
    MISSING,
    QUALITIES,
    VALID,
    Bools,
    Columns,
    Ints,
    Vocabulary,
    amounts,
    chosen,
    numbers,
    per,
    quality,
    story,
    table,
    times,
    words,
)
from processors.engine import Engine, Step
from processors.memory import CONFLICT, ESTIMATED, OVERLAP, ROUNDED, SUSPECT, series_of, time_of
from processors.rollup_rows import RollupRows, Sums
from processors.rows_small import SmallRows
from processors.spans import CLASSES, GRID
from processors.windows import REASONS, WINDOWS, WindowRows

ROWS_MAX = 5000
"""Rows of one table: their frame stays below a megabyte, and what makes them below some more."""


class Rows:
    """Makes the tables of a step; ``emit`` is the only thing others call."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.roster: Roster = engine.roster
        self._lanes = engine.lanes
        points = self.roster.points
        self._small = SmallRows(engine)
        self._plants = [p.id for p in self.roster.plants]
        self._point_plant = np.array([p.plant for p in points], np.int64)
        self._point_ids = [p.id for p in points]
        self._measures = [p.measures for p in points]
        exponents = [p.unit.decimal_exponent for p in points]
        self._exponents = np.array([e if e is not None and -6 <= e <= 3 else 0 for e in exponents], np.int64)
        canonical = [CANONICAL[p.unit.dimension] for p in points]
        self._units = [
            p.unit.name if p.unit.decimal_exponent == e else c
            for p, e, c in zip(points, self._exponents.tolist(), canonical, strict=True)
        ]

        self._vocabularies = {
            "plant": Vocabulary(self._plants),
            "point": Vocabulary(self._point_ids),
            "point_measures": Vocabulary(self._measures),
            "point_unit": Vocabulary(self._units),
        }
        self._rollup = RollupRows(engine.spans)

    @property
    def unbalanced(self) -> int:
        """Installations whose ledger does not balance: 0, or something is lost."""
        return len(self._small.unbalanced)

    def emit(self, step: Step) -> Iterator[tuple[str, pa.Table]]:
        """(table name, rows) of everything a step says anew, at most ROWS_MAX rows in a table."""
        for base in step.cells.base.slices(ROWS_MAX):
            yield "interval", self._intervals(base, step)
        for derived in step.cells.derived.take(step.cells.derived.series % CLASSES != GRID).slices(ROWS_MAX):
            yield "rollup", self._rollups(derived, step)
        for windows in step.windows:
            for first in range(0, len(windows), ROWS_MAX):
                yield "intensity", self._intensity(windows.take(slice(first, first + ROWS_MAX)), step)
        few: list[tuple[str, pa.Table | None]] = [
            ("interval", self._reads(step)),
            ("verdict", self._small.verdicts(step)),
            ("alert", self._small.alerts(step)),
            ("ledger", self._small.ledger(step)),
            ("rejected", self._small.rejected(step)),
            ("hop", self._small.hop(step) if step.closing else None),
        ]
        for name, rows in few:
            if rows is not None:
                yield from ((name, rows.slice(first, ROWS_MAX)) for first in range(0, len(rows), ROWS_MAX))

    # -- intervals --------------------------------------------------------------------------------

    def _intervals(self, rows: Touched, step: Step) -> pa.Table:
        cells, spans = self.engine.spans.base, self.engine.spans
        point, span, index = rows.series, rows.span, rows.index
        length = spans.base_ms[point]
        known, measured = cells["known"][index].astype(np.int64), cells["measured"][index].astype(np.int64)
        held = cells["held"][index] > 0
        codes = quality(known, measured, length, np.zeros(len(index), np.int64))
        flags = (cells["rounded"][index] > 0) + 2 * held
        end = (span + 1) * length
        columns = self._point_columns(point, cells["amount"][index], known == 0)
        columns |= {
            "start": times(end - length),
            "end": times(end),
            "quality": words(QUALITIES, codes),
            "flags": words(FLAGS, flags),
            "measured_share": numbers(measured / length),
        }
        gone = (known == 0) & ~held & (cells["readings"][index] == 0)
        final = gone | (end <= step.frontier[point])
        columns |= story(final, cells["revision"][index], cells["cause"][index], cells["reported"][index])
        return table(INTERVAL, columns, step.positions[self._lanes.of_point[point]], gone)

    def _point_columns(self, point: Ints, amount: Ints, unknown: Bools) -> Columns:
        exponent = self._exponents[point]
        decimals = [
            amounts(np.where(exponent == e, amount, 0), unknown, int(e)) for e in np.unique(exponent).tolist()
        ]
        together = decimals[0] if decimals else amounts(amount, unknown)
        for e, column in zip(np.unique(exponent).tolist()[1:], decimals[1:], strict=True):
            together = chosen(exponent == e, column, together)
        return {
            "plant": words(self._vocabularies["plant"], self._point_plant[point]),
            "point": words(self._vocabularies["point"], point),
            "measures": words(self._vocabularies["point_measures"], point),
            "amount": together,
            "unit": words(self._vocabularies["point_unit"], point),
        }

    def _reads(self, step: Step) -> pa.Table | None:
        reads = self.engine.reads
        keys = step.reads.key
        gone = np.zeros(len(keys) + len(step.reads.gone), bool)
        gone[len(keys) :] = True
        keys = np.concatenate([keys, np.array([k for k, _ in step.reads.gone], np.int64)])
        if len(keys) == 0:
            return None
        where = reads.memory.find(keys)
        field = {
            n: reads.memory.get(n, where) for n in ("start", "value", "flags", "changes", "cause", "reported")
        }
        start, flags = field["start"].copy(), field["flags"].astype(np.int64)
        start[gone] = [s for _, s in step.reads.gone]
        point = reads.points[series_of(keys)]
        held = flags & (OVERLAP | CONFLICT) > 0
        amount = reads.ratings.multiplied_reads(
            series_of(keys), field["start"], time_of(keys), field["value"]
        )
        codes = np.select(
            [held, flags & SUSPECT > 0, flags & ESTIMATED > 0], [MISSING, DOUBTFUL, ESTIMATE], VALID
        )
        columns = self._point_columns(point, amount, held)
        columns |= {
            "start": times(start),
            "end": times(time_of(keys)),
            "quality": words(QUALITIES, codes),
            "flags": words(FLAGS, (flags & ROUNDED > 0) + 2 * held),
            "measured_share": numbers(((flags & (ESTIMATED | OVERLAP | CONFLICT)) == 0).astype(np.float64)),
        }
        final = gone | (time_of(keys) <= step.frontier[point])
        columns |= story(final, field["changes"], field["cause"], field["reported"])
        return table(INTERVAL, columns, step.positions[self._lanes.of_point[point]], gone)

    # -- roll-ups ---------------------------------------------------------------------------------

    def _rollups(self, rows: Touched, step: Step) -> pa.Table:
        cells, accounts = self.engine.spans.derived, self.engine.accounts
        account, cls = rows.series // CLASSES, rows.series % CLASSES
        sums = Sums(**{field.name: cells[field.name][rows.index] for field in fields(Sums)})
        frontier, positions = (
            accounts.frontier(step.frontier),
            step.positions[self._lanes.of_account[account]],
        )
        return self._rollup.table(account, cls, rows.span, sums, frontier, positions)

    # -- intensity --------------------------------------------------------------------------------

    def _intensity(self, rows: WindowRows, step: Step) -> pa.Table:
        ratios, which = self.engine.windows.ratios, rows.ratio
        specs = [ratio.spec for ratio in ratios]
        units = [f"{spec.unit}/{per(spec.per_amount, spec.per_unit)}" for spec in specs]
        target = np.array([np.nan if ratio.target is None else ratio.target for ratio in ratios])[which]
        columns: Columns = {
            "scope": words([spec.scope for spec in specs], which),
            "id": words([spec.id for spec in specs], which),
            "product": words([spec.product for spec in specs], which),
            "window": words(WINDOWS, rows.window),
            "start": times(rows.start),
            "end": times(rows.end),
            "numerator": amounts(rows.numerator, ~rows.numerator_known),
            "denominator": amounts(rows.denominator, ~rows.denominator_known),
            "value": numbers(rows.value),
            "unit": words(units, which),
            "target": numbers(target),
            "covers": words([ratio.covers for ratio in ratios], which),
            "reason": words(REASONS, rows.reason),
            "measured_share": numbers(rows.share),
            "policy": words([self.roster.policy.id], np.zeros(len(rows), np.int64)),
        }
        columns |= story(rows.final | rows.gone, rows.revision, rows.cause, rows.reported)
        lane = np.array([self._lanes.of_account[ratio.denominator.index] for ratio in ratios])[which]
        return table(INTENSITY, columns, step.positions[lane], rows.gone)
