"""Accounts: whose amounts are added up. A point, a line, a plant or a group, and one measure of it.

A plant's amount is its supply, plus generation, minus feed-in; sub-meters count in their line
only. A group is the sum of its distinct plants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS, Zone, zone
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, Group, Point, Roster
from metering.units import CANONICAL
from processors.kernels.shares import Owners
from processors.progress import Course
from processors.scaling import distinct, spread

Ints = NDArray[np.int64]
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Kind:
    """What many accounts have in common; ``unit``: the canonical one, ``mean``: of one gauge of a state."""

    measures: str
    product: str
    unit: str
    zone: int
    grid: str
    energies: tuple[str, ...]
    mean: bool


@dataclass(frozen=True, slots=True)
class Account:
    """``members``: point indices, ``signs`` their parts."""

    index: int
    scope: str
    kind: Kind
    members: tuple[int, ...]
    signs: tuple[int, ...]

    @property
    def name(self) -> tuple[str, str, str]:
        """Whose it is, and of what."""
        return self.scope, self.kind.measures, self.kind.product


class Accounts:
    """All accounts of a roster, with the memberships of points as columns.

    Those of points come first, numbered like these. An account as an object is made when it is asked for:
    of a million points there are more of them than of anything else.
    """

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        names = sorted(
            {plant.time_zone for plant in roster.plants} | {group.time_zone for group in roster.groups}
        )
        self.zones: list[Zone] = [zone(name) for name in names]
        self._zone_of = {name: i for i, name in enumerate(names)}
        self.points = len(roster.points)
        """How many accounts are points'."""
        self._scopes: list[str] = []
        numbers: dict[Kind, int] = {}
        of_points = [numbers.setdefault(self._kind_of(point), len(numbers)) for point in roster.points]
        joined = self._joined(numbers)
        self.kinds = list(numbers)
        self.kind = np.array(of_points + [kind for kind, _, _ in joined], np.int32)
        """Of every account, which of ``kinds`` it is of."""
        self._link([points for _, points, _ in joined], [signs for _, _, signs in joined])

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: int) -> Account:
        some = slice(int(self._member_first[index]), int(self._member_first[index] + self.size[index]))
        members, signs = (tuple(column[some].tolist()) for column in (self.member_points, self._member_sign))
        return Account(index, self.scope(index), self.kinds[self.kind[index]], members, signs)

    def scope(self, index: int) -> str:
        """The name of whose account it is."""
        if index >= self.points:
            return self._scopes[index - self.points]
        point = self.roster.points[index]
        return f"point:{self.roster.plants[point.plant].id}/{point.id}"

    def find(self, scope: str, measures: str, product: str = "") -> Account | None:
        """That of a line, a plant or a group."""
        index = self._index.get((scope, measures, product))
        return None if index is None else self[index]

    def of_scope(self, scope: str) -> list[Account]:
        """Those of a line, a plant or a group."""
        return [self[index] for (name, _, _), index in self._index.items() if name == scope]

    def of_several(self) -> Iterator[Account]:
        """Those of lines, plants and groups."""
        return (self[index] for index in range(self.points, len(self)))

    def any_member(self, of_points: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of every account, whether it holds of any of its members."""
        if len(self) == 0:
            return np.empty(0, bool)
        return np.asarray(np.logical_or.reduceat(of_points[self.member_points], self._member_first))

    def first_member(self) -> Ints:
        """Of every account."""
        return np.asarray(self.member_points[self._member_first])

    def _kind_of(self, point: Point, group: Group | None = None) -> Kind:
        plant = self.roster.plants[point.plant]
        zone_name = plant.time_zone if group is None else group.time_zone
        return Kind(
            point.measures,
            point.product,
            CANONICAL[point.amount_unit.dimension],
            self._zone_of[zone_name],
            plant.grid if group is None else "",
            plant.energies if group is None else (),
            point.mean,
        )

    def _joined(self, numbers: dict[Kind, int]) -> list[tuple[int, list[int], list[int]]]:
        """Kind, members and signs of the accounts of several points, in the order in which they come up."""
        self._index: dict[tuple[str, str, str], int] = {}
        out: list[tuple[int, list[int], list[int]]] = []
        groups: list[list[Group]] = [[] for _ in self.roster.plants]
        for group in self.roster.groups:
            for number in group.plants:
                groups[number].append(group)
        for point in self.roster.points:
            for scope, sign, of_group in self._several(point, groups[point.plant]):
                key = (scope, point.measures, point.product)
                index = self._index.setdefault(key, self.points + len(out))
                if index == self.points + len(out):
                    kind = self._kind_of(point, of_group)
                    out.append((numbers.setdefault(kind, len(numbers)), [], []))
                    self._scopes.append(scope)
                _, members, signs = out[index - self.points]
                members.append(point.index)
                signs.append(sign)
        return out

    def _several(self, point: Point, groups: list[Group]) -> Iterator[tuple[str, int, Group | None]]:
        """Scope, sign and group of the accounts that a point shares with others."""
        plant = self.roster.plants[point.plant]
        if point.mean:
            return  # states of several points add up to nothing
        if point.line and (point.sign or point.role == "submeter"):
            yield f"line:{plant.id}/{point.line}", point.sign or 1, None
        if point.sign:
            yield f"plant:{plant.id}", point.sign, None
            for group in groups:
                yield f"group:{group.id}", point.sign, group

    def _link(self, members: list[list[int]], signs: list[list[int]]) -> None:
        points = np.arange(self.points)
        ones, sizes = np.ones(self.points, np.int64), [len(part) for part in members]
        self.member_points = np.concatenate([points, *(np.array(part, np.int64) for part in members)])
        """Of one account after the other."""
        self._member_sign = np.concatenate([ones, *(np.array(part, np.int64) for part in signs)])
        self.size = np.concatenate([ones, np.array(sizes, np.int64)])
        self._member_first = np.concatenate([[0], np.cumsum(self.size)])[:-1].astype(np.int64)
        account = np.repeat(np.arange(len(self)), self.size)
        order = np.argsort(self.member_points, kind="stable")
        self._pair_account, self._pair_sign = account[order], self._member_sign[order]
        self._pair_first = np.searchsorted(self.member_points[order], np.arange(self.points + 1))
        zones, means = ([getattr(kind, name) for kind in self.kinds] for name in ("zone", "mean"))
        self.zone_of = np.array(zones, np.int64)[self.kind]
        self.zone_of_point = self.zone_of[: self.points]
        self.mean = np.array(means, bool)[self.kind]
        """Accounts of one gauge, whose spans have a mean."""
        limited = np.array([self._has_limits(point) for point in range(self.points)], bool)
        self._limited = np.flatnonzero(self.any_member(limited)).tolist()

    def _has_limits(self, point: int) -> bool:
        expected = self.roster.points[point]
        return expected.expected_from_ms > FROM_EVER_MS or expected.expected_to_ms < FOR_EVER_MS

    def memberships(self, point: Ints) -> tuple[Ints, Ints, Ints]:
        """For rows of points: (row, account, sign) of every account each belongs to."""
        row, ordinal = spread(self._pair_first[point + 1] - self._pair_first[point])
        at = self._pair_first[point][row] + ordinal
        return row, self._pair_account[at], self._pair_sign[at]

    def owners(self, wanted: NDArray[np.bool_], step_ms: Ints) -> Owners:
        """The memberships of points in those accounts that are ``wanted``."""
        mine = wanted[self._pair_account]
        if mine.all():
            return Owners(self._pair_first, self._pair_account, self._pair_sign, step_ms)
        first = np.append(0, np.cumsum(mine))[self._pair_first]
        return Owners(first, self._pair_account[mine], self._pair_sign[mine], step_ms)

    def frontier(self, of_points: Ints) -> Ints:
        """Up to where each account is final: the least of its members' frontiers."""
        if len(self) == 0:
            return np.empty(0, np.int64)
        return np.asarray(np.minimum.reduceat(of_points[self.member_points], self._member_first))

    def follow(self, points: Ints, of_points: Course, frontier: Course) -> Ints:
        """Brings the frontiers of accounts behind a pass that moved those of some points; which it moved.

        They only rise, so that an account stays where it is as long as a member that held it back does.
        """
        row, account, _ = self.memberships(points)
        account = distinct(account[of_points.before[points][row] <= frontier.after[account]])
        row, member = self.pairs_of(account)
        heads = np.cumsum(self.size[account]) - self.size[account]
        least = np.minimum.reduceat(of_points.after[member], heads) if len(account) else account
        moved = least > frontier.after[account]
        frontier.move(account[moved], least[moved])
        return account[moved]

    def pairs_of(self, account: Ints) -> tuple[Ints, Ints]:
        """For rows of accounts: (row, member point) of every member."""
        row, ordinal = spread(self.size[account])
        return row, self.member_points[self._member_first[account][row] + ordinal]

    def expected_ms(self, account: Ints, start: Ints, end: Ints) -> Ints:
        """Milliseconds that members should cover in each span, all together."""
        out = (end - start) * self.size[account]
        limited = np.isin(account, self._limited)
        for a in np.unique(account[limited]).tolist():
            mine = account == a
            for point in (self.roster.points[p] for p in self[a].members):
                length = (end - start)[mine]
                before = np.clip(point.expected_from_ms - start[mine], 0, length)
                behind = np.clip(end[mine] - point.expected_to_ms, 0, length)
                out[mine] -= np.minimum(before + behind, length)
        return np.asarray(out)


def grid_ms(bases: Iterable[int]) -> int:
    """The common step at which windows of points with these base spans (0: none) roll: the longest one, if
    others fit in it.
    """
    known = [base for base in bases if base]
    longest = max([MINUTE_MS, *known]) if known else QUARTER_MS
    return longest if all(longest % base == 0 for base in known) else QUARTER_MS
