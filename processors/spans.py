"""Spans: intervals of points and roll-ups of accounts, kept as sums that flows add to.

Base spans belong to points whose registers are read off at their edges; an interval read is its
own base span and is kept by the reads. Derived spans (15 minutes to a year, and the grid on which
windows roll) belong to accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.civil import DAY_MS, HOUR_MS, QUARTER_MS, Zone
from metering.readings import TIME_FIRST_MS
from processors.accounts import Accounts, grid_ms
from processors.cells import Cells, Grouping
from processors.flows import Flows, cut
from processors.progress import Survey

Ints = NDArray[np.int64]

GRID, QUARTER, HOUR, DAY, MONTH, YEAR = range(6)
NAMES = ("grid", "15m", "hour", "day", "month", "year")
CLASSES = len(NAMES)
GRID_READ_MAX_MS = DAY_MS + HOUR_MS
_LENGTHS_MS = {GRID: GRID_READ_MAX_MS, QUARTER: QUARTER_MS}
"""Longer interval reads are no shape that a rolling window (24 h at most) could be read from."""

_SUMS = ("amount", "known", "measured", "held", "suspect", "rounded", "revision")
"""Milliseconds that are known, measured, held, suspect; ``rounded`` counts flows."""
BASE_FIELDS = {
    "amount": np.int64,
    "known": np.int32,
    "measured": np.int32,
    "held": np.int32,
    "suspect": np.int32,
    "rounded": np.int16,
    "readings": np.int32,
    "revision": np.int32,
    "cause": np.uint8,
    "reported": np.int64,
}
DERIVED_FIELDS = {**dict.fromkeys(_SUMS, np.int64), "cause": np.uint8, "reported": np.int64}


@dataclass
class Deltas:
    """What changes in spans: (series, span) and sums to add; ``reported``: log time of the change."""

    series: Ints
    span: Ints
    sums: dict[str, Ints]
    reported: Ints


@dataclass
class Touches:
    """New register readings: point, time, number of the log record."""

    point: Ints
    time_ms: Ints
    record: Ints


@dataclass
class Touched:
    """Cells to be reported anew: ``series`` is a point (base) or ``account * CLASSES + class``."""

    series: Ints
    span: Ints
    index: Ints


@dataclass
class Changes:
    """Rows to say anew, the grid spans whose content changed, and interval reads that did."""

    base: Touched
    derived: Touched
    grid: Touched
    reads: Flows


@dataclass
class Pass:
    """One stretch of records that is taken at once.

    ``before``, ``after``: every point's frontier; ``seen_*``: its newest reading. ``late``: a single
    record that changes what was final, or may.
    """

    survey: Survey
    first: int
    last: int
    cause: int
    late: bool
    before: Ints
    after: Ints
    seen_before: Ints
    seen_after: Ints
    group: Ints


class Spans:
    """All cells of a worker."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        points = accounts.roster.points
        self.base_ms = np.array([max(p.base_ms, 0) for p in points], np.int64)
        self.base = Cells(BASE_FIELDS)
        self.derived = Cells(DERIVED_FIELDS)
        self.grid_ms = np.array([grid_ms(points[p] for p in a.members) for a in accounts.all], np.int64)
        self.gridded = np.zeros(len(accounts.all), bool)

    def apply(self, flows: Flows, touched: Touches, step: Pass) -> Changes:
        """Adds flows; ``touched``: new register readings, whose span exists even if nothing is known."""
        registers = self.base_ms[flows.point] > 0
        base = self._base_deltas(flows.take(registers), step)
        reads = flows.take(~registers)
        parts = [self._derive(base, cls) for cls in range(CLASSES)]
        parts += [self._read_deltas(reads, cls, step) for cls in range(CLASSES)]
        fresh = self._touch(touched, step)
        changed = self._add(self.base, base, step)
        base_rows = self._with_flips(self.base, [changed, fresh], self._base_flips(step))
        derived = [self._add(self.derived, part, step) for part in parts]
        derived_rows = self._with_flips(self.derived, derived, self._derived_flips(step))
        self._stamp_base(base_rows, step)
        self._stamp_derived(derived_rows, step)
        grids = [derived[cls] for cls in (GRID, CLASSES + GRID)]
        return Changes(base_rows, derived_rows, _joined(grids), reads)

    # -- what flows change ------------------------------------------------------------------------

    def _base_deltas(self, flows: Flows, step: Pass) -> Deltas:
        base = self.base_ms[flows.point]
        pieces = cut(flows, flows.start // base, (flows.end - 1) // base, lambda f, s: s * base[f])
        flow, length = pieces.flow, pieces.end - pieces.start
        sign = flows.sign[flow]
        groups = Grouping(flows.point[flow], pieces.span)
        booked = flows.booked[flow]
        sums = {
            "amount": groups.sum(sign * pieces.amount),
            "known": groups.sum(sign * length * booked),
            "measured": groups.sum(sign * length * flows.measured[flow]),
            "held": groups.sum(sign * length * (1 - booked)),
            "rounded": groups.sum(sign * flows.rounded[flow]),
        }
        sums["suspect"] = np.zeros(len(groups), np.int64)
        reported = groups.max(step.survey.log_time[flows.record[flow]])
        point, span = groups.keys
        differs = np.zeros(len(groups), bool)
        for value in sums.values():
            differs |= value != 0
        final = (span + 1) * self.base_ms[point] <= step.before[point]
        sums["revision"] = (differs & final).astype(np.int64)
        return Deltas(
            point[differs], span[differs], {n: v[differs] for n, v in sums.items()}, reported[differs]
        )

    def _derive(self, base: Deltas, cls: int) -> Deltas:
        """Base spans' changes as changes of the accounts that their points belong to."""
        start = base.span * self.base_ms[base.series]
        zones = self.accounts.zone_of_point[base.series]
        span = base.span if cls == GRID else self._index(zones, start, cls, zones)
        return self._to_accounts(base.series, span, start, base.sums, base.reported, cls)

    def _to_accounts(
        self, point: Ints, span: Ints, start: Ints, sums: dict[str, Ints], reported: Ints, cls: int
    ) -> Deltas:
        """Changes of points, in spans of theirs that start (or lie) there, for all accounts they are in."""
        if cls > QUARTER:  # many become few before they are dealt out
            few = Grouping(point, span)
            sums = {name: few.sum(values) for name, values in sums.items()}
            point, start, reported = few.keys[0], few.min(start), few.max(reported)
        row, account, sign = self.accounts.memberships(point)
        if cls == GRID:
            wanted = self.gridded[account]
            row, account, sign = row[wanted], account[wanted], sign[wanted]
        groups = Grouping(account * CLASSES + cls, self.span_of(account, start[row], cls))
        out = {n: groups.sum(v[row] * sign if n == "amount" else v[row]) for n, v in sums.items()}
        series, span = groups.keys
        return Deltas(series, span, out, groups.max(reported[row]))

    def _read_deltas(self, flows: Flows, cls: int, step: Pass) -> Deltas:
        """Interval reads in spans no shorter than they are; across an edge their shape is an estimate."""
        flows = _moving(flows.take(self._rolls(flows.point))) if cls == GRID else flows
        zones = self.accounts.zone_of_point[flows.point]
        grid = self._read_grid(flows.point) if cls == GRID else zones
        first = self._index(zones, flows.start, cls, grid)
        short = np.flatnonzero(flows.end - flows.start <= self._longest(zones, first, cls))
        flows, zones, grid, first = flows.take(short), zones[short], grid[short], first[short]
        last = self._index(zones, flows.end - 1, cls, grid)
        pieces = cut(flows, first, last, lambda f, s: self._start(zones[f], s, cls, grid[f]))
        flow, part = pieces.flow, pieces.end - pieces.start
        whole = (part == (flows.end - flows.start)[flow]) | (cls == GRID)
        sign, booked = flows.sign[flow], flows.booked[flow]
        sums = {
            "amount": sign * pieces.amount,
            "known": sign * part * booked,
            "measured": sign * part * flows.measured[flow] * whole,
            "held": sign * part * (1 - booked),
            "rounded": sign * flows.rounded[flow],
            "suspect": sign * part * flows.suspect[flow],
            "revision": ((sign > 0) & _counts(flows.revised[flow], cls)).astype(np.int64),
        }
        reported = step.survey.log_time[flows.record[flow]]
        return self._to_accounts(flows.point[flow], pieces.span, pieces.start, sums, reported, cls)

    def _longest(self, zones: Ints, first: Ints, cls: int) -> Ints:
        """How long an interval read may be to count in a class of spans: as long as its first span."""
        if cls in _LENGTHS_MS:
            return np.full(len(first), _LENGTHS_MS[cls])
        return self._start(zones, first + 1, cls, zones) - self._start(zones, first, cls, zones)

    def _rolls(self, point: Ints) -> NDArray[np.bool_]:
        """Whether any account of each point rolls."""
        row, account, _ = self.accounts.memberships(np.arange(len(self.base_ms)))
        rolls = np.zeros(len(self.base_ms), bool)
        rolls[row[self.gridded[account]]] = True
        return rolls[point]

    def _read_grid(self, point: Ints) -> Ints:
        """The finest grid of the accounts a point belongs to that roll."""
        out = np.full(len(point), QUARTER_MS)
        for p in np.unique(point).tolist():
            _, account, _ = self.accounts.memberships(np.array([p]))
            grids = self.grid_ms[account[self.gridded[account]]]
            out[point == p] = grids.min(initial=QUARTER_MS)
        return out

    # -- spans and instants -----------------------------------------------------------------------

    def span_of(self, account: Ints, time_ms: Ints, cls: int) -> Ints:
        return self._index(self.accounts.zone_of[account], time_ms, cls, self.grid_ms[account])

    def _index(self, zones: Ints, time_ms: Ints, cls: int, grid: Ints) -> Ints:
        if cls == GRID:
            return time_ms // grid
        if cls == QUARTER:
            return time_ms // QUARTER_MS
        return self._by_zone(zones, time_ms, lambda zone, mine: zone.index_of(NAMES[cls], mine))  # type: ignore[arg-type]

    def _start(self, zones: Ints, span: Ints, cls: int, grid: Ints) -> Ints:
        if cls == GRID:
            return span * grid
        if cls == QUARTER:
            return span * QUARTER_MS
        return self._by_zone(zones, span, lambda zone, mine: zone.start_of(NAMES[cls], mine))  # type: ignore[arg-type]

    def _by_zone(self, zones: Ints, values: Ints, convert: Callable[[Zone, Ints], Ints]) -> Ints:
        if len(self.accounts.zones) == 1:
            return convert(self.accounts.zones[0], values)
        out = np.empty(len(values), np.int64)
        for z in np.unique(zones).tolist():
            mine = zones == z
            out[mine] = convert(self.accounts.zones[z], values[mine])
        return out

    def edges(self, series: Ints, span: Ints) -> tuple[Ints, Ints]:
        """Start and end of derived spans, UTC milliseconds."""
        start, end = np.empty(len(span), np.int64), np.empty(len(span), np.int64)
        account, cls = series // CLASSES, series % CLASSES
        for c in np.unique(cls).tolist():
            mine = cls == c
            zones, grid = self.accounts.zone_of[account[mine]], self.grid_ms[account[mine]]
            start[mine] = self._start(zones, span[mine], c, grid)
            end[mine] = self._start(zones, span[mine] + 1, c, grid)
        return start, end

    # -- adding -----------------------------------------------------------------------------------

    def _touch(self, touches: Touches, step: Pass) -> Touched:
        groups = Grouping(touches.point, touches.time_ms // self.base_ms[touches.point])
        index = self.base.at(*groups.keys)
        fresh = self.base["readings"][index] == 0
        self.base["readings"][index] += groups.sum(np.ones(len(touches.point), np.int64)).astype(np.int32)
        reported = self.base["reported"]
        first = groups.min(step.survey.log_time[touches.record])
        reported[index[fresh]] = np.maximum(reported[index[fresh]], first[fresh])
        point, span = groups.keys
        return Touched(point[fresh], span[fresh], index[fresh])

    def _add(self, cells: Cells, deltas: Deltas, step: Pass) -> Touched:
        index = cells.at(deltas.series, deltas.span)
        for name, values in deltas.sums.items():
            column = cells[name]
            column[index] += values.astype(column.dtype)
        reported = cells["reported"]
        reported[index] = np.maximum(reported[index], deltas.reported)
        revised = deltas.sums["revision"] > 0
        cells["cause"][index[revised]] = step.cause
        return Touched(deltas.series, deltas.span, index)

    def _with_flips(self, cells: Cells, parts: list[Touched], flips: Touched) -> Touched:
        every = _joined([*parts, flips])
        groups = Grouping(every.series, every.span)
        series, span = groups.keys
        return Touched(series, span, cells.find(series, span))

    # -- finality ---------------------------------------------------------------------------------

    def _base_flips(self, step: Pass) -> Touched:
        moved = np.flatnonzero((step.after > step.before) & (self.base_ms > 0))
        base = self.base_ms[moved]
        first, last = self.base.extents(moved)
        low = np.maximum(step.before[moved] // base, first)
        high = np.minimum(step.after[moved] // base - 1, last)
        return _existing(self.base, moved, low, high)

    def _derived_flips(self, step: Pass) -> Touched:
        before, after = self.accounts.frontier(step.before), self.accounts.frontier(step.after)
        moved = np.flatnonzero(after > before)
        began = np.maximum(before[moved], TIME_FIRST_MS)
        every = []
        for cls in range(CLASSES):
            series = moved * CLASSES + cls
            first, last = self.derived.extents(series)
            low = np.maximum(self.span_of(moved, began, cls), first)
            high = np.minimum(self.span_of(moved, after[moved], cls) - 1, last)
            every.append(_existing(self.derived, series, low, high))
        return _joined(every)

    def _stamp_base(self, rows: Touched, step: Pass) -> None:
        end = (rows.span + 1) * self.base_ms[rows.series]
        now = (end > step.before[rows.series]) & (end <= step.after[rows.series])
        point = rows.series[now]
        record = step.survey.first_record(step.group[point], point, end[now], step.first, step.last)
        reported = self.base["reported"]
        index = rows.index[now]
        reported[index] = np.maximum(reported[index], step.survey.log_time[record])

    def _stamp_derived(self, rows: Touched, step: Pass) -> None:
        account = rows.series // CLASSES
        end = self.edges(rows.series, rows.span)[1]
        before, after = self.accounts.frontier(step.before), self.accounts.frontier(step.after)
        said = rows.series % CLASSES != GRID  # windows find out themselves when they were final
        now = np.flatnonzero((end > before[account]) & (end <= after[account]) & said)
        row, point = self.accounts.pairs_of(account[now])
        ends = end[now][row]
        waiting = step.before[point] < ends
        record = step.survey.first_record(
            step.group[point[waiting]], point[waiting], ends[waiting], step.first, step.last
        )
        latest = np.zeros(len(now), np.int64)
        np.maximum.at(latest, row[waiting], step.survey.log_time[record])
        reported, index = self.derived["reported"], rows.index[now]
        reported[index] = np.maximum(reported[index], latest)


def _counts(revised: Ints, cls: int) -> NDArray[np.bool_]:
    """Which changes are revisions of a class of spans: a window says nothing of mere quality."""
    return np.asarray(revised == 1 if cls == GRID else revised > 0)


def _moving(reads: Flows) -> Flows:
    """Without reads that are taken back and said again with another quality: windows do not show it."""
    groups = Grouping(reads.point, reads.start, reads.end)
    moving = groups.sum(reads.sign) != 0
    for column in (reads.amount, reads.booked, reads.measured):
        moving |= groups.sum(reads.sign * column) != 0
    return reads.take(groups.spread(moving))


def _joined(parts: list[Touched]) -> Touched:
    return Touched(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("series", "span", "index"))
    )


def _existing(cells: Cells, series: Ints, low: Ints, high: Ints) -> Touched:
    """The cells that exist in low..high (inclusive) of each series (ascending)."""
    return Touched(*cells.between(series, low, high))
