"""What truly flows and should not: a leak and a burst of a water pipe, before any meter below shows them.

The truth has them, so no figure that counts them is false. Nothing in the books is wrong with them either: a
later check of the intensity, or of the flow at night, finds them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from metering.site_models import Role
from simulators.world_faults import INTENSITY, VALID, Fault
from simulators.world_flows import HOUR_MS, MINUTE_MS, Past
from simulators.world_meters import Point

LEAKS = (0.02, 0.1)
"""What leaks, as a part of the limit; at most so much as the register can still count."""
BURSTS = (0.5, 0.95)
"""What a broken pipe loses, as a part of what the register can still count."""
BURST_MINUTES = (5, 40)
MAIN: Role = "supply"


def has_pipes(point: Point) -> bool:
    """Whether a leak would run through this meter: it brings the plant its water."""
    meter = point.meter
    return meter.measures == "water" and meter.role == MAIN and meter.reads == "register"


def leak(point: Point, from_ms: int, to_ms: int, random: Generator) -> Fault | None:
    """A little, always the same, by day and by night, until somebody finds it."""
    part = random.uniform(*LEAKS)
    return _lost(point, "leak", from_ms, to_ms, lambda room: min(part * point.limit, 0.9 * room))


def burst(point: Point, from_ms: int, to_ms: int, random: Generator) -> Fault | None:
    """Nearly all that the pipe can bring, for some minutes."""
    end_ms = min(to_ms, from_ms + int(random.integers(*BURST_MINUTES)) * MINUTE_MS)
    part = random.uniform(*BURSTS)
    return _lost(point, "burst", from_ms, end_ms, lambda room: part * room)


def _lost(point: Point, kind: str, from_ms: int, to_ms: int, rate: Callable[[float], float]) -> Fault | None:
    """Adds to what flowed, by whole minutes; ``rate``: millionths an hour, of what there is room for."""
    past = point.past
    first, last = ((ms - past.from_ms) // MINUTE_MS for ms in (from_ms, to_ms))
    minutes = np.diff(past.edges)
    room = point.limit - int(minutes[first:last].max(initial=0)) * (HOUR_MS // MINUTE_MS)
    more = int(rate(room)) // (HOUR_MS // MINUTE_MS)
    if last <= first or more < point.step:
        return None
    minutes[first:last] += more
    point.past = Past(past.from_ms, np.concatenate([past.edges[:1], past.edges[0] + np.cumsum(minutes)]))
    begin_ms, end_ms = (past.from_ms + int(edge) * MINUTE_MS for edge in (first, last))
    return Fault(kind, point.plant, point.meter.id, begin_ms, end_ms, VALID, "", INTENSITY)


FLOW_KINDS: dict[str, Callable[[Point, int, int, Generator], Fault | None]] = {"leak": leak, "burst": burst}
"""Kinds that change what flows; settled before anything is read."""
