"""Readings with wrong stamps: a gateway's clock is off, and they show what the line does at another time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from processors.allowance import SMOOTH
from processors.lines import Readings

if TYPE_CHECKING:
    from processors.doubt import Link

Bools = NDArray[np.bool_]

CLOCK_MAX_MS = 600_000
"""How far a gateway's clock may be off for its readings to count as those of another time."""
CLOCK_KNOWN_MS = 1_800_000
"""How near the readings must be that say so: between those of hours anything lies."""


def clock_is_off(readings: Readings, start: int, keeps: Bools, links: Iterable[Link]) -> bool:
    """Whether what was left out (two readings at least) is what the line shows up to ten minutes away."""
    other = any(one.wrapped or one.last < one.first for one in links)
    if other or (~keeps).sum() < 2:
        return False
    end = start + len(keeps) - 1
    before = start - 1 if start > 0 and readings.pair[start - 1] == SMOOTH else start
    after = end + 1 if end + 1 < len(readings) and readings.pair[end] == SMOOTH else end
    line = np.unique(np.concatenate([[before], np.flatnonzero(keeps) + start, [after]]))
    out = np.flatnonzero(~keeps) + start
    time = readings.time[line]
    lowest = np.searchsorted(time, readings.time[out] - CLOCK_MAX_MS, "right") - 1
    highest = np.searchsorted(time, readings.time[out] + CLOCK_MAX_MS)
    low = readings.value[line[np.maximum(lowest, 0)]]
    high = readings.value[line[np.minimum(highest, len(line) - 1)]]
    from_ms, to_ms = time[np.maximum(lowest, 0)], time[np.minimum(highest, len(line) - 1)]
    known = np.maximum(readings.time[out] - from_ms, to_ms - readings.time[out]) <= CLOCK_KNOWN_MS
    return bool((known & (low <= readings.value[out]) & (readings.value[out] <= high)).all())
