"""How a batch is cut into passes: where a record changes what was reported, a new pass begins.

What is reported (final rows, verdicts) is history: it must be said as it stood before such a record,
and again behind it, however the log was cut into batches. Everything else may be taken together.
A reading that comes late, but only into a span that is still open and onto a line that nobody had
doubted, changes nothing that was reported: most late readings are of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS
from metering.readings import TIME_FIRST_MS
from processors.batch import Batch, SeriesIndex, distinct, grouped
from processors.books import Books
from processors.flows import spans_of
from processors.lanes import Lanes
from processors.memory import CONFLICT, NONE, TIME_BITS, key_of, series_of, time_of
from processors.progress import NEVER, Survey
from processors.reads import Reads
from processors.verdicts import Verdict, judge

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


STEPS_MAX = 64
"""How far among readings of a batch a neighbour is looked for; beyond it a pass begins, to be safe."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``late``: per record, whether it reaches behind what was seen.

    ``number``: of each lane (row) and record the pass it is taken in.
    """

    late: Bools
    number: Ints

    def __len__(self) -> int:
        return int(self.number.max(initial=0)) + 1

    def stretch(self, number: int) -> tuple[Ints, Ints]:
        """First and last record of each lane in a pass; lanes that are done stay at their last record."""
        first = (self.number < number).sum(axis=1)
        last = (self.number <= number).sum(axis=1) - 1
        return np.minimum(first, self.number.shape[1] - 1), last


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest time of the same series, and of the same point, in earlier records; NEVER if none."""

    of_series: Ints
    of_point: Ints

    def take(self, mask: NDArray[np.bool_] | Ints) -> Seen:
        return Seen(self.of_series[mask], self.of_point[mask])


class Passes:
    """Plans the passes of batches, by what the operators remember."""

    def __init__(self, index: SeriesIndex, books: Books, reads: Reads, lanes: Lanes) -> None:
        self._index, self._books, self._reads, self._lanes = index, books, reads, lanes
        points = index.roster.points
        self._base_ms = np.array([max(p.base_ms, 1) for p in points], np.int64)
        self._base_ms[index.interval] = QUARTER_MS

    def plan(self, batch: Batch, seen: Seen, survey: Survey) -> Plan:
        """``batch``: sorted by key; ``seen``: of each of its readings."""
        records = len(batch.stamp)
        late, begins = np.zeros(records, bool), np.zeros((self._lanes.count, records), np.int64)
        if len(batch):
            behind, harmless = self._behind(batch, seen, survey)
            late[batch.record[behind]] = True
            first = np.flatnonzero((behind & ~harmless) | self._makes_suspect(batch) | self._disputed(batch))
            lane, record = self._lanes.of_point[batch.point[first]], batch.record[first]
            begins[lane, record] = 1
            # what a late interval read changes of its neighbours is told apart from what comes next
            read = self._index.interval[batch.point[first]] & (record + 1 < records)
            begins[lane[read], record[read] + 1] = 1
            begins[:, 0] = 0
        return Plan(late, np.cumsum(begins, axis=1))

    def _behind(self, batch: Batch, seen: Seen, survey: Survey) -> tuple[Bools, Bools]:
        """Readings that reach behind what was seen or behind their point's patience, and which of them
        change nothing that was reported.

        An interval read reaches back to its start: it may share time with the one before.
        """
        reads, base = self._index.interval[batch.point], self._base_ms[batch.point]
        waited = survey.waited_before(batch.point, batch.record)
        known = np.where(seen.of_series != NEVER, seen.of_series, batch.time)
        start = np.where(reads, batch.start, known) if reads.any() else known
        frontier = np.maximum(np.where(reads, waited, seen.of_point), waited)
        shared = reads & (batch.start < seen.of_series)
        over = (batch.time <= seen.of_point) | shared
        behind = over | (frontier >= _end(start, base))
        harmless = np.zeros(len(batch), bool)
        doubtful = np.flatnonzero(over & ~reads & self._index.single[batch.point])
        if len(doubtful):
            frontier = np.maximum(seen.of_point, waited)[doubtful]
            harmless[doubtful] = self._harmless(batch, doubtful, frontier)
        return behind, harmless

    def _harmless(self, batch: Batch, at: Ints, frontier: Ints) -> Bools:
        """Late register readings into an open span, between neighbours whose difference was plain."""
        before, after, sure = self._neighbours(batch, at)
        out = np.zeros(len(at), bool)
        some = np.flatnonzero(sure & (before != NONE) & (after != NONE))
        low, high, series = time_of(before[some]), time_of(after[some]), batch.series[at[some]]
        rise = self._values(batch, after[some]) - self._values(batch, before[some])
        plain = judge(series, rise, low, high, self._books.ratings) == Verdict.PLAIN
        out[some] = plain & (frontier[some] < _end(low, self._base_ms[batch.point[at[some]]]))
        return out

    def _neighbours(self, batch: Batch, at: Ints) -> tuple[Ints, Ints, Bools]:
        """The keys next to each of these readings as of the records before its own, and whether that is sure:
        it is not where something of the series was said twice, or where many records are mixed.
        """
        every, memory = key_of(batch.series, batch.time), self._books.memory
        keys = every[at]
        before, after = memory.before(keys), memory.after(keys)
        down, sure_down = _nearest(batch, at, -1)
        up, sure_up = _nearest(batch, at, 1)
        before = np.maximum(before, np.where(down >= 0, every[down], NONE))
        later = np.where(up >= 0, every[up], NONE)
        after = np.where((after == NONE) | ((later != NONE) & (later < after)), later, after)
        twice = np.concatenate([every[1:][every[1:] == every[:-1]], keys[memory.find(keys)[0] >= 0]])
        return before, after, sure_down & sure_up & ~np.isin(series_of(keys), series_of(twice))

    def _values(self, batch: Batch, keys: Ints) -> Ints:
        """Register values of readings of the batch or in memory."""
        every = key_of(batch.series, batch.time)
        at = np.minimum(np.searchsorted(every, keys), len(every) - 1)
        fresh = every[at] == keys
        out = np.where(fresh, batch.value[at], 0)
        memory = self._books.memory
        out[~fresh] = memory.get("value", memory.find(keys[~fresh]))
        return out

    def _disputed(self, batch: Batch) -> Bools:
        """Readings of an identity that comes more than once, and those behind a reading in conflict: it does
        not count, so that their segments begin before it.
        """
        key, memory = key_of(batch.series, batch.time), self._books.memory
        twice = memory.find(key)[0] >= 0
        again = key[1:] == key[:-1]
        twice[1:] |= again
        twice[:-1] |= again
        newest = memory.newest[distinct(batch.series)]
        newest = newest[newest != NONE]
        disputed = newest[memory.get("flags", memory.find(newest)) & CONFLICT > 0]
        series = np.concatenate([batch.series[twice], series_of(disputed)])
        return np.isin(batch.series, series) if len(series) else twice

    def _makes_suspect(self, batch: Batch) -> Bools:
        """Interval reads that let the zero before them, of an earlier record, look like a dropout."""
        out = np.zeros(len(batch), bool)
        mine = np.flatnonzero(self._reads.checked[batch.series])
        if len(mine) == 0:
            return out
        series, value, record = batch.series[mine], batch.value[mine], batch.record[mine]
        follows = np.append(False, series[1:] == series[:-1])
        zero = follows & np.append(False, (value[:-1] == 0) & (record[:-1] != record[1:]))
        heads = np.flatnonzero(~follows)
        memory = self._reads.memory
        before = memory.before(key_of(series[heads], batch.time[mine[heads]]))
        there = before != NONE
        zero[heads[there]] = memory.get("value", memory.find(before[there])) == 0
        out[mine] = zero & (value > 0)
        return out


def _nearest(batch: Batch, at: Ints, step: int) -> tuple[Ints, Bools]:
    """The nearest reading of the same series of an earlier record (-1: none), in direction ``step``; sure?"""
    series, record, last = batch.series, batch.record, len(batch) - 1

    def inside(place: Ints) -> Bools:
        within = np.clip(place, 0, last)
        return np.asarray((within == place) & (series[within] == series[at]))

    place = at.copy()
    for _ in range(STEPS_MAX):
        moving = inside(place) & (record[np.clip(place, 0, last)] >= record[at])
        place += step * moving
        if not moving.any():
            break
    there = inside(place)
    sure = ~there | (record[np.clip(place, 0, last)] < record[at])
    return np.where(there, place, -1), sure


def _end(time_ms: Ints, base: Ints) -> Ints:
    """The end of the base span that holds an instant."""
    return (spans_of(time_ms, base) + 1) * base


def sorted_by_key(batch: Batch, newest: Ints, seen: Ints, index: SeriesIndex) -> tuple[Batch, Seen]:
    """The batch by series, time and record, and what was seen before each of its readings.

    ``batch``: by record; ``newest``: the newest time of each series before it, ``seen``: of each point.
    """
    order = grouped(batch.series, len(index))
    of_series = _seen_before(batch.series[order], batch.record[order], batch.time[order], newest)
    of_point = of_series
    if not index.single[batch.point].all():
        by_point = grouped(batch.point, len(index.single))
        point, record, time = batch.point[by_point], batch.record[by_point], batch.time[by_point]
        of_point = np.empty(len(batch), np.int64)
        of_point[by_point] = _seen_before(point, record, time, seen)
        of_point = of_point[order]
    by_time = np.argsort(key_of(batch.series, batch.time)[order], kind="stable")
    return batch.take(order[by_time]), Seen(of_series, of_point).take(by_time)


def _seen_before(series: Ints, record: Ints, time: Ints, newest: Ints) -> Ints:
    """The newest time of the same series in earlier records (rows sorted by series and record)."""
    n = len(series)
    if n == 0:
        return series
    new_series = np.append(True, series[1:] != series[:-1])
    new_record = new_series | np.append(True, record[1:] != record[:-1])
    known = newest[series]
    shift = np.cumsum(new_series) << TIME_BITS  # keeps series apart in one running maximum
    highest = np.maximum.accumulate(np.maximum(time, known) - TIME_FIRST_MS + shift) - shift + TIME_FIRST_MS
    previous = np.where(new_series, known, np.append(NEVER, highest[:-1]))
    if new_record.all():
        return previous
    return np.asarray(previous[np.maximum.accumulate(np.where(new_record, np.arange(n), 0))])
