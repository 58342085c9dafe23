"""Accounts: whose amounts are added up. A point, a line, a plant or a group, and one measure of it.

A plant's amount is its supply, plus generation, minus feed-in; sub-meters count in their line
only. A group is the sum of its distinct plants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS, Zone, zone
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, Plant, Point, Roster
from metering.units import CANONICAL
from processors.kernels.shares import Owners

Ints = NDArray[np.int64]
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Account:
    """``members``: point indices, ``signs`` their parts. ``unit``: the canonical one."""

    index: int
    scope: str
    measures: str
    product: str
    unit: str
    zone: int
    grid: str
    energies: tuple[str, ...]
    members: tuple[int, ...]
    signs: tuple[int, ...]


class Accounts:
    """All accounts of a roster, with the memberships of points as columns."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        names = sorted(
            {plant.time_zone for plant in roster.plants} | {group.time_zone for group in roster.groups}
        )
        self.zones: list[Zone] = [zone(name) for name in names]
        self._zone_of = {name: i for i, name in enumerate(names)}
        self.all: list[Account] = []
        self._made: dict[tuple[str, str, str], dict[int, int]] = {}
        self._where: dict[tuple[str, str, str], tuple[int, str, tuple[str, ...]]] = {}
        for point in roster.points:
            self._join_all(point)
        self._finish()

    def find(self, scope: str, measures: str, product: str = "") -> Account | None:
        index = self._index.get((scope, measures, product))
        return None if index is None else self.all[index]

    def of_scope(self, scope: str) -> list[Account]:
        return [account for account in self.all if account.scope == scope]

    def _join_all(self, point: Point) -> None:
        plant = self.roster.plants[point.plant]
        self._join(f"point:{plant.id}/{point.id}", point, plant.time_zone, plant, 1)
        if point.mean:
            return  # states of several points add up to nothing
        if point.line and (point.sign or point.role == "submeter"):
            self._join(f"line:{plant.id}/{point.line}", point, plant.time_zone, plant, point.sign or 1)
        if point.sign:
            self._join(f"plant:{plant.id}", point, plant.time_zone, plant, point.sign)
            for group in self.roster.groups:
                if plant.index in group.plants:
                    self._join(f"group:{group.id}", point, group.time_zone, None, point.sign)

    def _join(self, scope: str, point: Point, zone_name: str, plant: Plant | None, sign: int) -> None:
        key = (scope, point.measures, point.product)
        self._made.setdefault(key, {})[point.index] = sign
        grid, energies = (plant.grid, plant.energies) if plant else ("", ())
        self._where[key] = (self._zone_of[zone_name], grid, energies)

    def _finish(self) -> None:
        for key, members in self._made.items():
            where, grid, energies = self._where[key]
            dimension = self.roster.points[next(iter(members))].amount_unit.dimension
            self.all.append(
                Account(
                    len(self.all),
                    *key,
                    CANONICAL[dimension],
                    where,
                    grid,
                    energies,
                    tuple(members),
                    tuple(members.values()),
                )
            )
        self._index = {(a.scope, a.measures, a.product): a.index for a in self.all}
        pairs = sorted((p, a.index, s) for a in self.all for p, s in zip(a.members, a.signs, strict=True))
        points = len(self.roster.points)
        self._pair_account = _ints(a for _, a, _ in pairs)
        self._pair_sign = _ints(s for _, _, s in pairs)
        self._pair_first = np.searchsorted(_ints(p for p, _, _ in pairs), np.arange(points + 1))
        self.zone_of_point = _ints(
            self._zone_of[self.roster.plants[p.plant].time_zone] for p in self.roster.points
        )
        self.zone_of = _ints(a.zone for a in self.all)
        self.size = _ints(len(a.members) for a in self.all)
        self.mean = np.array([self.roster.points[a.members[0]].mean for a in self.all], bool)
        """Accounts of one gauge, whose spans have a mean."""
        self._limited = [a.index for a in self.all if any(self._has_limits(p) for p in a.members)]
        self._member_points = _ints(p for a in self.all for p in a.members)
        self._member_first = np.concatenate([[0], np.cumsum(self.size)])[:-1].astype(np.int64)

    def _has_limits(self, point: int) -> bool:
        expected = self.roster.points[point]
        return expected.expected_from_ms > FROM_EVER_MS or expected.expected_to_ms < FOR_EVER_MS

    def memberships(self, point: Ints) -> tuple[Ints, Ints, Ints]:
        """For rows of points: (row, account, sign) of every account each belongs to."""
        counts = self._pair_first[point + 1] - self._pair_first[point]
        row = np.repeat(np.arange(len(point)), counts)
        ordinal = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = self._pair_first[point][row] + ordinal
        return row, self._pair_account[at], self._pair_sign[at]

    def owners(self, wanted: NDArray[np.bool_], step_ms: Ints) -> Owners:
        """The memberships of points in those accounts that are ``wanted``."""
        mine = wanted[self._pair_account]
        first = np.append(0, np.cumsum(mine))[self._pair_first]
        return Owners(first, self._pair_account[mine], self._pair_sign[mine], step_ms)

    def frontier(self, of_points: Ints) -> Ints:
        """Up to where each account is final: the least of its members' frontiers."""
        if not self.all:
            return np.empty(0, np.int64)
        return np.asarray(np.minimum.reduceat(of_points[self._member_points], self._member_first))

    def pairs_of(self, account: Ints) -> tuple[Ints, Ints]:
        """For rows of accounts: (row, member point) of every member."""
        counts = self.size[account]
        row = np.repeat(np.arange(len(account)), counts)
        ordinal = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, self._member_points[self._member_first[account][row] + ordinal]

    def expected_ms(self, account: Ints, start: Ints, end: Ints) -> Ints:
        """Milliseconds that members should cover in each span, all together."""
        out = (end - start) * self.size[account]
        limited = np.isin(account, self._limited)
        for a in np.unique(account[limited]).tolist():
            mine = account == a
            for point in (self.roster.points[p] for p in self.all[a].members):
                length = (end - start)[mine]
                before = np.clip(point.expected_from_ms - start[mine], 0, length)
                behind = np.clip(end[mine] - point.expected_to_ms, 0, length)
                out[mine] -= np.minimum(before + behind, length)
        return out


def grid_ms(points: Iterable[Point]) -> int:
    """The common step at which windows of these points roll: their longest base span, if others fit in it."""
    bases = [p.base_ms for p in points if p.base_ms]
    longest = max([MINUTE_MS, *bases]) if bases else QUARTER_MS
    return longest if all(longest % base == 0 for base in bases) else QUARTER_MS


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, np.int64)
