"""How a batch is cut into passes: where a record changes what was reported, a new pass begins.

What is reported (final rows, verdicts) is history: it must be said as it stood before such a record,
and again behind it, however the log was cut into batches. Everything else may be taken together.
A reading that comes late, but only into a span that is still open and onto a line that nobody had
doubted, changes nothing that was reported: most late readings are of that kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.allowance import SMOOTH
from processors.batch import Batch, SeriesIndex
from processors.books import Books
from processors.choices import Choices
from processors.decisions import Placed
from processors.flows import spans_of
from processors.gauges import Gauges
from processors.kernels.memory import doubtful
from processors.kernels.order import order
from processors.kernels.survey import nearest
from processors.lanes import Lanes
from processors.memory import CONFLICT, OFF_LINE, Memory, doubled, key_of, series_of, time_of
from processors.progress import NEVER, Survey
from processors.reads import Reads
from processors.runs import NONE
from processors.unsettled import STEPS_MAX, Found, Unsettled
from processors.verdicts import judge

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plan:
    """``late``: per record, whether it reaches behind what was seen.

    ``number``: by row and record the pass it is taken in; ``row``: of each lane. Lanes in which no pass
    begins share the first one: they are most of many.
    """

    late: Bools
    number: Ints
    row: Ints
    lane: Ints
    """Of each decision of the batch."""

    @classmethod
    def of(cls, late: Bools, lanes: int, lane: Ints, record: Ints, decided: Ints) -> Plan:
        """New passes begin at these records of these lanes, not at the first one; ``decided``: ``lane``."""
        busy, which = np.unique(lane[record > 0], return_inverse=True)
        row = np.zeros(lanes, np.int64)
        row[busy] = np.arange(1, len(busy) + 1)
        begins = np.zeros((len(busy) + 1, len(late)), np.int64)
        begins[which + 1, record[record > 0]] = 1
        return cls(late, np.cumsum(begins, axis=1), row, decided)

    def __len__(self) -> int:
        return int(self.number.max(initial=0)) + 1

    def of_records(self, lane: Ints, record: Ints) -> Ints:
        """The passes that records of lanes are taken in."""
        return np.asarray(self.number[self.row[lane], record])

    def decided(self, batch: Batch, number: int) -> list[Placed]:
        """The decisions of a batch that are taken in a pass, by record."""
        every = zip(batch.decisions, self.row[self.lane].tolist(), strict=True)
        return [one for one, row in every if self.number[row, one.record] == number]

    def stretch(self, number: int) -> tuple[Ints, Ints]:
        """First and last record of each lane in a pass; lanes that are done stay at their last record."""
        first = (self.number < number).sum(axis=1)
        last = (self.number <= number).sum(axis=1) - 1
        return np.minimum(first, self.number.shape[1] - 1)[self.row], last[self.row]


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest time of the same series, and of the same point, in earlier records; NEVER if none."""

    of_series: Ints
    of_point: Ints

    def take(self, mask: NDArray[np.bool_] | Ints) -> Seen:
        return Seen(self.of_series[mask], self.of_point[mask])


class Passes:
    """Plans the passes of batches, by what the operators remember."""

    def __init__(
        self, index: SeriesIndex, books: Books, reads: Reads, gauges: Gauges, lanes: Lanes, choices: Choices
    ) -> None:
        self._choices, self._rulings, self._gauges = choices, reads.rulings, gauges
        self._index, self._books, self._reads, self._lanes = index, books, reads, lanes
        self._unsettled = Unsettled(index, books)
        points = index.roster.points
        self._base_ms = np.array([max(p.base_ms, 1) for p in points], np.int64)
        self._base_ms[index.interval] = 1  # rolling windows that end in a read may be final before its row is
        self._several = index.register & ~index.single
        self._any_several = bool(self._several.any())

    def plan(self, batch: Batch, seen: Seen, survey: Survey) -> Plan:
        """``batch``: sorted by key; ``seen``: of each of its readings."""
        records = len(batch.stamp)
        late, begins = np.zeros(records, bool), list[tuple[Ints, Ints]]()
        if len(batch):
            behind, harmful, unsettled = self._behind(batch, seen, survey)
            late[batch.record[behind]] = True
            others = (
                unsettled,
                self._makes_suspect(batch),
                self._disputed(batch),
                self._exchanged(batch, seen),
                _decided(batch),
            )
            first = np.unique(np.concatenate([harmful, *others]))
            lane, record = self._lanes.of_point[batch.point[first]], batch.record[first]
            # what a late interval read changes of its neighbours is told apart from what comes next
            read = self._index.interval[batch.point[first]] & (record + 1 < records)
            begins += [(lane, record), (lane[read], record[read] + 1)]
        series = np.array([one.series for one in batch.decisions], np.int64)
        record = np.array([one.record for one in batch.decisions], np.int64)
        decided = self._lanes.of_point[self._index.point[series]]
        more = record + 1 < records
        begins += [(decided, record), (decided[more], record[more] + 1)]
        lanes, at = (np.concatenate(column) for column in zip(*begins, strict=True))
        return Plan.of(late, self._lanes.count, lanes, at, decided)

    def _behind(self, batch: Batch, seen: Seen, survey: Survey) -> tuple[Ints, Ints, Ints]:
        """Readings that reach behind what was seen or behind their point's patience; those of them that may
        change something that was reported; and those of registers that are in doubt.
        """
        before = seen.of_series
        if self._any_several:  # a meter's first reading reaches back to the meter before
            first = (before == NEVER) & self._several[batch.point]
            before = np.where(first, seen.of_point, before)
        columns = (batch.point, batch.time, batch.start, batch.record, before, seen.of_point)
        rows, over = survey.behind(columns, self._base_ms, self._index.interval)
        point = batch.point[rows]
        register = over & self._index.register[point]
        late = rows[register]
        late = late[batch.time[late] <= seen.of_series[late]]
        unsettled = self._unsettled.find(batch, seen.of_series, late)
        waited = survey.waited_before(batch.point[rows], batch.record[rows])
        frontier, harmful = np.maximum(seen.of_point[rows], waited), np.ones(len(rows), bool)
        some = np.flatnonzero(register & self._index.single[point])
        harmful[some] = ~self._harmless(batch, rows[some], frontier[some], unsettled)
        some = np.flatnonzero(over & self._index.gauge[point] & self._index.single[point])
        harmful[some] = ~self._harmless_gauges(batch, rows[some], frontier[some])
        return rows, rows[harmful], unsettled.rows

    def _harmless(self, batch: Batch, at: Ints, frontier: Ints, unsettled: Found) -> Bools:
        """Late readings of registers that nobody doubts into an open span, between neighbours whose
        difference was plain.
        """
        if len(at) == 0:
            return np.empty(0, bool)
        before, after, sure = self._neighbours(batch, at, self._books.memory, OFF_LINE)
        out = np.zeros(len(at), bool)
        some = np.flatnonzero(sure & (before != NONE) & (after != NONE))
        low, high, series = time_of(before[some]), time_of(after[some]), batch.series[at[some]]
        first, last = self._unsettled.values(batch, before[some]), self._unsettled.values(batch, after[some])
        plain = judge(series, low, high, first, last, self._books.ratings) == SMOOTH
        plain &= ~np.isin(series, unsettled.series)
        out[some] = plain & (frontier[some] < _end(low, self._base_ms[batch.point[at[some]]]))
        return out

    def _harmless_gauges(self, batch: Batch, at: Ints, frontier: Ints) -> Bools:
        """The same of gauges' late readings, whatever is to be said of them: each has a row of its own."""
        if len(at) == 0:
            return np.empty(0, bool)
        before, after, sure = self._neighbours(batch, at, self._gauges.memory, 0)
        plain = sure & (before != NONE) & (after != NONE)
        return np.asarray(plain & (frontier < _end(time_of(before), self._base_ms[batch.point[at]])))

    def _neighbours(self, batch: Batch, at: Ints, memory: Memory, skip: int) -> tuple[Ints, Ints, Bools]:
        """The keys next to each of these readings as of the records before its own, and whether that is sure:
        it is not where something of the series was said twice, or where many records are mixed.
        """
        every = batch.key
        keys = every[at]
        before, after = memory.before(keys, skip), memory.after(keys, skip)
        down, sure_down = nearest(batch.series, batch.record, at, -1, STEPS_MAX)
        up, sure_up = nearest(batch.series, batch.record, at, 1, STEPS_MAX)
        before = np.maximum(before, np.where(down >= 0, every[down], NONE))
        later = np.where(up >= 0, every[up], NONE)
        after = np.where((after == NONE) | ((later != NONE) & (later < after)), later, after)
        twice = np.concatenate([every[1:][every[1:] == every[:-1]], keys[memory.find(keys)[0] >= 0]])
        return before, after, sure_down & sure_up & ~np.isin(series_of(keys), series_of(twice))

    def _disputed(self, batch: Batch) -> Ints:
        """Readings of an identity that comes more than once, and those behind a reading in conflict: it does
        not count, so that their segments begin before it.
        """
        key, memory = batch.key, self._books.memory
        twice = doubtful(key, memory.newest)
        twice = twice[doubled(key[twice]) | (memory.find(key[twice])[0] >= 0)]
        twice = np.union1d(np.union1d(twice, self._choices.rows(key)), self._rulings.rows(key))
        behind = memory.newest_flags[batch.series] & CONFLICT > 0
        if len(twice):
            behind |= np.isin(batch.series, batch.series[twice])
        return np.union1d(twice, self._behind_disputed(batch, np.flatnonzero(behind), key[twice]))

    def _behind_disputed(self, batch: Batch, at: Ints, twice: Ints) -> Ints:
        """Those of these readings next to which lies, as of the records before their own, one of the keys or
        a reading in conflict; or that is not sure. Interval reads and gauges may touch others, too.
        """
        if len(at) == 0:
            return at
        key, memory = batch.key, self._books.memory
        down, sure = nearest(batch.series, batch.record, at, -1, STEPS_MAX)
        disputed = ~sure | ~self._index.register[batch.point[at]] | ((down >= 0) & np.isin(key[down], twice))
        known = memory.before(key[at], 0)
        there = np.flatnonzero((known != NONE) & ((down < 0) | (known > key[down])))
        flags = memory.get("flags", memory.find(known[there]))
        disputed[there] |= flags & CONFLICT > 0
        return np.asarray(at[disputed])

    def _exchanged(self, batch: Batch, seen: Seen) -> Ints:
        """First readings of a meter behind another one of its point. The newest of that one may not count, so
        that what lies between them begins before what was reported.
        """
        if not self._any_several:
            return np.empty(0, np.int64)
        first = (seen.of_series == NEVER) & (seen.of_point != NEVER) & self._several[batch.point]
        return np.flatnonzero(first)

    def _makes_suspect(self, batch: Batch) -> Ints:
        """Interval reads that let the zero before them, of an earlier record, look like a dropout."""
        if not self._reads.checked.any():
            return np.empty(0, np.int64)
        mine = np.flatnonzero(self._reads.checked[batch.series])
        if len(mine) == 0:
            return mine
        series, value, record = batch.series[mine], batch.value[mine], batch.record[mine]
        follows = np.append(False, series[1:] == series[:-1])
        zero = follows & np.append(False, (value[:-1] == 0) & (record[:-1] != record[1:]))
        heads = np.flatnonzero(~follows)
        memory = self._reads.memory
        before = memory.before(key_of(series[heads], batch.time[mine[heads]]), CONFLICT)
        there = before != NONE
        zero[heads[there]] = memory.get("value", memory.find(before[there])) == 0
        return np.asarray(mine[zero & (value > 0)])


def _decided(batch: Batch) -> Ints:
    """Readings of series that somebody decides something of in the same batch."""
    series = [one.series for one in batch.decisions]
    return np.flatnonzero(np.isin(batch.series, series)) if series else np.empty(0, np.int64)


def _end(time_ms: Ints, base: Ints) -> Ints:
    """The end of the base span that holds an instant."""
    return (spans_of(time_ms, base) + 1) * base


def sorted_by_key(
    batch: Batch, newest: Callable[[slice], Ints], seen: Ints, index: SeriesIndex
) -> tuple[Batch, Seen]:
    """The batch by series, time and record, and what was seen before each of its readings.

    ``batch``: by record; ``newest``: the newest time of some series before it, ``seen``: of each point.
    """
    some, series = _stretch(batch.series)
    by_key, of_series = order(series, batch.time, batch.record, newest(some))
    of_point = of_series
    if not index.only_single:
        some, point = _stretch(batch.point)
        by_point, found = order(point, batch.time, batch.record, seen[some])
        of_point = np.empty(len(batch), np.int64)
        of_point[by_point] = found
        of_point = of_point[by_key]
    return batch.take(by_key), Seen(of_series, of_point)


def _stretch(numbers: Ints) -> tuple[slice, Ints]:
    """From the least to the greatest one, and all of them counted from the least."""
    if len(numbers) == 0:
        return slice(0, 0), numbers
    low = int(numbers.min())
    return slice(low, int(numbers.max()) + 1), numbers - low
