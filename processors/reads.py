"""Interval reads: points that say what they used between two instants.

Each read is its own row. One that shares time with another of its point is held (which of the
two is right is a question), one in conflict too, and one of more than its point can move in that time;
a zero between two neighbours that are not zero stays zero and is suspect, as after a dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.measures import VALUE_ADDED
from metering.roster import INTERVAL
from processors.batch import SeriesIndex
from processors.doubt import Link, Verdict
from processors.flows import Flows, marks
from processors.memory import (
    CONFLICT,
    ESTIMATED,
    HELD_READ,
    IMPOSSIBLE,
    NONE,
    OVERLAP,
    SUSPECT,
    TIME_BITS,
    Memory,
    Run,
    series_of,
    time_of,
)
from processors.verdicts import Ratings

Ints = NDArray[np.int64]


AMOUNT_REVISED, QUALITY_REVISED = 1, 2
"""What of a row that was final changed."""
Say = Callable[[tuple[int, int, int], Link | None, int], None]
"""Notes a verdict, or that there is none any more: (series, from, to), what it is, number of the record."""


@dataclass
class _State:
    """Reads as they count: fields by position in ``key``."""

    key: Ints
    start: Ints
    value: Ints
    flags: NDArray[np.uint8]


@dataclass
class ReadRows:
    """Rows of interval reads that changed: how many revisions that adds, and through which record."""

    key: Ints
    revised: Ints
    record: Ints


class Reads:
    """Interval reads: readings in, signed flows out, and the keys of rows that changed."""

    def __init__(self, index: SeriesIndex, ratings: Ratings, say: Say) -> None:
        self.memory = Memory(len(index))
        self.ratings = ratings
        self.booked = np.zeros(len(index), np.int64)
        self.held = np.zeros(len(index), np.int64)
        self.touched = np.zeros(len(index), bool)
        self.longest_ms = np.zeros(len(index), np.int64)
        self.points = index.point
        points = [index.roster.points[p] for p in index.point.tolist()]
        self.checked = np.array([p.reads == INTERVAL and p.measures == "electricity" for p in points], bool)
        self.signed = np.array([p.measures == VALUE_ADDED for p in points], bool)
        """Series whose amounts may be negative: of a month with losses."""
        self.overlapping: set[int] = set()
        self.doubted: dict[int, Link] = {}
        """Key -> the verdict on a read."""
        self._say = say

    def resume(self) -> None:
        """Goes on from reads that are there: their verdicts."""
        for keys in self.memory.flagged(OVERLAP | IMPOSSIBLE):
            for key, link in self._verdicts(self._state(keys)).items():
                self.doubted[key] = link

    def links(self) -> list[tuple[Link, int]]:
        """The verdicts on reads, each with its series."""
        return [(link, key >> TIME_BITS) for key, link in self.doubted.items()]

    def insert(self, run: Run, record: Ints, final: Ints) -> tuple[list[Flows], list[ReadRows]]:
        """New reads sorted by key, none known; ``final``: 1 where their span was final before they came."""
        if len(run["key"]) == 0:
            return [], []
        series = series_of(run["key"])
        np.maximum.at(self.longest_ms, series, time_of(run["key"]) - run["start"])
        self.memory.add({name: column.copy() for name, column in run.items()} | {"flags": self._marked(run)})
        fresh = self._flows(self._state(run["key"]), record, sign=1, revised=final)
        flows, rows = self.review(run["key"], record)
        self._tell(run["key"], record)
        return [fresh, *flows], [ReadRows(run["key"], final, record), *rows]

    def series_of_point(self, point: int) -> list[int]:
        return np.flatnonzero(self.points == point).tolist()

    def lengthen(self, key: int, start_ms: int) -> None:
        """Notes the length of a corrected read."""
        series = key >> TIME_BITS
        self.longest_ms[series] = max(self.longest_ms[series], int(time_of(np.array([key]))[0]) - start_ms)

    def replace(self, key: int, fresh: dict[str, int], record: int) -> tuple[list[Flows], list[ReadRows]]:
        """A known read says something else: its fields. The flows and the rows that change."""
        one, number = np.array([key]), np.array([record])
        back, where = self.toggle(key, record, sign=-1), self.memory.find(one)
        before = int(self.memory.get("start", where)[0])
        if before != fresh["start"]:
            self._unsay(key, record)
        columns = {name: np.array([content]) for name, content in fresh.items()}
        columns |= {"key": one, "flags": columns["flags"].astype(np.uint8)}
        columns["flags"] = self._marked(columns)
        for name in fresh:
            self.memory.put(name, where, columns[name])
        come = self.toggle(key, record, sign=1)
        self.lengthen(key, fresh["start"])
        flows, rows = self.review(one, number)
        self._tell(one, number)
        return [back, come, *flows], [ReadRows(one, np.ones(1, np.int64), number), *rows]

    def _marked(self, run: Run) -> NDArray[np.uint8]:
        """The flags of reads, with what is to be said of each by itself."""
        series, end = series_of(run["key"]), time_of(run["key"])
        wrong = (run["value"] < 0) & ~self.signed[series]
        wrong |= run["value"] > self._possible(series, run["start"], end)
        wrong &= run["flags"] & CONFLICT == 0
        return np.asarray(run["flags"] | np.where(wrong, IMPOSSIBLE, 0).astype(np.uint8))

    def _possible(self, series: Ints, start: Ints, end: Ints) -> Ints:
        """The most that a meter can have counted from start to end, as for registers."""
        out = np.empty(len(series), np.int64)
        for s in np.unique(series).tolist():
            mine = series == s
            out[mine] = self.ratings.allowance(s).over(start[mine], end[mine])
        return out

    def _tell(self, keys: Ints, record: Ints) -> None:
        """Notes what became of the verdicts on these reads."""
        state = self._state(keys)
        now = self._verdicts(state)
        if now or self.doubted:
            for key, number in zip(keys.tolist(), record.tolist(), strict=True):
                if now.get(key) != self.doubted.get(key):
                    self._unsay(key, number)
                    if key in now:
                        self.doubted[key] = now[key]
                        self._say((key >> TIME_BITS, now[key].start, now[key].end), now[key], number)

    def _unsay(self, key: int, record: int) -> None:
        link = self.doubted.pop(key, None)
        if link is not None:
            self._say((key >> TIME_BITS, link.start, link.end), None, record)

    def _verdicts(self, state: _State) -> dict[int, Link]:
        """The verdicts on reads; of those in conflict whoever knows their values tells."""
        at = np.flatnonzero((state.flags & (OVERLAP | IMPOSSIBLE) > 0) & (state.flags & CONFLICT == 0))
        key, start, end, value = state.key[at], state.start[at], time_of(state.key[at]), state.value[at]
        possible = self._possible(series_of(key), start, end)
        words = np.where(state.flags[at] & OVERLAP > 0, Verdict.OVERLAP, Verdict.SPIKE)
        rows = zip(*(column.tolist() for column in (key, start, end, value, possible, words)), strict=True)
        return {k: Link(s, e, v, p, Verdict(word), decided=False) for k, s, e, v, p, word in rows}

    def toggle(self, key: int, record: int, sign: int) -> Flows:
        """What one known read counts for, added or taken back, as its fields are now."""
        one = np.array([key])
        return self._flows(self._state(one), np.array([record]), sign=sign, revised=np.ones(1, np.int64))

    def review(self, keys: Ints, record: Ints) -> tuple[list[Flows], list[ReadRows]]:
        """Judges reads around changed ones anew: flows and rows that change."""
        near, number = self._near(keys, record)
        before = self._state(near)
        after = self._judged(before, self._overlaps(near))
        changed = np.flatnonzero(before.flags != after.flags)
        if len(changed) == 0:
            return [], []
        self.memory.put("flags", self.memory.find(near[changed]), after.flags[changed])
        shares = (before.flags[changed] ^ after.flags[changed]) & OVERLAP > 0
        number, arrival = number[changed], self._arrival(near[changed], keys, record)
        # only within a record is it new and shared
        number = np.where(shares & (arrival >= 0), arrival, number)
        self._tell(near[changed], number)
        mine = after.flags[changed] & IMPOSSIBLE == 0  # others are held whatever they share
        shares, number, arrival, changed = shares[mine], number[mine], arrival[mine], changed[mine]
        old, new = _pick(before, changed), _pick(after, changed)
        revised = np.where(arrival != number, np.where(shares, AMOUNT_REVISED, QUALITY_REVISED), 0)
        flows = [
            self._flows(old, number, sign=-1, revised=np.zeros(len(changed), np.int64)),
            self._flows(new, number, sign=1, revised=revised),
        ]
        return flows, [ReadRows(new.key, (revised > 0).astype(np.int64), number)]

    def _arrival(self, keys: Ints, fresh: Ints, record: Ints) -> Ints:
        """The record that brought each read, -1 if it was there before."""
        at = np.minimum(np.searchsorted(fresh, keys), len(fresh) - 1)
        return np.where(fresh[at] == keys, record[at], -1)

    def _near(self, keys: Ints, record: Ints) -> tuple[Ints, Ints]:
        """Reads and their neighbours on both sides, each with the latest record that touched it."""
        before, after = self.memory.before(keys), self.memory.after(keys)
        near = np.concatenate([keys, before, after])
        number = np.concatenate([record, record, record])
        order = np.lexsort((number, near))
        near, number = near[order], number[order]
        last = np.append(near[1:] != near[:-1], True) & (near != NONE)
        near, number = near[last], number[last]
        wide = [s for s in np.unique(series_of(near)).tolist() if self._crowded(s, near)]
        for s in wide:
            near, number = self._widen(s, near, number)
        return near, number

    def _crowded(self, series: int, near: Ints) -> bool:
        if series in self.overlapping:
            return True
        mine = near[series_of(near) == series]
        state = self._state(mine)
        overlap = (state.start[1:] < time_of(mine)[:-1]).any()
        if overlap:
            self.overlapping.add(series)
        return bool(overlap)

    def _widen(self, series: int, near: Ints, number: Ints) -> tuple[Ints, Ints]:
        """All reads of a crowded series that can share time with a changed one."""
        mine = near[series_of(near) == series]
        low = int(self._state(mine).start.min()) - 1
        high = int(time_of(mine).max() + self.longest_ms[series])
        more = self.memory.between(series, low, high)
        keys = more["key"][more["flags"] & CONFLICT == 0]
        keys = keys[~np.isin(keys, near)]
        near, number = (
            np.concatenate([near, keys]),
            np.concatenate([number, np.full(len(keys), int(number.max()))]),
        )
        order = np.argsort(near)
        return near[order], number[order]

    def _overlaps(self, near: Ints) -> NDArray[np.bool_]:
        """Whether each of these reads shares time with any other read of its series."""
        out = np.zeros(len(near), bool)
        for s in np.unique(series_of(near)).tolist():
            if s in self.overlapping:
                mine = series_of(near) == s
                out[mine] = self._overlaps_in(s, near[mine])
        return out

    def _overlaps_in(self, series: int, keys: Ints) -> NDArray[np.bool_]:
        low = int(self._state(keys).start.min()) - 1
        every = self.memory.between(series, low, int(time_of(keys).max() + self.longest_ms[series]))
        every = {name: column[every["flags"] & CONFLICT == 0] for name, column in every.items()}
        start, end = every["start"], time_of(every["key"])
        order = np.lexsort((end, start))
        start, end = start[order], end[order]
        reach = np.maximum.accumulate(end)
        shared = np.zeros(len(start), bool)
        shared[1:] = start[1:] < reach[:-1]
        shared[:-1] |= start[1:] < end[:-1]
        return np.isin(keys, every["key"][order][shared])

    def _judged(self, state: _State, overlap: NDArray[np.bool_]) -> _State:
        flags = state.flags & ~np.uint8(OVERLAP | SUSPECT)
        flags |= np.where(overlap, OVERLAP, 0).astype(np.uint8)
        flags |= np.where(self._dropouts(state), SUSPECT, 0).astype(np.uint8)
        return _State(state.key, state.start, state.value, flags)

    def _dropouts(self, state: _State) -> NDArray[np.bool_]:
        """Zero between two touching neighbours that are not: electricity only."""
        out = np.zeros(len(state.key), bool)
        zero = np.flatnonzero(
            (state.value == 0) & self.checked[series_of(state.key)] & (state.flags & CONFLICT == 0)
        )
        if len(zero):
            keys = state.key[zero]
            before, after = self.memory.before(keys), self.memory.after(keys)
            whole = (before != NONE) & (after != NONE)
            left, right = self._state(before[whole]), self._state(after[whole])
            touch = (time_of(left.key) == state.start[zero[whole]]) & (right.start == time_of(keys[whole]))
            out[zero[whole]] = touch & (left.value > 0) & (right.value > 0)
        return out

    def _state(self, keys: Ints) -> _State:
        where = self.memory.find(keys)
        get = self.memory.get
        return _State(keys, get("start", where), get("value", where), get("flags", where))

    def estimated(self, keys: Ints, start: Ints, value: Ints, flags: Ints) -> NDArray[np.bool_]:
        """Which reads are estimates: the meter said so, or their multiplier changes on the way."""
        rescaled = self.ratings.rescaled(series_of(keys), start, time_of(keys)) & (value != 0)
        return np.asarray((flags & ESTIMATED > 0) | rescaled)

    def _flows(self, state: _State, record: Ints, *, sign: int, revised: Ints) -> Flows:
        series = series_of(state.key)
        flags = state.flags.astype(np.int64)
        booked = flags & HELD_READ == 0
        ends = time_of(state.key)
        amount = self.ratings.multiplied_reads(series, state.start, ends, state.value)
        np.add.at(self.booked, series, sign * np.where(booked, state.value, 0))
        np.add.at(self.held, series, sign * np.where(booked | (flags & CONFLICT > 0), 0, state.value))
        self.touched[series] = True
        measured = (booked & ~self.estimated(state.key, state.start, state.value, flags)).astype(np.int64)
        return Flows(
            self.points[series],
            np.full(len(series), sign, np.int64),
            state.start,
            ends,
            np.where(booked, amount, 0),
            booked.astype(np.int64),
            measured,
            marks(flags),
            (flags & SUSPECT > 0).astype(np.int64),
            revised,
            record,
        )


def _pick(state: _State, at: Ints) -> _State:
    return _State(state.key[at], state.start[at], state.value[at], state.flags[at])
