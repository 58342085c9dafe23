"""What a gap in a register's readings looks like: like reference days, quarter hour by quarter hour.

The rule is in docs/books.md, "The shape of a gap". A shape depends on nothing but the gap, its amount and
what was measured in base spans before its first day: it is a function of the set of readings. As a gap is
never measured, no shape depends on another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from metering.civil import DAY_MS, HOUR_MS, QUARTER_MS, Zone
from metering.roster import REGISTER, Plant, Roster
from processors.accounts import Accounts
from processors.cells import Cells, Grouping
from processors.flows import Flows, cut, spans_of

Ints = NDArray[np.int64]

LINEAR_MAX_MS = 2 * HOUR_MS
"""Between readings no further apart than this the line is straight."""
BACK_DAYS = 35
"""So far before a gap's first day its reference days may lie; a longer gap is linear."""
REFERENCES_MAX = 3
"""The most recent ones."""
_SHARES = 6
"""Divisible by any number of reference days: their mean in whole numbers."""
_WEEKDAY_OF_1970 = 3
_FRIDAY, _SUNDAY = 4, 6


@dataclass(frozen=True, slots=True)
class Stretch:
    """A gap: [start, end) of a point; ``amount``: millionths behind the multiplier, more than none."""

    point: int
    start: int
    end: int
    amount: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """Spans of a point in their order, with amounts and milliseconds that are measured."""

    span: Ints
    amount: Ints
    measured: Ints


class Pending:
    """Flows that no base span has yet."""

    def __init__(self, flows: Flows, base_ms: Ints) -> None:
        self._flows, self._base_ms = flows, base_ms

    @cached_property
    def _by_point(self) -> tuple[Ints, Ints]:
        order = np.argsort(self._flows.point, kind="stable")
        return order, self._flows.point[order]

    def of(self, point: int, until_ms: int) -> _Measured:
        """What those of a point that begin before an instant change of its spans."""
        order, points = self._by_point
        mine = order[slice(*np.searchsorted(points, [point, point + 1]).tolist())]
        mine = mine[self._flows.start[mine] < until_ms]
        flows, base = self._flows.take(mine), self._base_ms[self._flows.point[mine]]
        pieces = cut(
            flows, spans_of(flows.start, base), spans_of(flows.end - 1, base), lambda f, s: s * base[f]
        )
        sign, length = flows.sign[pieces.flow], pieces.end - pieces.start
        groups = Grouping(pieces.span)
        measured = groups.sum(sign * length * flows.measured[pieces.flow])
        return _Measured(groups.keys[0], groups.sum(sign * pieces.amount), measured)


class Profiles:
    """Shapes of gaps by what ``base``, the base spans of all points, say."""

    def __init__(self, roster: Roster, accounts: Accounts, base: Cells, base_ms: Ints) -> None:
        self._zones, self._zone_of_point = accounts.zones, accounts.zone_of_point
        self._base, self.base_ms = base, base_ms
        self._roster = roster
        registers = np.array([p.reads == REGISTER for p in roster.points], bool) & (base_ms > 0)
        rhythm_ms = np.array([2 * p.expect_ms for p in roster.points], np.int64)
        self.linear_max_ms = np.where(registers, np.maximum(rhythm_ms, LINEAR_MAX_MS), BACK_DAYS * DAY_MS)
        """Of every point: a stretch that is longer is a gap."""

    def reach(self, point: int, start_ms: int) -> tuple[int, int]:
        """From when to when the reference days lie of a gap that starts then."""
        zone = self._zone(point)
        first = int(zone.day_index(np.array([start_ms]))[0])
        low, high = zone.start_of("day", np.array([first - BACK_DAYS, first])).tolist()
        return low, high

    def shape(self, gap: Stretch, pending: Pending) -> Ints:
        """The amount in each quarter of an hour that the gap shares time with; empty where it is linear."""
        edges = edges_of(gap.start, gap.end)
        weights = self._weights(gap, np.diff(edges), pending)
        total = sum(weights)
        if total == 0:
            return _LINEAR
        until = [gap.amount * part // total for part in accumulate(weights, initial=0)]
        amounts = [after - before for before, after in pairwise(until)]
        return np.array(amounts, np.int64) if self._possible(gap, edges, amounts) else _LINEAR

    def _possible(self, gap: Stretch, edges: Ints, amounts: list[int]) -> bool:
        """Whether no part is more than the point can move: limit x 1.2, as for its readings."""
        limit = self._roster.points[gap.point].limit_per_hour
        lengths = np.diff(edges).tolist()
        pairs = zip(amounts, lengths, strict=True)
        return limit is None or all(amount * 10 * HOUR_MS <= limit * 12 * length for amount, length in pairs)

    def _zone(self, point: int) -> Zone:
        return self._zones[int(self._zone_of_point[point])]

    def _weights(self, gap: Stretch, lengths: Ints, pending: Pending) -> list[int]:
        """How the gap's quarters share in it; all 0 where a day of it has no reference day."""
        zone = self._zone(gap.point)
        quarters = np.arange(len(lengths)) + gap.start // QUARTER_MS
        days, shown = zone.day_index(quarters * QUARTER_MS), _shown(zone, quarters)
        plant = self._roster.plants[self._roster.points[gap.point].plant]
        known = _References(self, zone, plant, gap.point, int(days[0]), pending)
        out: list[int] = []
        for day in np.unique(days).tolist():
            mine = days == day
            means = known.means(day, shown[mine])
            if means is None:
                return [0]
            out += [mean * length for mean, length in zip(means, lengths[mine].tolist(), strict=True)]
        return out

    def standing(self, point: int, first: int, size: int) -> tuple[Ints, Ints]:
        """Amount and measured milliseconds of ``size`` base spans of a point."""
        index = self._base.run(point, first, first + size - 1)
        amount, measured = (self._base.read(name, index) for name in ("amount", "measured"))
        measured = measured.astype(np.int64)
        amount[index < 0] = measured[index < 0] = 0
        return amount, measured

    def first_span(self, point: int) -> list[int]:
        """The first base span of which a point may have anything; none where there is none."""
        extent = self._base.extent(point)
        return [] if extent is None else [extent[0]]


class _References:
    """The days before a gap's first one, and what was used on those that are like a day of the gap."""

    def __init__(
        self, of: Profiles, zone: Zone, plant: Plant, point: int, first_day: int, pending: Pending
    ) -> None:
        days = np.arange(first_day - BACK_DAYS, first_day + 1)
        starts = zone.start_of("day", days)
        whole = (np.diff(starts) == DAY_MS) & (zone.local(starts[:-1]) == days[:-1] * DAY_MS)
        newest_first = np.flatnonzero(whole)[::-1]
        found = zip(days[newest_first].tolist(), starts[newest_first].tolist(), strict=True)
        self._days = [(day, start) for day, start in found if day not in plant.holidays]
        self._of, self._plant, self._point = of, plant, point
        self._spans = QUARTER_MS // int(of.base_ms[point])
        self._pending = pending.of(point, int(starts[-1]))
        spans = [*self._pending.span[:1].tolist(), *of.first_span(point)]
        self._earliest = min(spans, default=int(starts[-1])) // self._spans
        """The first quarter of an hour of which the point has anything."""
        self._known: dict[tuple[int, bytes], list[int] | None] = {}

    def means(self, day: int, shown: Ints) -> list[int] | None:
        """Six times the mean of the reference days in the quarters that clocks show on a day of the gap."""
        key = _kind(self._plant, day), shown.tobytes()
        if key not in self._known:
            self._known[key] = self._mean(key[0], shown)
        return self._known[key]

    def _mean(self, kind: int, shown: Ints) -> list[int] | None:
        found: list[list[int]] = []
        for day, start_ms in self._days:
            if _kind(self._plant, day) == kind and len(found) < REFERENCES_MAX:
                used = self._used(start_ms, shown)
                found += [] if used is None else [used]
        if not found:
            return None
        return [sum(amounts) * (_SHARES // len(found)) for amounts in zip(*found, strict=True)]

    def _used(self, start_ms: int, shown: Ints) -> list[int] | None:
        """What was used in some quarters of a day; None where one of them is not wholly measured."""
        low, size = int(shown.min()), int(shown.max() - shown.min()) + 1
        first = start_ms // QUARTER_MS + low
        if first + size <= self._earliest or self._quarters(first, 1)[1][0] != QUARTER_MS:
            return None  # most days that are none are seen to be by their first quarter
        amount, measured = (column[shown - low] for column in self._quarters(first, size))
        return np.maximum(amount, 0).tolist() if (measured == QUARTER_MS).all() else None

    def _quarters(self, first: int, size: int) -> tuple[Ints, Ints]:
        """Amount and measured milliseconds of ``size`` quarters of an hour."""
        span, pending = first * self._spans, self._pending
        amount, measured = self._of.standing(self._point, span, size * self._spans)
        at = slice(*np.searchsorted(pending.span, [span, span + size * self._spans]).tolist())
        amount[pending.span[at] - span] += pending.amount[at]
        measured[pending.span[at] - span] += pending.measured[at]
        return amount.reshape(size, -1).sum(axis=1), measured.reshape(size, -1).sum(axis=1)


_LINEAR = np.empty(0, np.int64)


def edges_of(start_ms: int, end_ms: int) -> Ints:
    """A gap's start and end, and the full quarters of an hour between them."""
    edges = np.arange(start_ms // QUARTER_MS, -(-end_ms // QUARTER_MS) + 1) * QUARTER_MS
    edges[0], edges[-1] = start_ms, end_ms
    return edges


def _shown(zone: Zone, quarters: Ints) -> Ints:
    """Which quarter of the day clocks show: 0 to 95."""
    return np.asarray(zone.local(quarters * QUARTER_MS) % DAY_MS // QUARTER_MS)


def _kind(plant: Plant, day: int) -> int:
    """Working days are of one kind, Saturdays of their own, Sundays and holidays of one."""
    if day in plant.holidays:
        return _SUNDAY
    return _FRIDAY if day in plant.working_days else max((day + _WEEKDAY_OF_1970) % 7, _FRIDAY)
