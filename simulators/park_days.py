"""Days of simulated plants, minute by minute: what they use and make, before any meter.

A day is a set of curves, each an average rate in every minute, in the canonical unit per hour:
``supply``, ``generation``, ``feed_in``, ``load`` and ``part`` (of the load, behind a sub-meter) in kW,
``water`` in m3/h, ``output`` in t/h, ``value_added`` in yuan/h. load = supply + generation - feed_in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

MINUTES = 1_440
Curve = NDArray[np.float64]
Day = dict[str, Curve]
_MINUTE = np.arange(MINUTES)
_HOUR_OF = _MINUTE / 60


TROUBLE_MINUTES = 20
TROUBLE_OUTPUT_FACTOR = 0.74
TROUBLE_STARTS = (12, 24)
"""The minutes of an hour between which its trouble begins."""


def steel_day(random: Generator) -> Day:
    """An arc furnace: 62 t/h, 580 kWh/t when all is well, 780 in the hourly trouble, 1.4 m3/t."""
    trouble = _trouble(random)
    output = 62.0 * _noise(random, 0.03) * np.where(trouble, TROUBLE_OUTPUT_FACTOR, 1.0)
    tapping = (_MINUTE + random.integers(44)) % 44 < 4
    melt = 31_500.0 * _noise(random, 0.02) * np.where(tapping, 0.78, 1.0)
    load = melt + 5_100.0 * _noise(random, 0.02)
    return _day(load, melt, 87.0 * _noise(random, 0.05), output, yuan_per_t=3_300.0)


def dye_day(random: Generator) -> Day:
    """Dyeing in batches: 2 t/h, 1,100 kWh/t, 90 m3/t; a roof of solar cells that outruns lunch."""
    shifts = np.select([_between(6, 11.75), _between(13, 22), _between(11.75, 13)], [2.3, 2.2, 0.9], 1.7)
    output = _smooth(shifts, 10) * _noise(random, 0.08)
    load = 180.0 * _noise(random, 0.04) + 1_010.0 * output * _noise(random, 0.03)
    sun = np.clip(np.sin(np.pi * (_HOUR_OF - 6) / 12), 0.0, 1.0) * _between(6, 18)
    solar = 1_380.0 * sun**1.4 * np.clip(_noise(random, 0.35, minutes=40), 0.35, 1.0)
    water = 12.0 * _noise(random, 0.05) + 84.0 * output * _noise(random, 0.05)
    return _day(load, 0.6 * load, water, output, yuan_per_t=20_000.0, generation=solar)


def food_day(random: Generator) -> Day:
    """Food in three shifts, the night one small: 6 t/h, 250 kWh/t, 5 m3/t."""
    shifts = np.select([_between(6, 14), _between(14, 22)], [7.0, 6.5], 3.6)
    output = _smooth(shifts, 20) * _noise(random, 0.05)
    load = 150.0 * _noise(random, 0.04) + 223.0 * output * _noise(random, 0.03)
    water = 2.0 * _noise(random, 0.1) + 4.6 * output * _noise(random, 0.05)
    return _day(load, 0.5 * load, water, output, yuan_per_t=6_500.0)


def any_day(random: Generator) -> Day:
    """A plant nothing is known of: 10 t/h, 400 kWh/t, 3 m3/t."""
    output = 10.0 * _noise(random, 0.05)
    load = 400.0 * _noise(random, 0.03) + 360.0 * output
    sun = np.clip(np.sin(np.pi * (_HOUR_OF - 6) / 12), 0.0, 1.0) * _between(6, 18)
    return _day(load, 0.6 * load, 3.0 * output, output, yuan_per_t=5_000.0, generation=1_000.0 * sun)


DAYS: dict[str, Callable[[Generator], Day]] = {"steel": steel_day, "dye": dye_day, "food": food_day}
"""The first part of a plant's id -> how its days are."""


def _day(
    load: Curve,
    part: Curve,
    water: Curve,
    output: Curve,
    *,
    yuan_per_t: float,
    generation: Curve | None = None,
) -> Day:
    own = np.zeros(MINUTES) if generation is None else generation
    return {
        "load": load,
        "part": part,
        "generation": own,
        "supply": np.maximum(load - own, 0.0),
        "feed_in": np.maximum(own - load, 0.0),
        "water": water,
        "output": output,
        "value_added": output * yuan_per_t,
    }


def _trouble(random: Generator) -> NDArray[np.bool_]:
    """Once an hour output falls while the furnace keeps burning."""
    starts = np.arange(24) * 60 + random.integers(*TROUBLE_STARTS, 24)
    since = _MINUTE[:, np.newaxis] - starts
    return np.asarray(((since >= 0) & (since < TROUBLE_MINUTES)).any(axis=1))


def _noise(random: Generator, scale: float, minutes: int = 5) -> Curve:
    """Around 1, never below 0, alike in neighbouring minutes; ``scale`` is its standard deviation."""
    raw = random.standard_normal(MINUTES + minutes - 1)
    alike = np.convolve(raw, np.ones(minutes) / np.sqrt(minutes), "valid")
    return np.maximum(1.0 + scale * alike, 0.0)


def _smooth(curve: Curve, minutes: int) -> Curve:
    """Changes of shift take their time, across midnight too."""
    around = np.concatenate([curve[-minutes:], curve])
    return np.convolve(around, np.ones(minutes) / minutes, "full")[minutes : minutes + MINUTES]


def _between(start: float, end: float) -> NDArray[np.bool_]:
    return np.asarray((start <= _HOUR_OF) & (end > _HOUR_OF))
