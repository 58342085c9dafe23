"""The load of the scale curves: plants whose gateway reads 100 registers a minute and sends them at once.

As in core_load, and checked by the same truth; a record of the readings topic holds one such message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.core_load import (
    DECIMALS,
    MULTIPLIER,
    PATIENCE_MINUTES,
    WATER_EVERY,
    Load,
    Shape,
    plant_name,
    point_name,
)
from bus.log import Entry

PLANT_POINTS = 100
STAMP_EVERY_MS = 1
_POINT = (
    "      - {{id: {id}, measures: {measures}, reads: register, unit: {unit}, expect_every: 1m, base: 1m, "
    "limit: {limit}, installations: [{{digits: 8, decimals: {decimals}{multiplier}}}]}}\n"
)


def shape_of(points: int, minutes: int) -> Shape:
    """Plants of 100 points."""
    return Shape(points, points // PLANT_POINTS, minutes)


def site_text(shape: Shape) -> str:
    """The site file of a load's plants and points."""
    head = "  - id: {}\n    time_zone: Asia/Shanghai\n    patience: {}m\n    points:\n"
    return "meterflow: 1\nplants:\n" + "".join(
        head.format(plant_name(plant), PATIENCE_MINUTES)
        + "".join(_point(plant * shape.each + number) for number in range(shape.each))
        for plant in range(shape.plants)
    )


def _point(point: int) -> str:
    water = point % WATER_EVERY == 0
    return _POINT.format(
        id=point_name(point),
        measures="water" if water else "electricity",
        unit="m3" if water else "kWh",
        limit="40 m3/h" if water else "2 MW",
        decimals=DECIMALS,
        multiplier="" if water else f", multiplier: {MULTIPLIER}",
    )


class Messages:
    """A load as records, minute by minute; stamped as they come now, since Kafka lets old records go."""

    def __init__(self, shape: Shape) -> None:
        self.load = Load(shape)
        self._first_ms = time.time_ns() // 1_000_000 - shape.minutes * shape.plants * STAMP_EVERY_MS

    def entries(self, first: int, end: int) -> Iterator[Entry]:
        """Those of the minutes from ``first`` to before ``end``."""
        shape = self.load.shape
        for minute in range(first, end):
            for plant in range(shape.plants):
                number = minute * shape.plants + plant
                part = minute * shape.points + np.arange(plant * shape.each, (plant + 1) * shape.each)
                part = part[np.argsort(self.load.times.ravel()[part], kind="stable")]
                stamp_ms = self._first_ms + number * STAMP_EVERY_MS
                record = self.load.record(number, part, stamp_ms)
                yield Entry(record.key, record.value, record.stamp_ms)
