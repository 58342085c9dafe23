"""Faults of a register itself: another value from an instant on, its end, another worth.

They are settled before anything is read, as all later readings depend on them; a point has at most one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
from numpy.random import Generator

from simulators.world_faults import BALANCE, DECIDED, HELD, VALID, Fault
from simulators.world_flows import MINUTE_MS
from simulators.world_meters import Point

INITIAL_STEPS = 5_000
CHANGE_MINUTES = (5, 30)
RESTART_READINGS, RESENT = 5, 20
"""So many readings at most are lost while a gateway starts, and come again behind it."""
WRONG_TIMES = ("0.1", "0.5", "0.8", "1.2", "1.5", "2", "10")
FINER_THAN = 10
"""Steps that a rise stays below what is possible with a wrong multiplier, so that nothing is held."""
LOWER = (0.15, 0.85)
"""A meter that nobody recorded shows this part of the old one's value: no tenth of it, no reset."""


@dataclass(frozen=True, slots=True)
class Change:
    """A meter was taken away at ``to_ms`` with ``final``, the next began at ``from_ms`` with ``initial``."""

    to_ms: int
    final: int
    from_ms: int
    initial: int


@dataclass(frozen=True, slots=True)
class Restart:
    """A gateway was away from ``from_ms`` until ``to_ms``; then the last few readings came again."""

    from_ms: int
    to_ms: int
    again: int


@dataclass(frozen=True, slots=True)
class Factor:
    """From ``from_ms`` until ``to_ms`` the site file has this multiplier, which is not the right one."""

    from_ms: int
    to_ms: int
    multiplier: Decimal


@dataclass(slots=True)
class Happening:
    """Between which readings (``before_ms``, ``behind_ms``) of a point something is to happen, and when.

    ``room_ms``: how long it may go on. The last three: what came of it besides.
    """

    point: Point
    before_ms: int
    at_ms: int
    behind_ms: int
    room_ms: int
    random: Generator
    change: Change | None = None
    restart: Restart | None = None
    factor: Factor | None = None

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


def restart(one: Happening) -> Fault | None:
    """A gateway that counts pulses starts again: it is away for some minutes, and counts from zero."""
    every_ms = one.point.every_ms
    away = int(one.random.integers(1, RESTART_READINGS + 1))
    last_ms = one.before_ms + (away + 1) * every_ms
    if last_ms >= one.point.to_ms or one.counted(one.before_ms) <= 2 * one.point.possible(
        last_ms - one.before_ms
    ):
        return None
    one.restart = Restart(one.at_ms, last_ms, int(one.random.integers(1, RESENT + 1)))
    one.point.breaks.append((one.at_ms, 0))
    return one.fault("restart", one.before_ms, last_ms, "reset", HELD)


def wrong_multiplier(one: Happening) -> Fault | None:
    """Somebody writes a wrong ratio into the site file, and later the right one again.

    All that is counted in that time is so many times too much or too little, and looks well.
    """
    times = Decimal(str(one.random.choice(WRONG_TIMES)))
    to_ms = one.at_ms + int(one.random.integers(one.room_ms // 4, one.room_ms))
    readings = one.point.instants()
    readings = readings[(readings >= one.before_ms) & (readings <= to_ms + one.point.every_ms)]
    steep = int(np.diff(one.point.counts(readings)).max(initial=0))
    if to_ms >= one.point.to_ms or steep * times > one.point.possible(one.point.every_ms) - FINER_THAN:
        return None
    one.factor = Factor(one.at_ms, to_ms, times * one.point.meter.multiplier)
    found = one.fault("wrong_multiplier", one.at_ms, to_ms, VALID, "")
    return replace(found, found_by=BALANCE)


REGISTER_KINDS: dict[str, Callable[[Happening], Fault | None]] = {
    "rollover": rollover,
    "reset": reset,
    "replacement": replacement,
    "replacement_unrecorded": replacement_unrecorded,
    "restart": restart,
    "wrong_multiplier": wrong_multiplier,
}
