"""Gauges of simulated plants: what each of them shows, what adding that up comes to, and their faults.

A gauge shows what its flows come to in an hour: power, a flow, or a state such as a temperature. Of a state
nothing tells that a value is wrong; what is added up is held where it is more than the point can do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metering.roster import LIMIT_MARGIN
from simulators.world_faults import (
    BALANCE,
    BOOKS,
    CHANCE_OF_A_FEW,
    ESTIMATED,
    HELD,
    MISSING,
    NOTHING,
    VALID,
    Fault,
    Place,
)
from simulators.world_flows import HOUR_MS, MINUTE_MS, Integers
from simulators.world_meters import HOLDS, Point, Stream

LATE_MS = (15 * MINUTE_MS, 24 * HOUR_MS)
SPIKES = (2, 20)
"""So many times what the point can do."""
FINER = 1_000
OFF_BY = (5, 20)
"""Percent that a gauge shows too much."""


def shown(point: Point, at_ms: Integers) -> Integers:
    """In steps, to the nearest."""
    minute = at_ms // MINUTE_MS * MINUTE_MS
    an_hour = (point.past.at(minute + MINUTE_MS) - point.past.at(minute)) * (HOUR_MS // MINUTE_MS)
    return np.asarray((an_hour + point.step // 2) // point.step)


def gauged(point: Point) -> Stream:
    """What a gauge sends, without faults."""
    at_ms = point.instants()
    return Stream(at_ms, shown(point, at_ms), at_ms + point.latency_ms)


def held_over(point: Point, stream: Stream, at_ms: Integers) -> tuple[Integers, Integers]:
    """By how much each value, held until the next one, is ahead of the truth by these instants; and how much
    more it can be behind each reading that is not sent, for the one before it is held on.
    """
    times = point.instants()
    value = shown(point, times) * point.step
    passed = np.concatenate([[0], np.cumsum(value[:-1] * np.diff(times) // HOUR_MS)])
    last = np.maximum(np.searchsorted(times, at_ms, "right") - 1, 0)
    ahead = passed[last] + value[last] * (at_ms - times[last]) // HOUR_MS - point.past.at(at_ms)
    jump = np.abs(np.diff(value, prepend=value[:1])) * point.every_ms // HOUR_MS + 1
    lost = np.concatenate([[0], np.cumsum(np.where(stream.gone, jump, 0))])
    return ahead, lost


def gauge_dropout(place: Place) -> Fault | None:
    """One reading is never sent, and the one before it holds; or three to nine, and nobody knows."""
    count = 1 if place.random.integers(2) else place.count(HOLDS + 1, CHANCE_OF_A_FEW)
    i, times = place.index, place.stream.time_ms
    if not _has_room(place, count):
        return None
    place.stream.gone[i : i + count] = True
    if count < HOLDS:
        return _still_right(place, "gauge_dropout", i - 1, i + count)
    names = ("gauge_dropout", place.point.plant, place.point.meter.id)
    return Fault(*names, int(times[i - 1]) + HOLDS * place.every_ms, int(times[i + count]), MISSING)


def gauge_late(place: Place) -> Fault | None:
    """Some readings come 15 minutes to a day later."""
    i, count = place.index, place.count(3, 30)
    if not _has_room(place, count):
        return None
    place.stream.received_ms[i : i + count] += int(place.random.integers(*LATE_MS))
    return _still_right(place, "gauge_late", i, i + count)


def gauge_twice(place: Place) -> Fault | None:
    """Some readings come again within an hour."""
    i, count = place.index, place.count(3, CHANCE_OF_A_FEW)
    if not _has_room(place, count):
        return None
    place.stream.again(slice(i, i + count), 0, place.random.integers(1, HOUR_MS, count))
    return _still_right(place, "gauge_twice", i, i + count)


def gauge_conflict(place: Place) -> Fault | None:
    """A reading comes again with another value."""
    i = place.index
    if not _has_room(place, 1):
        return None
    by = int(place.random.integers(1, 100))
    place.stream.again(slice(i, i + 1), by, place.random.integers(1, 10 * MINUTE_MS, 1))
    return place.fault("gauge_conflict", i, i, "conflict", HELD)


def gauge_spike(place: Place) -> Fault | None:
    """One to three readings show far too much."""
    i, count = place.index, place.count(1, 3)
    if not _has_room(place, count):
        return None
    value = place.stream.value
    most = _most(place.point) or int(value.max()) + 1
    value[i : i + count] = (most * place.random.uniform(*SPIKES, count)).astype(np.int64)
    return _too_much(place, "gauge_spike", count)


def gauge_wrong_unit(place: Place) -> Fault | None:
    """For a while it shows a thousand times as much."""
    i, count = place.index, place.count(15, 40)
    if not _has_room(place, count):
        return None
    wrong = place.stream.value[i : i + count] * FINER
    if (wrong <= _most(place.point)).any():
        return None
    place.stream.value[i : i + count] = wrong
    return _too_much(place, "gauge_wrong_unit", count)


def gauge_frozen(place: Place) -> Fault | None:
    """It shows the same for a while."""
    i, count = place.index, place.count(20, 90)
    if not _has_room(place, count):
        return None
    place.stream.value[i : i + count] = place.stream.value[i - 1]
    return place.fault("gauge_frozen", i, i + count, VALID, by=NOTHING)


def gauge_zero(place: Place) -> Fault | None:
    """It shows zero for some readings."""
    i, count = place.index, place.count(1, CHANCE_OF_A_FEW)
    if not _has_room(place, count):
        return None
    place.stream.value[i : i + count] = 0
    return place.fault("gauge_zero", i, i + count, VALID, by=NOTHING)


def gauge_offset(place: Place) -> Fault | None:
    """It shows some percent too much for a while."""
    i, count = place.index, place.count(20, 90)
    if not _has_room(place, count):
        return None
    wrong = place.stream.value[i : i + count] * (100 + int(place.random.integers(*OFF_BY))) // 100
    if _most(place.point) and int(wrong.max()) >= _most(place.point):
        return None
    place.stream.value[i : i + count] = wrong
    return place.fault("gauge_offset", i, i + count, VALID, by=BALANCE)


def _has_room(place: Place, count: int) -> bool:
    return place.index > 1 and place.index + count + HOLDS < len(place.stream.time_ms)


def _most(point: Point) -> int:
    """The most that is not held, in steps and rounded up; 0: anything is believed."""
    return 0 if point.meter.is_state else int(LIMIT_MARGIN * point.limit / point.step) + HOLDS + 1


def _still_right(place: Place, kind: str, first: int, last: int) -> Fault:
    """What is added up is an estimate always."""
    return place.fault(kind, first, last, VALID if place.point.meter.is_state else ESTIMATED)


def _too_much(place: Place, kind: str, count: int) -> Fault:
    """Held where the point has a limit; of a state nobody can know."""
    i = place.index
    if place.point.meter.is_state:
        return place.fault(kind, i, i + count, VALID, by=NOTHING)
    return place.fault(kind, i, i + count - 1, "spike", HELD, BOOKS)


GAUGE_KINDS: dict[str, Callable[[Place], Fault | None]] = {
    "gauge_dropout": gauge_dropout,
    "gauge_late": gauge_late,
    "gauge_twice": gauge_twice,
    "gauge_conflict": gauge_conflict,
    "gauge_spike": gauge_spike,
    "gauge_wrong_unit": gauge_wrong_unit,
    "gauge_frozen": gauge_frozen,
    "gauge_zero": gauge_zero,
    "gauge_offset": gauge_offset,
}
