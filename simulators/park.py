"""A simulated park for any site file: what each of its meters shows at any instant.

A register is a function of the seed, the plant, the point and the instant alone, and it never
falls: the park's past is a chain of days from EPOCH_MS on, each one of a few patterns drawn from
the seed, so that what flowed before any day is a sum of integers. Starting again later, or asking
for the same instants twice, gives the same readings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import blake2b
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from metering import roster
from metering.measures import OUTPUT, VALUE_ADDED
from metering.units import MICRO
from simulators.park_days import DAYS, MINUTES, any_day

Integers = NDArray[np.int64]
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
EPOCH_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 1_000
"""The simulated registers begin here; instants before it are not asked for."""
PATTERNS = 8
REGISTER_EVERY_MS = 10_000
LATENCY_MAX_MS = 400
BOOKS_LATENCY_MS = 60_000
PEAK_SHARE_OF_LIMIT = 0.95
DECIMALS_UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading as the meter shows it; ``start_ms`` for amounts of an interval."""

    point: str
    time_ms: int
    value: str
    start_ms: int | None = None


class Park:
    """The meters of a site file. Gauges are not simulated."""

    def __init__(self, site: roster.Roster, seed: int) -> None:
        self.plants = tuple(plant.id for plant in site.plants)
        self._meters: dict[str, tuple[Meter, ...]] = {}
        for plant in site.plants:
            points = [site.points[i] for i in plant.points if site.points[i].reads != roster.GAUGE]
            past = Past(plant, seed)
            self._meters[plant.id] = tuple(Meter(point, points, past, plant.id) for point in points)

    def meters(self, plant: str) -> tuple[Meter, ...]:
        return self._meters[plant]

    def readings(self, plant: str, after_ms: int, until_ms: int, nth: int = 1) -> list[Reading]:
        """What a plant's meters send in (after, until], by time; of registers every nth reading."""
        found = [r for meter in self._meters[plant] for r in meter.readings(after_ms, until_ms, nth)]
        found.sort(key=lambda reading: reading.time_ms)
        return found


class Past:
    """What has flowed in a plant from EPOCH_MS to an instant, in millionths of canonical units."""

    def __init__(self, plant: roster.Plant, seed: int) -> None:
        make_day = DAYS.get(plant.id.split("-")[0], any_day)
        self._salt = _hash(seed, plant.id)
        days = [make_day(np.random.default_rng([self._salt, i])) for i in range(PATTERNS)]
        self._within = {name: _running(np.stack([day[name] for day in days])) for name in days[0]}
        self.peaks = {name: max(float(day[name].max()) for day in days) for name in days[0]}
        self._before: dict[str, Integers] = {}
        zone = ZoneInfo(plant.time_zone)
        offset = datetime.fromtimestamp(EPOCH_MS / 1_000, zone).utcoffset()
        assert offset is not None, "an instant in a zone has an offset"
        self.day_zero_ms = EPOCH_MS - round(offset.total_seconds() * 1_000) % DAY_MS
        """A local midnight of winter at or before EPOCH_MS; days have 24 hours here all year."""

    def amount(self, curve: str, at_ms: Integers) -> Integers:
        """Never falls with the instant; linear inside a minute."""
        since = at_ms - self.day_zero_ms
        assert since.size == 0 or int(since.min()) >= 0, "the simulated past begins at EPOCH_MS"
        day, within_ms = np.divmod(since, DAY_MS)
        minute, rest_ms = np.divmod(within_ms, MINUTE_MS)
        running, pattern = self._within[curve], self._pattern(day)
        low, high = running[pattern, minute], running[pattern, minute + 1]
        return np.asarray(self._day_start(curve, day) + low + (high - low) * rest_ms // MINUTE_MS)

    def _pattern(self, day: Integers) -> Integers:
        """Which pattern a day has: SplitMix64 of its number."""
        mixed = day.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(self._salt)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(PATTERNS)).astype(np.int64)

    def _day_start(self, curve: str, day: Integers) -> Integers:
        last = int(day.max(initial=0))
        known = self._before.get(curve)
        if known is None or len(known) <= last:
            days = np.arange(last + 32, dtype=np.int64)
            totals = self._within[curve][self._pattern(days), MINUTES]
            known = self._before[curve] = np.concatenate([[0], np.cumsum(totals)])
        return known[day]


class Meter:
    """One point's meters: when they send, and what they show."""

    def __init__(self, point: roster.Point, points: list[roster.Point], past: Past, plant: str) -> None:
        self.point = point
        self.curve = curve_of(point)
        self._past = past
        self.day_zero_ms = past.day_zero_ms
        self._share = _share(point, points, past.peaks[self.curve])
        interval = point.reads == roster.INTERVAL
        self.every_ms = point.expect_ms or (DAY_MS if interval else REGISTER_EVERY_MS)
        chance = _hash(0, f"{plant}/{point.id}")
        self.latency_ms = BOOKS_LATENCY_MS if interval else chance % LATENCY_MAX_MS
        self._phase_ms = past.day_zero_ms if interval else chance % self.every_ms
        self._interval = interval

    def amount(self, at_ms: Integers) -> Integers:
        """What really flowed here since EPOCH_MS, in millionths of the canonical unit."""
        return _scaled(self._past.amount(self.curve, at_ms), self._share)

    def readings(self, after_ms: int, until_ms: int, nth: int = 1) -> Iterator[Reading]:
        """The readings sent in (after, until]; each is sent ``latency_ms`` behind its time."""
        at = self._instants(
            after_ms - self.latency_ms, until_ms - self.latency_ms, 1 if self._interval else nth
        )
        if self._interval:
            amounts = self.amount(at) - self.amount(at - self.every_ms)
            for time_ms, amount in zip(at.tolist(), amounts.tolist(), strict=True):
                yield Reading(self.point.id, time_ms, self._amount_text(amount), time_ms - self.every_ms)
            return
        for one in self.point.installations:
            inside = at[(at >= one.from_ms) & (at < one.to_ms)]
            decimals, _ = _resolution(self.point, one)
            for time_ms, steps in zip(inside.tolist(), self.register(one, inside).tolist(), strict=True):
                yield Reading(self.point.id, time_ms, _text(steps, decimals))

    def register(self, one: roster.Installation, at_ms: Integers) -> Integers:
        """What an installation's register shows, in its steps."""
        shown = np.full(at_ms.shape, one.initial or 0, np.int64)
        begins = [max(one.from_ms, multiplier.from_ms, EPOCH_MS) for multiplier in one.multipliers]
        ends = [*begins[1:], roster.FOR_EVER_MS]
        for multiplier, begin, end in zip(one.multipliers, begins, ends, strict=True):
            moved = self.amount(np.clip(at_ms, begin, end)) - self.amount(np.array([begin]))
            shown += _scaled(moved, Fraction(multiplier.denominator, multiplier.numerator))
        if one.width:
            shown %= one.width
        return _scaled(shown, 1 / _resolution(self.point, one)[1])

    def _amount_text(self, amount: int) -> str:
        decimals, step = _resolution(self.point, self.point.installations[0])
        return _text(int(amount / step), decimals)

    def _instants(self, after_ms: int, until_ms: int, nth: int) -> Integers:
        """The instants phase + k * every in (after, until], k a multiple of nth."""
        every = self.every_ms * nth
        first = (after_ms - self._phase_ms) // every + 1
        last = (until_ms - self._phase_ms) // every
        return np.arange(first, last + 1, dtype=np.int64) * every + self._phase_ms


def curve_of(point: roster.Point) -> str:
    """Which of its plant's curves a point measures."""
    if point.measures in (OUTPUT, VALUE_ADDED):
        return point.measures
    if point.measures == "water":
        return "water"
    if point.measures == "electricity":
        return {"supply": "supply", "generation": "generation", "feed_in": "feed_in"}.get(point.role, "part")
    return "output"


def _share(point: roster.Point, points: list[roster.Point], peak: float) -> Fraction:
    """The part of its curve a point carries: like points divide it, and none exceeds its limit.

    Of several water or power supplies the first carries most.
    """
    like = [
        p.id for p in points if (p.measures, p.role, p.product) == (point.measures, point.role, point.product)
    ]
    place = like.index(point.id)
    share = Fraction(1) if len(like) == 1 else _divided(place, len(like))
    if point.measures == "water" and point.role != "supply":
        share *= Fraction(3, 5)
    if point.limit_per_hour is not None and peak > 0:
        possible = Fraction(PEAK_SHARE_OF_LIMIT * point.limit_per_hour / (peak * MICRO)).limit_denominator(
            1_000
        )
        share = min(share, possible) or share
    return share


def _divided(place: int, count: int) -> Fraction:
    return Fraction(4, 5) if place == 0 else Fraction(1, 5 * (count - 1))


def _resolution(point: roster.Point, one: roster.Installation) -> tuple[int, Fraction]:
    """The decimals a meter shows, and what one step of the last is worth in millionths."""
    whole = MICRO * point.unit.factor
    for decimals in range(7):
        if one.step > 1 and one.step * 10**decimals == whole:
            return decimals, Fraction(one.step)
    decimals = 2 if point.measures == VALUE_ADDED else DECIMALS_UNKNOWN
    return decimals, whole / 10**decimals


def _text(steps: int, decimals: int) -> str:
    if not decimals:
        return str(steps)
    whole, rest = divmod(steps, 10**decimals)
    return f"{whole}.{rest:0{decimals}}"


def _running(rates: NDArray[np.float64]) -> Integers:
    """Per pattern, what has flowed by each of a day's 1,441 minute edges, in millionths."""
    per_minute = np.rint(rates / 60 * MICRO).astype(np.int64)
    start = np.zeros((len(rates), 1), np.int64)
    return np.concatenate([start, np.cumsum(per_minute, axis=1)], axis=1)


def _scaled(amounts: Integers, factor: Fraction) -> Integers:
    """floor(amounts * factor), exactly, and without leaving 64 bits on the way."""
    whole, rest = np.divmod(amounts, factor.denominator)
    return np.asarray(whole * factor.numerator + rest * factor.numerator // factor.denominator)


def _hash(seed: int, name: str) -> int:
    return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=7).digest(), "big")
