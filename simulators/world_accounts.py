"""What points, lines, plants and groups truly counted by each full minute, and the kgce and kgCO2e of it.

Amounts are millionths of canonical units. Beside each stands how far a figure that is called measured may be
from it: that is what the readings themselves do not say (see ``simulators.world_truth``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from metering.measures import ENERGIES
from metering.policy import Factor, Policy
from metering.policy_load import load_policy
from metering.site_meaning import SIGNS
from metering.units import CANONICAL
from simulators.world import Plant
from simulators.world_flows import MINUTE_MS, Integers
from simulators.world_gauges import held_over
from simulators.world_meters import Point, Stream
from simulators.world_profile import POLICY, Profile

ENDS = 2
"""A register's amount is uncertain by its last step at both ends of a span, and where a meter was changed."""
ROUNDED = 1
"""By so many millionths each coefficient's part of a figure may be off, and what each reading holds."""
NATIONAL = "national"


@dataclass(frozen=True, slots=True)
class Counted:
    """``past``: what had been counted by each full minute from ``from_ms`` on.

    How far a figure may be off: ``unsure`` at either end of its span, ``always``, and by what ``besides`` and
    ``ahead``, which may fall as well, grew in it.
    """

    from_ms: int
    past: Integers
    unsure: Integers
    besides: Integers
    ahead: Integers
    always: int

    def amount(self, start_ms: Integers, end_ms: Integers) -> Integers:
        return np.asarray(self.past[self._index(end_ms)] - self.past[self._index(start_ms)])

    def uncertainty(self, start_ms: Integers, end_ms: Integers) -> Integers:
        start, end = self._index(start_ms), self._index(end_ms)
        ends = self.unsure[start] + self.unsure[end] + self.always
        grown = self.besides[end] - self.besides[start] + np.abs(self.ahead[end] - self.ahead[start])
        return np.asarray(ends + grown)

    def plus(self, other: Counted, sign: int) -> Counted:
        """Both together; the other one by its sign."""
        return Counted(
            self.from_ms,
            self.past + sign * other.past,
            self.unsure + other.unsure,
            self.besides + other.besides,
            self.ahead + sign * other.ahead,
            self.always + other.always,
        )

    def _index(self, at_ms: Integers) -> Integers:
        return np.asarray((at_ms - self.from_ms) // MINUTE_MS)


def counted(point: Point, stream: Stream) -> Counted:
    """Of a register both edges are uncertain, of interval reads each read is, of a gauge that values hold."""
    at_ms = np.arange(point.from_ms, point.to_ms + 1, MINUTE_MS, dtype=np.int64)
    past, nothing = point.past.at(at_ms), np.zeros(len(at_ms), np.int64)
    if stream.spans is not None:
        reads = np.searchsorted(np.sort(stream.spans[1]), at_ms) * point.step
        return Counted(point.from_ms, past, nothing, reads, nothing, ENDS * point.step)
    if point.meter.reads == "gauge":
        ahead, lost = held_over(point, stream, at_ms)
        last = np.searchsorted(stream.time_ms, at_ms)
        besides, unsure = lost[last] + last * ROUNDED, lost[last] - lost[np.maximum(last - 1, 0)]
        return Counted(point.from_ms, past, unsure, besides, ahead, ENDS * ROUNDED)
    steps = ENDS + len(point.breaks)
    return Counted(point.from_ms, past, point.unsure(at_ms), nothing, nothing, steps * point.step)


@dataclass(frozen=True, slots=True)
class Name:
    """Whose account it is, and of what; ``unit`` the canonical one."""

    scope: str
    measures: str
    product: str
    unit: str


Accounts = dict[Name, Counted]


def accounts_of(profile: Profile, plant: Plant, edges: Sequence[Counted]) -> Accounts:
    """Points, lines and the plant itself."""
    found: Accounts = {}
    for point, one in zip(plant.points, edges, strict=True):
        for scope, sign in _scopes(plant, point):
            _join(found, _name(profile, point, scope), one, sign)
    return found


def join_groups(profile: Profile, plant: Plant, accounts: Accounts, into: Accounts) -> None:
    """Adds a plant's accounts to those of the groups that it is in."""
    for group in profile.groups:
        for name, one in accounts.items():
            if name.scope == f"plant:{plant.id}":
                _join(into, replace(name, scope=f"group:{group['id']}"), one, 1)


def _scopes(plant: Plant, point: Point) -> Iterator[tuple[str, int]]:
    meter, sign = point.meter, SIGNS[point.meter.role]
    yield f"point:{plant.id}/{meter.id}", 1
    if meter.is_state:
        return
    if meter.line and (sign or meter.role == "submeter"):
        yield f"line:{plant.id}/{meter.line}", sign or 1
    if sign:
        yield f"plant:{plant.id}", sign


def _name(profile: Profile, point: Point, scope: str) -> Name:
    meter = point.meter
    product = profile.product_of(meter.product or "output") if meter.measures == "output" else ""
    return Name(scope, meter.measures, product, CANONICAL[meter.amounts_in.dimension])


def _join(accounts: Accounts, name: Name, one: Counted, sign: int) -> None:
    there = accounts.get(name)
    if there is None:
        zeros = np.zeros_like(one.past)
        there = Counted(one.from_ms, zeros, zeros, zeros, zeros, 0)
    accounts[name] = there.plus(one, sign)


@dataclass(frozen=True, slots=True)
class Figure:
    """Amounts of spans; where ``known`` is false, no coefficient is known."""

    unit: str
    amount: Integers
    uncertainty: Integers
    known: NDArray[np.bool_]


@cache
def policy() -> Policy:
    """The coefficients that every simulated site file names."""
    return load_policy(POLICY)


def factors(measures: str, unit: str) -> tuple[Factor, ...]:
    """The coefficients of an energy; none where the pack has none."""
    if measures not in ENERGIES:
        return ()
    if unit == "kgce":
        return policy().kgce.get(measures, ())
    of = policy().kgco2e
    return of.get((measures, NATIONAL)) or of.get((measures, ""), ())


@dataclass(frozen=True, slots=True)
class Spans:
    """Their beginnings and ends. ``by_minute``: each minute by the coefficient that is in force then, as in
    rolling windows; else all of one by that at its beginning.
    """

    start_ms: Integers
    end_ms: Integers
    by_minute: bool = False

    def __len__(self) -> int:
        return len(self.start_ms)

    def of_factor(self, factor: Factor) -> Spans:
        """The part of each in which a coefficient counts."""
        start_ms, end_ms = self.start_ms, self.end_ms
        if self.by_minute:
            low_ms, high_ms = factor.from_ms, factor.to_ms
            return Spans(np.clip(start_ms, low_ms, high_ms), np.clip(end_ms, low_ms, high_ms))
        counts = (start_ms >= factor.from_ms) & (start_ms < factor.to_ms)
        return Spans(start_ms, np.where(counts, end_ms, start_ms))


def amount_of(name: Name, one: Counted, unit: str, spans: Spans) -> Figure:
    """In its own unit, in kgce or in kgCO2e."""
    if unit == name.unit:
        both = one.amount(spans.start_ms, spans.end_ms), one.uncertainty(spans.start_ms, spans.end_ms)
        return Figure(unit, *both, np.ones(len(spans), bool))
    amount = off = covered = np.zeros(len(spans), np.int64)
    for factor in factors(name.measures, unit):
        part = spans.of_factor(factor)
        inside = part.end_ms > part.start_ms
        start_ms = np.where(inside, part.start_ms, spans.start_ms)
        end_ms = np.where(inside, part.end_ms, spans.start_ms)
        amount = amount + _times(one.amount(start_ms, end_ms), factor)
        most = _times(one.uncertainty(start_ms, end_ms), factor) + 2 * ROUNDED
        off, covered = off + np.where(inside, most, 0), covered + (end_ms - start_ms)
    return Figure(unit, amount, off, covered == spans.end_ms - spans.start_ms)


def energy_of(accounts: Accounts, scope: str, unit: str, spans: Spans) -> Figure | None:
    """All energies of a plant or group together; unknown where a coefficient of one of them is."""
    parts = [
        amount_of(name, one, unit, spans)
        for name, one in accounts.items()
        if name.scope == scope and name.measures in ENERGIES
    ]
    if not parts:
        return None
    amount = np.sum([part.amount for part in parts], axis=0)
    off = np.sum([part.uncertainty for part in parts], axis=0)
    return Figure(unit, amount, off, np.all([part.known for part in parts], axis=0))


def _times(amount: Integers, factor: Factor) -> Integers:
    """Rounded down, without overflow."""
    whole, rest = np.divmod(amount, factor.denominator)
    return np.asarray(whole * factor.numerator + rest * factor.numerator // factor.denominator)
