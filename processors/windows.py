"""Intensity: the ratio of two amounts over rolling and calendar windows, in event time.

A value is there only when every member of both sides is known over the whole window; otherwise
it is empty with its reason. The only float is the last division.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from metering.roster import Roster
from processors.accounts import Accounts, grid_ms
from processors.progress import NEVER
from processors.ratios import Ratio, Term, divide, ratios, summed
from processors.reads import Reads
from processors.shapes import Shapes, longer
from processors.spans import CLASSES, DAY, GRID, MONTH, YEAR, Changes, Pass, Spans

Ints = NDArray[np.int64]

ROLLING_MS = {"15m": 900_000, "1h": 3_600_000, "8h": 28_800_000, "24h": 86_400_000}
APART_SPANS = 10_000
"""Windows further apart are worked out by themselves: what lies between takes neither time nor room."""
CALENDAR = {"day": DAY, "month": MONTH, "year": YEAR}

KNOWN, NUMERATOR_INCOMPLETE, DENOMINATOR_INCOMPLETE, DENOMINATOR_ZERO = range(4)
DENOMINATOR_COARSER, FACTOR_UNKNOWN = 4, 5
REASONS = (
    "",
    "numerator_incomplete",
    "denominator_incomplete",
    "denominator_zero",
    "denominator_coarser",
    "factor_unknown",
)


@dataclass
class WindowRows:
    """Windows of one ratio and one length: a row each. Amounts in millionths; -1 no reason is KNOWN."""

    ratio: Ratio
    window: str
    start: Ints
    end: Ints
    numerator: Ints
    denominator: Ints
    numerator_known: NDArray[np.bool_]
    denominator_known: NDArray[np.bool_]
    value: NDArray[np.float64]
    reason: Ints
    share: NDArray[np.float64]
    revision: Ints
    cause: Ints
    reported: Ints
    final: NDArray[np.bool_]
    gone: NDArray[np.bool_]


@dataclass
class _Side:
    """One side of a ratio over a stretch of grid spans."""

    amount: Ints
    known: Ints
    measured: Ints
    revision: Ints
    cause: Ints
    reported: Ints
    members: int
    unknown_factor: NDArray[np.bool_] | None = None


class Windows:
    """Computes the windows of all ratios that a pass touched."""

    def __init__(self, roster: Roster, accounts: Accounts, spans: Spans, reads: Reads) -> None:
        self.roster, self.accounts, self.spans = roster, accounts, spans
        self.shapes = Shapes(roster, reads)
        self.ratios = ratios(roster, accounts)
        for ratio in self.ratios:
            if any(w in ROLLING_MS for w in ratio.spec.windows):
                self._grid(ratio)

    def _grid(self, ratio: Ratio) -> None:
        plant = next(p for p in self.roster.plants if f"plant:{p.id}" == ratio.spec.scope)
        step = grid_ms(self.roster.points[p] for p in plant.points if self.roster.points[p].sign)
        for account in (*(t.account for t in ratio.terms), ratio.denominator):
            self.spans.gridded[account.index] = True
            self.spans.grid_ms[account.index] = step

    def accounts_of(self, ratio: Ratio) -> list[int]:
        return [*(t.account.index for t in ratio.terms), ratio.denominator.index]

    def members_of(self, ratio: Ratio) -> Ints:
        return np.unique([p for a in self.accounts_of(ratio) for p in self.accounts.all[a].members])

    # -- which windows ----------------------------------------------------------------------------

    def rolled(self, changes: Changes, step: Pass) -> list[WindowRows]:
        """The rolling windows whose figure or finality changed in a pass."""
        out = []
        for ratio in self.ratios:
            windows = [w for w in ratio.spec.windows if w in ROLLING_MS]
            if windows:
                out += self._rolled(ratio, windows, changes, step)
        return out

    def _rolled(self, ratio: Ratio, windows: list[str], changes: Changes, step: Pass) -> list[WindowRows]:
        grid = int(self.spans.grid_ms[ratio.denominator.index])
        members = self.members_of(ratio)
        horizon = [int(seen[members].max()) // grid - 1 for seen in (step.seen_before, step.seen_after)]
        series = np.array(self.accounts_of(ratio)) * CLASSES + GRID
        content = np.unique(changes.grid.span[np.isin(changes.grid.series, series)])
        frontier = [int(f[members].min()) // grid - 1 for f in (step.before, step.after)]
        out = []
        for window in windows:
            length = ROLLING_MS[window] // grid
            known = self._known(series, frontier[0] + 2 - length, frontier[1])
            flips = _ranges(known, length, frontier[0] + 1, min(frontier[1], horizon[1]))
            reached = np.arange(horizon[0] + 1, min(horizon[1], horizon[0] + length) + 1)
            changed = _ranges(content, length, NEVER, horizon[1])
            parts = [flips, reached[reached >= 0], changed]
            for start, end in longer(changes.reads, ratio.denominator.members, ROLLING_MS[window]):
                low, high = start // grid, min((end - 1) // grid + length - 1, horizon[1])
                parts.append(_ranges(self._known(series, low - length + 1, high), length, low, high))
            spans = np.unique(np.concatenate(parts))
            if len(spans):
                out.append(self.evaluate(ratio, window, spans, step))
        return out

    def _known(self, series: Ints, first: int, last: int) -> Ints:
        """Grid spans first..last in which anything is known of any of the derived series, ascending."""
        first_block, last_block = self.spans.derived.extents(series)
        low, high = np.maximum(first, first_block), np.minimum(last, last_block)
        order = np.argsort(series)
        return np.unique(self.spans.derived.between(series[order], low[order], high[order])[1])

    def stretch(self, ratio: Ratio, window: str, first: int, last: int) -> Ints:
        """The last grid spans, within first..last, of windows with anything in them, and one behind each run.

        What lies between has no value; the windows behind the runs say so.
        """
        length = ROLLING_MS[window] // int(self.spans.grid_ms[ratio.denominator.index])
        series = np.array(self.accounts_of(ratio)) * CLASSES + GRID
        return _ranges(self._known(series, first - length, last), length + 1, first, last)

    # -- what they say ----------------------------------------------------------------------------

    def evaluate(self, ratio: Ratio, window: str, spans: Ints, step: Pass) -> WindowRows:
        """Rolling windows whose last grid spans are ``spans`` (ascending)."""
        apart = np.flatnonzero(np.diff(spans) > APART_SPANS) + 1
        parts = [self._evaluate(ratio, window, part, step) for part in np.split(spans, apart)]
        return parts[0] if len(parts) == 1 else _one(parts)

    def _evaluate(self, ratio: Ratio, window: str, spans: Ints, step: Pass) -> WindowRows:
        grid = int(self.spans.grid_ms[ratio.denominator.index])
        length = ROLLING_MS[window] // grid
        first, last = int(spans[0]) - length + 1, int(spans[-1])
        at = spans - first
        upper, lower = self._sides(ratio, first, last, grid, length, at)
        end = (spans + 1) * grid
        coarse = self.shapes.coarse(ratio.denominator.members, end, ROLLING_MS[window])
        return self._rows(ratio, window, end - ROLLING_MS[window], end, upper, lower, coarse, step)

    def _sides(
        self, ratio: Ratio, first: int, last: int, grid: int, length: int, at: Ints
    ) -> tuple[_Side, _Side]:
        times = np.arange(first, last + 1) * grid
        terms = [self._side(t, first, last, times, length, at) for t in ratio.terms]
        upper = terms[0] if len(terms) == 1 else _sum(terms)
        return upper, self._side(Term(ratio.denominator, None), first, last, times, length, at)

    def _side(self, term: Term, first: int, last: int, times: Ints, length: int, at: Ints) -> _Side:
        cells = self.spans.derived
        index = cells.run(term.account.index * CLASSES + GRID, first, last)
        there = index >= 0

        def column(name: str) -> Ints:
            return np.where(there, cells[name][index], 0).astype(np.int64)

        def total(values: Ints) -> Ints:
            sums = np.concatenate([[0], np.cumsum(values)])
            return np.asarray(sums[at + 1] - sums[at + 1 - length])

        amount, unknown = summed(column("amount"), times, term.factors, total)
        grid = int(self.spans.grid_ms[term.account.index])
        across = self.shapes.across_ms(term.account.members, times[at] + grid, length * grid)
        return _Side(
            amount,
            total(column("known")),
            total(column("measured")) - across,
            total(column("revision")),
            column("cause")[at],
            column("reported")[at],
            len(term.account.members),
            unknown,
        )

    def _rows(
        self,
        ratio: Ratio,
        window: str,
        start: Ints,
        end: Ints,
        upper: _Side,
        lower: _Side,
        coarse: NDArray[np.bool_],
        step: Pass,
    ) -> WindowRows:
        length = end - start
        whole_upper = upper.known == length * upper.members
        whole_lower = lower.known == length * lower.members
        reason = np.full(len(end), KNOWN, np.int64)
        reason[lower.amount <= 0] = DENOMINATOR_ZERO
        reason[~whole_lower] = DENOMINATOR_INCOMPLETE
        reason[coarse] = DENOMINATOR_COARSER
        numerator_known = upper.known > 0
        if upper.unknown_factor is not None:
            reason[upper.unknown_factor] = FACTOR_UNKNOWN
            numerator_known &= ~upper.unknown_factor
        reason[~whole_upper] = NUMERATOR_INCOMPLETE
        known = reason == KNOWN
        value = np.full(len(end), np.nan)
        value[known] = divide(upper.amount[known], lower.amount[known], ratio.per_micro)
        share = np.minimum(
            upper.measured / (length * upper.members), lower.measured / (length * lower.members)
        )
        final, reported = self._finality(ratio, end, upper, lower, step)
        cause = np.where(lower.reported > upper.reported, lower.cause, upper.cause)
        return WindowRows(
            ratio,
            window,
            start,
            end,
            upper.amount,
            lower.amount,
            numerator_known,
            (lower.known > 0) & ~coarse,
            value,
            reason,
            share,
            upper.revision + lower.revision,
            cause,
            reported,
            final,
            (upper.known == 0) & (lower.known == 0),
        )

    def _finality(
        self, ratio: Ratio, end: Ints, upper: _Side, lower: _Side, step: Pass
    ) -> tuple[NDArray[np.bool_], Ints]:
        """Which windows are final, and when each row was said (log time)."""
        members = self.members_of(ratio)
        before, after = int(step.before[members].min()), int(step.after[members].min())
        reported = np.maximum(upper.reported, lower.reported)
        fresh = np.flatnonzero((end > before) & (end <= after))
        for p in members.tolist():
            waiting = fresh[end[fresh] > step.before[p]]
            point = np.full(len(waiting), p)
            record = step.survey.first_record(step.group[point], point, end[waiting], step.first, step.last)
            reported[waiting] = np.maximum(reported[waiting], step.survey.log_time[record])
        if step.late:
            reported[end <= before] = step.survey.log_time[step.last]
        return end <= after, reported

    # -- calendar ---------------------------------------------------------------------------------

    def calendar(self, changes: Changes, step: Pass) -> list[WindowRows]:
        """The calendar windows whose figure or finality changed in a pass."""
        out = []
        cls, account = changes.derived.series % CLASSES, changes.derived.series // CLASSES
        for ratio in self.ratios:
            mine = np.isin(account, self.accounts_of(ratio))
            for window in (w for w in ratio.spec.windows if w in CALENDAR):
                touched = changes.derived.span[mine & (cls == CALENDAR[window])]
                spans = np.union1d(touched, self._closed(ratio, CALENDAR[window], step))
                spans = np.union1d(spans, self._coarsened(ratio, CALENDAR[window], changes))
                if len(spans):
                    out.append(self._calendar(ratio, window, spans, step))
        return out

    def _closed(self, ratio: Ratio, cls: int, step: Pass) -> Ints:
        """The calendar windows that became final because the last of both sides' members passed them."""
        members = self.members_of(ratio)
        before, after = step.before[members].min(), step.after[members].min()
        parts = [np.empty(0, np.int64)]
        for account in self.accounts_of(ratio):
            series = account * CLASSES + cls
            extent = self.spans.derived.extent(series)
            if after > before and extent is not None:
                known = np.flatnonzero(self.spans.derived.run(series, *extent) >= 0) + extent[0]
                end = self.spans.edges(np.full(len(known), series), known)[1]
                parts.append(known[(end > before) & (end <= after)])
        return np.concatenate(parts)

    def _coarsened(self, ratio: Ratio, cls: int, changes: Changes) -> Ints:
        """The calendar windows in changed reads of the denominator that are as long as none of them."""
        series = np.array(self.accounts_of(ratio)) * CLASSES + cls
        account = np.array([ratio.denominator.index])
        parts = [np.empty(0, np.int64)]
        for start, end in longer(changes.reads, ratio.denominator.members, 0):
            low, high = (int(self.spans.span_of(account, np.array([at]), cls)[0]) for at in (start, end - 1))
            if low < high:
                parts.append(self._known(series, low, high))
        return np.concatenate(parts)

    def _calendar(self, ratio: Ratio, window: str, spans: Ints, step: Pass) -> WindowRows:
        cls = CALENDAR[window]
        start, end = self.spans.edges(np.full(len(spans), ratio.denominator.index * CLASSES + cls), spans)
        terms = [self._whole(t, cls, spans, start) for t in ratio.terms]
        upper = terms[0] if len(terms) == 1 else _sum(terms)
        lower = self._whole(Term(ratio.denominator, None), cls, spans, start)
        coarse = np.zeros(len(spans), bool)
        for i in range(len(spans)):
            coarse[i] = self.shapes.coarse(ratio.denominator.members, end[i : i + 1], int(end[i] - start[i]))[
                0
            ]
        return self._rows(ratio, window, start, end, upper, lower, coarse, step)

    def _whole(self, term: Term, cls: int, spans: Ints, start: Ints) -> _Side:
        cells = self.spans.derived
        index = cells.find(np.full(len(spans), term.account.index * CLASSES + cls), spans)
        there = index >= 0

        def column(name: str) -> Ints:
            return np.where(there, cells[name][index], 0).astype(np.int64)

        amount, unknown = summed(column("amount"), start, term.factors, lambda values: values)
        return _Side(
            amount,
            column("known"),
            column("measured"),
            column("revision"),
            column("cause"),
            column("reported"),
            len(term.account.members),
            unknown,
        )


def _one(parts: list[WindowRows]) -> WindowRows:
    """Rows of one ratio and window, one after the other."""
    columns = [f.name for f in fields(WindowRows)][2:]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    return WindowRows(parts[0].ratio, parts[0].window, **joined)


def _ranges(spans: Ints, length: int, first: int, last: int) -> Ints:
    """The last grid spans, within first..last, of all windows that hold one of ``spans`` (ascending)."""
    if len(spans) == 0:
        return spans
    opens = np.flatnonzero(np.append(True, np.diff(spans) > length))
    closes = np.append(opens[1:], len(spans)) - 1
    parts = [
        np.arange(max(low, first), min(high + length - 1, last) + 1)
        for low, high in zip(spans[opens].tolist(), spans[closes].tolist(), strict=True)
    ]
    every = np.concatenate(parts)
    at = np.searchsorted(spans, every, "right") - 1
    return every[every - spans[at] < length]


def _sum(sides: list[_Side]) -> _Side:
    first = sides[0]
    out = _Side(**{name: getattr(first, name) for name in first.__dataclass_fields__})
    for side in sides[1:]:
        out.amount = out.amount + side.amount
        out.known, out.measured = out.known + side.known, out.measured + side.measured
        out.revision = out.revision + side.revision
        out.cause = np.where(side.reported > out.reported, side.cause, out.cause)
        out.reported = np.maximum(out.reported, side.reported)
        out.members += side.members
        if side.unknown_factor is not None:
            out.unknown_factor = (
                side.unknown_factor
                if out.unknown_factor is None
                else out.unknown_factor | side.unknown_factor
            )
    return out
