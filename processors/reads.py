"""Interval reads: points that say what they used between two instants.

Each read is its own row. One that shares time with another of its point is held (which of the
two is right is a question), one in conflict too, and one of more than its point can move in that time;
a zero between two neighbours that are not zero stays zero and is suspect, as after a dropout. Where
anything was said of a read, or of one that shares time with it, people have the last word
(processors.rulings).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.measures import VALUE_ADDED
from metering.roster import INTERVAL
from processors.batch import SeriesIndex
from processors.decisions import Placed
from processors.doubt import Link, Verdict
from processors.flows import AMOUNT_REVISED, FRESH, OFF, QUALITY_REVISED, Flows, marks
from processors.memory import (
    BY_PERSON,
    CONFLICT,
    ESTIMATED,
    HELD_READ,
    IMPOSSIBLE,
    OVERLAP,
    SUSPECT,
    TIME_BITS,
    Memory,
    series_of,
    time_of,
    written_off,
)
from processors.room import IN_MEMORY, Room
from processors.rulings import Claims, Rulings, Standing, settled
from processors.runs import NONE, Run
from processors.sharing import Sharing, shared
from processors.told import Said, Say, Told
from processors.verdicts import Ratings

Ints = NDArray[np.int64]


_NO_KEYS = np.empty(0, np.int64)
_DOUBTED = OVERLAP | IMPOSSIBLE | BY_PERSON
_BIT = {Verdict.PLAIN: 0, Verdict.SPIKE: IMPOSSIBLE, Verdict.OVERLAP: OVERLAP}
"""The flag of a read by what somebody said of it."""


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

    def __init__(
        self, index: SeriesIndex, ratings: Ratings, say: Say, rulings: Rulings, room: Room = IN_MEMORY
    ) -> None:
        self.memory = Memory(len(index), room)
        self.ratings, self.rulings, self.sharing = ratings, rulings, Sharing(self.memory, rulings)
        self.longest_ms = self.sharing.longest_ms
        self.booked = np.zeros(len(index), np.int64)
        self.held = np.zeros(len(index), np.int64)
        self.written_off = np.zeros(len(index), np.int64)
        self.touched = np.zeros(len(index), bool)
        self.points = index.point
        points = [index.roster.points[p] for p in index.point.tolist()]
        self.checked = np.array([p.reads == INTERVAL and p.measures == "electricity" for p in points], bool)
        self.signed = np.array([p.measures == VALUE_ADDED for p in points], bool)
        """Series whose amounts may be negative: of a month with losses."""
        self.standing: dict[int, Standing] = {}
        """Key -> what people make of a read, where anything was said of it or of one beside it."""
        self.told = Told(say)

    def resume(self) -> None:
        """Goes on from reads that are there: what people make of them, their verdicts."""
        ruled = np.array(sorted(self.rulings.every), np.int64)
        ruled = ruled[self.memory.find(ruled)[0] >= 0]
        for key in ruled.tolist():
            self._ruled(self._state(self.sharing.beside(key >> TIME_BITS, np.array([key]))))
        for keys in self.memory.flagged(_DOUBTED):
            self.told.every |= self._verdicts(self._state(keys))

    def revision(self, key: int) -> int | None:
        """What a decision on a read has to be above; None: nobody said anything of it."""
        return self.standing[key].revision if key in self.standing else None

    def insert(self, run: Run, record: Ints, final: Ints) -> tuple[list[Flows], list[ReadRows]]:
        """New reads sorted by key, none known; ``final``: 1 where their span was final before they came."""
        if len(run["key"]) == 0:
            return [], []
        series = series_of(run["key"])
        np.maximum.at(self.longest_ms, series, time_of(run["key"]) - run["start"])
        self.memory.add({name: column.copy() for name, column in run.items()} | {"flags": self._marked(run)})
        revised = np.full(len(record), FRESH)
        fresh = self._flows(self._state(run["key"]), record, sign=1, revised=revised)
        flows, rows = self._review(run["key"], record, fresh=run["key"])
        self._tell(run["key"], record)
        return [fresh, *flows], [ReadRows(run["key"], final, record), *rows]

    def decide(self, one: Placed) -> tuple[list[Flows], list[ReadRows]]:
        """Somebody says whether a read counts: one that is there, or will be."""
        key = np.array([self.rulings.take(one)])
        if self.memory.find(key)[0][0] < 0:
            return [], []
        return self._review(key, np.array([one.record]))

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
            self.told.note(key, None, record)
        columns = {name: np.array([content]) for name, content in fresh.items()}
        columns |= {"key": one, "flags": columns["flags"].astype(np.uint8)}
        columns["flags"] = self._marked(columns)
        for name in fresh:
            self.memory.put(name, where, columns[name])
        come = self.toggle(key, record, sign=1)
        self.lengthen(key, fresh["start"])
        flows, rows = self._review(one, number, fresh=one, from_ms=before)
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
        if now or self.told.every:
            for key, number in zip(keys.tolist(), record.tolist(), strict=True):
                if now.get(key) != self.told.every.get(key):  # what was said is taken back first
                    self.told.note(key, None, number)
                    self.told.note(key, now.get(key), number)

    def _verdicts(self, state: _State) -> dict[int, Said]:
        """The verdicts on reads; of those in conflict whoever knows their values tells."""
        at = np.flatnonzero((state.flags & _DOUBTED > 0) & (state.flags & CONFLICT == 0))
        key, start, end, value = state.key[at], state.start[at], time_of(state.key[at]), state.value[at]
        possible = self._possible(series_of(key), start, end)
        out = {}
        columns = (key, start, end, value, possible, state.flags[at])
        for k, s, e, v, p, flags in zip(*(column.tolist() for column in columns), strict=True):
            word, off = _word(flags), bool(flags & BY_PERSON and flags & HELD_READ)
            by = self.standing[k].by if flags & BY_PERSON else ""
            link = Link(s, e, v, p, word, decided=word == Verdict.PLAIN, written_off=off, by=by)
            out[k] = link, self.revision(k)
        return out

    def toggle(self, key: int, record: int, sign: int) -> Flows:
        """What one known read counts for, added or taken back, as its fields are now."""
        one = np.array([key])
        return self._flows(self._state(one), np.array([record]), sign=sign, revised=np.ones(1, np.int64))

    def _review(
        self, keys: Ints, record: Ints, fresh: Ints = _NO_KEYS, from_ms: int | None = None
    ) -> tuple[list[Flows], list[ReadRows]]:
        """Judges reads around changed ones anew: flows and rows that change. ``fresh``: those that are new or
        say something else; ``from_ms``: from when on one of them was before.
        """
        near, number = self.sharing.near(keys, record, from_ms)
        before = self._state(near)
        after = self._judged(before)
        told = (before.flags != after.flags) | self.sharing.is_ruled(near)
        if not told.any():
            return [], []
        changed = np.flatnonzero(before.flags != after.flags)
        self.memory.put("flags", self.memory.find(near[changed]), after.flags[changed])
        moved = _counts(before.flags) != _counts(after.flags)
        arrival = self._arrival(near, fresh, record)
        # only within a record is it new and shared; what comes beside it says no more than that it is suspect
        doubted = (before.flags ^ after.flags) & _DOUBTED > 0
        number = np.where(doubted & (arrival >= 0), arrival, number)
        self._tell(near[told], number[told])
        changed = changed[_says(before.flags[changed]) != _says(after.flags[changed])]
        if len(changed) == 0:
            return [], []
        number, arrival, moved = number[changed], arrival[changed], moved[changed]
        old, new = _pick(before, changed), _pick(after, changed)
        revised = np.where(arrival != number, np.where(moved, AMOUNT_REVISED, QUALITY_REVISED), 0)
        flows = [
            self._flows(old, number, sign=-1, revised=np.zeros(len(changed), np.int64)),
            self._flows(new, number, sign=1, revised=revised),
        ]
        return flows, [ReadRows(new.key, (revised > 0).astype(np.int64), number)]

    def _arrival(self, keys: Ints, fresh: Ints, record: Ints) -> Ints:
        """The record that brought each read, -1 if it was there before."""
        if len(fresh) == 0:
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(fresh, keys), len(fresh) - 1)
        return np.where(fresh[at] == keys, record[at], -1)

    def _judged(self, state: _State) -> _State:
        flags = state.flags & ~np.uint8(OVERLAP | SUSPECT)
        ruled, series = self.sharing.is_ruled(state.key), series_of(state.key)
        flags |= np.where(self.sharing.overlaps(state.key), OVERLAP, 0).astype(np.uint8)
        for s in np.unique(series[ruled]).tolist():
            mine = np.flatnonzero(series == s)
            flags[mine] = self._ruled(_pick(state, mine))
        suspect = self._dropouts(state) & ~written_off(flags)
        flags |= np.where(suspect, SUSPECT, 0).astype(np.uint8)
        return _State(state.key, state.start, state.value, flags)

    def _ruled(self, state: _State) -> NDArray[np.uint8]:
        """The flags of reads of one series, by the rule and by people; all that share time are among them."""
        for key in state.key.tolist():
            self.standing.pop(key, None)
        counts = np.flatnonzero(state.flags & CONFLICT == 0)
        part, flags = _pick(state, counts), state.flags & ~np.uint8(OVERLAP | SUSPECT)
        ends, own = time_of(part.key), list(zip(part.key.tolist(), part.start.tolist(), strict=True))
        said = [self.rulings.revision(*one) for one in own]
        revisions = [-1 if one is None else one for one in said]
        standing, free = settled(Claims(part.start, ends, [self.rulings.of(*one) for one in own], revisions))
        self.standing |= {own[at][0]: one for at, one in standing.items()}
        mine = part.flags & ~np.uint8(OVERLAP | SUSPECT | IMPOSSIBLE | BY_PERSON)
        mine = self._marked({"key": part.key, "start": part.start, "value": part.value, "flags": mine})
        mine[np.flatnonzero(free)[shared(part.start[free], ends[free])]] |= OVERLAP
        for at, one in standing.items():
            if one.by:
                mine[at] = mine[at] & ~np.uint8(IMPOSSIBLE | OVERLAP) | BY_PERSON | _BIT[one.verdict]
        flags[counts] = mine
        return flags

    def _dropouts(self, state: _State) -> NDArray[np.bool_]:
        """Zero between two touching neighbours that are not: electricity only."""
        out = np.zeros(len(state.key), bool)
        zero = np.flatnonzero(
            (state.value == 0) & self.checked[series_of(state.key)] & (state.flags & CONFLICT == 0)
        )
        if len(zero):
            keys = state.key[zero]
            before, after = self.memory.before(keys, CONFLICT), self.memory.after(keys, CONFLICT)
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
        booked, off = flags & HELD_READ == 0, written_off(flags)
        ends = time_of(state.key)
        amount = self.ratings.multiplied_reads(series, state.start, ends, state.value)
        np.add.at(self.booked, series, sign * np.where(booked, state.value, 0))
        np.add.at(self.written_off, series, sign * np.where(off, state.value, 0))
        held = ~booked & ~off & (flags & CONFLICT == 0)
        np.add.at(self.held, series, sign * np.where(held, state.value, 0))
        self.touched[series] = True
        measured = (booked & ~self.estimated(state.key, state.start, state.value, flags)).astype(np.int64)
        return Flows(
            self.points[series],
            np.full(len(series), sign, np.int64),
            state.start,
            ends,
            np.where(booked, amount, 0),
            np.where(off, OFF, booked),
            measured,
            marks(flags),
            (flags & SUSPECT > 0).astype(np.int64),
            revised,
            record,
        )


def _counts(flags: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which reads count."""
    return np.asarray(flags & HELD_READ == 0)


def _says(flags: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What of the flags can be seen of a read, whatever holds it."""
    held = np.where(_counts(flags), 0, OVERLAP).astype(np.uint8)
    return np.asarray(flags & (SUSPECT | BY_PERSON) | held)


def _word(flags: int) -> Verdict:
    """What the verdict on a read is."""
    if flags & OVERLAP:
        return Verdict.OVERLAP
    return Verdict.SPIKE if flags & IMPOSSIBLE else Verdict.PLAIN


def _pick(state: _State, at: Ints) -> _State:
    return _State(state.key[at], state.start[at], state.value[at], state.flags[at])
