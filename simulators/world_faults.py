"""Faults of simulated meters: what each does to the readings, and what a right system concludes of it.

A kind is a function that changes the stream of one register around an index of it and says what happened;
None where it could have no one right conclusion there (a standstill that catches up with next to nothing),
so that another place is tried. docs/books.md says what the books make of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from simulators.world_flows import DAY_MS, HOUR_MS, MINUTE_MS, Integers
from simulators.world_meters import HOLDS, Point, Stream

DECIDED, HELD = "decided", "held"
VALID, ESTIMATED, REJECTED = "valid", "estimated", "rejected"
MISSING = "missing"
BOOKS, BALANCE, INTENSITY, NOTHING = "books", "balance", "intensity", "nothing"
MISLEADING = {BALANCE, NOTHING}
"""What readings say is wrong there, and the books cannot know; only a true use shows in intensities."""
CHANCE_OF_A_FEW = 9
FINER = (10, 100, 1_000)
FEW_VALUES = (5, 6)
"""So many values of a piece are too near to where the books draw the line."""
JUMP_SECONDS = (135, 270)
JUMP_NEAR = 2
"""So many readings more than it jumps over: what is used there has to be too little for a spike."""
OUTAGE_MS = 6 * HOUR_MS
LATE_MS = (15 * MINUTE_MS, 60 * DAY_MS)
FLOAT_STEPS = 2**23
"""A register falls by this part of its value without a question (docs/books.md, slips)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``concludes``: a verdict's word; or ``valid``, ``estimated``: of the spans in it, without a
    verdict; ``missing``: no figure of them; or ``rejected``. ``status``: of the verdict, or the reason.
    ``found_by``: the books, a later check of balances or intensities, nothing. ``hidden``: from when to when
    figures are wrong besides, and nothing can find it.
    """

    kind: str
    plant: str
    point: str
    from_ms: int
    to_ms: int
    concludes: str
    status: str = ""
    found_by: str = BOOKS
    hidden: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fault may be: a register, its stream, the index of its first reading, how much room it has."""

    point: Point
    stream: Stream
    index: int
    room_ms: int
    random: Generator

    @property
    def every_ms(self) -> int:
        return self.point.every_ms

    def count(self, low: int, high: int) -> int:
        """A number of readings by chance, no more than there is room for."""
        return max(1, min(int(self.random.integers(low, high + 1)), self.room_ms // self.every_ms - 2))

    def fault(
        self, kind: str, first: int, last: int, concludes: str, status: str = "", by: str = BOOKS
    ) -> Fault:
        times = self.stream.time_ms
        return Fault(
            kind,
            self.point.plant,
            self.point.meter.id,
            int(times[first]),
            int(times[last]),
            concludes,
            status,
            by,
        )

    def rise(self, first: int, last: int) -> int:
        """Steps from one reading to another, as the register counts."""
        counted = self.point.counts(self.stream.time_ms[[first, last]])
        return int(counted[1] - counted[0])


Kind = Callable[[Place], Fault | None]


def dropout(place: Place) -> Fault:
    """Some readings are never sent."""
    i, count = place.index, place.count(1, CHANCE_OF_A_FEW)
    place.stream.gone[i : i + count] = True
    return place.fault("dropout", i - 1, i + count, ESTIMATED if count + 1 > HOLDS else VALID)


def outage(place: Place) -> Fault:
    """Six hours without a connection; what was buffered comes at once, in order."""
    i, count = place.index, min(OUTAGE_MS, place.room_ms) // place.every_ms
    back_ms = int(place.stream.received_ms[i + count])
    place.stream.received_ms[i : i + count] = back_ms + np.arange(count) // 50
    return place.fault("outage", i, i + count - 1, VALID)


def duplicate(place: Place) -> Fault:
    """Some readings come again, up to an hour later."""
    i, count = place.index, place.count(1, CHANCE_OF_A_FEW)
    later = place.random.integers(1, HOUR_MS, count)
    place.stream.again(slice(i, i + count), 0, later)
    return place.fault("duplicate", i, i + count - 1, VALID)


def flood(place: Place) -> Fault:
    """One reading comes some thousand times within a few seconds."""
    i, times = place.index, int(place.random.integers(1_000, 3_000))
    place.stream.again(np.full(times, i), 0, np.sort(place.random.integers(1, 5_000, times)))
    return place.fault("flood", i, i, VALID)


def conflict(place: Place) -> Fault | None:
    """A reading comes a second time with another value."""
    i = place.index
    by = int(place.random.integers(1, max(2, place.point.possible(HOUR_MS))))
    if int(place.stream.value[i]) + by >= place.point.width:
        return None
    place.stream.again(slice(i, i + 1), by, place.random.integers(1, 10 * MINUTE_MS, 1))
    return place.fault("conflict", i, i, "conflict", HELD)


def out_of_order(place: Place) -> Fault:
    """Some readings arrive in another order, a few minutes apart."""
    i, count = place.index, place.count(3, CHANCE_OF_A_FEW)
    received = place.stream.received_ms
    received[i : i + count] = received[i + count - 1] + place.random.permutation(count) * 7
    return place.fault("out_of_order", i, i + count - 1, VALID)


def late(place: Place) -> Fault:
    """Some readings arrive minutes to months later."""
    i, count = place.index, place.count(2, 30)
    low, high = np.log(LATE_MS)
    later = int(np.exp(place.random.uniform(low, high)))
    place.stream.received_ms[i : i + count] += later
    return place.fault("late", i, i + count - 1, VALID)


def zero_glitch(place: Place) -> Fault | None:
    """The register shows zero for some readings."""
    i, count = place.index, place.count(1, CHANCE_OF_A_FEW)
    length_ms = (count + 1) * place.every_ms
    if int(place.stream.value[i - 1]) <= 2 * place.point.possible(length_ms):
        return None
    place.stream.value[i : i + count] = 0
    return place.fault("zero_glitch", i - 1, i + count, "glitch", DECIDED)


def spike(place: Place) -> Fault | None:
    """One to three readings show far too much."""
    i, count = place.index, place.count(1, 3)
    least = 5 * place.point.possible((count + 1) * place.every_ms)
    above = least * place.random.uniform(1, 40, count)
    values = place.stream.value[i : i + count] + above.astype(np.int64)
    if int(values.max()) + least > place.point.width:
        return None
    place.stream.value[i : i + count] = values
    return place.fault("spike", i - 1, i + count, "spike", DECIDED)


def stuck(place: Place) -> Fault | None:
    """The register stands still and then catches up with more than it can count from reading to reading."""
    i, count = place.index, place.count(20, 90)
    before = place.stream.value[max(0, i - HOUR_MS // place.every_ms) : i + 1]
    rise = place.rise(i, i + count)
    if len(np.unique(before)) < 2 * CHANCE_OF_A_FEW or rise < 2 * place.point.possible(place.every_ms):
        return None
    if place.rise(i + count, i + count + 1) < 1 or place.rise(i - 1, i) < 1:
        return None
    place.stream.value[i + 1 : i + count] = place.stream.value[i]
    return place.fault("stuck", i, i + count, "stuck", DECIDED)


def standstill(place: Place) -> Fault | None:
    """The same, where what it catches up with could have been counted at once: it looks like a real one."""
    i, count = place.index, place.count(3, CHANCE_OF_A_FEW)
    rise = place.rise(i, i + count)
    if not 2 < rise < place.point.possible(place.every_ms) - 2:
        return None
    place.stream.value[i + 1 : i + count] = place.stream.value[i]
    return place.fault("standstill", i, i + count, VALID, by=NOTHING)


def clock_jump(place: Place) -> Fault | None:
    """A clock is some minutes ahead or behind for a while, then right again: some readings lie among others.

    The books see those, and leave them out. That the others have a wrong stamp nothing can tell: ``hidden``.
    """
    i, stream, every_ms = place.index, place.stream, place.every_ms
    wrong_ms = int(place.random.integers(*JUMP_SECONDS)) * 1_000
    count = wrong_ms // every_ms + place.count(2, CHANCE_OF_A_FEW)
    shift_ms = wrong_ms if place.random.integers(2) else -wrong_ms
    wrong = stream.time_ms[i : i + count] + shift_ms
    near = wrong_ms // every_ms + JUMP_NEAR
    around = stream.time_ms[max(0, i - 2 * near) : i + count + 2 * near]
    counted = place.point.counts(around)
    steep = int((counted[near:] - counted[:-near]).max())
    if steep > place.point.possible(every_ms) or np.isin(wrong, around).any():
        return None
    ahead = shift_ms > 0
    among = wrong > stream.time_ms[i + count - 1] if ahead else wrong < stream.time_ms[i]
    if among.sum() < 2 or not _falls(place, i + np.flatnonzero(among), shift_ms):
        return None
    stream.time_ms[i : i + count] = wrong
    first, last = int(wrong[among][0]) - every_ms, int(wrong[among][-1]) + every_ms
    names = ("clock_jump", place.point.plant, place.point.meter.id)
    begins_ms = min(int(stream.time_ms[i - 1]), int(wrong[0])) - every_ms
    ends_ms = max(int(stream.time_ms[i + count]), int(wrong[-1])) + every_ms
    return Fault(*names, first, last, "clock_jump", DECIDED, hidden=(begins_ms, ends_ms))


def wrong_unit(place: Place) -> Fault | None:
    """A gateway sends a finer unit for some time: ten, a hundred or a thousand times what its register shows.

    Held where what it sent then counts on by itself: six values or more with no break between them.
    """
    i, count = place.index, place.count(15, 40)
    wrong = place.stream.value[i : i + count] * int(place.random.choice(FINER))
    fits = int(wrong.max()) < place.point.width
    if not (fits and place.point.possible(24 * HOUR_MS) < int(place.stream.value[i])):
        return None
    apart = np.diff(wrong) > place.point.possible(place.every_ms)
    pieces = np.split(wrong, np.flatnonzero(apart) + 1)
    most = max(len(np.unique(piece)) for piece in pieces)
    if most in FEW_VALUES or max(map(len, pieces)) in FEW_VALUES:
        return None
    place.stream.value[i : i + count] = wrong
    return place.fault("wrong_unit", i - 1, i + count, "spike", HELD if most > max(FEW_VALUES) else DECIDED)


def corrupt_payload(place: Place) -> Fault:
    """A message is cut off on its way; its reading is lost."""
    i, stream = place.index, place.stream
    at_ms, name = int(stream.received_ms[i]), place.point.meter.id
    payload = b'{"time":%d,"value":"' % int(stream.time_ms[i])
    stream.gone[i] = True
    stream.besides.append((at_ms, name, payload[: int(place.random.integers(1, len(payload)))]))
    return Fault("corrupt_payload", place.point.plant, name, at_ms, at_ms, REJECTED, "not_json")


def unknown_meter(place: Place) -> Fault:
    """A reading comes from a point that the site file does not have."""
    i, stream = place.index, place.stream
    at_ms, name = int(stream.received_ms[i]), f"{place.point.meter.id}-new"
    payload = b'{"time":%d,"value":%d}' % (int(stream.time_ms[i]), int(place.random.integers(10_000)))
    stream.besides.append((at_ms, name, payload))
    return Fault("unknown_meter", place.point.plant, name, at_ms, at_ms, REJECTED, "unknown_point")


def drift(place: Place) -> Fault:
    """A clock runs away from the right time, by less than from reading to reading, until it is put right."""
    i, count = place.index, place.count(20, 90)
    most_ms = int(place.random.integers(place.every_ms // 20, place.every_ms // 3))
    ahead_ms = np.arange(1, count + 1) * (most_ms if place.random.integers(2) else -most_ms) // count
    place.stream.time_ms[i : i + count] += ahead_ms
    return place.fault("drift", i - 1, i + count, VALID, by=NOTHING)


def _falls(place: Place, which: Integers, shift_ms: int) -> bool:
    """Whether each of these, with its wrong stamp, is far enough from its neighbours to make a fall."""
    times = place.stream.time_ms[which]
    counted = place.point.counts(times)
    behind = -place.every_ms if shift_ms > 0 else place.every_ms
    apart = np.abs(place.point.counts(times + shift_ms + behind) - counted)
    return bool((apart > np.maximum(4, counted // FLOAT_STEPS + 2)).all())


KINDS: dict[str, Kind] = {
    "dropout": dropout,
    "outage": outage,
    "duplicate": duplicate,
    "flood": flood,
    "conflict": conflict,
    "out_of_order": out_of_order,
    "late": late,
    "zero_glitch": zero_glitch,
    "spike": spike,
    "stuck": stuck,
    "standstill": standstill,
    "clock_jump": clock_jump,
    "wrong_unit": wrong_unit,
    "corrupt_payload": corrupt_payload,
    "unknown_meter": unknown_meter,
    "drift": drift,
}
"""Kinds that change readings and leave the register as it is, in the order in which they are dealt."""
