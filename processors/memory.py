"""The readings in memory: sorted runs that are merged as they grow, searched where they can help.

A reading's key is its series (a meter's time at a point) and its time; keys are unique. New
readings mostly lie behind everything known, so they go into a run of their own; runs of similar
size are merged up to a size, which costs each reading a few copies in its life. A run knows from
when to when its readings are, and is searched only where that can matter: mostly it is the newest.

A run has a column only if something in it differs from the column's default. A register's reading is
16 bytes, key and value: flags that are all zero take no room either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS
from processors.kernels import memory as loops
from processors.kernels.memory import neighbours
from processors.room import IN_MEMORY, Room
from processors.runs import (
    ALWAYS,
    FIELDS,
    NONE,
    RUN_MAX,
    Run,
    blank,
    joined,
    lean,
    matters,
    merged,
    packed,
    shared,
    unpacked,
)

Ints = NDArray[np.int64]

TIME_BITS = loops.TIME_BITS
TIME_MASK = (1 << TIME_BITS) - 1
PUT_OUT_MIN = RUN_MAX // 4
"""Runs of so many readings need not lie in memory."""
PIECE = 1 << 14
"""Readings dumped together: less than 1 MB, whatever columns they have."""

ROUNDED, CONFLICT, ESTIMATED, OVERLAP, SUSPECT, LEFT_OUT, IMPOSSIBLE, EDITED = (1 << bit for bit in range(8))
BY_PERSON = LEFT_OUT
"""Flags of a reading. CONFLICT: two values for one identity, held until decided. OVERLAP: an
interval read that shares time with another one, held. SUSPECT: a zero between neighbours that
are not. LEFT_OUT: a register's reading that is not on its line. IMPOSSIBLE: an interval read of more than its
point can move in that time, or of less than nothing, held. EDITED: corrected by a revision. BY_PERSON:
somebody decided about what is no register's: it counts, or with OVERLAP or IMPOSSIBLE it is written off."""
OFF_LINE = CONFLICT | LEFT_OUT
HELD_READ = CONFLICT | OVERLAP | IMPOSSIBLE
"""Of an interval read any of which keeps it from being counted."""


def key_of(series: Ints, time_ms: Ints) -> Ints:
    return (series.astype(np.int64) << TIME_BITS) | (time_ms - TIME_FIRST_MS + 1)


def series_of(key: Ints) -> Ints:
    return key >> TIME_BITS


def time_of(key: Ints) -> Ints:
    return (key & TIME_MASK) + TIME_FIRST_MS - 1


def written_off(flags: NDArray[Any]) -> NDArray[np.bool_]:
    """Which readings, none of registers, somebody wrote off."""
    return np.asarray((flags & BY_PERSON > 0) & (flags & HELD_READ > 0))


def doubled(key: Ints) -> NDArray[np.bool_]:
    """Which of ascending keys come more than once."""
    out = np.zeros(len(key), bool)
    again = key[1:] == key[:-1]
    out[1:] |= again
    out[:-1] |= again
    return out


Places = tuple[NDArray[np.int32], Ints]
"""Where readings are: run numbers and indices, valid until the next add; run -1: unknown."""


@dataclass
class _Held:
    """``first``, ``last``: the least and the greatest time in any key."""

    run: Run
    name: int
    first: int
    last: int
    changed: set[int] = field(default_factory=set)
    """Numbers of the pieces that changed since the last dump."""
    out: bool = False

    def __len__(self) -> int:
        return len(self.run["key"])

    @property
    def pieces(self) -> int:
        return -(-len(self) // PIECE)


class Memory:
    """Unique readings by key, of series numbered below ``series``."""

    def __init__(self, series: int, room: Room = IN_MEMORY) -> None:
        self._room = room
        self._runs: list[_Held] = []
        self._next_name = 0
        self._gone: list[str] = []
        self.newest = np.full(series, NONE, np.int64)
        """The greatest key of every series."""
        self.newest_value = np.zeros(series, np.int64)
        self.newest_flags = np.zeros(series, np.uint8)
        """Value and flags of that reading."""
        self._oldest = self._oldest_value = np.empty(0, np.int64)
        """Key and value of the first reading on the line of every series; 0: to be looked for. Made
        when there is a reading.
        """

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, run: Run) -> None:
        """Takes in readings sorted by key, none of them known yet."""
        if len(run["key"]) == 0:
            return
        run = {name: column for name, column in run.items() if name in ALWAYS or matters(name, column)}
        self._append(run, *_times(run["key"]))
        self._note(run)
        while len(self._runs) > 1 and self._alike(*self._runs[-2:]):
            last, before = self._runs.pop(), self._runs.pop()
            self._gone += [f"{held.name}.{n}" for held in (last, before) for n in range(held.pieces)]
            first, end = min(before.first, last.first), max(before.last, last.last)
            self._append(merged(before.run, last.run), first, end)

    def _alike(self, before: _Held, last: _Held) -> bool:
        return len(before) < 2 * len(last) and len(before) + len(last) <= RUN_MAX

    def _append(self, run: Run, first: int, last: int) -> None:
        held = _Held(lean(run), self._next_name, first, last)
        held.changed.update(range(held.pieces))
        self._runs.append(held)
        self._next_name += 1

    def _note(self, run: Run) -> None:
        series = series_of(run["key"])
        ends = np.flatnonzero(np.append(series[1:] != series[:-1], True))
        heads = np.append(0, ends[:-1] + 1)
        self._forget(run["key"][heads])
        self._begin(run, heads[self.newest[series[heads]] == NONE])
        self._remember(run, ends[run["key"][ends] > self.newest[series[ends]]])

    def _begin(self, run: Run, at: Ints) -> None:
        """Notes the first readings of series of which nothing was known, where they are on the line."""
        if len(self._oldest) != len(self.newest):
            self._oldest, self._oldest_value = np.zeros((2, len(self.newest)), np.int64)
        at = at[run["flags"][at] & OFF_LINE == 0]
        series = series_of(run["key"][at])
        self._oldest[series], self._oldest_value[series] = run["key"][at], run["value"][at]

    def _forget(self, keys: Ints) -> None:
        """Something of these came or changed: the first reading of their series may be another one."""
        if len(self._oldest) == len(self.newest):
            series = series_of(keys)
            self._oldest[series[keys <= self._oldest[series]]] = 0

    def _remember(self, run: Run, at: Ints) -> None:
        """Notes the newest readings of series, which are these."""
        series = series_of(run["key"][at])
        self.newest[series], self.newest_value[series] = run["key"][at], run["value"][at]
        self.newest_flags[series] = run["flags"][at]

    def find(self, keys: Ints) -> Places:
        """Where each key is."""
        runs, places = np.full(len(keys), -1, np.int32), np.zeros(len(keys), np.int64)
        old = np.flatnonzero(keys <= self.newest[series_of(keys)])
        if len(old) == 0:
            return runs, places
        wanted = keys[old]
        first, last = _times(wanted)
        for number, held in enumerate(self._runs):
            if held.first <= last and held.last >= first:
                known = held.run["key"]
                at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
                hit = known[at] == wanted
                runs[old[hit]], places[old[hit]] = number, at[hit]
        return runs, places

    def get(self, field: str, where: Places) -> NDArray[Any]:
        """A field of found readings; every run number must be valid."""
        runs, places = where
        kind, default = FIELDS[field]
        out = np.full(len(runs), default, kind)
        for number in _numbers(runs):
            column = self._runs[number].run.get(field)
            if column is not None:
                mine = runs == number
                out[mine] = column[places[mine]]
        return out

    def put(self, field: str, where: Places, values: NDArray[Any]) -> None:
        """Overwrites a field of found readings."""
        runs, places = where
        for number in _numbers(runs):
            held, mine = self._runs[number], runs == number
            fresh, at = values[mine], places[mine]
            if field not in held.run:
                if not matters(field, fresh):
                    continue
                held.run[field] = blank(field, len(held))
            if not held.run[field].flags.writeable:
                held.run[field] = held.run[field].copy()
            held.run[field][at] = fresh
            key = held.run["key"][at]
            self._remember(held.run, at[key == self.newest[series_of(key)]])
            self._forget(key)
            held.changed.update((at // PIECE).tolist())

    def before(self, keys: Ints, skip: int = OFF_LINE) -> Ints:
        """The nearest smaller key of the same series without any of the ``skip`` flags, or NONE."""
        best = np.full(len(keys), NONE, np.int64)
        if len(keys) == 0:
            return best
        lowest = int((keys & TIME_MASK).min())
        for held in reversed(self._runs):
            if held.last > lowest or (best == NONE).any():
                neighbours(keys, held.run["key"], held.run["flags"], skip, -1, best)
                lowest = int((best & TIME_MASK).min(initial=0))
        return best

    def after(self, keys: Ints, skip: int = OFF_LINE) -> Ints:
        """The nearest greater key of the same series without any of the ``skip`` flags, or NONE."""
        best = np.full(len(keys), NONE, np.int64)
        old = np.flatnonzero(keys < self.newest[series_of(keys)])
        if len(old):
            wanted, found = keys[old], np.full(len(old), NONE, np.int64)
            lowest = int((wanted & TIME_MASK).min())
            highest = TIME_MASK
            for held in self._runs:
                if held.last > lowest and held.first < highest:
                    neighbours(wanted, held.run["key"], held.run["flags"], skip, 1, found)
                    highest = int((found & TIME_MASK).max())  # of NONE that is TIME_MASK
            best[old] = found
        return best

    def edges(self, series: Ints, skip: int = OFF_LINE) -> tuple[Ints, Ints]:
        """The first and the last key of each series without any of the ``skip`` flags, or NONE."""
        last, off = self.newest[series], np.flatnonzero(self.newest_flags[series] & skip)
        last[off] = self.before((series[off] << TIME_BITS) | TIME_MASK, skip)
        return self.after(series << TIME_BITS, skip), last

    def ends(self, series: Ints) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Key and value of the first and the last reading on the line of each series; NONE and 0 if none."""
        if len(self._oldest) != len(self.newest):
            self._oldest, self._oldest_value = np.zeros((2, len(self.newest)), np.int64)
        unknown = series[(self._oldest[series] == 0) & (self.newest[series] != NONE)]
        if len(unknown):
            keys, values = self._values(self.after(unknown << TIME_BITS))
            self._oldest[unknown], self._oldest_value[unknown] = np.maximum(keys, 0), values
        oldest = self._oldest[series]
        first = np.where(oldest > 0, oldest, NONE), np.where(oldest > 0, self._oldest_value[series], 0)
        last = self.newest[series], self.newest_value[series]
        off = np.flatnonzero(self.newest_flags[series] & OFF_LINE)
        if len(off):
            last[0][off], last[1][off] = self._values(self.before((series[off] << TIME_BITS) | TIME_MASK))
        return first, last

    def _values(self, keys: Ints) -> tuple[Ints, Ints]:
        """Keys with their values, 0 where a key is NONE."""
        values, there = np.zeros(len(keys), np.int64), np.flatnonzero(keys != NONE)
        values[there] = self.get("value", self.find(keys[there]))
        return keys, values

    def between(self, series: int, after_ms: int, until_ms: int) -> Run:
        """Readings of a series with after < time <= until, sorted by time (copies of all columns)."""
        low = int(key_of(np.array([series]), np.array([max(after_ms, TIME_FIRST_MS - 1)]))[0])
        high = int(key_of(np.array([series]), np.array([min(until_ms, TIME_FIRST_MS + TIME_MASK)]))[0])
        parts = []
        for held in self._runs:
            if held.first <= high & TIME_MASK and held.last > low & TIME_MASK:
                cut = slice(*np.searchsorted(held.run["key"], [low, high], "right").tolist())
                if cut.start < cut.stop:
                    parts.append({name: column[cut] for name, column in held.run.items()})
        out = merged(*parts) if parts else {}
        size = len(out["key"]) if parts else 0
        return {name: out[name] if name in out else blank(name, size) for name in FIELDS}

    def flagged(self, flags: int) -> Iterator[Ints]:
        """The keys of readings with any of these flags, run by run."""
        for held in self._runs:
            yield held.run["key"][held.run["flags"] & flags > 0]

    def total(self, series: int) -> int:
        """Sum of the values of a series that are not in conflict."""
        low, high = series << TIME_BITS, (series << TIME_BITS) | TIME_MASK
        out = 0
        for held in self._runs:
            cut = slice(*np.searchsorted(held.run["key"], [low, high + 1]).tolist())
            out += int(held.run["value"][cut][held.run["flags"][cut] & CONFLICT == 0].sum())
        return out

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        """Changed pieces of runs as chunks, and the names of those that are no more."""
        chunks = {}
        for held in self._runs:
            for piece in sorted(held.changed):
                chunks[f"{held.name}.{piece}"] = packed(held.run, slice(piece * PIECE, (piece + 1) * PIECE))
            held.changed.clear()
        gone, self._gone = self._gone, []
        return chunks, gone

    def put_out(self) -> None:
        """Runs that will hardly grow leave memory, as far as there is room for them."""
        for held in self._runs:
            if not held.out and len(held) >= PUT_OUT_MIN:
                held.run = {
                    name: column if shared(column) else self._room.put_out(column)
                    for name, column in held.run.items()
                }
                held.out = True

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Takes up dumped runs again, one after the other."""
        every = sorted(map(_place, chunks))
        for name, places in groupby(every, key=lambda place: place[0]):
            run = joined([unpacked(chunks[f"{name}.{piece}"]) for _, piece in places])
            self._runs.append(_Held(lean(run), name, *_times(run["key"])))
            self._note(run)
            self._next_name = name + 1
            self.put_out()


def _place(chunk: str) -> tuple[int, int]:
    """Number of the run, and of the piece."""
    run, _, piece = chunk.partition(".")
    return int(run), int(piece)


def _numbers(runs: NDArray[np.int32]) -> list[int]:
    """The different run numbers; mostly it is one."""
    if len(runs) == 0:
        return []
    return [int(runs[0])] if (runs == runs[0]).all() else np.flatnonzero(np.bincount(runs)).tolist()


def _times(key: Ints) -> tuple[int, int]:
    times = key & TIME_MASK
    return int(times.min()), int(times.max())
