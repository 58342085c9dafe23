"""What really flows in a simulated plant, minute by minute, in whole millionths of canonical units.

A flow is an integer for every minute, so that sums over meters and over time are exact; within a minute it is
even. ``Past`` is what has flowed by any instant. All chance comes from the generator that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from metering.units import MICRO
from simulators.world_profile import Activity, Flow, Meter, Profile

Integers = NDArray[np.int64]
Levels = NDArray[np.float64]
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
DAY_MINUTES, YEAR_DAYS = 1_440, 365.25
CLOUD_MINUTES, NOISE_MINUTES = 30, 5


@dataclass(frozen=True, slots=True)
class Past:
    """What has flowed from ``from_ms`` on; ``edges``: at each full minute, the first is 0."""

    from_ms: int
    edges: Integers

    def at(self, at_ms: Integers) -> Integers:
        """What has flowed by these instants; even within a minute, rounded down."""
        minute, rest_ms = np.divmod(at_ms - self.from_ms, MINUTE_MS)
        low = self.edges[minute]
        high = self.edges[np.minimum(minute + 1, len(self.edges) - 1)]
        return np.asarray(low + (high - low) * rest_ms // MINUTE_MS)


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches one behind the other: where each ends (UTC milliseconds), from the first edge on."""

    edges_ms: Integers


class Days:
    """The civil time of each minute from ``from_ms`` on."""

    def __init__(self, from_ms: int, minutes: int, zone: str) -> None:
        self.from_ms, self.minutes = from_ms, minutes
        hours_ms = np.arange(from_ms // HOUR_MS, (from_ms + minutes * MINUTE_MS) // HOUR_MS + 1) * HOUR_MS
        zone_of = ZoneInfo(zone)
        offsets = [
            round(local.utcoffset().total_seconds() * 1_000)  # type: ignore[union-attr]
            for local in (datetime.fromtimestamp(ms / 1_000, UTC).astimezone(zone_of) for ms in hours_ms)
        ]
        at_ms = from_ms + np.arange(minutes, dtype=np.int64) * MINUTE_MS
        local_ms = at_ms + np.array(offsets, np.int64)[at_ms // HOUR_MS - hours_ms[0] // HOUR_MS]
        day, within_ms = np.divmod(local_ms, DAY_MS)
        self.weekday = (day + 3) % 7 + 1
        self.hour = within_ms / HOUR_MS
        self.day = day
        as_days = day.astype("datetime64[D]")
        self.first_of_month = as_days == as_days.astype("datetime64[M]").astype("datetime64[D]")


class Activities:
    """How busy each activity of a profile is, minute by minute, and which sort of batch runs."""

    def __init__(self, profile: Profile, days: Days, random: Generator) -> None:
        self.levels: dict[str, Levels] = {}
        self.sorts: dict[str, Integers] = {}
        self.batches: dict[str, Batches] = {}
        named = [Activity(id="sun", kind="sun"), *profile.activities]
        for activity, chance in zip(named, random.spawn(len(named)), strict=True):
            if activity.kind == "week":
                self.levels[activity.id] = _week(activity, days)
            elif activity.kind == "sun":
                self.levels[activity.id] = _sun(days, chance)
            else:
                self._batches(activity, days, chance)

    def _batches(self, activity: Activity, days: Days, random: Generator) -> None:
        shortest, longest = sorted(activity.minutes)
        count = days.minutes // shortest + 2
        edges = np.concatenate([[0], np.cumsum(random.integers(shortest, longest + 1, count))])
        edges -= int(random.integers(shortest))
        campaign = random.integers(activity.kinds, size=count // activity.campaign + 1)
        minute = np.arange(days.minutes)
        batch = np.searchsorted(edges, minute, "right") - 1
        place = (minute - edges[batch]) / (edges[batch + 1] - edges[batch])
        shape = np.array(activity.shape)
        self.levels[activity.id] = shape[(place * len(shape)).astype(np.int64)]
        self.sorts[activity.id] = campaign[batch // activity.campaign]
        self.batches[activity.id] = Batches(days.from_ms + edges * MINUTE_MS)


def flows(profile: Profile, days: Days, random: Generator) -> tuple[dict[str, Integers], Activities]:
    """Of each flow what passes in each minute; and the activities behind them."""
    of_activities, of_flows = random.spawn(2)
    busy = Activities(profile, days, of_activities)
    found: dict[str, Integers] = {}
    for flow, chance in zip(profile.flows, of_flows.spawn(len(profile.flows)), strict=True):
        found[flow.id] = _flow(flow, busy, days, chance, found)
    return found, busy


def past_of(meter: Meter, minutes: dict[str, Integers], from_ms: int) -> Past:
    """What a meter ought to have counted."""
    total: Integers = np.zeros_like(next(iter(minutes.values())))
    for name in meter.adds:
        total = total + minutes[name]
    for name in meter.takes:
        total = total - minutes[name]
    if meter.way == "above":
        total = np.maximum(total, 0)
    elif meter.way == "below":
        total = np.maximum(-total, 0)
    return Past(from_ms, np.concatenate([np.zeros(1, np.int64), np.cumsum(total)]))


def _flow(
    flow: Flow, busy: Activities, days: Days, random: Generator, found: dict[str, Integers]
) -> Integers:
    if flow.of is not None:
        return np.asarray(np.rint(found[flow.of] * flow.part), np.int64)
    assert flow.rate is not None, "a flow has a rate or is a part of another one"
    level = np.ones(days.minutes)
    if flow.follows:
        level = flow.base + (1 - flow.base) * busy.levels[flow.follows]
        if flow.only is not None:
            level = level * (busy.sorts[flow.follows] == flow.only)
    winter = 1 + flow.season * np.cos(2 * np.pi * days.day / YEAR_DAYS)
    noise = _noise(random, days.minutes, flow.noise, NOISE_MINUTES)
    amounts = np.rint(np.maximum(level * winter * noise, 0.0) * (flow.rate * MICRO / 60))
    return np.asarray(amounts, np.int64)


def _week(activity: Activity, days: Days) -> Levels:
    level = np.full(days.minutes, float(activity.otherwise))
    for stretch in activity.stretches:
        inside = (days.hour >= stretch.begins) & (days.hour < stretch.ends)
        level[inside & np.isin(days.weekday, stretch.days)] = stretch.level
    return _smooth(level, activity.ramp_minutes)


def _sun(days: Days, random: Generator) -> Levels:
    high = np.clip(np.sin(np.pi * (days.hour - 6) / 12), 0.0, 1.0) ** 1.3
    clouds = np.clip(_noise(random, days.minutes, 0.4, CLOUD_MINUTES), 0.25, 1.0)
    return np.asarray(high * clouds)


def _noise(random: Generator, minutes: int, scale: float, smooth: int) -> Levels:
    """Around 1; neighbouring minutes are alike."""
    if scale == 0:
        return np.ones(minutes)
    rough = random.standard_normal(minutes + smooth)
    running = np.concatenate([[0.0], np.cumsum(rough)])
    mean = (running[smooth:] - running[:-smooth])[:minutes] / np.sqrt(smooth)
    return np.asarray(np.clip(1 + scale * mean, 0.05, 1 + 3 * scale))


def _smooth(level: Levels, minutes: int) -> Levels:
    """The mean of the last ``minutes``; at the beginning, as if it had always been so."""
    if minutes < 2:
        return level
    running = np.cumsum(np.concatenate([np.full(minutes, level[0]), level]))
    return np.asarray((running[minutes:] - running[:-minutes]) / minutes)
