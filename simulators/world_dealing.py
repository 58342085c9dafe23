"""Which fault a stretch of six hours of a register has: all kinds equally often, in an order by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from metering.errors import UsageError
from simulators.world_faults import KINDS as OF_READINGS
from simulators.world_flow_faults import FLOW_KINDS, has_pipes
from simulators.world_flows import HOUR_MS
from simulators.world_gateway_faults import GATEWAY_KINDS
from simulators.world_gauges import GAUGE_KINDS
from simulators.world_meters import Point
from simulators.world_registers import REGISTER_KINDS
from simulators.world_report_faults import REPORT_KINDS

SLOT_MS = 6 * HOUR_MS
"""Each has at most one fault of a point: they are so far apart that each has one right conclusion."""
KINDS = {**OF_READINGS, **GATEWAY_KINDS}
SWAPPED = "swapped"
LONG = {"outage", "summer_time", "leak", "wrong_multiplier"}
"""Kinds that take two slots where there are two."""
ALL_KINDS = (*REGISTER_KINDS, *KINDS, SWAPPED, *FLOW_KINDS, *REPORT_KINDS, *GAUGE_KINDS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. ``rate``: in how many of a point's slots of six hours there is a fault, 0 to 1."""

    seed: int
    from_ms: int
    to_ms: int
    kinds: tuple[str, ...] = ()
    rate: float = 0.5


@dataclass(frozen=True, slots=True)
class Slot:
    """From when to when a point has room for a fault, and its kind; ``other``: with which point."""

    from_ms: int
    to_ms: int
    kind: str
    other: int | None = None

    @property
    def room_ms(self) -> int:
        """How long the fault may be."""
        length_ms = self.to_ms - self.from_ms
        return length_ms // 3 if length_ms <= SLOT_MS else SLOT_MS

    def begins(self, random: Generator) -> int:
        """An instant by chance, between a sixth and a half of the first slot."""
        slot_ms = min(SLOT_MS, self.to_ms - self.from_ms)
        return self.from_ms + int(random.integers(slot_ms // 6, slot_ms // 2))


def kinds_of(text: str) -> tuple[str, ...]:
    """``all``, ``none``, or names with commas between; raises UsageError for another word."""
    if text in {"all", "none"}:
        return ALL_KINDS if text == "all" else ()
    names = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in ALL_KINDS]
    if unknown:
        raise UsageError(f"no fault '{unknown[0]}'", hint=f"Give all, none, or of {', '.join(ALL_KINDS)}.")
    return names


def dealt(points: Sequence[Point], plan: Plan, number: int, random: Generator) -> list[list[Slot]]:
    """The slots of each point of the plant with this number that have a fault."""
    length_ms = min(SLOT_MS, plan.to_ms - plan.from_ms)
    slots = (plan.to_ms - plan.from_ms) // length_ms
    out: list[list[Slot]] = [[] for _ in points]
    kinds = [kind for kind in plan.kinds if kind not in REPORT_KINDS and kind not in GAUGE_KINDS]
    if not kinds:
        return out
    registers = [i for i, one in enumerate(points) if one.meter.reads == "register"]
    places = [(int(i), slot) for slot in range(slots) for i in random.permutation(registers)]
    taken = [place for place in places if random.random() < plan.rate]
    begin = int(random.permutation(len(kinds))[0]) + number
    changed: set[int] = set()
    until_ms = [plan.from_ms] * len(points)
    waiting = [kinds[(begin + k) % len(kinds)] for k in range(len(taken))]
    for i, slot in sorted(taken, key=lambda place: place[1]):
        from_ms = plan.from_ms + slot * length_ms
        free = [j for j in registers if until_ms[j] <= from_ms]
        fitting = [k for k in waiting if _fits(k, i, points, changed, free)]
        if i not in free or not fitting:
            continue
        kind = fitting[0]
        waiting.remove(kind)
        changed |= {i} if kind in REGISTER_KINDS else set()
        to_ms = from_ms + length_ms * (2 if kind in LONG and slot + 1 < slots else 1)
        other = _others(i, points, free)[0] if kind == SWAPPED else None
        out[i].append(Slot(from_ms, to_ms, kind, other))
        for j in (i, i if other is None else other):
            until_ms[j] = to_ms
    return out


def deal_gauges(out: list[list[Slot]], points: Sequence[Point], plan: Plan, random: Generator) -> None:
    """Deals each slot of each gauge a kind of its own, in an order by chance."""
    kinds = [kind for kind in plan.kinds if kind in GAUGE_KINDS]
    length_ms = min(SLOT_MS, plan.to_ms - plan.from_ms)
    slots, waiting = (plan.to_ms - plan.from_ms) // length_ms, list[str]()
    for i in (i for i, one in enumerate(points) if one.meter.reads == "gauge" and kinds):
        for slot in range(slots):
            waiting = waiting or [kinds[k] for k in random.permutation(len(kinds)).tolist()]
            if random.random() < plan.rate:
                from_ms = plan.from_ms + slot * length_ms
                out[i].append(Slot(from_ms, from_ms + length_ms, waiting.pop()))


def _fits(kind: str, i: int, points: Sequence[Point], changed: set[int], free: Sequence[int]) -> bool:
    """Whether a point can have it: one of a register only once, a leak where there are pipes."""
    if kind in REGISTER_KINDS:
        return i not in changed
    if kind in FLOW_KINDS:
        return has_pipes(points[i])
    return kind != SWAPPED or bool(_others(i, points, free))


def _others(i: int, points: Sequence[Point], free: Sequence[int]) -> list[int]:
    """Points whose registers have a face like this one's."""
    face = points[i].meter.digits, points[i].meter.decimals, points[i].every_ms
    return [
        j
        for j in free
        if j != i and (points[j].meter.digits, points[j].meter.decimals, points[j].every_ms) == face
    ]
