"""Registers in doubt: their regions, and what a change of readings turns of their lines.

Only series whose readings do not all count on come here. What is judged anew is a day or two around the
change (processors.anew says how much); of that the links that are not as they were are taken back and said
anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS
from processors.allowance import SMOOTH, Allowance
from processors.anew import Break, stretches
from processors.doubt import Link, Region, Verdict, judge
from processors.lines import RUN_MAX_MS, posts
from processors.memory import CONFLICT, LEFT_OUT, NONE, TIME_MASK, Memory, key_of, time_of
from processors.segments import BOOKED, BRIDGED, SHAPELESS, WRAPPED, WRITTEN_OFF, Segments
from processors.verdicts import Ratings

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DAY_MS = 86_400_000


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
        low = np.flatnonzero(allowance.kinds(time[:-1], time[1:], value[:-1], value[1:]) != SMOOTH)
        return list(zip(time[low].tolist(), time[low + 1].tolist(), strict=True))

    def marked(self, times: Ints, mark: int) -> Readings:
        """The same, some of them marked as left out or not."""
        flags = np.where(np.isin(self.time, times), (self.flags & ~np.uint8(LEFT_OUT)) | mark, self.flags)
        return Readings(self.time, self.value, flags.astype(np.uint8))

    def changed(self, fresh: Readings, gone: Ints) -> Readings:
        """Without some and with others."""
        stay = self.take(~np.isin(self.time, gone))
        time = np.concatenate([stay.time, fresh.time])
        order = np.argsort(time)
        value = np.concatenate([stay.value, fresh.value])[order]
        return Readings(time[order], value, np.concatenate([stay.flags, fresh.flags])[order])


@dataclass(frozen=True, slots=True)
class Turned:
    """What a change of readings turns: links taken back and links that come, what is left out now and what is
    no more (instants), verdicts by the instants of their links (None: it is no more).
    """

    back: Segments
    come: Segments
    left: Ints
    kept: Ints
    verdicts: dict[Break, Link | None]


class Doubts:
    """The regions of all series. ``watched``: of each the greatest key that a region's reach goes to."""

    def __init__(self, memory: Memory, ratings: Ratings) -> None:
        self._memory, self._ratings = memory, ratings
        self.regions: dict[int, list[Region]] = {}
        self.watched = np.full(len(memory.newest), NONE, np.int64)

    def put(self, series: int, regions: list[Region]) -> None:
        """The regions of a series, in their order."""
        self.regions[series] = regions
        until_ms = max((one.reach[1] for one in regions), default=TIME_FIRST_MS - 2)
        until_ms = min(until_ms, TIME_FIRST_MS + TIME_MASK - 1)
        self.watched[series] = key_of(np.array([series]), np.array([until_ms]))[0]
        if not regions:
            self.watched[series] = NONE
            del self.regions[series]

    def change(self, series: int, fresh: Readings, gone: Ints, record: int) -> Turned:
        """Readings of a series come and go; those in memory are still as they were."""
        times, allowance = np.union1d(fresh.time, gone), self._ratings.allowance(series)
        before = self.regions.get(series, [])
        old = self._around(series, *self._neighbours(series, times))
        new = old.changed(fresh, gone)
        spans = stretches(times.tolist(), before, old.breaks(allowance), new.breaks(allowance))
        lost: list[Region] = []
        found: list[Region] = []
        if spans:
            old = self._around(series, min(spans[0][0], int(times[0])), max(spans[-1][1], int(times[-1])))
            new = old.changed(fresh, gone)
            found = _judged(new, spans, allowance)
            lost = [one for one in before if _within(one, spans)]
            stay = [one for one in before if not _within(one, spans)]
            self.put(series, sorted([*stay, *found], key=lambda one: one.breaks))
        left, kept = _left(found), np.intersect1d(_left(lost), new.time)
        new = new.marked(kept, 0).marked(left, LEFT_OUT)
        back = _line(series, old, before, record, -1)
        come = _line(series, new, self.regions.get(series, []), record, 1)
        return Turned(*_differing(back, come), left, np.setdiff1d(kept, left), _turned(lost, found))

    def _neighbours(self, series: int, times: Ints) -> tuple[int, int]:
        """From when to when the readings next to changed ones are, all that count."""
        ends = key_of(np.full(2, series), times[[0, -1]])
        before = self._memory.before(ends[:1], skip=CONFLICT)[0]
        after = self._memory.after(ends[1:], skip=CONFLICT)[0]
        low = times[0] if before == NONE else time_of(before)
        high = times[-1] if after == NONE else time_of(after)
        return int(low), int(high)

    def _around(self, series: int, low_ms: int, high_ms: int) -> Readings:
        """Readings between two instants and those of whole days (UTC) around the day before and behind them;
        two more on either side.
        """
        low = (low_ms - RUN_MAX_MS) // _DAY_MS * _DAY_MS
        high = -(-(high_ms + RUN_MAX_MS) // _DAY_MS) * _DAY_MS
        edges = np.clip(np.array([low, high]), TIME_FIRST_MS, TIME_FIRST_MS + TIME_MASK - 1)
        low_key, high_key = np.split(key_of(np.full(2, series), edges), 2)
        for _ in range(2):
            before = self._memory.before(low_key, skip=CONFLICT)
            after = self._memory.after(high_key, skip=CONFLICT)
            low_key = np.where(before == NONE, low_key, before)
            high_key = np.where(after == NONE, high_key, after)
        run = self._memory.between(series, int(time_of(low_key)[0]) - 1, int(time_of(high_key)[0]))
        counts = run["flags"] & CONFLICT == 0
        return Readings(time_of(run["key"][counts]), run["value"][counts], run["flags"][counts])


def _judged(readings: Readings, spans: list[Break], allowance: Allowance) -> list[Region]:
    """The regions whose breaks lie within one of some spans."""
    walls = posts(np.array([low for low, _ in readings.breaks(allowance)], np.int64))
    out = []
    for low, high in spans:
        first = max(0, int(np.searchsorted(readings.time, low - RUN_MAX_MS)) - 2)
        last = int(np.searchsorted(readings.time, high + RUN_MAX_MS, "right")) + 2
        part = readings.take(np.arange(first, min(last, len(readings))))
        regions = judge(part.time, part.value, allowance.facts, np.isin(part.time, walls))
        out += [one for one in regions if _within(one, [(low, high)])]
    return out


def _within(region: Region, spans: list[Break]) -> bool:
    return any(low <= region.breaks[0] and region.breaks[1] <= high for low, high in spans)


def _left(regions: list[Region]) -> Ints:
    return np.array([time for one in regions for time in one.left_out], np.int64)


def _turned(lost: list[Region], found: list[Region]) -> dict[Break, Link | None]:
    """What regions that are no more said and others say now, where that is not the same."""
    old = {(link.start, link.end): link for region in lost for link in region.links}
    new = {(link.start, link.end): link for region in found for link in region.links}
    return {span: new.get(span) for span in sorted(old | new) if old.get(span) != new.get(span)}


def _line(series: int, readings: Readings, regions: list[Region], record: int, sign: int) -> Segments:
    """The links along the line of some readings."""
    line = readings.take(np.flatnonzero(readings.flags & LEFT_OUT == 0))
    size = max(len(line) - 1, 0)
    outcome, start, end = np.full(size, BOOKED), line.time[:-1], line.time[1:]
    for link in (link for one in regions for link in one.links):
        at = int(np.searchsorted(start, link.start))
        if at < size and (start[at], end[at]) == (link.start, link.end):
            outcome[at] = _outcome(link)
    flags = ((line.flags[:-1] | line.flags[1:]) & ~np.uint8(LEFT_OUT)).astype(np.int64)
    numbers, signs, records = (np.full(size, number) for number in (series, sign, record))
    return Segments(numbers, signs, start, end, line.value[:-1], line.value[1:], flags, records, outcome)


def _outcome(link: Link) -> int:
    bits = {
        BOOKED: link.decided,
        WRAPPED: link.wrapped,
        BRIDGED: link.left > 0 or link.by != "",
        SHAPELESS: link.verdict == Verdict.GAP and not link.decided,
        WRITTEN_OFF: link.written_off,
    }
    return sum(bit for bit, is_set in bits.items() if is_set)


def _differing(one: Segments, other: Segments) -> tuple[Segments, Segments]:
    """Two lines without the links that both have."""
    _, mine, yours = np.intersect1d(one.start, other.start, assume_unique=True, return_indices=True)
    same = np.ones(len(mine), bool)
    for name in ("end", "first", "last", "flags", "outcome"):
        same &= getattr(one, name)[mine] == getattr(other, name)[yours]
    return one.take(_all_but(len(one), mine[same])), other.take(_all_but(len(other), yours[same]))


def _all_but(size: int, some: Ints) -> Bools:
    out = np.ones(size, bool)
    out[some] = False
    return out
