"""A simulated world: plants of a profile with a known truth, their meters' readings, and faults among them.

Everything is a function of profile, seed, start, length, faults and rate. Each plant has a stream of chance
of its own, so that more plants leave the others as they are; what flows does not depend on the faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from simulators.world_dealing import ALL_KINDS, KINDS, SWAPPED, Plan, Slot, deal_gauges, dealt, kinds_of
from simulators.world_faults import Fault, Place
from simulators.world_flow_faults import FLOW_KINDS
from simulators.world_flows import MINUTE_MS, Activities, Days, flows, past_of
from simulators.world_gateway_faults import swapped
from simulators.world_gauges import GAUGE_KINDS, gauged
from simulators.world_meters import Point, Stream, gateways, point, registered, reported
from simulators.world_profile import Profile
from simulators.world_registers import REGISTER_KINDS, Change, Factor, Happening, Restart, turns
from simulators.world_report_faults import EACH, REPORT_KINDS, Report

MARGIN_MS = 10 * MINUTE_MS
TRIES = 40
READ = {**KINDS, **GAUGE_KINDS}
FEWEST = 8
"""Where there is room for fewer readings there is room for no fault."""


@dataclass(slots=True)
class Plant:
    """One plant: its points, what each sends, what happened to them."""

    id: str
    points: list[Point]
    streams: list[Stream]
    faults: list[Fault] = field(default_factory=list)
    changes: dict[str, Change] = field(default_factory=dict)
    factors: dict[str, Factor] = field(default_factory=dict)
    restarts: dict[str, Restart] = field(default_factory=dict)
    not_placed: list[tuple[str, str]] = field(default_factory=list)


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
    slots = dealt(points, plan, number, of_faults)
    deal_gauges(slots, points, plan, of_faults)
    chances = of_faults.spawn(len(points))
    for one, own, chance in zip(points, slots, chances, strict=True):
        _flow_faults(plant, one, own, chance)
        _register_faults(plant, one, own, chance)
    _streams(plant, busy, days, of_reports)
    for i, (own, chance) in enumerate(zip(slots, chances, strict=True)):
        _reading_faults(plant, i, own, chance)
        if points[i].meter.reads == "interval":
            _report_faults(plant, i, plan, chance)
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
        if one.meter.reads == "gauge":
            plant.streams.append(gauged(one))
            continue
        stream = registered(one)
        change, restart = plant.changes.get(one.meter.id), plant.restarts.get(one.meter.id)
        if change is not None:
            stream.gone |= (stream.time_ms >= change.to_ms) & (stream.time_ms < change.from_ms)
        if restart is not None:
            stream.gone |= (stream.time_ms >= restart.from_ms) & (stream.time_ms < restart.to_ms)
            last = int(np.searchsorted(stream.time_ms, restart.from_ms))
            which = np.arange(max(0, last - restart.again), last)
            back_ms = restart.to_ms + one.latency_ms
            stream.again(which, 0, back_ms + np.arange(len(which)) - stream.received_ms[which])
        plant.streams.append(stream)


def _flow_faults(plant: Plant, one: Point, slots: Sequence[Slot], random: Generator) -> None:
    for slot in (each for each in slots if each.kind in FLOW_KINDS):
        from_ms = slot.begins(random)
        fault = FLOW_KINDS[slot.kind](one, from_ms, from_ms + slot.room_ms, random)
        _note(plant, one, slot.kind, fault)


def _register_faults(plant: Plant, one: Point, slots: Sequence[Slot], random: Generator) -> None:
    for slot in (each for each in slots if each.kind in REGISTER_KINDS):
        fault = None
        for _ in range(TRIES):
            at_ms = slot.begins(random)
            before = one.phase_ms + (at_ms - one.phase_ms) // one.every_ms * one.every_ms
            at_ms = before + int(random.integers(1, max(2, one.every_ms // 1_000))) * 1_000
            happening = Happening(one, before, at_ms, before + one.every_ms, slot.room_ms, random)
            fault = REGISTER_KINDS[slot.kind](happening)
            if fault is not None:
                _keep(plant, one.meter.id, happening)
                break
        _note(plant, one, slot.kind, fault)


def _keep(plant: Plant, name: str, happening: Happening) -> None:
    """What the site file or the stream has to say of it besides."""
    if happening.change is not None:
        plant.changes[name] = happening.change
    if happening.factor is not None:
        plant.factors[name] = happening.factor
    if happening.restart is not None:
        plant.restarts[name] = happening.restart


def _reading_faults(plant: Plant, i: int, slots: Sequence[Slot], random: Generator) -> None:
    one = plant.points[i]
    for slot in (each for each in slots if each.kind in READ or each.kind == SWAPPED):
        found: Sequence[Fault] | None = None
        for _ in range(TRIES if slot.room_ms >= FEWEST * one.every_ms else 0):
            at_ms = slot.begins(random)
            place = _place(plant, i, at_ms, slot, random)
            if slot.other is not None:
                found = swapped(place, _place(plant, slot.other, at_ms, slot, random))
            else:
                fault = READ[slot.kind](place)
                found = None if fault is None else [fault]
            if found is not None:
                break
        if found is None:
            _note(plant, one, slot.kind, None)
        plant.faults += found or []


def _place(plant: Plant, i: int, at_ms: int, slot: Slot, random: Generator) -> Place:
    stream = plant.streams[i]
    index = int(np.searchsorted(stream.time_ms, at_ms))
    return Place(plant.points[i], stream, index, slot.room_ms, random)


def _report_faults(plant: Plant, i: int, plan: Plan, random: Generator) -> None:
    """Of each three reports the one in the middle has a fault, in as many as the rate says."""
    kinds = [kind for kind in plan.kinds if kind in REPORT_KINDS]
    one, stream = plant.points[i], plant.streams[i]
    for index in range(1, len(stream.time_ms) - 1 if kinds else 0, EACH):
        if random.random() < plan.rate:
            kind = kinds[int(random.integers(len(kinds)))]
            _note(plant, one, kind, REPORT_KINDS[kind](Report(one, stream, index, random)))


def _note(plant: Plant, one: Point, kind: str, fault: Fault | None) -> None:
    if fault is None:
        plant.not_placed.append((one.meter.id, kind))
    else:
        plant.faults.append(fault)


__all__ = ["ALL_KINDS", "Plan", "Plant", "kinds_of", "plants", "plants_for"]
