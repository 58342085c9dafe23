"""Judging stretches of a series: the readings it takes, and how far back a standstill is looked at.

A standstill that ends in a rise that cannot be counts from its beginning, which may lie far before the part
that is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.allowance import SMOOTH, Allowance, Kinds
from processors.anew import Break
from processors.decided import Decision, Line, marks
from processors.doubt import Region, judge, judged_from
from processors.lines import RUN_MAX_MS, posts
from processors.memory import LEFT_OUT
from processors.slips import pairs_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one series that count, by time: instants, register values, flags."""

    time: Ints
    value: Ints
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, mask: NDArray[np.generic]) -> Readings:
        return Readings(self.time[mask], self.value[mask], self.flags[mask])

    def breaks(self, allowance: Allowance) -> list[Break]:
        """Instants of the readings on either side of each break."""
        time, value = self.time, self.value
        low = np.flatnonzero(pairs_of(time, value, allowance) != SMOOTH)
        return list(zip(time[low].tolist(), time[low + 1].tolist(), strict=True))

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
    readings: Readings, pair: Kinds, spans: list[Break], allowance: Allowance, decisions: list[Decision]
) -> list[Region]:
    """The regions whose breaks lie within one of some spans."""
    walls = posts(readings.time[:-1][pair != SMOOTH])
    out = []
    for low, high in spans:
        first = max(0, _judged_from(readings, pair, (low, high)))
        last = int(np.searchsorted(readings.time, high + RUN_MAX_MS, "right")) + 2
        last = min(last, len(readings))
        part = readings.take(np.arange(first, last))
        kept = np.isin(part.time, walls) | marks(part.time, decisions)[1]
        regions = judge(part.time, part.value, allowance.facts, kept, pair[first : last - 1])
        out += [one for one in regions if _within(one, [(low, high)])]
    return out


def known_back(regions: list[Region], low: int) -> int:
    """An instant, or one from which all standstills that are known of some regions are looked back over."""
    return min([low, *(link.start + RUN_MAX_MS for one in regions for link in one.links)])


def is_enough(readings: Readings, pair: Kinds, spans: list[Break], low: int) -> bool:
    """Whether readings from more than a day before an instant on begin before any standstill that matters in
    some stretches.
    """
    first = min(_judged_from(readings, pair, span) for span in spans)
    return bool(first >= 0 and readings.time[min(first + 2, len(pair))] >= low - RUN_MAX_MS)


def _judged_from(readings: Readings, pair: Kinds, span: Break) -> int:
    """From which reading on to judge a stretch; less than 0: from before all of these."""
    first = int(np.searchsorted(readings.time, span[0] - RUN_MAX_MS)) - 2
    return min(first, judged_from(readings.value, pair, max(0, first)))


def _within(region: Region, spans: list[Break]) -> bool:
    return any(low <= region.breaks[0] and region.breaks[1] <= high for low, high in spans)
