"""Random readings and random logs of them, for the properties."""

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

from metering.decisions import WORDS, Decision
from metering.readings import MeterQuality
from metering.roster import GAUGE, INTERVAL, REGISTER, Point, Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site
from metering.units import MICRO
from tests.processors.doubt_series import LIMIT, series
from tests.processors.log_driver import MINUTE_MS, Arrival, Decide, Item, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@st.composite
def histories(draw: st.DrawFn, size_max: int = 24) -> History:
    """Readings of one site: mostly lines, with falls, zeros, gaps, spikes, corrections and copies in them."""
    site = draw(st.sampled_from(sorted(ANCHORS)))
    roster = roster_of(site)
    anchor_ms = utc_ms(draw(st.sampled_from(ANCHORS[site])))
    few = draw(st.lists(st.sampled_from(roster.points), min_size=1, max_size=6, unique_by=lambda p: p.index))
    readings = draw(st.lists(_readings(roster, few, anchor_ms), min_size=1, max_size=size_max))
    copies = draw(st.lists(st.tuples(st.sampled_from(readings), _CHANGES), max_size=4))
    every = readings + [_changed(reading, change) for reading, change in copies]
    return History(site, tuple(draw(st.permutations(every + draw(_decisions(readings))))))


@st.composite
def _decisions(draw: st.DrawFn, readings: Sequence[Reading]) -> list[Decide]:
    """What people say of some of these readings: what may be, what cannot, twice, and one against another."""
    out: list[Decide] = []
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 4]))):
        one = draw(st.sampled_from(readings))
        times = sorted({r.time_ms for r in readings if (r.plant, r.point) == (one.plant, one.point)})
        first = draw(st.integers(0, len(times) - 1))
        last = min(first + draw(st.sampled_from([1, 1, 1, 2, 2, 3, 6])), len(times) - 1)
        shift_ms = draw(st.sampled_from([0] * 12 + [1, -MINUTE_MS]))
        word = draw(st.sampled_from(WORDS))
        revision, by = draw(st.sampled_from([0, 0, 0, 1, 2])), draw(st.sampled_from(["li", "wang"]))
        said = Decision(one.point, None, times[first], times[last] + shift_ms, word, by, revision)
        out += [Decide(one.plant, said)] * draw(st.sampled_from([1, 1, 1, 2]))
        if draw(st.integers(0, 3)) == 0:
            other = replace(said, verdict=draw(st.sampled_from(WORDS)), by="zhao")
            out.append(Decide(one.plant, replace(other, revision=revision + draw(st.integers(0, 1)))))
    return out


_CHANGES = st.sampled_from(["same", "same", "other", "lower", "newer", "newer_other", "estimated", "older"])


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
    return reading


@st.composite
def _readings(draw: st.DrawFn, roster: Roster, points: Sequence[Point], anchor_ms: int) -> Reading:
    point = draw(st.sampled_from(points))
    offset_ms = draw(st.integers(0, 40)) * draw(st.sampled_from(STEPS_MS))
    offset_ms += draw(st.sampled_from([0] * 30 + [1, 1234, 1234, DAY_MS, -2 * HOUR_MS, 403 * DAY_MS]))
    time_ms = anchor_ms + offset_ms
    quality = draw(st.sampled_from([MeterQuality.UNSTATED] * 20 + [MeterQuality.ESTIMATED, MeterQuality.BAD]))
    start_ms = None
    if point.reads == INTERVAL:
        length_ms = draw(st.sampled_from(LENGTHS_MS))
        aligned = draw(st.integers(0, 3)) > 0
        time_ms = (time_ms // length_ms + 1) * length_ms if aligned else time_ms
        start_ms = time_ms - length_ms
        value = draw(st.sampled_from(["0", "0", "1", "2", "2.5", "7", "-1", "0.0000005"]))
    elif point.reads == GAUGE:
        value = draw(
            st.sampled_from(["0", "1", "7", "-3", "0.1", "99.999999", "0.0000005", "43000", "4398046"])
        )
    else:
        value = draw(_register_values(point, offset_ms))
    revision = draw(st.sampled_from([0] * 15 + [1, 2]))
    return Reading(
        roster.plants[point.plant].id, point.id, time_ms, value, start_ms, revision, quality=quality
    )


@st.composite
def _register_values(draw: st.DrawFn, point: Point, offset_ms: int) -> str:
    """A register's value at an instant: on a line, at the edge of its limit, or elsewhere."""
    installation = point.installations[0]
    multiplier = Fraction(installation.multipliers[0].numerator, installation.multipliers[0].denominator)
    limit = Fraction(point.limit_per_hour or 100 * MICRO) / multiplier
    width = Fraction(installation.width or 10**12)
    base = width - draw(st.sampled_from([width, width, limit / 4, limit / 60]))
    elapsed = Fraction(offset_ms, HOUR_MS)
    kind = draw(st.sampled_from(["line"] * 14 + ["zero", "else", "edge", "edge", "fine", "still"]))
    step = installation.step
    match kind:
        case "line":
            value = base + limit / 2 * elapsed
        case "edge":  # with a reading on the line's start: exactly what the limit allows, or a step beside it
            value = base + limit * Fraction(12, 10) * elapsed + draw(st.integers(1, 3)) * step
        case "fine":
            value = base + limit / 2 * elapsed + Fraction(step, 2)
            return _text(value % width, point, places=9)
        case "still":
            value = Fraction(base)
        case "else":
            value = base + draw(st.integers(-50, 50)) * Fraction(MICRO)
        case _:
            value = Fraction(0)
    return _text(value // step * step % width, point)


def _text(millionths: Fraction, point: Point, places: int = 9) -> str:
    """The value in the point's unit as decimal text."""
    exact = Fraction(millionths) / MICRO / point.unit.factor
    return f"{round(exact * 10**places)}e-{places}"


@st.composite
def _coarse(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Readings so far apart that most of what happens could be: the next ones tell."""
    every_ms, value, out = draw(st.sampled_from([10 * MINUTE_MS, HOUR_MS])), 50 * MICRO, []
    happens = draw(
        st.lists(st.sampled_from(["on"] * 4 + ["low", "zero", "high", "still", "caught"]), max_size=12)
    )
    for number, event in enumerate(["on", "on", *happens, "on", "on"]):
        rise = draw(st.integers(1, 10)) * LIMIT * every_ms // HOUR_MS // 10
        value += {"still": 0, "caught": 3 * rise}.get(event, rise)
        shown = {"low": value - rise - LIMIT // 20, "zero": 0, "high": value + 2 * rise}.get(event, value)
        out.append((number * every_ms, shown))
    return out


@st.composite
def doubted(draw: st.DrawFn) -> History:
    """Readings of one register with a limit, with events that are doubted and settled; some of others."""
    site = draw(st.sampled_from(["park", "works"]))
    roster, anchor_ms = roster_of(site), utc_ms(draw(st.sampled_from(ANCHORS[site])))
    limited = [p for p in roster.points if p.reads == REGISTER and p.limit_per_hour and p.base_ms]
    point = draw(st.sampled_from(limited))
    one, rows = point.installations[0], draw(st.one_of(series(16).map(lambda one: one.readings), _coarse()))
    scale = Fraction(point.limit_per_hour or 0, LIMIT) / Fraction(
        one.multipliers[0].numerator, one.multipliers[0].denominator
    )
    plant = roster.plants[point.plant].id
    readings = []
    for time, value in rows:
        shown = value * scale // one.step * one.step % (one.width or 10**12)
        readings.append(Reading(plant, point.id, anchor_ms + time, _text(shown, point)))
    others = draw(st.lists(_readings(roster, roster.points[:3], anchor_ms), max_size=4))
    copies = draw(st.lists(st.tuples(st.sampled_from(readings), _CHANGES), max_size=2))
    every = [*readings, *others, *(_changed(reading, change) for reading, change in copies)]
    every += draw(_decisions(readings))
    far = draw(st.sampled_from([0, 0, 2, 40]))
    places = [
        place + draw(st.integers(0, len(every) if isinstance(r, Decide) else far))
        for place, r in enumerate(every)
    ]
    order = sorted(range(len(every)), key=places.__getitem__)
    return History(site, tuple(every[place] for place in order))


@st.composite
def logs(draw: st.DrawFn, readings: Sequence[Item]) -> list[Arrival]:
    """A log of these readings in this order: records of one plant, stamps that jump, ticks between."""
    out: list[Arrival] = []
    stamp_ms = min(reading.time_ms for reading in readings)
    at = 0
    while at < len(readings):
        stamp_ms += draw(st.sampled_from([0, 0, 500, 5_000, MINUTE_MS, 10 * MINUTE_MS, DAY_MS, -MINUTE_MS]))
        if draw(st.integers(0, 6)) == 0:
            out.append(Arrival(stamp_ms))
        size = draw(st.sampled_from([1, 1, 2, 5, 20]))
        part = readings[at : at + size]
        plants = dict.fromkeys(reading.plant for reading in part)
        out += [Arrival(stamp_ms, tuple(r for r in part if r.plant == plant)) for plant in plants]
        at += size
    return out
