"""Readings with wrong stamps: a gateway's clock is off, and they show what the line does at another time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from processors.allowance import SMOOTH
from processors.lines import Readings

if TYPE_CHECKING:
    from processors.doubt import Link

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

CLOCK_MAX_MS = 600_000
"""How far a gateway's clock may be off for its readings to count as those of another time."""
CLOCK_KNOWN_MS = 1_800_000
"""How near the readings must be that say so: between those of hours anything lies. And how far
apart what is left out is judged by itself."""


def clocks_off(readings: Readings, start: int, keeps: Bools, links: Iterable[Link]) -> set[int]:
    """Where those links begin that leave out what the line shows up to ten minutes away.

    Burst by burst: two readings of it at least, and nothing near it that falls or wraps.
    """
    links = sorted(links, key=lambda one: one.start)
    falls = [one for one in links if one.wrapped or one.last < one.first]
    from_ms = np.array([one.start for one in falls], np.int64)
    to_ms = np.array([one.end for one in falls], np.int64)
    out = np.flatnonzero(~keeps) + start
    fits = _is_on_line(readings, start, keeps, out) if len(out) > 1 else np.zeros(len(out), bool)
    time, found = readings.time[out], set()
    for burst in _bursts([one for one in links if one.left]):
        begins_ms, ends_ms = burst[0].start - CLOCK_KNOWN_MS, burst[-1].end + CLOCK_KNOWN_MS
        falls_near = ((from_ms < ends_ms) & (to_ms > begins_ms)).any()
        its = fits[np.searchsorted(time, burst[0].start) : np.searchsorted(time, burst[-1].end)]
        if not falls_near and len(its) > 1 and its.all():
            found |= {one.start for one in burst}
    return found


def _bursts(links: list[Link]) -> Iterator[list[Link]]:
    """Links that are at most half an hour from one another."""
    burst: list[Link] = []
    for one in links:
        if burst and one.start - burst[-1].end > CLOCK_KNOWN_MS:
            yield burst
            burst = []
        burst.append(one)
    if burst:
        yield burst


def _is_on_line(readings: Readings, start: int, keeps: Bools, out: Ints) -> Bools:
    """Which readings left out the line shows up to ten minutes away, where that is known."""
    end = start + len(keeps) - 1
    before = start - 1 if start > 0 and readings.pair[start - 1] == SMOOTH else start
    after = end + 1 if end + 1 < len(readings) and readings.pair[end] == SMOOTH else end
    line = np.unique(np.concatenate([[before], np.flatnonzero(keeps) + start, [after]]))
    time = readings.time[line]
    lowest = np.searchsorted(time, readings.time[out] - CLOCK_MAX_MS, "right") - 1
    highest = np.searchsorted(time, readings.time[out] + CLOCK_MAX_MS)
    low = readings.value[line[np.maximum(lowest, 0)]]
    high = readings.value[line[np.minimum(highest, len(line) - 1)]]
    from_ms, to_ms = time[np.maximum(lowest, 0)], time[np.minimum(highest, len(line) - 1)]
    known = np.maximum(readings.time[out] - from_ms, to_ms - readings.time[out]) <= CLOCK_KNOWN_MS
    return np.asarray(known & (low <= readings.value[out]) & (readings.value[out] <= high))
