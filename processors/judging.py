"""Judging stretches of a series: the readings it takes, and how far back a standstill is looked at.

What lies beside a stretch says something of it only up to a day away, as far as the register shows the same
there, and two readings more, and by the nearest broken pair: no run goes over the end of a stretch
(processors.anew).

A standstill that ends in a rise that cannot be counts from its beginning, which may lie far before the part
that is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, SMOOTH, Allowance, Kinds
from processors.anew import Break, Course
from processors.decided import Decision, Line, marks
from processors.doubt import Region, judge
from processors.lines import FEW, RUN_MAX_MS, posts
from processors.memory import LEFT_OUT
from processors.slips import pairs_of
from processors.standstill import judged_from

Ints = NDArray[np.int64]

_BESIDE = 2
"""So many readings behind those that show the same as the ends of a stretch may say something of it."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one series that count, by time: instants, register values, flags."""

    time: Ints
    value: Ints
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, mask: NDArray[np.generic] | slice) -> Readings:
        return Readings(self.time[mask], self.value[mask], self.flags[mask])

    def course(self, allowance: Allowance) -> Course:
        """Where they are, and their breaks."""
        low = np.flatnonzero(pairs_of(self.time, self.value, allowance) != SMOOTH)
        return Course(self.time, np.stack([self.time[low], self.time[low + 1]], 1))

    def part(self, low_ms: int, high_ms: int) -> Readings:
        """Those between two instants, and a few on either side."""
        first = max(0, int(np.searchsorted(self.time, low_ms)) - _BESIDE)
        last = int(np.searchsorted(self.time, high_ms, "right")) + _BESIDE
        return self.take(slice(first, last))

    def without(self, decisions: list[Decision]) -> Readings:
        """Those that nobody left out."""
        return self.take(~marks(self.time, decisions)[0]) if decisions else self

    def line(self, decisions: list[Decision]) -> Line:
        """Those on the line, and those that people left out."""
        on, lost = self.take(self.flags & LEFT_OUT == 0), self.take(marks(self.time, decisions)[0])
        return Line(on.time, on.value, lost.time, lost.value)

    def marked(self, times: Ints, mark: int) -> Readings:
        """The same, some of them marked as left out or not."""
        flags = np.where(np.isin(self.time, times), (self.flags & ~np.uint8(LEFT_OUT)) | mark, self.flags)
        return Readings(self.time, self.value, flags.astype(np.uint8))

    def changed(self, fresh: Readings, gone: Ints) -> Readings:
        """Without some and with others."""
        stay = self.take(~np.isin(self.time, gone))
        time = np.concatenate([stay.time, fresh.time])
        order = np.argsort(time, kind="stable")
        value = np.concatenate([stay.value, fresh.value])[order]
        return Readings(time[order], value, np.concatenate([stay.flags, fresh.flags])[order])


def judged(
    readings: Readings,
    pair: Kinds,
    spans: list[Break],
    allowance: Allowance,
    decisions: list[Decision],
    stays: Mapping[Break, Region],
) -> list[Region]:
    """The regions whose breaks lie within one of some spans; ``stays``: known ones, by their breaks."""
    walls = posts(readings.time[:-1][pair != SMOOTH])
    out = []
    for (low, high), (begin, last) in zip(spans, places(readings, pair, spans), strict=True):
        first = max(0, begin)
        part = readings.take(slice(first, last))
        right = marks(part.time, decisions)[1]
        kept = np.isin(part.time, walls) | right
        regions = judge(part.time, part.value, allowance.facts, kept, pair[first : last - 1], stays, right)
        out += [one for one in regions if low <= one.breaks[0] and one.breaks[1] <= high]
    return out


def places(readings: Readings, pair: Kinds, spans: list[Break]) -> list[tuple[int, int]]:
    """First (less than 0: from before all of these) and behind last position of what says something of each
    of some spans; ``pair``: what each reading is to the one before it.
    """
    broken = np.flatnonzero(pair == BROKEN)
    found = []
    for low, high in spans:
        first, last = _from(readings, broken, low), _until(readings, broken, high)
        begins = judged_from(readings.time, readings.value, pair, max(0, first), last, low)
        found.append((min(first, begins), last))
    return found


def _from(readings: Readings, broken: Ints, low_ms: int) -> int:
    """Up to a day before an instant: what was shown then, and two readings more; and the last broken pair."""
    low = max(0, int(np.searchsorted(readings.time, low_ms, "right")) - 1)
    first = int(np.searchsorted(readings.time, low_ms - RUN_MAX_MS))
    others = np.flatnonzero(readings.value[first:low] != readings.value[low : low + 1])
    shown = first + (int(others[-1]) + 1 if len(others) else 0) - _BESIDE
    before = broken[(broken >= min(first, low - FEW)) & (broken < low)]
    return min(shown, int(before[-1]) - _BESIDE) if len(before) else shown


def _until(readings: Readings, broken: Ints, high_ms: int) -> int:
    """The same behind an instant; behind the last position."""
    high = min(len(readings) - 1, int(np.searchsorted(readings.time, high_ms)))
    last = int(np.searchsorted(readings.time, high_ms + RUN_MAX_MS, "right"))
    others = np.flatnonzero(readings.value[high + 1 : last] != readings.value[high : high + 1])
    shown = (high + 1 + int(others[0]) if len(others) else last) + _BESIDE
    behind = broken[(broken >= high) & (broken < max(last - 1, high + FEW))]
    return min(len(readings), max(shown, int(behind[0]) + 2) if len(behind) else shown)


def as_they_were(regions: list[Region], near: Ints) -> dict[Break, Region]:
    """Of breaks that nothing bridges those in whose reach nothing changed, by their breaks."""
    lone = [one for one in regions if one.breaks == (one.start, one.end) and not one.is_calm]
    reach = np.array([one.reach for one in lone], np.int64).reshape(-1, 2)
    same = np.searchsorted(near, reach[:, 0]) == np.searchsorted(near, reach[:, 1], "right")
    return {lone[at].breaks: lone[at] for at in np.flatnonzero(same).tolist()}


def known_back(regions: list[Region], low: int) -> int:
    """An instant, or one from which all standstills that are known of some regions are looked back over."""
    return min([low, *(link.start + RUN_MAX_MS for one in regions for link in one.links)])


def is_enough(readings: Readings, pair: Kinds, spans: list[Break], low: int) -> bool:
    """Whether readings from more than a day before an instant on begin before any standstill that matters in
    some stretches.
    """
    first = min(first for first, _ in places(readings, pair, spans))
    return bool(first >= 0 and readings.time[min(first + 2, len(pair))] >= low - RUN_MAX_MS)
