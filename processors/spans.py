"""Spans: intervals of points and roll-ups of accounts, kept as sums that flows add to.

Base spans belong to points whose registers are read off at their edges; an interval read is its
own base span and is kept by the reads. Derived spans (15 minutes to a year, and the grid on which
windows roll) belong to accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metering.civil import DAY_MS, HOUR_MS, QUARTER_MS, Zone
from metering.readings import TIME_FIRST_MS
from processors.accounts import Accounts, grid_ms
from processors.cells import Cells, Grouping
from processors.changes import Changes, Deltas, Pass, Touched, Touches, concatenated, joined
from processors.flows import Flows, cut, spans_of

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
    "rounded": np.int16,
    "readings": np.int32,
    "revision": np.int32,
    "cause": np.uint8,
    "reported": np.int64,
}
DERIVED_FIELDS = {**dict.fromkeys(_SUMS, np.int64), "cause": np.uint8, "reported": np.int64}
DERIVED_BLOCK_SPANS = 16
"""Most classes of spans are long ones: of years and months few come to be."""


class Spans:
    """All cells of a worker."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        points = accounts.roster.points
        self.base_ms = np.array([max(p.base_ms, 0) for p in points], np.int64)
        self.base = Cells(BASE_FIELDS)
        self.derived = Cells(DERIVED_FIELDS, DERIVED_BLOCK_SPANS)
        self.grid_ms = np.array([grid_ms(points[p] for p in a.members) for a in accounts.all], np.int64)
        self.gridded = np.zeros(len(accounts.all), bool)
        self._open_base: list[Touched] = []
        self._open_derived: list[Touched] = []
        """What passes of this batch changed of what is open."""

    def apply(self, flows: Flows, touched: Touches, step: Pass) -> Changes:
        """Adds flows; ``touched``: new register readings, whose span exists even if nothing is known."""
        registers = self.base_ms[flows.point] > 0
        every = registers.all()
        base = self._base_deltas(flows if every else flows.take(registers), step)
        reads = flows.take(~registers)
        fresh = self._touch(touched, step)
        changed = self._add(self.base, base, step)
        base_rows = self._with_flips(self.base, [changed, fresh, *self._open_base], self._base_flips(step))
        derived = [self._add(self.derived, part, step) for part in self._derived_deltas(base, reads, step)]
        flips = self._derived_flips(step)
        derived_rows = self._with_flips(self.derived, [*derived, *self._open_derived], flips)
        self._stamp_base(base_rows, step)
        self._stamp_derived(derived_rows, step)
        base_rows, self._open_base = self._said(base_rows, self._base_final(base_rows, step), step)
        final = self._derived_final(derived_rows, step)
        derived_rows, self._open_derived = self._said(derived_rows, final, step)
        grids = [part.take(part.series % CLASSES == GRID) for part in derived]
        return Changes(base_rows, derived_rows, joined(grids), reads)

    def _said(self, rows: Touched, final: NDArray[np.bool_], step: Pass) -> tuple[Touched, list[Touched]]:
        """What a pass says, and what waits for the end of the batch: what is open then says it all."""
        return (rows, []) if step.closing else (rows.take(final), [rows.take(~final)])

    def _base_final(self, rows: Touched, step: Pass) -> NDArray[np.bool_]:
        return np.asarray((rows.span + 1) * self.base_ms[rows.series] <= step.after[rows.series])

    def _derived_final(self, rows: Touched, step: Pass) -> NDArray[np.bool_]:
        if step.closing:
            return np.ones(len(rows.span), bool)
        frontier = self.accounts.frontier(step.after)
        return np.asarray(self.edges(rows.series, rows.span)[1] <= frontier[rows.series // CLASSES])

    # -- what flows change ------------------------------------------------------------------------

    def _base_deltas(self, flows: Flows, step: Pass) -> Deltas:
        base = self.base_ms[flows.point]
        first, last = spans_of(flows.start, base), spans_of(flows.end - 1, base)
        pieces = cut(flows, first, last, lambda f, s: s * base[f])
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
        said = differs | ~final  # an open span is said anew whenever a segment over it is another one
        return Deltas(point[said], span[said], {n: v[said] for n, v in sums.items()}, reported[said])

    def _derived_deltas(self, base: Deltas, reads: Flows, step: Pass) -> list[Deltas]:
        """Changes of accounts, of all classes of spans: through base spans, and through interval reads."""
        out = []
        if len(base.span):
            out.append(concatenated(self._derive(base)))
        if len(reads):
            out += [self._read_deltas(reads, cls, step) for cls in range(CLASSES)]
        return out

    def _derive(self, base: Deltas) -> list[Deltas]:
        """Base spans' changes as changes of the accounts that their points belong to.

        Every span of a class is made of whole ones of the class below: many become few before they are
        dealt out.
        """
        start = base.span * self.base_ms[base.series]
        out = [self._grid_deltas(base, start)]
        point, sums, reported = base.series, base.sums, base.reported
        for cls in range(QUARTER, CLASSES):
            zones = self.accounts.zone_of_point[point]
            few = Grouping(point, self._index(zones, start, cls, zones))
            sums = {name: few.sum(values) for name, values in sums.items()}
            point, start, reported = few.keys[0], few.min(start), few.max(reported)
            out.append(self._to_accounts(point, start, sums, reported, cls))
        return out

    def _grid_deltas(self, base: Deltas, start: Ints) -> Deltas:
        """The same on the grid on which windows roll, for those accounts that do."""
        mine = np.flatnonzero(self._rolling[base.series])
        sums = {name: values[mine] for name, values in base.sums.items()}
        return self._to_accounts(base.series[mine], start[mine], sums, base.reported[mine], GRID)

    def _to_accounts(
        self, point: Ints, start: Ints, sums: dict[str, Ints], reported: Ints, cls: int
    ) -> Deltas:
        """Changes of points, in spans of theirs that start (or lie) there, for all accounts they are in."""
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
        flows = _moving(flows.take(self._rolling[flows.point])) if cls == GRID else flows
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
        return self._to_accounts(flows.point[flow], pieces.start, sums, reported, cls)

    def _longest(self, zones: Ints, first: Ints, cls: int) -> Ints:
        """How long an interval read may be to count in a class of spans: as long as its first span."""
        if cls in _LENGTHS_MS:
            return np.full(len(first), _LENGTHS_MS[cls])
        return self._start(zones, first + 1, cls, zones) - self._start(zones, first, cls, zones)

    @cached_property
    def _rolling(self) -> NDArray[np.bool_]:
        """Whether any account of each point rolls."""
        row, account, _ = self.accounts.memberships(np.arange(len(self.base_ms)))
        rolls = np.zeros(len(self.base_ms), bool)
        rolls[row[self.gridded[account]]] = True
        return rolls

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
        groups = Grouping(touches.point, spans_of(touches.time_ms, self.base_ms[touches.point]))
        index = self.base.at(*groups.keys)
        fresh = self.base["readings"][index] == 0
        self.base["readings"][index] += groups.count().astype(np.int32)
        reported = self.base["reported"]
        first = groups.min(step.survey.log_time[touches.record])
        reported[index[fresh]] = np.maximum(reported[index[fresh]], first[fresh])
        point, span = groups.keys
        return Touched(point[fresh], span[fresh], index[fresh])

    def _add(self, cells: Cells, deltas: Deltas, step: Pass) -> Touched:
        index = cells.at(deltas.series, deltas.span)
        for name, values in deltas.sums.items():
            if values.any():
                column = cells[name]
                column[index] += values.astype(column.dtype)
        reported = cells["reported"]
        reported[index] = np.maximum(reported[index], deltas.reported)
        revised = np.flatnonzero(deltas.sums["revision"])
        series = deltas.series[revised]
        of_point = cells is self.base
        lane = step.lanes.of_point[series] if of_point else step.lanes.of_account[series // CLASSES]
        cells["cause"][index[revised]] = step.causes[step.first[lane]]
        return Touched(deltas.series, deltas.span, index)

    def _with_flips(self, cells: Cells, parts: list[Touched], flips: Touched) -> Touched:
        every = joined([*parts, flips])
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
        quarters = np.maximum(before[moved], TIME_FIRST_MS) // QUARTER_MS != after[moved] // QUARTER_MS
        every = []
        for cls in range(CLASSES):
            mine = moved if cls == GRID else moved[quarters]  # nothing else ends within a quarter of an hour
            series, began = mine * CLASSES + cls, np.maximum(before[mine], TIME_FIRST_MS)
            first, last = self.derived.extents(series)
            low = np.maximum(self.span_of(mine, began, cls), first)
            high = np.minimum(self.span_of(mine, after[mine], cls) - 1, last)
            every.append(_existing(self.derived, series, low, high))
        return joined(every)

    def _stamp_base(self, rows: Touched, step: Pass) -> None:
        end = (rows.span + 1) * self.base_ms[rows.series]
        now = (end > step.before[rows.series]) & (end <= step.after[rows.series])
        point = rows.series[now]
        reported = self.base["reported"]
        index = rows.index[now]
        reported[index] = np.maximum(reported[index], step.reached(point, end[now]))

    def _stamp_derived(self, rows: Touched, step: Pass) -> None:
        account = rows.series // CLASSES
        end = self.edges(rows.series, rows.span)[1]
        before, after = self.accounts.frontier(step.before), self.accounts.frontier(step.after)
        said = rows.series % CLASSES != GRID  # windows find out themselves when they were final
        now = np.flatnonzero((end > before[account]) & (end <= after[account]) & said)
        row, point = self.accounts.pairs_of(account[now])
        ends = end[now][row]
        waiting = step.before[point] < ends
        latest = np.zeros(len(now), np.int64)
        np.maximum.at(latest, row[waiting], step.reached(point[waiting], ends[waiting]))
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


def _existing(cells: Cells, series: Ints, low: Ints, high: Ints) -> Touched:
    """The cells that exist in low..high (inclusive) of each series (ascending)."""
    some = np.flatnonzero(low <= high)
    if len(some) < len(series):
        series, low, high = series[some], low[some], high[some]
    return Touched(*cells.between(series, low, high))
