"""Random interval reads that share time or cannot be, and what people say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.civil import QUARTER_MS
from metering.roster import INTERVAL
from tests.processors.histories import (
    ANCHORS,
    LARGE,
    History,
    Size,
    copies,
    decisions,
    nearly_in_order,
    roster_of,
    utc_ms,
)
from tests.processors.log_driver import Item, Reading

if TYPE_CHECKING:
    from random import Random


def ruled(chance: Random, size: Size) -> History:
    """Reads of a meter or two that share time, are too large or negative; and what people say of them. One in
    three is of gauges.
    """
    if chance.randint(0, 2) == 0:
        return _gauges(chance, size)
    roster = roster_of("reads")
    points = [point for point in roster.points if point.reads == INTERVAL]
    few, anchor_ms = chance.sample(points, chance.choice([1, 1, 2])), utc_ms(chance.choice(ANCHORS["reads"]))
    readings = []
    for _ in range(chance.randint(1, size.readings)):
        point = chance.choice(few)
        length_ms = chance.choice([1, 1, 1, 2, 3, 4]) * QUARTER_MS
        time_ms = anchor_ms + chance.randint(0, 8) * QUARTER_MS + length_ms
        value = chance.choice(["0", "1", "1", "2", "2.5", "7", "-1"])
        plant = roster.plants[point.plant].id
        readings.append(Reading(plant, point.id, time_ms, value, time_ms - length_ms))
    every: list[Item] = [*readings, *copies(chance, readings, 2)]
    for _ in range(chance.choice([1, 2, 3])):
        every += decisions(chance, readings, LARGE)
    return History("reads", nearly_in_order(chance, every))


def _gauges(chance: Random, size: Size) -> History:
    """What gauges show, mostly of power, some of it beyond what can be; and what people say of it."""
    site, name = chance.choice([("park", "g"), ("works", "steam"), ("works", "volts")])
    roster, readings = roster_of(site), list[Reading]()
    plant, point = next((roster.plants[p.plant].id, p) for p in roster.points if p.id == name)
    anchor_ms = utc_ms(chance.choice(ANCHORS[site]))
    for _ in range(chance.randint(1, size.readings)):
        time_ms = anchor_ms + chance.randint(0, 30) * point.expect_ms // 2
        value = chance.choice(["1", "7", "79", "80", "96", "96.000002", "96.000003", "120", "-3", "-200"])
        readings.append(Reading(plant, point.id, time_ms, value))
    every: list[Item] = [*readings, *copies(chance, readings, 2)]
    for _ in range(chance.choice([1, 2, 3])):
        every += decisions(chance, readings, LARGE)
    return History(site, nearly_in_order(chance, every))
