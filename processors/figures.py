"""What windows say: the figures of ratios over rolling and calendar windows, all of a pass at once.

A value is there only when every member of both sides is known over the whole window; otherwise
it is empty with its reason. The only float is the last division.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from metering.roster import INTERVAL, Roster
from processors.admission import NEIGHBOUR
from processors.changes import Pass
from processors.lanes import Lanes
from processors.ratios import Ratio, Term, divide, summed
from processors.reads import Reads
from processors.shapes import Shapes
from processors.spans import CLASSES, DAY, GRID, MONTH, YEAR, Spans

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Number = TypeVar("Number", bound=np.generic)

ROLLING_MS = {"15m": 900_000, "1h": 3_600_000, "8h": 28_800_000, "24h": 86_400_000}
CALENDAR = {"day": DAY, "month": MONTH, "year": YEAR}
WINDOWS = (*ROLLING_MS, *CALENDAR)

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
    """Windows of ratios: a row each. ``ratio`` is its index, ``window`` numbers into WINDOWS.

    Amounts in millionths; no reason is KNOWN.
    """

    ratio: Ints
    window: Ints
    start: Ints
    end: Ints
    numerator: Ints
    denominator: Ints
    numerator_known: Bools
    denominator_known: Bools
    value: NDArray[np.float64]
    reason: Ints
    share: NDArray[np.float64]
    revision: Ints
    cause: Ints
    reported: Ints
    final: Bools
    gone: Bools

    def __len__(self) -> int:
        return len(self.end)

    def take(self, mask: NDArray[np.bool_] | slice) -> WindowRows:
        return WindowRows(*(getattr(self, f.name)[mask] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Job:
    """Windows of one ratio and length: rolling ones by their last grid span, calendar ones by their span."""

    ratio: Ratio
    window: str
    spans: Ints


@dataclass
class Side:
    """One side of a ratio, a row per window; ``members``: how many points. ``told``: see ``told``."""

    amount: Ints
    known: Ints
    measured: Ints
    revision: Ints
    told: Ints
    reported: Ints
    members: Ints
    unknown_factor: Bools

    @property
    def cause(self) -> Ints:
        """Of the newest revision in each window, 0 where nothing in it was revised."""
        return self.told % _CAUSES


_CAUSES = 8
_SUMS = ("amount", "known", "measured", "revision")


class Figures:
    """Evaluates windows from the cells of accounts."""

    def __init__(self, roster: Roster, spans: Spans, reads: Reads, lanes: Lanes, ratios: list[Ratio]) -> None:
        accounts = spans.accounts
        self.spans, self.ratios = spans, ratios
        self.shapes = Shapes(roster, reads)
        self._shaped = accounts.any_member(np.array([p.reads == INTERVAL for p in roster.points], bool))
        self.members = [
            np.unique([p for a in accounts_of(ratio) for p in accounts[a].members]) for ratio in ratios
        ]
        self._points = np.concatenate([*self.members, np.empty(0, np.int64)])
        self._firsts = np.cumsum([0, *map(len, self.members)])[:-1]
        self.lane = lanes.of_point[self._points[self._firsts]]
        """Of every ratio."""
        self._per_micro = np.array([ratio.per_micro for ratio in ratios], np.int64)

    def least(self, of_points: Ints) -> Ints:
        """Of every ratio, the least that any of its members has."""
        return np.minimum.reduceat(of_points[self._points], self._firsts) if self.ratios else self._firsts

    def most(self, of_points: Ints) -> Ints:
        """Of every ratio, the most that any of its members has."""
        return np.maximum.reduceat(of_points[self._points], self._firsts) if self.ratios else self._firsts

    def rolling(self, jobs: list[Job], step: Pass) -> WindowRows:
        """Rolling windows; the spans of each job ascend and lie no great stretches apart."""
        grids = [int(self.spans.grid_ms[job.ratio.denominator.index]) for job in jobs]
        end = _per_job([(job.spans + 1) * grid for job, grid in zip(jobs, grids, strict=True)])
        length = _spread(jobs, [ROLLING_MS[job.window] for job in jobs])
        upper, lower = self._rolling_sides(jobs, grids)
        coarse = _per_job(
            [self._coarse(job, (job.spans + 1) * g) for job, g in zip(jobs, grids, strict=True)]
        )
        rows = self._rows(jobs, end - length, end, upper, lower, coarse, step)
        self._first_said(rows, step)
        return rows

    def calendar(self, jobs: list[Job], step: Pass) -> WindowRows:
        """Calendar windows."""
        start, end, coarse, sides = [], [], [], []
        for job in jobs:
            cls = CALENDAR[job.window]
            series = np.full(len(job.spans), job.ratio.denominator.index * CLASSES + cls)
            low, high = self.spans.edges(series, job.spans)
            start.append(low)
            end.append(high)
            coarse.append(self._coarse_calendar(job, low, high))
            upper = together([self._whole(t, cls, job.spans, low) for t in job.ratio.terms])
            sides.append((upper, self._whole(Term(job.ratio.denominator, None), cls, job.spans, low)))
        both = [_joined([pair[n] for pair in sides]) for n in range(2)]
        return self._rows(jobs, _per_job(start), _per_job(end), both[0], both[1], _per_job(coarse), step)

    # -- sides ------------------------------------------------------------------------------------

    def _rolling_sides(self, jobs: list[Job], grids: list[int]) -> tuple[Side, Side]:
        upper = [(job, grid, term) for job, grid in zip(jobs, grids, strict=True) for term in job.ratio.terms]
        lower = [(job, g, Term(job.ratio.denominator, None)) for job, g in zip(jobs, grids, strict=True)]
        sides = self._run_sums([*upper, *lower])
        made, at = [], 0
        for job in jobs:
            made.append(together(sides[at : at + len(job.ratio.terms)]))
            at += len(job.ratio.terms)
        return _joined(made), _joined(sides[at:])

    def _run_sums(self, wanted: list[tuple[Job, int, Term]]) -> list[Side]:
        """The sums over each window: differences of running sums over all accounts' cells, end to end."""
        cells = self.spans.derived
        lengths = [ROLLING_MS[job.window] // grid for job, grid, _ in wanted]
        runs = [
            cells.run(term.account.index * CLASSES + GRID, int(job.spans[0]) - length + 1, int(job.spans[-1]))
            for (job, _, term), length in zip(wanted, lengths, strict=True)
        ]
        index = np.concatenate(runs)
        there = index >= 0
        columns = {
            name: np.where(there, cells.read(name, index), 0) for name in (*_SUMS, "cause", "reported")
        }
        running = {name: np.concatenate([[0], np.cumsum(columns[name])]) for name in _SUMS}
        columns["told"] = told(columns["cause"], columns["reported"])
        out, first = [], 0
        for (job, grid, term), length, run in zip(wanted, lengths, runs, strict=True):
            at = job.spans - int(job.spans[0]) + length - 1 + first
            sums = {name: sums[at + 1] - sums[at + 1 - length] for name, sums in running.items()}
            unknown = np.zeros(len(at), bool)
            if term.factors is not None:
                mine = columns["amount"][first : first + len(run)]
                sums["amount"], unknown = _converted(term, mine, job, grid, length)
            if self._shaped[term.account.index]:
                end = (job.spans + 1) * grid
                sums["measured"] -= self.shapes.across_ms(term.account.members, end, length * grid)
            newest = _greatest(columns["told"][first : first + len(run)], length)[at - (first + length - 1)]
            story = {"told": newest, "reported": columns["reported"][at]}
            members = np.full(len(at), len(term.account.members))
            out.append(Side(**sums, **story, members=members, unknown_factor=unknown))
            first += len(run)
        return out

    def _whole(self, term: Term, cls: int, spans: Ints, start: Ints) -> Side:
        cells = self.spans.derived
        index = cells.find(np.full(len(spans), term.account.index * CLASSES + cls), spans)
        there = index >= 0

        def column(name: str) -> Ints:
            return np.where(there, cells.read(name, index), 0).astype(np.int64)

        columns = {name: column(name) for name in (*_SUMS, "cause", "reported")}
        columns["amount"], unknown = summed(columns["amount"], start, term.factors, lambda values: values)
        columns["told"] = told(columns.pop("cause"), columns["reported"])
        return Side(
            **columns,
            members=np.full(len(spans), len(term.account.members)),
            unknown_factor=np.zeros(len(spans), bool) if unknown is None else unknown,
        )

    def _coarse(self, job: Job, end: Ints) -> Bools:
        if not self._shaped[job.ratio.denominator.index]:
            return np.zeros(len(end), bool)
        return self.shapes.coarse(job.ratio.denominator.members, end, ROLLING_MS[job.window])

    def _coarse_calendar(self, job: Job, start: Ints, end: Ints) -> Bools:
        out = np.zeros(len(end), bool)
        if self._shaped[job.ratio.denominator.index]:
            members = job.ratio.denominator.members
            for i, length in enumerate((end - start).tolist()):
                out[i] = self.shapes.coarse(members, end[i : i + 1], length)[0]
        return out

    # -- rows -------------------------------------------------------------------------------------

    def _rows(
        self, jobs: list[Job], start: Ints, end: Ints, upper: Side, lower: Side, coarse: Bools, step: Pass
    ) -> WindowRows:
        ratio = _spread(jobs, [job.ratio.index for job in jobs])
        length = end - start
        reason = reasons(upper, lower, length, coarse)
        value = np.full(len(end), np.nan)
        for per_micro in np.unique(self._per_micro[ratio]).tolist():
            mine = (reason == KNOWN) & (self._per_micro[ratio] == per_micro)
            value[mine] = divide(upper.amount[mine], lower.amount[mine], per_micro)
        share = np.minimum(
            upper.measured / (length * upper.members), lower.measured / (length * lower.members)
        )
        final, reported = self._finality(ratio, end, np.maximum(upper.reported, lower.reported), step)
        return WindowRows(
            ratio,
            _spread(jobs, [WINDOWS.index(job.window) for job in jobs]),
            start,
            end,
            upper.amount,
            lower.amount,
            (upper.known > 0) & ~upper.unknown_factor,
            (lower.known > 0) & ~coarse,
            value,
            reason,
            share,
            upper.revision + lower.revision,
            np.maximum(lower.told, upper.told) % _CAUSES,
            reported,
            final,
            (upper.known == 0) & (lower.known == 0),
        )

    def _finality(self, ratio: Ints, end: Ints, reported: Ints, step: Pass) -> tuple[Bools, Ints]:
        """Which windows are final, and when each row was said (log time)."""
        before, after, lane = self.least(step.before), self.least(step.after), self.lane
        fresh = np.flatnonzero((end > before[ratio]) & (end <= after[ratio]))
        if len(fresh):
            row, point = self._with_members(fresh, ratio)
            waiting = end[row] > step.before[point]
            row, point = row[waiting], point[waiting]
            np.maximum.at(reported, row, step.reached(point, end[row]))
        changed = (end <= before[ratio]) & (step.causes[step.first[lane[ratio]]] != NEIGHBOUR)
        reported[changed] = step.survey.log_time[step.first[lane[ratio[changed]]]]
        return end <= after[ratio], reported

    def _first_said(self, rows: WindowRows, step: Pass) -> None:
        """Windows that patience made final are said when the first reading of a member comes that far."""
        fresh = np.flatnonzero(rows.final & (rows.end > self.most(step.seen_before)[rows.ratio]))
        if len(fresh):
            row, point = self._with_members(fresh, rows.ratio)
            latest = np.full(len(rows), np.iinfo(np.int64).max)
            np.minimum.at(latest, row, step.first_seen(point, rows.end[row]))
            rows.reported[fresh] = np.maximum(rows.reported[fresh], latest[fresh])

    def _with_members(self, rows: Ints, ratio: Ints) -> tuple[Ints, Ints]:
        """Each of these rows with every member of its ratio."""
        members = [self.members[r] for r in ratio[rows].tolist()]
        return np.repeat(rows, [len(one) for one in members]), np.concatenate(members)


def accounts_of(ratio: Ratio) -> list[int]:
    """The numerator's, then the denominator."""
    return [*(t.account.index for t in ratio.terms), ratio.denominator.index]


def _converted(term: Term, amount: Ints, job: Job, grid: int, length: int) -> tuple[Ints, Bools]:
    """Sums over windows of amounts times their coefficients; and where one is not known."""
    first = int(job.spans[0]) - length + 1
    times, at = (first + np.arange(len(amount))) * grid, job.spans - first

    def total(values: Ints) -> Ints:
        sums = np.concatenate([[0], np.cumsum(values)])
        return np.asarray(sums[at + 1] - sums[at + 1 - length])

    out, unknown = summed(amount, times, term.factors, total)
    assert unknown is not None
    return out, unknown


def reasons(upper: Side, lower: Side, length: Ints, coarse: Bools) -> Ints:
    """Why there is no value; the last that applies."""
    reason = np.full(len(length), KNOWN, np.int64)
    reason[lower.amount <= 0] = DENOMINATOR_ZERO
    reason[lower.known != length * lower.members] = DENOMINATOR_INCOMPLETE
    reason[coarse] = DENOMINATOR_COARSER
    reason[upper.unknown_factor] = FACTOR_UNKNOWN
    reason[upper.known != length * upper.members] = NUMERATOR_INCOMPLETE
    return reason


def _spread(jobs: list[Job], values: list[int]) -> Ints:
    """Each row of a job gets the job's value."""
    return np.repeat(np.array(values, np.int64), [len(job.spans) for job in jobs])


def _per_job(parts: list[NDArray[Number]]) -> NDArray[Number]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _joined(sides: list[Side]) -> Side:
    if len(sides) == 1:
        return sides[0]
    return Side(*(np.concatenate([getattr(side, f.name) for side in sides]) for f in fields(Side)))


def told(cause: Ints, reported: Ints) -> Ints:
    """When the newest revision of each cell was reported, and behind that its cause; 0 where there is none.

    Of several cells the greatest is the newest; at one log time it is the same, however the log is cut.
    """
    return np.where(cause > 0, reported * _CAUSES + cause, 0)


def _greatest(values: Ints, length: int) -> Ints:
    """Of each ``length`` values that follow one another. Shape (len(values) - length + 1,)."""
    count = len(values) - length + 1
    if not values.any():
        return np.zeros(count, np.int64)
    blocks = np.pad(values, (0, -len(values) % length)).reshape(-1, length)
    ahead = np.maximum.accumulate(blocks, axis=1).ravel()
    behind = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    return np.maximum(behind[:count], ahead[length - 1 : length - 1 + count])


def together(sides: list[Side]) -> Side:
    """Several terms of a numerator together."""
    out = sides[0]
    for side in sides[1:]:
        out = Side(
            **{name: getattr(out, name) + getattr(side, name) for name in (*_SUMS, "members")},
            told=np.maximum(side.told, out.told),
            reported=np.maximum(out.reported, side.reported),
            unknown_factor=out.unknown_factor | side.unknown_factor,
        )
    return out
