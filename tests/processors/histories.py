"""Random readings and random logs of them, for the properties.

Everything is made of a ``Random``: hypothesis gives one whose choices it can make smaller, a long run
(tests.processors.soak) one with a seed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from metering.decisions import CONFLICT, WORDS, Decision
from metering.readings import MeterQuality
from metering.roster import GAUGE, INTERVAL, REGISTER, Installation, Point, Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site
from metering.units import MICRO
from tests.processors.doubt_series import LIMIT, always_broken, in_units, random_series, standing
from tests.processors.log_driver import MINUTE_MS, Arrival, Decide, Item, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from hypothesis.strategies import SearchStrategy

EXAMPLES = int(os.environ.get("METERFLOW_EXAMPLES", "30"))
"""How many random histories each property is tried on; a long run sets it to thousands."""
SITES = Path(__file__).parent / "sites"
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def examples(share: float = 1.0) -> settings:
    """Settings of a property that is tried on its share of the examples."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=max(1, int(EXAMPLES * share)), deadline=None, suppress_health_check=slow)


@cache
def roster_of(site: str) -> Roster:
    """The compiled roster of a site file in sites/."""
    return compile_roster(load_site(SITES / f"{site}.yaml"))


def utc_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


ANCHORS = {
    "park": ["2026-01-01T00:00+05:30", "2026-01-31T23:30+05:30", "2026-05-05T11:11+05:30"],
    "works": ["2025-03-30T00:30Z", "2025-10-26T00:00Z", "2025-10-25T21:00Z", "2024-12-31T22:30Z"],
    "reads": ["2025-10-04T15:00Z", "2026-04-04T14:30Z", "2025-12-31T12:45Z"],
}
"""Instants around which something turns: days of 23, 24.5 and 25 hours, a year, a replaced meter."""

GAUGES = ("g", "pf", "volts", "steam")
STEPS_MS = (30_000, MINUTE_MS, MINUTE_MS, MINUTE_MS, 5 * MINUTE_MS)
LENGTHS_MS = (*(minutes * MINUTE_MS for minutes in (5, 15, 15, 15, 30, 60, 7)), DAY_MS, 3 * DAY_MS)


@dataclass(frozen=True)
class History:
    """Readings and decisions in the order they come in, and the site they are of."""

    site: str
    readings: tuple[Item, ...]

    @property
    def roster(self) -> Roster:
        return roster_of(self.site)


@dataclass(frozen=True)
class Size:
    """How much a history holds: readings, points, steps of time. ``far``: with days between some of them."""

    readings: int
    points: int
    steps: int
    far: bool


SMALL, LARGE = Size(8, 2, 12, far=False), Size(24, 6, 40, far=True)


# -- strategies ---------------------------------------------------------------------------------------


def chances() -> SearchStrategy[Random]:
    """Where hypothesis takes the place of chance."""
    return st.randoms(use_true_random=False)


def histories(size: Size = LARGE) -> SearchStrategy[History]:
    """Readings of one site, of every kind."""
    return chances().map(lambda chance: mixed(chance, size))


def doubted() -> SearchStrategy[History]:
    """Readings of one register with a limit, with events that are doubted and settled; some of others."""
    return chances().map(lambda chance: doubtful(chance, LARGE))


def stated() -> SearchStrategy[History]:
    """Readings of registers that are replaced, with what the site file states of their ends."""
    return chances().map(lambda chance: replaced(chance, LARGE))


def logs(readings: Sequence[Item]) -> SearchStrategy[list[Arrival]]:
    """A log of these readings in this order."""
    return chances().map(lambda chance: log_of(chance, readings))


# -- readings -----------------------------------------------------------------------------------------


def mixed(chance: Random, size: Size) -> History:
    """Readings of one site: mostly lines, with falls, zeros, gaps, spikes, corrections and copies in them."""
    site = chance.choice(sorted(ANCHORS))
    roster = roster_of(site)
    anchor_ms = utc_ms(chance.choice(ANCHORS[site]))
    few = chance.sample(roster.points, chance.randint(1, min(size.points, len(roster.points))))
    readings = [
        _reading(chance, roster, chance.choice(few), anchor_ms, size)
        for _ in range(chance.randint(1, size.readings))
    ]
    every: list[Item] = [*readings, *copies(chance, readings, 4), *decisions(chance, readings, size)]
    return History(site, tuple(chance.sample(every, len(every))))


def copies(chance: Random, readings: Sequence[Reading], most: int) -> list[Reading]:
    return [
        _changed(chance.choice(readings), chance.choice(_CHANGES)) for _ in range(chance.randint(0, most))
    ]


def decisions(chance: Random, readings: Sequence[Reading], size: Size) -> list[Decide]:
    """What people say of some of these readings: what may be, what cannot, twice, and one against another."""
    out: list[Decide] = []
    for _ in range(chance.choice([0, 0, 1, 2, 4] if size.far else [0, 0, 0, 1, 2])):
        one = chance.choice(readings)
        times = sorted({r.time_ms for r in readings if (r.plant, r.point) == (one.plant, one.point)})
        first = chance.randrange(len(times))
        last = min(first + chance.choice([1, 1, 1, 2, 2, 3, 6]), len(times) - 1)
        span_ms = times[first], times[last] + chance.choice([0] * 12 + [1, -MINUTE_MS])
        word, revision, value = (
            chance.choice([*WORDS, CONFLICT, CONFLICT]),
            chance.choice([0, 0, 0, 1, 2]),
            "",
        )
        if one.start_ms is not None and chance.randint(0, 5) > 0:
            span_ms, word = (one.start_ms, one.time_ms), chance.choice(["plain", "plain", "spike", "overlap"])
        if one.point in GAUGES and chance.randint(0, 5) > 0:
            span_ms, word = (one.time_ms, one.time_ms), chance.choice(["plain", "spike", CONFLICT])
        if word == CONFLICT:
            span_ms = one.time_ms, one.time_ms
            if one.start_ms is not None:
                starts = [one.time_ms, one.start_ms, one.time_ms - 15 * MINUTE_MS]
                span_ms = chance.choice(starts), one.time_ms
            value = chance.choice([one.value, str(Decimal(one.value) + 1), "3", "0.0000004"])
        said = Decision(one.point, None, *span_ms, word, chance.choice(["li", "wang"]), revision, value)
        out += [Decide(one.plant, said)] * chance.choice([1, 1, 1, 2])
        if chance.randint(0, 3) == 0:
            words = WORDS if one.start_ms is None else ["plain", "overlap"]
            words = ["plain", "spike"] if one.point in GAUGES else words
            other = replace(said, verdict=chance.choice(words), by="zhao")
            other = replace(said, value="7", by="zhao") if word == CONFLICT else other
            out.append(Decide(one.plant, replace(other, revision=revision + chance.randint(0, 1))))
    return out


_CHANGES = ["same", "same", "other", "lower", "newer", "newer_other", "estimated", "older", "longer", "later"]


def _changed(reading: Reading, change: str) -> Reading:
    """A repeated, corrected or contradicting reading of the same identity."""
    other = str(Decimal(reading.value) + 1)
    match change:
        case "other":
            return replace(reading, value=other)
        case "lower":
            return replace(reading, value=str(Decimal(reading.value) - 1))
        case "newer":
            return replace(reading, revision=reading.revision + 1)
        case "newer_other":
            return replace(reading, revision=reading.revision + 1, value=other)
        case "older":
            return replace(reading, revision=max(0, reading.revision - 1), value=other)
        case "estimated":
            return replace(reading, quality=MeterQuality.ESTIMATED)
        case "longer" | "later" if reading.start_ms is not None:
            moved_ms = (reading.time_ms - reading.start_ms) * (-1 if change == "longer" else 1) // 2
            return replace(reading, start_ms=reading.start_ms + moved_ms, revision=reading.revision + 1)
    return reading


_FAR_MS = (DAY_MS, -2 * HOUR_MS, 403 * DAY_MS)


def _reading(chance: Random, roster: Roster, point: Point, anchor_ms: int, size: Size) -> Reading:
    offset_ms = chance.randint(0, size.steps) * chance.choice(STEPS_MS)
    offset_ms += chance.choice([0] * 30 + [1, 1234, 1234, *(_FAR_MS if size.far else ())])
    time_ms = anchor_ms + offset_ms
    quality = chance.choice([MeterQuality.UNSTATED] * 20 + [MeterQuality.ESTIMATED, MeterQuality.BAD])
    start_ms = None
    if point.reads == INTERVAL:
        length_ms = chance.choice(LENGTHS_MS if size.far else LENGTHS_MS[:-2])
        aligned = chance.randint(0, 3) > 0
        time_ms = (time_ms // length_ms + 1) * length_ms if aligned else time_ms
        start_ms = time_ms - length_ms
        value = chance.choice(["0", "0", "1", "2", "2.5", "7", "-1", "0.0000005"])
    elif point.reads == GAUGE:
        value = chance.choice(["0", "1", "7", "-3", "0.1", "99.999999", "0.0000005", "43000", "4398046"])
    else:
        value = _register_value(chance, point, offset_ms)
    revision = chance.choice([0] * 15 + [1, 2])
    plant = roster.plants[point.plant].id
    return Reading(plant, point.id, time_ms, value, start_ms, revision, quality=quality)


_KINDS = ["line"] * 14 + ["zero", "else", "edge", "edge", "fine", "still"]


def _register_value(chance: Random, point: Point, offset_ms: int) -> str:
    """A register's value at an instant: on a line, at the edge of its limit, or elsewhere."""
    installation = point.installations[0]
    limit = _limit(point, installation)
    width = Fraction(installation.width or 10**12)
    base = width - chance.choice([width, width, limit / 4, limit / 60])
    return _shown(chance, point, installation, base, offset_ms)


def _limit(point: Point, installation: Installation) -> Fraction:
    """Of the register, per hour."""
    first = installation.multipliers[0]
    return Fraction(point.limit_per_hour or 100 * MICRO) / Fraction(first.numerator, first.denominator)


def _shown(chance: Random, point: Point, installation: Installation, base: Fraction, elapsed_ms: int) -> str:
    """What a register shows a time after it showed ``base``."""
    elapsed, limit, step = Fraction(elapsed_ms, HOUR_MS), _limit(point, installation), installation.step
    width = Fraction(installation.width or 10**12)
    match chance.choice(_KINDS):
        case "line":
            value = base + limit / 2 * elapsed
        case "edge":  # with a reading on the line's start: exactly what the limit allows, or a step beside it
            value = base + limit * Fraction(12, 10) * elapsed + chance.randint(1, 3) * step
        case "fine":
            return _text((base + limit / 2 * elapsed + Fraction(step, 2)) % width, point)
        case "still":
            value = base
        case "else":
            value = base + chance.randint(-50, 50) * Fraction(MICRO)
        case _:
            value = Fraction(0)
    return _text(value // step * step % width, point)


def _text(millionths: Fraction, point: Point, places: int = 9) -> str:
    """The value in the point's unit as decimal text."""
    exact = Fraction(millionths) / MICRO / point.unit.factor
    return f"{round(exact * 10**places)}e-{places}"


# -- registers in doubt -------------------------------------------------------------------------------


def doubtful(chance: Random, size: Size) -> History:
    """Readings of one register with a limit, with events that are doubted and settled; some of others."""
    site = chance.choice(["park", "works"])
    roster, anchor_ms = roster_of(site), utc_ms(chance.choice(ANCHORS[site]))
    limited = [p for p in roster.points if p.reads == REGISTER and p.limit_per_hour and p.base_ms]
    turning = [p for p in limited if (p.installations[0].width or 10**12) < _limit(p, p.installations[0]) / 4]
    point = chance.choice(limited + 2 * turning)
    rows = _coarse(chance) if size.far and chance.random() < 0.5 else _fine(chance, size)
    one = point.installations[0]
    scale, plant = _limit(point, one) / LIMIT, roster.plants[point.plant].id
    readings = []
    for time, value in rows:
        shown = value * scale // one.step * one.step % (one.width or 10**12)
        readings.append(Reading(plant, point.id, anchor_ms + time, _text(Fraction(shown), point)))
    beside = [
        _reading(chance, roster, chance.choice(roster.points[:3]), anchor_ms, size)
        for _ in range(chance.randint(0, 4 if size.far else 1))
    ]
    every: list[Item] = [
        *readings,
        *beside,
        *copies(chance, readings, 2),
        *decisions(chance, readings, size),
    ]
    return History(site, nearly_in_order(chance, every))


def _fine(chance: Random, size: Size) -> list[tuple[int, int]]:
    kind = chance.randint(0, 6) if size.far else chance.choice([0, 0, 0, 0, 6])
    if kind in (4, 5):
        return (standing if kind == 4 else in_units)(chance).readings
    if kind == 6:
        return always_broken(chance, 30 if size.far else 2 * size.readings).readings
    rows = random_series(chance, 16 if size.far else size.readings).readings
    return rows if size.far else [(time, value) for time, value in rows if time - rows[0][0] <= HOUR_MS]


def nearly_in_order(chance: Random, items: Sequence[Item]) -> tuple[Item, ...]:
    """Each up to some places later than it is; decisions anywhere behind."""
    far = chance.choice([0, 0, 2, 40])
    order = [
        (place + chance.randint(0, len(items) if isinstance(one, Decide) else far), place)
        for place, one in enumerate(items)
    ]
    return tuple(items[place] for _, place in sorted(order))


def _coarse(chance: Random) -> list[tuple[int, int]]:
    """Readings so far apart that most of what happens could be: the next ones tell."""
    every_ms, value, out = chance.choice([10 * MINUTE_MS, HOUR_MS]), 50 * MICRO, []
    kinds = ["on"] * 4 + ["low", "zero", "high", "still", "caught"]
    happens = [chance.choice(kinds) for _ in range(chance.randint(0, 12))]
    for number, event in enumerate(["on", "on", *happens, "on", "on"]):
        rise = chance.randint(1, 10) * LIMIT * every_ms // HOUR_MS // 10
        value += {"still": 0, "caught": 3 * rise}.get(event, rise)
        shown = {"low": value - rise - LIMIT // 20, "zero": 0, "high": value + 2 * rise}.get(event, value)
        out.append((number * every_ms, shown))
    return out


# -- meters that are replaced -------------------------------------------------------------------------

REPLACED_FROM_MS = utc_ms("2026-03-29T00:00Z")
"""The first quarter of an hour of which sites/meters.yaml tells something; the last is 3 hours later."""


def replaced(chance: Random, size: Size) -> History:
    """Readings around the replacements of sites/meters.yaml."""
    roster = roster_of("meters")
    few = chance.sample(roster.points, chance.randint(1, min(size.points, len(roster.points))))
    readings = [
        _of_an_installation(chance, roster, chance.choice(few))
        for _ in range(chance.randint(1, size.readings))
    ]
    readings.sort(key=lambda reading: reading.time_ms)
    every: list[Item] = [*readings, *copies(chance, readings, 2), *decisions(chance, readings, size)]
    return History("meters", nearly_in_order(chance, every))


def _of_an_installation(chance: Random, roster: Roster, point: Point) -> Reading:
    """A reading near the line through what the site states; with a serial, maybe a wrong one, or without."""
    time_ms = REPLACED_FROM_MS + chance.randint(0, 36) * 5 * MINUTE_MS + chance.choice([0] * 9 + [1, 90_000])
    there = [one for one in point.installations if one.from_ms <= time_ms <= one.to_ms]
    one = chance.choice(there or point.installations)
    if one.initial is None and one.final is not None:
        from_ms, base = one.to_ms - 4 * HOUR_MS, one.final - 2 * _limit(point, one)
    else:
        from_ms, base = max(one.from_ms, REPLACED_FROM_MS), Fraction(one.initial or 0)
    value = _shown(chance, point, one, base, time_ms - from_ms)
    serial = chance.choice([None] * 4 + [one.serial or None] * 3 + [point.installations[-1].serial or None])
    return Reading(roster.plants[point.plant].id, point.id, time_ms, value, serial=serial)


# -- logs ---------------------------------------------------------------------------------------------

_PAUSES_MS = [0, 0, 500, 5_000, MINUTE_MS, 10 * MINUTE_MS, DAY_MS, -MINUTE_MS]


def log_of(chance: Random, readings: Sequence[Item]) -> list[Arrival]:
    """A log of these in this order: records of one plant, stamps that jump, ticks between."""
    out: list[Arrival] = []
    stamp_ms = min(reading.time_ms for reading in readings)
    at = 0
    while at < len(readings):
        stamp_ms += chance.choice(_PAUSES_MS)
        if chance.randint(0, 6) == 0:
            out.append(Arrival(stamp_ms))
        size = chance.choice([1, 1, 2, 5, 20])
        part = readings[at : at + size]
        plants = dict.fromkeys(reading.plant for reading in part)
        out += [Arrival(stamp_ms, tuple(r for r in part if r.plant == plant)) for plant in plants]
        at += size
    return out
