"""Table rows from the operators' numbers: names for codes, exact decimals for integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from metering.roster import Roster
from metering.roster_share import GROUP
from metering.tables import INTENSITY, INTERVAL
from metering.units import CANONICAL, Unit
from processors.changes import Touched
from processors.columns import (
    CAUSE_WORDS,
    FLAGS,
    QUALITIES,
    STATE_WORDS,
    Bools,
    Columns,
    Ints,
    Vocabulary,
    Waiting,
    amounts,
    means,
    numbers,
    per,
    story,
    table,
    times,
    words,
)
from processors.engine import Engine, Step
from processors.flows import marks
from processors.kernels import rows as sheet_rows
from processors.kernels.rows import (
    DOUBTFUL,
    ESTIMATE,
    IS_HELD,
    IS_INTEGRATED,
    IS_MEAN,
    MISSING,
    VALID,
    Points,
    Sheet,
    intervals,
    wide,
)
from processors.memory import HELD_READ, SUSPECT, series_of, time_of, written_off
from processors.ratios import Ratio
from processors.rollup_rows import RollupRows
from processors.rows_small import SmallRows
from processors.sheets import Layout, Pad
from processors.spans import CLASSES, GRID, REST_BITS
from processors.windows import REASONS, WINDOWS, WindowRows

ROWS_MAX = 5000
"""Rows of one table: their frame stays below a megabyte, and what makes them below some more."""


_OF_POINT = ("point", "point_measures", "point_unit")
_WINDOWS, _REASONS = Vocabulary(WINDOWS), Vocabulary(REASONS)
EXPONENT_MIN, EXPONENT_MAX = -6, 3
"""Of units as powers of ten of the canonical one, with which rows are said in the unit of the site file."""
_NANO_DIGITS = 3
"""Of a millionth of the canonical unit."""


class Rows:
    """Makes the tables of steps; ``emit`` is the only thing others call.

    ``of_groups``: whether roll-ups of groups are said, too. ``rows_max``: of a table.
    """

    def __init__(self, engine: Engine, *, of_groups: bool = True, rows_max: int = ROWS_MAX) -> None:
        self.engine = engine
        self._rows_max = rows_max
        self.roster: Roster = engine.roster
        self._lanes = engine.lanes
        points = self.roster.points
        self._plants = [p.id for p in self.roster.plants]
        self._point_plant = engine.progress.plant
        said = {unit: _said_in(unit) for unit in {point.amount_unit for point in points}}
        self._exponents = np.array([said[p.amount_unit][0] for p in points], np.int64)
        self._mean = np.array([p.mean for p in points], bool)
        self._any_mean = bool(self._mean.any())
        self._kinds = np.array([IS_MEAN * p.mean + IS_INTEGRATED * p.integrated for p in points], np.int64)
        self._vocabularies = {
            "plant": Vocabulary(self._plants),
            "point": Vocabulary(p.id for p in points),
            "point_measures": Vocabulary(p.measures for p in points),
            "point_unit": Vocabulary(said[p.amount_unit][1] for p in points),
        }
        self._small = SmallRows(engine, self._vocabularies["plant"], self._vocabularies["point"])
        self._rollup = RollupRows(engine.spans)
        every = engine.windows.ratios
        self._ratio_words = _ratio_words(every)
        self._targets = np.array([np.nan if ratio.target is None else ratio.target for ratio in every])
        denominators = np.array([ratio.denominator.index for ratio in every], np.int64)
        self._lane_of_ratio = self._lanes.of_account[denominators]
        several = engine.accounts.of_several()
        self._wanted = np.ones(len(engine.accounts), bool)
        groups = [account.index for account in several if account.scope.startswith(GROUP)]
        self._wanted[groups] = of_groups
        self._windows = Waiting()
        self._facts = self._facts_of_points()
        self._pads = {"interval": Pad(self._layout(), rows_max), "rollup": Pad(self._rollup.layout, rows_max)}

    @property
    def unbalanced(self) -> int:
        """Installations whose ledger does not balance: 0, or something is lost."""
        return len(self._small.unbalanced)

    def emit(self, step: Step, *, rest: bool = True) -> Iterator[tuple[str, pa.Table]]:
        """(table name, rows) of everything a step says anew, at most ``rows_max`` rows in a table.

        Without the ``rest``, tables that are not full wait for the steps to come.
        """
        base, derived = partial(self._say_intervals, step), partial(self._say_rollups, step)
        yield from (("interval", full) for full in self._pads["interval"].filled(step.cells.base, base))
        yield from (("rollup", full) for full in self._pads["rollup"].filled(self._said(step), derived))
        for windows in step.windows:
            self._windows.note(self._window_columns(windows, step))
        if rest:
            for name, pad in self._pads.items():
                yield from ((name, some) for some in pad.rest())
        for columns in self._windows.tables(self._rows_max, rest=rest):
            yield "intensity", self._intensity(columns)
        few: list[tuple[str, pa.Table | None]] = [
            ("interval", self._reads(step)),
            ("verdict", self._small.verdicts(step)),
            ("alert", self._small.alerts(step)),
            *(("ledger", rows) for rows in self._small.ledger(step, self._rows_max)),
            ("rejected", self._small.rejected(step)),
            ("hop", self._small.hop(step) if step.closing else None),
        ]
        for name, rows in few:
            if rows is not None:
                edges = range(0, len(rows), self._rows_max)
                yield from ((name, rows.slice(first, self._rows_max)) for first in edges)

    # -- what a step says, as it stands now -------------------------------------------------------

    def _said(self, step: Step) -> Touched:
        derived = step.cells.derived
        return derived.take((derived.series % CLASSES != GRID) & self._wanted[derived.series // CLASSES])

    def _say_rollups(self, step: Step, rows: Touched, sheet: Sheet) -> None:
        account = rows.series // CLASSES
        position = step.positions[self._lanes.of_account[account]]
        cells = self.engine.spans.derived.columns
        self._rollup.say(rows, cells, step.of_accounts[account], position, sheet)

    def _window_columns(self, rows: WindowRows, step: Step) -> dict[str, Any]:
        columns = {field.name: getattr(rows, field.name) for field in fields(WindowRows)}
        return columns | {"position": step.positions[self._lane_of_ratio[rows.ratio]]}

    # -- intervals --------------------------------------------------------------------------------

    def _facts_of_points(self) -> Points:
        every = (("plant", self._point_plant), *((name, np.arange(len(self._kinds))) for name in _OF_POINT))
        texts = [self._vocabularies[name].number[codes] for name, codes in every]
        factor = 10 ** (_NANO_DIGITS - self._exponents)
        lane = self._lanes.of_point.astype(np.int64)
        return Points(self.engine.spans.base_ms, factor, self._kinds, lane, np.array(texts, np.int32))

    def _layout(self) -> Layout:
        names = ("plant", "point", "measures", "unit")
        texts = [self._vocabularies[name] for name in ("plant", *_OF_POINT)]
        story = [("quality", QUALITIES), ("flags", FLAGS), ("state", STATE_WORDS), ("cause", CAUSE_WORDS)]
        return Layout(INTERVAL, [*zip(names, texts, strict=True), *story], ["amount"])

    def _say_intervals(self, step: Step, rows: Touched, sheet: Sheet) -> None:
        first, cells = sheet.size, self.engine.spans.base.columns
        intervals(rows, cells, self._facts, step.frontier, step.positions, sheet)
        if self._any_mean:
            mean = np.flatnonzero(self._mean[rows.series])
            sheet.amounts[0, first + mean] = self._means(rows.series[mean], rows.index[mean])

    def _means(self, point: Ints, index: Ints) -> Ints:
        """The amounts of gauges with a mean: over the time that is known of a span."""
        cells = self.engine.spans.base
        amount, known = cells["amount"][index], cells["known"][index].astype(np.int64)
        low = amount & ((1 << REST_BITS) - 1)
        return wide(means(amount >> REST_BITS, low, known, self._exponents[point]), 1)

    def _point_columns(self, point: Ints, amount: Ints, unknown: Bools) -> Columns:
        return {
            "plant": words(self._vocabularies["plant"], self._point_plant[point]),
            "point": words(self._vocabularies["point"], point),
            "measures": words(self._vocabularies["point_measures"], point),
            "amount": amounts(amount, unknown, self._exponents[point]),
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
        held = flags & HELD_READ > 0
        estimated = reads.estimated(keys, field["start"], field["value"], flags)
        amount = reads.ratings.multiplied_reads(
            series_of(keys), field["start"], time_of(keys), field["value"]
        )
        codes = np.select([held, flags & SUSPECT > 0, estimated], [MISSING, DOUBTFUL, ESTIMATE], VALID)
        columns = self._point_columns(point, amount, held)
        columns |= {
            "start": times(start),
            "end": times(time_of(keys)),
            "quality": words(QUALITIES, codes),
            "flags": words(FLAGS, sheet_rows.marks(marks(flags)) + IS_HELD * (held & ~written_off(flags))),
            "measured_share": numbers((~held & ~estimated).astype(np.float64)),
        }
        final = gone | (time_of(keys) <= step.frontier[point])
        columns |= story(final, field["changes"], field["cause"], field["reported"])
        return table(INTERVAL, columns, step.positions[self._lanes.of_point[point]], gone)

    # -- intensity --------------------------------------------------------------------------------

    def _intensity(self, columns: dict[str, Any]) -> pa.Table:
        position = columns.pop("position")
        rows = WindowRows(**columns)
        which = rows.ratio
        said: Columns = {name: words(texts, which) for name, texts in self._ratio_words.items()}
        said |= {
            "window": words(_WINDOWS, rows.window),
            "start": times(rows.start),
            "end": times(rows.end),
            "numerator": amounts(rows.numerator, ~rows.numerator_known),
            "denominator": amounts(rows.denominator, ~rows.denominator_known),
            "value": numbers(rows.value),
            "target": numbers(self._targets[which]),
            "reason": words(_REASONS, rows.reason),
            "measured_share": numbers(rows.share),
        }
        said |= story(rows.final | rows.gone, rows.revision, rows.cause, rows.reported)
        return table(INTENSITY, said, position, rows.gone)


def _said_in(unit: Unit) -> tuple[int, str]:
    """The power of ten of the canonical unit in which amounts in a unit are said, and its name."""
    exponent = unit.decimal_exponent
    if exponent is None or not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        return 0, unit.name if exponent == 0 else CANONICAL[unit.dimension]
    return exponent, unit.name


def _ratio_words(ratios: list[Ratio]) -> dict[str, Vocabulary]:
    """What is the same in all rows of a ratio."""
    specs = [ratio.spec for ratio in ratios]
    return {
        "scope": Vocabulary([spec.scope for spec in specs]),
        "id": Vocabulary([spec.id for spec in specs]),
        "product": Vocabulary([spec.product for spec in specs]),
        "unit": Vocabulary([f"{spec.unit}/{per(spec.per_amount, spec.per_unit)}" for spec in specs]),
        "covers": Vocabulary([ratio.covers for ratio in ratios]),
        "policy": Vocabulary([ratio.policy for ratio in ratios]),
    }
