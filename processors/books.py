"""The books: which readings count, what each register did between two of them, in exact integers.

Everything here is a function of the set of readings: a reading that comes late, twice, corrected
or in conflict takes back the segments it changes and brings the right ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, Kinds
from processors.batch import Batch, SeriesIndex
from processors.doubt import Verdict
from processors.flows import Flows, join, read_off
from processors.kernels.chain import Readings, chain
from processors.memory import (
    ALWAYS,
    CONFLICT,
    ESTIMATED,
    NONE,
    ROUNDED,
    Memory,
    Run,
    series_of,
    time_of,
)
from processors.scaling import scale
from processors.verdicts import Ratings, judge

Ints = NDArray[np.int64]


@dataclass
class Segments:
    """Stretches between two neighbouring readings of a register; -1 in ``sign`` takes one back."""

    series: Ints
    sign: Ints
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    flags: Ints
    record: Ints

    def take(self, mask: NDArray[Any]) -> Segments:
        return Segments(*(getattr(self, f.name)[mask] for f in fields(self)))


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

    def __init__(self, index: SeriesIndex) -> None:
        self.index = index
        self.ratings = Ratings(index)
        self.memory = Memory(len(index))
        self.ledger = Ledger.empty(len(index))
        self.verdicts: dict[VerdictKey, tuple[int, int, int]] = {}
        """Key -> verdict, first and last register value."""
        self.changed_verdicts: dict[VerdictKey, int] = {}
        """Key -> number of the record that made or unmade it, since the last collection."""
        self._points = np.array(index.point, np.int64)

    def insert(self, run: Run, record: Ints) -> Flows:
        """New readings, sorted by key, none of them known: the flows that change."""
        held = run["flags"] & CONFLICT > 0
        if held.any():
            self.memory.add({name: column[held] for name, column in run.items()})
            run, record = {name: column[~held] for name, column in run.items()}, record[~held]
        if len(run["key"]) == 0:
            return join([])
        plain, general = self._plain(run, record)
        segments = []
        if general.any():
            some = slice(None) if general.all() else general
            segments = self._around({name: run[name][some] for name in ALWAYS}, record[some])
        self.memory.add(run)
        self.ledger.touched[series_of(run["key"])] = True
        return join([part for part in (plain, self._settle(segments)) if len(part)])

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

    def remove(self, key: int, record: int) -> Flows:
        """Takes a known reading out of the line (its neighbours are joined)."""
        return self._settle(self._bridge(key, record, out=True))

    def restore(self, key: int, record: int) -> Flows:
        """Puts a known reading, whose fields were overwritten, into the line again."""
        return self._settle(self._bridge(key, record, out=False))

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

    def _bridge(self, key: int, record: int, *, out: bool) -> list[Segments]:
        keys, numbers, every = np.array([key]), np.array([record]), np.ones(1, bool)
        before, after = self.memory.before(keys), self.memory.after(keys)
        at, low, high = self._ends(keys), self._ends(before), self._ends(after)
        sign = -1 if out else 1
        parts = []
        self.ledger.touched[series_of(keys)] = True
        if before[0] != NONE:
            parts.append(_segments(before, keys, low, at, numbers, sign, every))
        if after[0] != NONE:
            parts.append(_segments(keys, after, at, high, numbers, sign, every))
        if before[0] != NONE and after[0] != NONE:
            parts.append(_segments(before, after, low, high, numbers, -sign, every))
        return parts

    def _ends(self, keys: Ints) -> _Ends:
        """Register values and flags of known readings; zeros where the key is NONE."""
        value, flags = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.uint8)
        there = np.flatnonzero(keys != NONE)
        if len(there):
            where = self.memory.find(keys[there])
            value[there], flags[there] = self.memory.get("value", where), self.memory.get("flags", where)
        return _Ends(value, flags)

    def _settle(self, parts: list[Segments]) -> Flows:
        flows = []
        for part in parts:
            if len(part.series):
                kinds = judge(part.series, part.start, part.end, part.first, part.last, self.ratings)
                verdict = _verdicts(kinds, part)
                self._book(part, verdict)
                self._note(part, verdict)
                spread = np.flatnonzero(verdict != Verdict.GAP)
                whole = len(spread) == len(verdict)
                flows.append(self._flows(part if whole else part.take(spread), verdict[spread]))
        return join(flows)

    def _book(self, part: Segments, verdict: Ints) -> None:
        rise = part.last - part.first
        booked = (verdict == Verdict.PLAIN) | (verdict == Verdict.ROLLOVER)
        wrap = np.where(verdict == Verdict.ROLLOVER, self.ratings.width[part.series], 0)
        np.add.at(self.ledger.booked, part.series, part.sign * np.where(booked, rise + wrap, 0))
        np.add.at(self.ledger.held, part.series, part.sign * np.where(booked, 0, rise))
        np.add.at(self.ledger.written_off, part.series, -part.sign * wrap)
        self.ledger.touched[part.series] = True

    def _note(self, part: Segments, verdict: Ints) -> None:
        for i in np.flatnonzero(verdict != Verdict.PLAIN).tolist():
            key = (int(part.series[i]), int(part.start[i]), int(part.end[i]))
            self.changed_verdicts[key] = int(part.record[i])
            if part.sign[i] > 0:
                self.verdicts[key] = (int(verdict[i]), int(part.first[i]), int(part.last[i]))
            else:
                self.verdicts.pop(key, None)

    def _flows(self, part: Segments, verdict: Ints) -> Flows:
        booked = (verdict == Verdict.PLAIN) | (verdict == Verdict.ROLLOVER)
        last = part.last + np.where(verdict == Verdict.ROLLOVER, self.ratings.width[part.series], 0)
        amount = self.ratings.multiplied(part.series, last) - self.ratings.multiplied(part.series, part.first)
        near = part.end - part.start <= 2 * self.ratings.expect_ms[part.series]
        measured = booked & near & (part.flags & ESTIMATED == 0)
        zero = np.zeros(len(amount), np.int64)
        flows = Flows(
            self._points[part.series],
            part.sign,
            part.start,
            part.end,
            np.where(booked, amount, 0),
            booked.astype(np.int64),
            measured.astype(np.int64),
            (part.flags & ROUNDED > 0).astype(np.int64),
            zero,
            zero,
            part.record,
        )
        return self._rescaled(flows, part, last)

    def _rescaled(self, flows: Flows, part: Segments, last: Ints) -> Flows:
        """Cuts flows where their multiplier changes; each part counts with its own."""
        if not self.ratings.changes:
            return flows
        dated = np.isin(part.series, np.array(list(self.ratings.changes), np.int64))
        out = [flows.take(~dated)]
        for i in np.flatnonzero(dated).tolist():
            out += self._dated(
                flows.take(np.array([i])), int(part.series[i]), int(part.first[i]), int(last[i])
            )
        return join(out)

    def _dated(self, flow: Flows, series: int, first: int, last: int) -> list[Flows]:
        start, end = int(flow.start[0]), int(flow.end[0])
        multipliers = self.ratings.changes[series]
        edges = [start, *(m.from_ms for m in multipliers if start < m.from_ms < end), end]
        out = []
        for low, high in pairwise(edges):
            at = [
                int(read_off(*(np.array([x]) for x in (last - first, end - start, e - start)))[0])
                for e in (low, high)
            ]
            multiplier = [m for m in multipliers if m.from_ms <= low] or [multipliers[0]]
            values = np.array([first + at[0], first + at[1]])
            scaled, _, _ = scale(values, multiplier[-1].numerator, multiplier[-1].denominator, 2**62)
            amount = int(scaled[1] - scaled[0]) if flow.booked[0] else 0
            columns = {name: getattr(flow, name) for name in flow.__dataclass_fields__}
            columns |= {"start": np.array([low]), "end": np.array([high]), "amount": np.array([amount])}
            out.append(Flows(**columns))
        return out


def _segments(
    low: Ints, high: Ints, first: _Ends, last: _Ends, record: Ints, sign: int, some: NDArray[np.bool_]
) -> Segments:
    """Those stretches from ``low`` to ``high`` that ``some`` selects."""
    at = slice(None) if some.all() else np.flatnonzero(some)
    low, high = low[at], high[at]
    flags = (first.flags[at] | last.flags[at]).astype(np.int64)
    signs = np.full(len(low), sign, np.int64)
    values = (first.value[at], last.value[at])
    return Segments(series_of(low), signs, time_of(low), time_of(high), *values, flags, record[at])


def _verdicts(kinds: Kinds, part: Segments) -> Ints:
    """What each stretch is called."""
    out = np.array([Verdict.PLAIN, Verdict.ROLLOVER, Verdict.DECREASE, Verdict.GAP])[kinds]
    out[(kinds == BROKEN) & (part.last >= part.first)] = Verdict.SPIKE
    return out


def as_run(batch: Batch) -> Run:
    """The readings of a batch as a run for the memory (same order)."""
    return {
        "key": batch.key,
        "value": batch.value,
        "start": batch.start,
        "revision": batch.revision.astype(np.int32),
        "flags": batch.flags,
    }
