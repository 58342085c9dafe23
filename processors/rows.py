"""Table rows from the operators' numbers: names for codes, exact decimals for integers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from metering.measures import ENERGIES
from metering.roster import Roster
from metering.tables import (
    ALERT,
    HOP,
    INTENSITY,
    INTERVAL,
    LEDGER,
    REJECTED,
    ROLLUP,
    VERDICT,
)
from metering.units import CANONICAL
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
    amounts,
    chosen,
    decimal,
    numbers,
    per,
    plain,
    quality,
    story,
    table,
    times,
    words,
)
from processors.engine import Engine, Step
from processors.memory import CONFLICT, ESTIMATED, NONE, OVERLAP, ROUNDED, SUSPECT, series_of, time_of
from processors.ratios import Coefficients, coefficients, covers, emission_factors
from processors.spans import CLASSES, GRID, NAMES
from processors.verdicts import Verdict
from processors.windows import REASONS, WindowRows


class Rows:
    """Makes the tables of a step; ``emit`` is the only thing others call."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.roster: Roster = engine.roster
        points = self.roster.points
        self._unbalanced: set[int] = set()
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

        every, policy = engine.accounts.all, self.roster.policy
        self._covers = [covers(a.energies, (a.measures,)) if a.measures in ENERGIES else "" for a in every]
        self._kgce = coefficients(
            [policy.kgce.get(a.measures, ()) if a.measures in ENERGIES else () for a in every]
        )
        self._kgco2e = coefficients(
            [emission_factors(self.roster, a) if a.measures in ENERGIES else () for a in every]
        )

    @property
    def unbalanced(self) -> int:
        """Installations whose ledger does not balance: 0, or something is lost."""
        return len(self._unbalanced)

    def emit(self, step: Step) -> list[tuple[str, pa.Table]]:
        """(table name, rows) of everything a step says anew."""
        made: list[tuple[str, pa.Table | None]] = [
            ("interval", self._intervals(step)),
            ("interval", self._reads(step)),
            ("rollup", self._rollups(step)),
            *(("intensity", self._intensity(rows, step)) for rows in step.windows),
            ("verdict", self._verdicts(step)),
            ("alert", self._alerts(step)),
            ("ledger", self._ledger(step)),
            ("rejected", self._rejected(step)),
            ("hop", self._hop(step)),
        ]
        return [(name, rows) for name, rows in made if rows is not None and len(rows)]

    # -- intervals --------------------------------------------------------------------------------

    def _intervals(self, step: Step) -> pa.Table:
        cells, spans = self.engine.spans.base, self.engine.spans
        point, span, index = step.cells.base.series, step.cells.base.span, step.cells.base.index
        length = spans.base_ms[point]
        known, measured = cells["known"][index].astype(np.int64), cells["measured"][index].astype(np.int64)
        held = cells["held"][index] > 0
        codes = quality(known, measured, length, cells["suspect"][index])
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
        return table(INTERVAL, columns, step.position, gone)

    def _point_columns(self, point: Ints, amount: Ints, unknown: Bools) -> Columns:
        exponent = self._exponents[point]
        decimals = [
            amounts(np.where(exponent == e, amount, 0), unknown, int(e)) for e in np.unique(exponent).tolist()
        ]
        together = decimals[0] if decimals else amounts(amount, unknown)
        for e, column in zip(np.unique(exponent).tolist()[1:], decimals[1:], strict=True):
            together = chosen(exponent == e, column, together)
        return {
            "plant": words(self._plants, self._point_plant[point]),
            "point": words(self._point_ids, point),
            "measures": words(self._measures, point),
            "amount": together,
            "unit": words(self._units, point),
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
        return table(INTERVAL, columns, step.position, gone)

    # -- roll-ups ---------------------------------------------------------------------------------

    def _rollups(self, step: Step) -> pa.Table:
        spans, accounts = self.engine.spans, self.engine.accounts
        said = step.cells.derived.series % CLASSES != GRID
        series, span = step.cells.derived.series[said], step.cells.derived.span[said]
        index, account = step.cells.derived.index[said], series // CLASSES
        cells = spans.derived
        start, end = spans.edges(series, span)
        expected = accounts.expected_ms(account, start, end)
        known, measured = cells["known"][index], cells["measured"][index]
        unknown = known == 0
        every = accounts.all
        columns: Columns = {
            "scope": words([a.scope for a in every], account),
            "measures": words([a.measures for a in every], account),
            "product": words([a.product for a in every], account),
            "span": words(NAMES, series % CLASSES),
            "start": times(start),
            "end": times(end),
            "amount": amounts(cells["amount"][index], unknown),
            "unit": words([a.unit for a in every], account),
            "quality": words(QUALITIES, quality(known, measured, expected, cells["suspect"][index])),
            "measured_share": numbers(
                np.divide(measured, expected, out=np.zeros(len(known)), where=expected > 0)
            ),
        }
        columns |= self._converted(account, start, cells["amount"][index], unknown)
        gone = unknown & (cells["held"][index] == 0)
        final = gone | (end <= accounts.frontier(step.frontier)[account])
        columns |= story(final, cells["revision"][index], cells["cause"][index], cells["reported"][index])
        return table(ROLLUP, columns, step.position, gone)

    def _converted(self, account: Ints, start: Ints, amount: Ints, unknown: Bools) -> Columns:
        """kgce and kgCO2e by the coefficient in force at the span's start; empty where there is none."""

        def converted(by: Coefficients) -> Any:
            values, missing = by.convert(account, start, amount)
            return amounts(values, missing | unknown)

        return {
            "kgce": converted(self._kgce),
            "kgco2e": converted(self._kgco2e),
            "covers": words(self._covers, account),
        }

    # -- intensity --------------------------------------------------------------------------------

    def _intensity(self, rows: WindowRows, step: Step) -> pa.Table:
        n, ratio = len(rows.end), rows.ratio
        same = np.zeros(n, np.int64)
        unit = f"{ratio.spec.unit}/{per(ratio.spec.per_amount, ratio.spec.per_unit)}"
        target = np.full(n, np.nan if ratio.target is None else ratio.target)
        columns: Columns = {
            "scope": words([ratio.spec.scope], same),
            "id": words([ratio.spec.id], same),
            "product": words([ratio.spec.product], same),
            "window": words([rows.window], same),
            "start": times(rows.start),
            "end": times(rows.end),
            "numerator": amounts(rows.numerator, ~rows.numerator_known),
            "denominator": amounts(rows.denominator, ~rows.denominator_known),
            "value": numbers(rows.value),
            "unit": words([unit], same),
            "target": numbers(target),
            "covers": words([ratio.covers], same),
            "reason": words(REASONS, rows.reason),
            "measured_share": numbers(rows.share),
            "policy": words([self.roster.policy.id], same),
        }
        columns |= story(rows.final | rows.gone, rows.revision, rows.cause, rows.reported)
        return table(INTENSITY, columns, step.position, rows.gone)

    # -- the small tables -------------------------------------------------------------------------

    def _verdicts(self, step: Step) -> pa.Table | None:
        if not step.verdicts:
            return None
        rows, gone = [], []
        for key, reported in step.verdicts:
            revision = self.engine.verdict_revisions[key]
            rows.append(self._verdict(key, reported, revision))
            gone.append(key not in self.engine.books.verdicts)
        return plain(VERDICT, rows, step.position, np.array(gone))

    def _verdict(self, key: tuple[int, int, int], reported: int, revision: int) -> dict[str, object]:
        series, start, end = key
        point = self.roster.points[self.engine.index.point[series]]
        verdict, first, last = self.engine.books.verdicts.get(key, (Verdict.PLAIN, 0, 0))
        evidence = {
            "from_value": decimal(first, point),
            "to_value": decimal(last, point),
            "unit": point.unit.name,
        }
        return {
            "plant": self._plants[point.plant],
            "point": point.id,
            "serial": self.engine.index.serial[series],
            "from": start,
            "to": end,
            "verdict": Verdict(verdict).name.lower(),
            "status": "decided" if verdict == Verdict.ROLLOVER else "held",
            "by": "rule",
            "evidence": json.dumps(evidence),
            "revision": revision,
            "reported": reported,
        }

    def _alerts(self, step: Step) -> pa.Table | None:
        rows = []
        for row in step.alerts:
            rule = self.roster.alerts[row.rule]
            rows.append(
                {
                    "id": rule.id,
                    "scope": rule.scope,
                    "at": row.change.at_ms,
                    "to": row.change.to,
                    "value": row.change.value,
                    "threshold": rule.threshold,
                    "window_end": row.change.at_ms,
                    "revision": row.revision,
                    "reported": row.reported_ms,
                }
            )
        gone = np.array([row.withdrawn for row in step.alerts], bool)
        return plain(ALERT, rows, step.position, gone) if rows else None

    def _ledger(self, step: Step) -> pa.Table | None:
        """The books of the installations that a step touched, as they stand, in steps of their registers."""
        if not step.series:
            return None
        index, books, reads = self.engine.index, self.engine.books, self.engine.reads
        series = np.array(sorted(step.series), np.int64)
        point = np.array(index.point, np.int64)[series]
        interval = index.interval[point]
        low, high = (
            np.where(interval, r, b)
            for r, b in zip(reads.memory.edges(series), books.memory.edges(series), strict=True)
        )
        first, last = self._ends(series, low, high, interval)
        sums = {
            "first": first,
            "last": last,
            "booked": np.where(interval, reads.booked[series], books.ledger.booked[series]),
            "held": np.where(interval, reads.held[series], books.ledger.held[series]),
            "written_off": np.where(interval, 0, books.ledger.written_off[series]),
        }
        sums = {name: value // index.step[series] for name, value in sums.items()}
        balance = sums["last"] - sums["first"] - sums["booked"] - sums["held"] - sums["written_off"]
        self._unbalanced -= set(series.tolist())
        self._unbalanced |= set(series[balance != 0].tolist())
        columns: Columns = {
            "plant": words(self._plants, self._point_plant[point]),
            "point": words(self._point_ids, point),
            "serial": words(index.serial, series),
            "from": times(time_of(low)),
            "to": times(time_of(high)),
            **{name: pa.array(value) for name, value in sums.items()},
            "balance": pa.array(balance),
        }
        return table(LEDGER, columns, step.position, low == NONE)

    def _ends(self, series: Ints, low: Ints, high: Ints, interval: Bools) -> tuple[Ints, Ints]:
        """First and last register value; of interval reads 0 and the sum of what was accepted."""
        first, last = np.zeros(len(series), np.int64), np.zeros(len(series), np.int64)
        registers = np.flatnonzero(~interval & (low != NONE))
        memory = self.engine.books.memory
        first[registers] = memory.get("value", memory.find(low[registers]))
        last[registers] = memory.get("value", memory.find(high[registers]))
        for i in np.flatnonzero(interval).tolist():
            last[i] = self.engine.reads.memory.total(int(series[i]))
        return first, last

    def _rejected(self, step: Step) -> pa.Table | None:
        rows = [
            {
                "received": stamp,
                "topic": f"meterflow/v1/{r.plant}",
                "point": r.point,
                "time": r.time_ms,
                "reason": r.reason,
                "detail": r.detail,
            }
            for r, stamp in step.refused
        ]
        return plain(REJECTED, rows, step.position, None) if rows else None

    def _hop(self, step: Step) -> pa.Table:
        hop = self.engine.hop
        rows = []
        for plant, name in enumerate(self._plants):
            received, accepted, duplicate, rejected = (
                int(column[plant]) for column in (hop.received, hop.accepted, hop.duplicate, hop.rejected)
            )
            rows.append(
                {
                    "hop": "processors",
                    "plant": name,
                    "received": received,
                    "accepted": accepted,
                    "duplicate": duplicate,
                    "rejected": rejected,
                    "balance": received - accepted - duplicate - rejected,
                    "reported": step.log_time,
                }
            )
        return plain(HOP, rows, step.position, None)
