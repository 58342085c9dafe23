"""The books: which readings count, what each register did between two of them, in exact integers.

Everything here is a function of the set of readings: a reading that comes late, twice, corrected
or in conflict takes back the segments it changes and brings the right ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors import judging, settling
from processors.allowance import SMOOTH, UNSURE, WRAP
from processors.batch import STATED, Batch, SeriesIndex
from processors.between import Between
from processors.decided import Decision
from processors.doubt import Link, Verdict, counted_on
from processors.flows import Flows, join
from processors.kernels.chain import Readings, chain
from processors.memory import CONFLICT, EDITED, LEFT_OUT, TIME_BITS, Memory, key_of, series_of, time_of
from processors.room import IN_MEMORY, Room
from processors.runs import ALWAYS, NONE, Run
from processors.scaling import distinct
from processors.segments import BOOKED, WRAPPED, WRITTEN_OFF, Segments, Spreading
from processors.verdicts import Ratings, judge

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


ENTERING = 1
"""Of the parts that readings change of a line: where they go on from the one before."""


class _Ends(NamedTuple):
    """Register values and flags of readings."""

    value: Ints
    flags: NDArray[np.uint8]


@dataclass
class Ledger:
    """Sums per series in millionths of the canonical unit before the multiplier."""

    booked: Ints
    held: Ints
    written_off: Ints
    touched: NDArray[np.bool_]
    """Series whose row is to be said anew."""

    @classmethod
    def empty(cls, size: int) -> Ledger:
        booked, held, written_off = (np.zeros(size, np.int64) for _ in range(3))
        return cls(booked, held, written_off, np.zeros(size, bool))


VerdictKey = tuple[int, int, int]
"""Series, start, end of a segment."""


class Books:
    """Registers: readings in, signed flows out; verdicts and the ledger as they stand."""

    def __init__(self, index: SeriesIndex, room: Room = IN_MEMORY) -> None:
        self.index = index
        self.ratings = Ratings(index)
        self.memory = Memory(len(index), room)
        self.ledger = Ledger.empty(len(index))
        self.doubts = settling.Doubts(self.memory, self.ratings)
        self.verdicts: dict[VerdictKey, Link] = {}
        self.verdict_revisions: dict[VerdictKey, int] = {}
        """How often each was said."""
        self.changed_verdicts: dict[VerdictKey, int] = {}
        """Key -> number of the record that made or unmade it, since the last collection."""
        self.turned: list[int] = []
        """Numbers of records that made or unmade verdicts, since the last collection."""
        self.began: dict[int, int] = {}
        """Series -> number of the record that brought its first reading, since the last collection."""
        self.between = Between(index, self.memory)
        self._unseen = ~index.single[index.point]
        """Series without any reading, of points that have several."""
        self._spreading = Spreading(self.ratings, index.point)

    def resume(self) -> None:
        """Goes on from readings and regions that are there."""
        self.doubts.resume()
        for series in self.doubts.regions.keys() | self.doubts.decided.keys():
            links = self.doubts.links(series)
            self.verdicts |= {(series, *span): link for span, link in links.items()}
        self.between.resume()
        self._unseen &= self.memory.newest == NONE
        there = np.flatnonzero(self.memory.newest != NONE)
        for old, new in self._replaced(there):
            link = self._replacement(old, new)
            self.verdicts[new, link.start, link.end] = link

    def _replaced(self, series: Ints) -> list[tuple[int, int]]:
        """Installations, among these or next to them, that follow each other and both have readings."""
        point, there = self.index.point, ~self._unseen
        one = np.unique(np.concatenate([series, series + 1]))
        one = one[(one > 0) & (one < len(point))]
        one = one[(point[one] == point[one - 1]) & there[one] & there[one - 1]]
        return [(int(new) - 1, int(new)) for new in one[~self.index.interval[point[one]]]]

    def _replacement(self, old: int, new: int) -> Link:
        start, end = int(self.index.to_ms[old]), int(self.index.from_ms[new])
        return Link(start, end, 0, 0, Verdict.REPLACEMENT, decided=True)

    def _replacement_at(self, key: VerdictKey) -> Link | None:
        """The replacement that a key names, if there is one."""
        links = [self._replacement(*pair) for pair in self._replaced(np.array(key[:1])) if pair[1] == key[0]]
        return next((link for link in links if (link.start, link.end) == key[1:]), None)

    def _first_readings(self, series: Ints, record: Ints) -> None:
        """A replacement is known once both meters have a reading."""
        if not self._unseen.any() or not (unseen := self._unseen[series]).any():
            return
        order = np.lexsort((record[unseen], series[unseen]))
        numbers = record[unseen][order]
        series, first = np.unique(series[unseen][order], return_index=True)
        self._unseen[series] = False
        self.began |= dict(zip(series.tolist(), numbers[first].tolist(), strict=True))
        for old, new in self._replaced(series):
            link = self._replacement(old, new)
            self.say((new, link.start, link.end), link, max(self.began.get(s, 0) for s in (old, new)))

    def insert(self, run: Run, record: Ints) -> Flows:
        """New readings, sorted by key, none of them known: the flows that change."""
        self._first_readings(series_of(run["key"]), record)
        held = run["flags"] & CONFLICT > 0
        if held.any():
            self.memory.add(_some(run, held))
            run, record = _some(run, ~held), record[~held]
        self.between.came(run["key"], record)
        flows = []
        while len(record):
            plain, doubtful = self._take_in(run, record)
            flows.append(plain)
            if not doubtful.any():
                break
            run, record = _some(run, doubtful), record[doubtful]
            settled, rest = self._judged(run, record)
            flows += settled
            run, record = _some(run, rest), record[rest]
        return join([part for part in flows if len(part)])

    def _take_in(self, run: Run, record: Ints) -> tuple[Flows, Bools]:
        """Takes in readings of series of which all counts on; which readings are of others."""
        watched = self._watched(run["key"])
        if watched.any():
            watched &= ~self.doubts.repeating(run["key"], run["value"])
        if not watched.any():
            return self._counting_on(run, record)
        free = ~watched
        flows, watched[free] = self._counting_on(_some(run, free), record[free])
        return flows, watched

    def _watched(self, key: Ints) -> Bools:
        """Readings of series of which any of these lies within the reach of a region."""
        series = series_of(key)
        near: Bools = key <= self.doubts.watched[series]
        return np.isin(series, series[near]) if near.any() else near

    def _counting_on(self, run: Run, record: Ints) -> tuple[Flows, Bools]:
        flows, general = self._plain(run, record)
        segments, broken = [], np.zeros(len(record), bool)
        if general.any():
            some = slice(None) if general.all() else general
            segments = self._around({name: run[name][some] for name in ALWAYS}, record[some])
            breaks = self._breaks(segments)
            if len(breaks):
                broken = np.isin(series_of(run["key"]), breaks)
                segments = [part.take(~np.isin(part.series, breaks)) for part in segments]
                run = _some(run, ~broken)
            self._turn_calmly(segments[ENTERING])
            for part in segments:
                self.doubts.hold(part)
        self.memory.add(run)
        self.ledger.touched[series_of(run["key"])] = True
        return join([part for part in (flows, self._settle(segments)) if len(part)]), broken

    def _breaks(self, segments: list[Segments]) -> Ints:
        """Series with a break that is to be looked at: not where a register only turned, behind all that is
        known, with nothing doubtful around it. That is noted in the outcome.
        """
        out = []
        for number, part in enumerate(segments):
            kinds = judge(part.series, part.start, part.end, part.first, part.last, self.ratings)
            open_ = kinds != SMOOTH
            if number == ENTERING and open_.any():
                key = key_of(part.series, part.end)
                calm = open_ & np.isin(kinds, (WRAP, UNSURE)) & (key > self.memory.newest[part.series])
                calm &= key > self.doubts.unruly[part.series]
                part.outcome[calm] = np.where(kinds[calm] == WRAP, BOOKED | WRAPPED, 0)
                open_ &= ~calm
            out.append(part.series[open_])
        return np.concatenate(out)

    def _turn_calmly(self, part: Segments) -> None:
        """Notes what is said of registers that turned with nothing doubtful around."""
        for at in np.flatnonzero(part.outcome != BOOKED).tolist():
            series, record = int(part.series[at]), int(part.record[at])
            ends = (int(part.start[at]), int(part.end[at]), int(part.first[at]), int(part.last[at]))
            kind = WRAP if part.outcome[at] else UNSURE
            link = counted_on(ends, kind, self.ratings.allowance(series))
            self.doubts.add(series, link)
            self.say((series, *ends[:2]), link, record)
            self.turned.append(record)

    def _judged(self, run: Run, record: Ints) -> tuple[list[Flows], Bools]:
        """Takes in, of each series, the readings of its earliest record; which readings are left."""
        flows, rest, series = [], np.ones(len(record), bool), series_of(run["key"])
        for one in distinct(series).tolist():
            mine = np.flatnonzero(series == one)
            mine = mine[record[mine] == record[mine].min()]
            rest[mine] = False
            key, number = run["key"][mine], int(record[mine[0]])
            fresh = judging.Readings(time_of(key), run["value"][mine], run["flags"][mine])
            turned = self.doubts.change(one, fresh, np.empty(0, np.int64), number)
            self.memory.add(_some(run, mine))
            flows.append(self._turn(one, turned, number))
        return flows, rest

    def decide(self, series: int, decision: Decision, record: int) -> Flows:
        """Somebody says what happened between two readings."""
        turned = self.doubts.decide(series, decision, record)
        return join([]) if turned is None else self._turn(series, turned, record)

    def replace(self, key: int, fresh: dict[str, int], record: int) -> Flows:
        """A known reading says something else: its fields. In conflict it does not count."""
        where = self.memory.find(np.array([key]))
        series, time = key >> TIME_BITS, time_of(np.array([key]))
        counted = self.memory.get("flags", where) & CONFLICT == 0
        counts = np.full(1, fresh["flags"] & CONFLICT == 0)
        now = judging.Readings(time, np.array([fresh["value"]]), np.array([fresh["flags"]], np.uint8))
        silent = not (counted.any() or counts.any())  # a further value of a conflict
        turned = None if silent else self.doubts.change(series, now.take(counts), time[counted], record)
        for name, content in fresh.items():
            self.memory.put(name, where, np.array([content]))
        if counted.any() != counts.any():
            self.between.turned(series, record)
        return join([]) if turned is None else self._turn(series, turned, record)

    def _turn(self, series: int, turned: settling.Turned, record: int) -> Flows:
        """Notes what a change turned; the flows of its links."""
        self._mark(series, turned.kept, 0)
        self._mark(series, turned.left, LEFT_OUT)
        for (start, end), link in turned.verdicts.items():
            self.say((series, start, end), link, record)
        if turned.verdicts:
            self.turned.append(record)
        self.ledger.touched[series] = True
        return self._settle([turned.back, turned.come])

    def say(self, key: VerdictKey, link: Link | None, record: int) -> None:
        """Notes a verdict, or that there is none any more, with the number of the record that made it so.

        At the instant of a replacement a conflict comes first, and leaves it behind.
        """
        old = self.verdicts.get(key)
        if link is not None and link.verdict == Verdict.REPLACEMENT and old is not None:
            return
        if link is None and old is not None and old.verdict == Verdict.CONFLICT:
            link = self._replacement_at(key)
        self.changed_verdicts[key] = record
        self.verdict_revisions[key] = self.verdict_revisions.get(key, -1) + 1
        if link is None:
            del self.verdicts[key]
        else:
            self.verdicts[key] = link

    def _mark(self, series: int, times: Ints, mark: int) -> None:
        """Marks known readings as left out, or not."""
        where = self.memory.find(key_of(np.full(len(times), series), times))
        flags = self.memory.get("flags", where)
        wrong = flags & LEFT_OUT != mark
        marked = flags & ~np.uint8(LEFT_OUT) | np.uint8(mark)
        self.memory.put("flags", (where[0][wrong], where[1][wrong]), marked[wrong])

    def _plain(self, run: Run, record: Ints) -> tuple[Flows, NDArray[np.bool_]]:
        """The flows of series of which all is plain, and which readings are of others."""
        memory, key = self.memory, run["key"]
        old = key[key <= memory.newest[series_of(key)]]
        before, after = (Readings(k, *self._ends(k)) for k in (memory.before(old), memory.after(old)))
        newest = Readings(memory.newest, memory.newest_value, memory.newest_flags)
        fresh = Readings(key, np.ascontiguousarray(run["value"]), np.ascontiguousarray(run["flags"]))
        columns, general = chain(fresh, record, before, after, newest, self.ratings.facts, self.ledger.booked)
        point, sign, start, end, amount, measured, rounded, record = columns
        one, zero = np.ones(len(point), np.int64), np.zeros(len(point), np.int64)
        return Flows(point, sign, start, end, amount, one, measured, rounded, zero, zero, record), general

    def _around(self, run: Run, record: Ints) -> list[Segments]:
        """What readings, taken in together, change of the line: as if they had come record by record.

        A segment between two of them is of the later record: only then are both there. What came in
        between and was divided again adds up to nothing.
        """
        key, series = run["key"], series_of(run["key"])
        before, after = self._known_around(key, series)
        previous = np.append(NONE, key[:-1])
        same = np.append(False, series[1:] == series[:-1])
        head = ~(same & (previous > before))
        tail = np.append(head[1:], True)
        from_key = np.where(head, before, previous)
        later = np.where(head, record, np.maximum(record, np.append(0, record[:-1])))
        split = head & (before != NONE) & (after != NONE)
        entering, leaving = from_key != NONE, tail & (after != NONE)
        known = self._ends(before)
        chain = _Ends(
            np.where(head, known.value, np.append(0, run["value"][:-1])),
            np.where(head, known.flags, np.append(0, run["flags"][:-1])),
        )
        fresh, next_ = _Ends(run["value"], run["flags"]), self._ends(after)
        return [
            _segments(before, after, known, next_, record, -1, split),
            _segments(from_key, key, chain, fresh, later, 1, entering),
            _segments(key, after, fresh, next_, record, 1, leaving),
        ]

    def _known_around(self, key: Ints, series: Ints) -> tuple[Ints, Ints]:
        """The known keys next to new ones; NONE before those that only have new ones before them."""
        old = key < self.memory.newest[series]
        chained = np.append(False, ~old[1:] & ~old[:-1] & (series[1:] == series[:-1]))
        before = np.full(len(key), NONE, np.int64)
        before[~chained] = self.memory.before(key[~chained])
        return before, self.memory.after(key)

    def _ends(self, keys: Ints) -> _Ends:
        """Register values and flags of known readings; zeros where the key is NONE."""
        value, flags = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.uint8)
        there = np.flatnonzero(keys != NONE)
        if len(there):
            where = self.memory.find(keys[there])
            value[there], flags[there] = self.memory.get("value", where), self.memory.get("flags", where)
        return _Ends(value, flags)

    def _settle(self, parts: list[Segments]) -> Flows:
        parts = [part for part in parts if len(part)]
        for part in parts:
            self._book(part)
        return join([self._spreading.flows(part) for part in parts])

    def _book(self, part: Segments) -> None:
        rise, booked, written_off = part.last - part.first, part.has(BOOKED), part.has(WRITTEN_OFF)
        wrap = np.where(part.has(WRAPPED), self.ratings.width[part.series], 0)
        lost = np.where(written_off, rise, 0) - wrap
        held = np.where(booked | written_off, 0, rise)
        np.add.at(self.ledger.booked, part.series, part.sign * np.where(booked, rise + wrap, 0))
        np.add.at(self.ledger.held, part.series, part.sign * held)
        np.add.at(self.ledger.written_off, part.series, part.sign * lost)
        self.ledger.touched[part.series] = True


def _segments(
    low: Ints, high: Ints, first: _Ends, last: _Ends, record: Ints, sign: int, some: NDArray[np.bool_]
) -> Segments:
    """Those stretches from ``low`` to ``high`` that ``some`` selects."""
    at = slice(None) if some.all() else np.flatnonzero(some)
    low, high = low[at], high[at]
    flags = (first.flags[at] | last.flags[at]).astype(np.int64)
    signs = np.full(len(low), sign, np.int64)
    values = (first.value[at], last.value[at])
    plain = np.full(len(low), BOOKED)
    return Segments(series_of(low), signs, time_of(low), time_of(high), *values, flags, record[at], plain)


def _some(run: Run, some: NDArray[Any]) -> Run:
    """Some of the readings."""
    return {name: column[some] for name, column in run.items()}


def as_run(batch: Batch) -> Run:
    """The readings of a batch as a run for the memory (same order)."""
    flags = batch.flags
    if batch.revision.any():  # what the site file states corrects nothing
        corrected = (batch.revision > 0) & (batch.revision < STATED)
        flags = flags | np.where(corrected, EDITED, 0).astype(np.uint8)
    return {
        "key": batch.key,
        "value": batch.value,
        "start": batch.start,
        "revision": batch.revision.astype(np.int32),
        "flags": flags,
    }
