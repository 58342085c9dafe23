"""Random readings of registers that somebody reads once a day, a week or a month."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from tests.processors.doubt_series import LIMIT, sparse
from tests.processors.histories import (
    DAY_MS,
    SMALL,
    History,
    Size,
    _limit,
    _text,
    copies,
    decisions,
    nearly_in_order,
    roster_of,
    utc_ms,
)
from tests.processors.log_driver import Item, Reading

if TYPE_CHECKING:
    from random import Random

SITE, ANCHORS = "rounds", ("2025-03-28T06:00Z", "2025-12-31T23:00Z")


def sparsely(chance: Random, size: Size = SMALL) -> History:
    """Readings of one such register, with what is wrong in them, and what people say of it."""
    roster, anchor_ms = roster_of(SITE), utc_ms(chance.choice(ANCHORS))
    point = chance.choice(roster.points)
    one, plant = point.installations[0], roster.plants[point.plant].id
    series = sparse(chance, chance.randint(4, 10), 30 * DAY_MS if size.far else 7 * DAY_MS)
    readings = []
    for time, value in series.readings:
        shown = value * _limit(point, one) / LIMIT // one.step * one.step % (one.width or 10**15)
        readings.append(Reading(plant, point.id, anchor_ms + time, _text(Fraction(shown), point)))
    every: list[Item] = [*readings, *copies(chance, readings, 2), *decisions(chance, readings, size)]
    return History(SITE, nearly_in_order(chance, every))
