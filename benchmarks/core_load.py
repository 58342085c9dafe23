"""Registers read once a minute, with a known truth, from a fixed seed.

Every register is read at a random second of every minute. Of late readings each arrives after any time up
to an hour. What arrives is cut into batches of 4,096 readings; a batch becomes a record of every plant that
is in it, stamped with the arrival of the batch's last reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bus.frames import encode_readings
from bus.log import Record
from metering.readings import NO_SEQ, NO_TIME, Dictionary, Readings, absent
from metering.roster import Plant, Point, Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site

Ints = NDArray[np.int64]

SEED = 1
FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MINUTE_MS, LATE_MS_MAX = 60_000, 3_600_000
BATCH_READINGS, FRAME_EVERY_MS = 4096, 4
SECONDS = 60
UNITS, WATER_EVERY = ("kWh", "m3"), 5
"""Every fifth register counts water, the others electricity behind a transformer."""
DECIMALS, MULTIPLIER, RISE_MAX, FIRST_VALUE_MAX = 2, 40, 60, 10_000_000
"""``RISE_MAX``: in steps of the register a minute.

What it rises follows from the time between two readings, so that none is beyond its limit."""

_SITE = """\
meterflow: 1
plants:
  - id: plant
    time_zone: Asia/Shanghai
    patience: {patience}m
    points:
      - {{id: kWh, measures: electricity, reads: register, unit: kWh, expect_every: 1m, base: 1m,
         limit: 2 MW, installations: [{{digits: 8, decimals: 2, multiplier: 40}}]}}
      - {{id: m3, measures: water, reads: register, unit: m3, expect_every: 1m, base: 1m,
         limit: 40 m3/h, installations: [{{digits: 8, decimals: 2}}]}}
"""
PATIENCE_MINUTES = 15


@dataclass(frozen=True, slots=True)
class Shape:
    """``points`` in as many ``plants``, each with as many of them, for some ``minutes``."""

    points: int
    plants: int
    minutes: int
    late_share: float = 0.0

    @property
    def each(self) -> int:
        """Points of a plant."""
        return self.points // self.plants


class Load:
    """``times`` and ``values``: a row per minute, a column per point; ``values`` in steps of the register."""

    def __init__(self, shape: Shape, seed: int = SEED) -> None:
        random = np.random.default_rng(seed)
        size = (shape.minutes, shape.points)
        self.shape = shape
        seconds = random.integers(0, SECONDS, size, np.int8)
        minutes = FIRST_MS + np.arange(shape.minutes)[:, None] * MINUTE_MS
        self.times: Ints = minutes + seconds.astype(np.int64) * 1000
        self.values: Ints = np.empty(size, np.int64)
        self.values[0] = random.integers(0, FIRST_VALUE_MAX, shape.points)
        rises = random.integers(0, RISE_MAX + 1, (shape.minutes - 1, shape.points))
        between: Ints = np.diff(self.times, axis=0)
        self.values[1:] = rises * between // MINUTE_MS
        np.cumsum(self.values, axis=0, out=self.values)
        self._arrived: Ints = self.times.ravel()
        if shape.late_share:
            late = random.random(self._arrived.shape) < shape.late_share
            self._arrived = self._arrived + late * random.integers(1, LATE_MS_MAX + 1, late.shape)

    def __len__(self) -> int:
        return self.times.size

    @cached_property
    def is_water(self) -> NDArray[np.bool_]:
        """Of each point."""
        return np.asarray(np.arange(self.shape.points) % WATER_EVERY == 0)

    @cached_property
    def millionths(self) -> Ints:
        """Of each point, what a step is worth behind its multiplier."""
        return np.where(self.is_water, 1, MULTIPLIER) * np.int64(10 ** (6 - DECIMALS))

    def frames(self) -> Iterator[Record]:
        """Records of the readings topic as ingest writes a backlog: of one plant each, shortly after another.

        Everything but the records is made at once.
        """
        parts = [part for plant in range(self.shape.plants) for part in self._frames_of(plant)]
        parts.sort(key=lambda part: int(self._arrived[part[-1]]))
        last_ms = int(self._arrived.max()) - (len(parts) - 1) * FRAME_EVERY_MS
        return (self.record(n, part, last_ms + n * FRAME_EVERY_MS) for n, part in enumerate(parts))

    def _frames_of(self, plant: int) -> list[Ints]:
        """The readings of a plant by arrival, so many at a time."""
        first, points = plant * self.shape.each, self.shape.points
        mine = (
            np.arange(self.shape.minutes)[:, None] * points + np.arange(first, first + self.shape.each)
        ).ravel()
        mine = mine[np.argsort(self._arrived[mine], kind="stable")]
        return np.split(mine, np.arange(BATCH_READINGS, len(mine), BATCH_READINGS))

    def stream(self) -> Iterator[Record]:
        """The same as they come to all plants together: so many at a time, a record of each plant in them."""
        order = np.argsort(self._arrived, kind="stable")
        batches = np.split(order, np.arange(BATCH_READINGS, len(order), BATCH_READINGS))
        parts = (part for batch in batches for part in self._by_plant(batch))
        return (self.record(n, part, stamp_ms) for n, (part, stamp_ms) in enumerate(parts))

    def _by_plant(self, batch: Ints) -> Iterator[tuple[Ints, int]]:
        plants, stamp_ms = self._plants_of(batch), int(self._arrived[batch[-1]])
        return ((batch[plants == plant], stamp_ms) for plant in np.unique(plants).tolist())

    def _plants_of(self, part: Ints) -> Ints:
        return part % self.shape.points // self.shape.each

    def record(self, offset: int, part: Ints, stamp_ms: int) -> Record:
        """Readings of one plant, by their flat numbers, as a record."""
        name = plant_name(int(self._plants_of(part[:1])[0]))
        return Record(offset, name, encode_readings(self._readings(name, part, stamp_ms)), stamp_ms)

    def _readings(self, plant: str, part: Ints, stamp_ms: int) -> Readings:
        """As ingest makes them: words in the order in which they come."""
        n, point = len(part), part % self.shape.points
        different, codes = np.unique(point, return_inverse=True)
        kinds, units = np.unique(self.is_water[point], return_inverse=True)
        return Readings(
            plant=plant,
            point=Dictionary(tuple(map(point_name, different.tolist())), codes.astype(np.int32)),
            time=self.times.ravel()[part],
            start=np.full(n, NO_TIME, np.int64),
            mantissa=self.values.ravel()[part],
            exponent=np.full(n, -DECIMALS, np.int8),
            unit=Dictionary(tuple(UNITS[int(kind)] for kind in kinds), units.astype(np.int32)),
            serial=absent(n),
            product=absent(n),
            revision=np.zeros(n, np.int32),
            seq=np.full(n, NO_SEQ, np.int64),
            quality=np.zeros(n, np.uint8),
            flags=np.zeros(n, np.uint8),
            received=np.full(n, stamp_ms, np.int64),
        )


def plant_name(plant: int) -> str:
    return f"plant-{plant:05d}"


def point_name(point: int) -> str:
    return f"meter-{point:07d}"


def write_site(folder: Path) -> Roster:
    """A site file with one plant and its two points, left in the folder; the site compiled."""
    path = folder / "site.yaml"
    path.write_text(_SITE.format(patience=PATIENCE_MINUTES))
    return compile_roster(load_site(path))


def roster(shape: Shape, one: Roster) -> Roster:
    """The same with so many plants and points, all like these: a file of them would take longer than all."""
    plants = tuple(_plant(one.plants[0], plant, shape.each) for plant in range(shape.plants))
    points = tuple(_point(one.points, point, shape.each) for point in range(shape.points))
    names = {plant.id: {points[p].id: p for p in plant.points} for plant in plants}
    return replace(one, plants=plants, points=points, names=names)


def _plant(one: Plant, plant: int, each: int) -> Plant:
    points = tuple(range(plant * each, (plant + 1) * each))
    name = plant_name(plant)
    return replace(one, index=plant, id=name, name=name, points=points)


def _point(points: tuple[Point, ...], point: int, each: int) -> Point:
    one = points[int(point % WATER_EVERY == 0)]
    return replace(one, index=point, plant=point // each, id=point_name(point))
