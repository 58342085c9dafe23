"""Faults of a register itself: from an instant on it counts from another value, or it reaches its end.

They are settled before anything is read, as all later readings depend on them; a point has at most one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from simulators.world_faults import DECIDED, HELD, Fault
from simulators.world_flows import MINUTE_MS
from simulators.world_meters import Point

INITIAL_STEPS = 5_000
CHANGE_MINUTES = (5, 30)
LOWER = (0.15, 0.85)
"""A meter that nobody recorded shows this part of the old one's value: no tenth of it, no reset."""


@dataclass(frozen=True, slots=True)
class Change:
    """A meter was taken away at ``to_ms`` with ``final``, the next began at ``from_ms`` with ``initial``."""

    to_ms: int
    final: int
    from_ms: int
    initial: int


@dataclass(slots=True)
class Happening:
    """Between which readings (``before_ms``, ``behind_ms``) of a point something is to happen, and when."""

    point: Point
    before_ms: int
    at_ms: int
    behind_ms: int
    random: Generator
    change: Change | None = None

    def counted(self, at_ms: int) -> int:
        return int(self.point.counts(np.array([at_ms], np.int64))[0])

    def fault(self, kind: str, from_ms: int, to_ms: int, concludes: str, status: str) -> Fault:
        return Fault(kind, self.point.plant, self.point.meter.id, from_ms, to_ms, concludes, status)


def rollover(one: Happening) -> Fault | None:
    """The register reaches its end; the right words are for the two readings that it does so between."""
    point = one.point
    moved = one.counted(one.at_ms) - point.first
    point.first = point.width - moved - 1
    found = turns(point)
    return found[0] if found else None


def turns(point: Point) -> list[Fault]:
    """Every time that a register reaches its end, whoever meant it to."""
    at_ms = point.instants()
    names = ("rollover", point.plant, point.meter.id)
    turned = np.flatnonzero(np.diff(point.counts(at_ms) // point.width) == 1)
    return [Fault(*names, int(at_ms[i]), int(at_ms[i + 1]), "rollover", DECIDED) for i in turned]


def reset(one: Happening) -> Fault | None:
    """Somebody sets the register to zero."""
    if one.counted(one.before_ms) <= 2 * one.point.possible(one.point.every_ms):
        return None
    one.point.breaks.append((one.at_ms, 0))
    return one.fault("reset", one.before_ms, one.behind_ms, "reset", HELD)


def replacement(one: Happening) -> Fault | None:
    """Another meter takes its place, and the site file says so, with its last and first value."""
    final = one.counted(one.at_ms)
    minutes = int(one.random.integers(*CHANGE_MINUTES)) if one.random.integers(2) else 0
    initial = int(one.random.integers(INITIAL_STEPS))
    from_ms = one.at_ms + minutes * MINUTE_MS
    one.change = Change(one.at_ms, final, from_ms, initial)
    one.point.breaks.append((from_ms, initial))
    return one.fault("replacement", one.at_ms, from_ms, "replacement", DECIDED)


def replacement_unrecorded(one: Happening) -> Fault | None:
    """Another meter takes its place, and nobody says so; it shows less."""
    value = int(one.counted(one.at_ms) * one.random.uniform(*LOWER))
    if value <= 2 * one.point.possible(2 * one.point.every_ms):
        return None
    one.point.breaks.append((one.at_ms, value))
    return one.fault("replacement_unrecorded", one.before_ms, one.behind_ms, "decrease", HELD)


REGISTER_KINDS: dict[str, Callable[[Happening], Fault | None]] = {
    "rollover": rollover,
    "reset": reset,
    "replacement": replacement,
    "replacement_unrecorded": replacement_unrecorded,
}
