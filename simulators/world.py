"""A simulated world: plants of a profile with a known truth, their meters' readings, and faults among them.

Everything is a function of profile, seed, start, length, faults and rate. Each plant has a stream of chance
of its own, so that more plants leave the others as they are; what flows does not depend on the faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from metering.errors import UsageError
from simulators.world_faults import KINDS, Fault, Place
from simulators.world_flows import HOUR_MS, MINUTE_MS, Activities, Days, flows, past_of
from simulators.world_meters import Point, Stream, gateways, point, registered, reported
from simulators.world_profile import Profile
from simulators.world_registers import REGISTER_KINDS, Change, Happening, turns

ALL_KINDS = (*REGISTER_KINDS, *KINDS)
MARGIN_MS = 10 * MINUTE_MS
SLOT_MS = 6 * HOUR_MS
"""Each has at most one fault of a point: they are so far apart that each has one right conclusion."""
TRIES = 40
FEWEST = 8
"""Where there is room for fewer readings there is room for no fault."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. ``rate``: in how many of a point's slots of six hours there is a fault, 0 to 1."""

    seed: int
    from_ms: int
    to_ms: int
    kinds: tuple[str, ...] = ()
    rate: float = 0.5


@dataclass(slots=True)
class Plant:
    """One plant: its points, what each sends, what happened to them."""

    id: str
    points: list[Point]
    streams: list[Stream]
    faults: list[Fault] = field(default_factory=list)
    changes: dict[str, Change] = field(default_factory=dict)
    not_placed: list[tuple[str, str]] = field(default_factory=list)


def kinds_of(text: str) -> tuple[str, ...]:
    """``all``, ``none``, or names with commas between; raises UsageError for another word."""
    if text in {"all", "none"}:
        return ALL_KINDS if text == "all" else ()
    names = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in ALL_KINDS]
    if unknown:
        raise UsageError(f"no fault '{unknown[0]}'", hint=f"Give all, none, or of {', '.join(ALL_KINDS)}.")
    return names


def plants_for(profile: Profile, meters: int | None) -> int:
    """How many plants have at least so many meters."""
    return 1 if meters is None else -(-meters // len(profile.points))


def plants(profile: Profile, plan: Plan, count: int) -> Iterator[Plant]:
    """The plants of a world, one after another; named ``ID-1``, ``ID-2``, ..."""
    for number in range(count):
        root = Generator(PCG64(SeedSequence([plan.seed, number])))
        yield _plant(profile, plan, f"{profile.plant}-{number + 1}", number, root)


def _plant(profile: Profile, plan: Plan, name: str, number: int, root: Generator) -> Plant:
    of_flows, of_meters, of_reports, of_faults, of_gateways = root.spawn(5)
    margin_ms = max(MARGIN_MS, 3 * max(meter.every for meter in profile.points))
    minutes = (plan.to_ms - plan.from_ms + 2 * margin_ms) // MINUTE_MS
    days = Days(plan.from_ms - margin_ms, minutes, profile.time_zone)
    passing, busy = flows(profile, days, of_flows)
    senders, span_ms = gateways(of_gateways), (plan.from_ms, plan.to_ms)
    points = [
        point(name, meter, past_of(meter, passing, days.from_ms), span_ms, senders[i % len(senders)], chance)
        for i, (meter, chance) in enumerate(
            zip(profile.points, of_meters.spawn(len(profile.points)), strict=True)
        )
    ]
    plant = Plant(name, points, [])
    dealt = _dealt(points, plan, number, of_faults)
    chances = of_faults.spawn(len(points))
    for i, (one, chance) in enumerate(zip(points, chances, strict=True)):
        _register_faults(plant, one, dealt[i], chance)
    _streams(plant, busy, days, of_reports)
    for i, (one, chance) in enumerate(zip(points, chances, strict=True)):
        _reading_faults(plant, one, plant.streams[i], dealt[i], chance)
    known = set(plant.faults)
    for one in points:
        if one.meter.reads == "register":
            plant.faults += [fault for fault in turns(one) if fault not in known]
    plant.faults.sort(key=lambda fault: (fault.from_ms, fault.point))
    return plant


def _streams(plant: Plant, busy: Activities, days: Days, random: Generator) -> None:
    for one, chance in zip(plant.points, random.spawn(len(plant.points)), strict=True):
        if one.meter.reads == "interval":
            plant.streams.append(reported(one, busy, days, chance))
            continue
        stream = registered(one)
        change = plant.changes.get(one.meter.id)
        if change is not None:
            stream.gone |= (stream.time_ms >= change.to_ms) & (stream.time_ms < change.from_ms)
        plant.streams.append(stream)


Dealt = list[tuple[int, int, str]]
"""From when to when there is room for a fault, and its kind."""


def _dealt(points: Sequence[Point], plan: Plan, number: int, random: Generator) -> list[Dealt]:
    """Which kind of fault each slot of each point has: all kinds equally often, in an order by chance."""
    length_ms = min(SLOT_MS, plan.to_ms - plan.from_ms)
    slots = (plan.to_ms - plan.from_ms) // length_ms
    out: list[Dealt] = [[] for _ in points]
    if not plan.kinds:
        return out
    registers = [i for i, one in enumerate(points) if one.meter.reads == "register"]
    places = [(int(i), slot) for slot in range(slots) for i in random.permutation(registers)]
    taken = [place for place in places if random.random() < plan.rate]
    begin = int(random.permutation(len(plan.kinds))[0]) + number
    changed: set[int] = set()
    until_ms = [plan.from_ms] * len(points)
    waiting = [plan.kinds[(begin + k) % len(plan.kinds)] for k in range(len(taken))]
    for i, slot in sorted(taken, key=lambda place: place[1]):
        from_ms = plan.from_ms + slot * length_ms
        fitting = [k for k in waiting if k not in REGISTER_KINDS or i not in changed]
        if until_ms[i] > from_ms or not fitting:
            continue
        waiting.remove(fitting[0])
        changed |= {i} if fitting[0] in REGISTER_KINDS else set()
        long = fitting[0] == "outage" and slot + 1 < slots
        until_ms[i] = from_ms + length_ms * (2 if long else 1)
        out[i].append((from_ms, until_ms[i], fitting[0]))
    return out


def _begins(from_ms: int, to_ms: int, random: Generator) -> int:
    """An instant by chance, between a sixth and a half of the first slot."""
    slot_ms = min(SLOT_MS, to_ms - from_ms)
    return from_ms + int(random.integers(slot_ms // 6, slot_ms // 2))


def _register_faults(plant: Plant, one: Point, dealt: Dealt, random: Generator) -> None:
    for from_ms, to_ms, kind in (each for each in dealt if each[2] in REGISTER_KINDS):
        for _ in range(TRIES):
            at_ms = _begins(from_ms, to_ms, random)
            before = one.phase_ms + (at_ms - one.phase_ms) // one.every_ms * one.every_ms
            at_ms = before + int(random.integers(1, max(2, one.every_ms // 1_000))) * 1_000
            happening = Happening(one, before, at_ms, before + one.every_ms, random)
            fault = REGISTER_KINDS[kind](happening)
            if fault is not None:
                plant.faults.append(fault)
                if happening.change is not None:
                    plant.changes[one.meter.id] = happening.change
                break
        else:
            plant.not_placed.append((one.meter.id, kind))


def _reading_faults(plant: Plant, one: Point, stream: Stream, dealt: Dealt, random: Generator) -> None:
    for from_ms, to_ms, kind in (each for each in dealt if each[2] in KINDS):
        room_ms = (to_ms - from_ms) // 3 if to_ms - from_ms <= SLOT_MS else SLOT_MS
        for _ in range(TRIES if room_ms >= FEWEST * one.every_ms else 0):
            index = int(np.searchsorted(stream.time_ms, _begins(from_ms, to_ms, random)))
            fault = KINDS[kind](Place(one, stream, index, room_ms, random))
            if fault is not None:
                plant.faults.append(fault)
                break
        else:
            plant.not_placed.append((one.meter.id, kind))
