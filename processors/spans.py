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
from processors.flows import AMOUNT_REVISED, COUNTED, FRESH, Flows, cut
from processors.kernels.calendar import Calendar, edges
from processors.kernels.shares import Owners, deal
from processors.room import IN_MEMORY, Room
from processors.spans_base import BaseDeltas, BaseSpans

Ints = NDArray[np.int64]

GRID, QUARTER, HOUR, DAY, MONTH, YEAR = range(6)
NAMES = ("grid", "15m", "hour", "day", "month", "year")
CLASSES = len(NAMES)
GRID_READ_MAX_MS = DAY_MS + HOUR_MS
_LENGTHS_MS = {GRID: GRID_READ_MAX_MS, QUARTER: QUARTER_MS}
"""Longer interval reads are no shape that a rolling window (24 h at most) could be read from."""

_SUMS = ("amount", "known", "measured", "held", "suspect", "rounded", "revision")
"""Milliseconds that are known, measured, held (or otherwise unknown), suspect; ``rounded`` counts flows."""
REST_BITS = 32
"""Of a mean, value x milliseconds: ``amount`` counts 2^32 of them, ``rest`` what is left."""
DERIVED_FIELDS = {
    **{"estimated" if name == "measured" else name: np.int64 for name in (*_SUMS, "rest")},
    "cause": np.uint8,
    "reported": np.int64,
}
DERIVED_BLOCK_SPANS = 2
"""Most classes of spans are long ones: of years and months few come to be."""


class Spans:
    """All cells of a worker."""

    def __init__(self, accounts: Accounts, room: Room = IN_MEMORY) -> None:
        self.accounts = accounts
        points = accounts.roster.points
        self.base_ms = np.array([max(p.base_ms, 0) for p in points], np.int64)
        self._base = BaseSpans(self.base_ms, room)
        self.base = self._base.cells
        derived = len(accounts) * CLASSES
        self.derived = Cells(DERIVED_FIELDS, DERIVED_BLOCK_SPANS, series=derived, room=room)
        self._mean = np.array([p.mean for p in points], bool)
        self._any_mean = bool(self._mean.any())
        self.grid_ms = _grids(accounts, np.array([p.base_ms for p in points], np.int64))
        self.gridded = np.zeros(len(accounts), bool)
        self._open: list[Touched] = []
        """What passes of this batch changed of what was open then."""

    def apply(self, flows: Flows, touched: Touches, step: Pass) -> Changes:
        """Adds flows; ``touched``: new register readings, whose span exists even if nothing is known."""
        base_rows, base = self._base.apply(flows, touched, step)
        reads = flows.take(self.base_ms[flows.point] == 0)
        derived = [self._add(part, step) for part in self._derived_deltas(base, reads, step)]
        grids: list[Touched] = []
        if self._any_grid:
            grids = [part.take(part.series % CLASSES == GRID) for part in derived]
            derived = [part.take(part.series % CLASSES != GRID) for part in derived]
        return Changes(base_rows, self._said(derived, step), joined(grids), reads)

    def _said(self, parts: list[Touched], step: Pass) -> Touched:
        """What a pass says; what is open waits for the end of the batch and then says it all."""
        before, after = step.of_accounts_before, step.of_accounts_after
        parts = [*parts, self._still_open(before)] if step.closing else [self._final(parts, after)]
        rows = self._with_flips(parts, self._derived_flips(step.moved[1], before, after))
        self._stamp(rows, self.edges(rows.series, rows.span)[1], before, after, step)
        return rows

    def _final(self, parts: list[Touched], after: Ints) -> Touched:
        """What of this is final; the others wait, some of them more than once. ``after``: of accounts."""
        every = joined(parts)
        final = self.edges(every.series, every.span)[1] <= after[every.series // CLASSES]
        self._open.append(every.take(~final))
        return every.take(final)

    def _still_open(self, before: Ints) -> Touched:
        """What waits; what became final since was said when it did. ``before``: frontiers of accounts."""
        rows, self._open = joined(self._open), []
        return rows.take(self.edges(rows.series, rows.span)[1] > before[rows.series // CLASSES])

    # -- what flows change ------------------------------------------------------------------------

    def _derived_deltas(self, base: BaseDeltas, reads: Flows, step: Pass) -> list[Deltas]:
        """Changes of accounts, of all classes of spans: through base spans, and through interval reads."""
        out = []
        if self._any_mean:
            mean = self._mean[base.point]
            means, base = base.take(mean), base.take(~mean)
            out += self._derive_means(means) if len(means) else []
        if len(base):
            out.append(concatenated(self._derive(base)))
        if len(reads):
            classes = range(GRID if self._any_grid else QUARTER, CLASSES)
            out += [self._read_deltas(reads, cls, step) for cls in classes]
        return out

    def _derive(self, base: BaseDeltas) -> list[Deltas]:
        """Base spans' changes as changes of the accounts that their points belong to.

        Every span of a class is made of whole ones of the class below: many become few before they are
        dealt out.
        """
        start, accounts = base.start[None], len(self.accounts)
        out = []
        if self._any_grid:
            out.append(_dealt(deal(base.point, start, base.sums, self._grids, base.some), GRID, accounts))
        few = deal(base.point, start, base.sums, self._quarters, base.some)
        point, quarter = few["owner"], few["span"]
        if len(self.accounts.zones) == 1:
            different, which = np.unique(quarter, return_inverse=True)
            zones = np.zeros(len(different), np.int64)
            instants = different * QUARTER_MS
            spans = [self._index(zones, instants, cls, zones) for cls in range(QUARTER, CLASSES)]
            return [
                *out,
                _dealt(deal(point, np.array(spans)[:, which], few, self._members), QUARTER, accounts),
            ]
        out.append(_dealt(deal(point, quarter[None], few, self._members), QUARTER, accounts))
        sums = {name: few[name] for name in _SUMS if name != "suspect"}
        sums["suspect"] = np.zeros(len(point), np.int64)
        start = quarter * QUARTER_MS
        return out + [
            self._to_accounts(point, start, sums, few["reported"], cls) for cls in range(HOUR, CLASSES)
        ]

    def _derive_means(self, base: BaseDeltas) -> list[Deltas]:
        """Base spans' changes of gauges with a mean, in two limbs: of a year it takes more than 64 bits."""
        sums = {name: base.sums[name] for name in _SUMS if name != "suspect"}
        sums["rest"] = base.sums["amount"] & ((1 << REST_BITS) - 1)
        sums["amount"] = base.sums["amount"] >> REST_BITS
        reported = base.sums["reported"]
        return [
            self._to_accounts(base.point, base.start, sums, reported, cls) for cls in range(QUARTER, CLASSES)
        ]

    @cached_property
    def _any_grid(self) -> bool:
        return bool(self.gridded.any())

    @cached_property
    def _members(self) -> Owners:
        """Whose every point is; spans are given as such."""
        return self.accounts.owners(
            np.ones(len(self.accounts), bool), np.broadcast_to(np.int64(1), len(self.accounts))
        )

    @cached_property
    def _grids(self) -> Owners:
        """The accounts that roll, on the grid on which they do."""
        return self.accounts.owners(self.gridded, self.grid_ms)

    @cached_property
    def _quarters(self) -> Owners:
        """Every point by itself, in quarters of an hour."""
        points = len(self.base_ms)
        numbers = np.arange(points + 1)
        sign, step_ms = (np.broadcast_to(np.int64(one), points) for one in (1, QUARTER_MS))
        return Owners(numbers, numbers[:-1], sign, step_ms)

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
        sign, counted = flows.sign[flow], (flows.booked[flow] == COUNTED).astype(np.int64)
        final = pieces.end <= step.before[flows.point[flow]]
        revised = np.where(flows.revised[flow] == FRESH, final, _counts(flows.revised[flow], cls))
        sums = {
            "amount": sign * pieces.amount,
            "known": sign * part * counted,
            "measured": sign * part * flows.measured[flow] * whole,
            "held": sign * part * (1 - counted),
            "rounded": sign * flows.rounded[flow],
            "suspect": sign * part * flows.suspect[flow],
            "revision": ((sign > 0) & revised).astype(np.int64),
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
        return edges(self._calendar, series, span)

    @cached_property
    def _calendar(self) -> Calendar:
        zones = self.accounts.zones
        return Calendar(
            self.accounts.zone_of,
            self.grid_ms,
            CLASSES,
            lambda zone, cls, spans: zones[zone].start_of(NAMES[cls], spans),  # type: ignore[arg-type]
        )

    # -- adding -----------------------------------------------------------------------------------

    def _add(self, deltas: Deltas, step: Pass) -> Touched:
        cells = self.derived
        index = cells.at(deltas.series, deltas.span)
        sums = dict(deltas.sums)
        sums["estimated"] = sums["known"] - sums.pop("measured")
        for name, values in sums.items():
            if values.any():
                cells[name][index] += values
        reported = cells["reported"]
        reported[index] = np.maximum(reported[index], deltas.reported)
        revised = np.flatnonzero(deltas.sums["revision"])
        lane = step.lanes.of_account[deltas.series[revised] // CLASSES]
        cells["cause"][index[revised]] = step.causes[step.first[lane]]
        return Touched(deltas.series, deltas.span, index)

    def _with_flips(self, parts: list[Touched], flips: Touched) -> Touched:
        every = joined([*parts, flips])
        groups = Grouping(every.series, every.span)
        series, span = groups.keys
        return Touched(series, span, groups.first(every.index))

    # -- finality ---------------------------------------------------------------------------------

    def _derived_flips(self, moved: Ints, before: Ints, after: Ints) -> Touched:
        """What became final of accounts; windows on the grid find out themselves."""
        began = np.maximum(before[moved], TIME_FIRST_MS)
        quarters = began // QUARTER_MS != after[moved] // QUARTER_MS
        moved, began = moved[quarters], began[quarters]  # nothing ends within a quarter of an hour
        every = []
        for cls in range(QUARTER, CLASSES) if len(moved) else ():
            series = moved * CLASSES + cls
            first, last = self.derived.extents(series)
            low = np.maximum(self.span_of(moved, began, cls), first)
            high = np.minimum(self.span_of(moved, after[moved], cls) - 1, last)
            every.append(_existing(self.derived, series, low, high))
        return joined(every)

    def _stamp(self, rows: Touched, end: Ints, before: Ints, after: Ints, step: Pass) -> None:
        """What became final was said when it did."""
        account = rows.series // CLASSES
        now = (end > before[account]) & (end <= after[account])
        self.derived.changed(rows.index[now])
        row, point = self.accounts.pairs_of(account[now])
        step.stamp(point, end[now][row], rows.index[now][row], self.derived["reported"])


def _grids(accounts: Accounts, base_ms: Ints) -> Ints:
    """Of every account the step at which its windows roll, unless a ratio says another one."""
    different, which = np.unique(base_ms, return_inverse=True)
    of_points = np.array([grid_ms([base]) for base in different.tolist()], np.int64)[which]
    bases = (np.unique(base_ms[list(account.members)]).tolist() for account in accounts.of_several())
    return np.concatenate([of_points, np.array([grid_ms(each) for each in bases], np.int64)])


def _dealt(few: dict[str, Ints], cls: int, accounts: int) -> Deltas:
    """Shares of accounts, those of the following classes behind those of the first one."""
    sums = {name: few[name] for name in _SUMS if name != "suspect"}
    sums["suspect"] = np.zeros(len(few["span"]), np.int64)
    series = few["owner"] % accounts * CLASSES + few["owner"] // accounts + cls
    return Deltas(series, few["span"], sums, few["reported"])


def _counts(revised: Ints, cls: int) -> NDArray[np.bool_]:
    """Which changes are revisions of a class of spans: a window says nothing of mere quality."""
    return np.asarray(revised == AMOUNT_REVISED if cls == GRID else revised > 0)


def _moving(reads: Flows) -> Flows:
    """Without reads that are taken back and said again with another quality: windows do not show it."""
    groups = Grouping(reads.point, reads.start, reads.end)
    moving = groups.sum(reads.sign) != 0
    for column in (reads.amount, reads.booked == COUNTED, reads.measured):
        moving |= groups.sum(reads.sign * column) != 0
    return reads.take(groups.spread(moving))


def _existing(cells: Cells, series: Ints, low: Ints, high: Ints) -> Touched:
    """The cells that exist in low..high (inclusive) of each series (ascending)."""
    some = np.flatnonzero(low <= high)
    if len(some) < len(series):
        series, low, high = series[some], low[some], high[some]
    return Touched(*cells.between(series, low, high))
