"""Gauges: what shows a state of the moment (V, PF, Hz), and power that is added up over time (kW).

A value holds from its instant until the next one, ``2 x expect_every`` at most: beyond that the state is
unknown. So each reading but the newest is a stretch of time with one value, and a stretch is a flow like any
other: of a mean the amount is value x milliseconds, which cells add up and rows divide by the time that is
known; of what is integrated it is what passed in that time, in whole millionths. A reading in conflict ends
the one before it; what it says itself is not known, and held. So is power beyond what its point can do, in
either direction, until a person says whether it counts (processors.rulings).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS
from metering.roster import HOLDS
from processors.batch import SeriesIndex
from processors.choices import Choices
from processors.decisions import Placed
from processors.doubt import Link, Verdict
from processors.flows import OFF, Flows, join, marks
from processors.memory import (
    BY_PERSON,
    CONFLICT,
    ESTIMATED,
    IMPOSSIBLE,
    Memory,
    series_of,
    time_of,
    written_off,
)
from processors.room import IN_MEMORY, Room
from processors.rulings import Rulings
from processors.runs import NONE, Run
from processors.scaling import spread
from processors.told import Said, Say, Told
from processors.verdicts import NO_LIMIT, Ratings

Ints = NDArray[np.int64]

HOUR_MS = 3_600_000
ANYTHING = 2**62
"""What a gauge without a limit can show."""


class Gauges:
    """Readings in, signed flows out."""

    def __init__(
        self,
        index: SeriesIndex,
        ratings: Ratings,
        say: Say,
        rulings: Rulings,
        choices: Choices,
        room: Room = IN_MEMORY,
    ) -> None:
        self.memory = Memory(len(index), room)
        self._ratings, self._rulings, self._choices = ratings, rulings, choices
        self.told = Told(say)
        self._points = index.point
        points = [index.roster.points[p] for p in index.point.tolist()]
        self._integrated = np.array([p.integrated for p in points], bool)
        self._hold_ms = HOLDS * np.array([p.expect_ms for p in points], np.int64)
        self._limited = self._integrated & (ratings.limit_per_hour != NO_LIMIT)
        self._most = np.full(len(index), ANYTHING)
        for s in np.flatnonzero(self._limited).tolist():
            self._most[s] = self._most_of(s, int(ratings.numerator[s]), int(ratings.denominator[s]))

    def resume(self) -> None:
        """Goes on from readings that are there: their verdicts."""
        for keys in self.memory.flagged(IMPOSSIBLE | BY_PERSON):
            self.told.every |= self._verdicts(keys)

    def insert(self, run: Run, record: Ints) -> Flows:
        """New readings, sorted by key, none of them known: the flows that change."""
        key = run["key"]
        before, after = self.memory.before(key, skip=0), self.memory.after(key, skip=0)
        previous = np.append(NONE, key[:-1])
        chained = np.append(False, series_of(key[1:]) == series_of(key[:-1])) & (previous > before)
        tail = np.append(~chained[1:], True)
        split = ~chained & (before != NONE) & (after != NONE)
        begins = ~chained & (before != NONE)
        later = np.maximum(record, np.append(0, record[:-1]))
        ends = np.where(tail, after, np.append(key[1:], NONE))
        known = ends != NONE
        number = np.where(tail, record, np.append(later[1:], 0))
        flags = self._marked(run)
        self.memory.add({name: column.copy() for name, column in run.items()} | {"flags": flags.copy()})
        said = np.flatnonzero(flags & (IMPOSSIBLE | BY_PERSON))
        self._tell(key[said], record[said])
        parts = (
            self._flows(before[split], after[split], -1, record[split]),
            self._flows(before[begins], key[begins], 1, record[begins]),
            self._flows(key[known], ends[known], 1, number[known]),
        )
        return join(list(parts))

    def replace(self, key: int, fresh: dict[str, int], record: int) -> Flows:
        """A known reading says something else: its fields."""
        one, number = np.array([key]), np.array([record])
        where, after = self.memory.find(one), self.memory.after(one, skip=0)
        known = after != NONE
        back = self._flows(one[known], after[known], -1, number[known])
        columns = {name: np.array([content]) for name, content in fresh.items()} | {"key": one}
        columns["flags"] = self._marked(columns | {"flags": columns["flags"].astype(np.uint8)})
        for name in fresh:
            self.memory.put(name, where, columns[name])
        self._tell(one, number)
        return join([back, self._flows(one[known], after[known], 1, number[known])])

    def decide(self, one: Placed) -> Flows:
        """Somebody says whether a reading counts: one that is there, or will be."""
        key = self._rulings.take(one)
        where = self.memory.find(np.array([key]))
        if where[0][0] < 0:
            return join([])
        own = ~(IMPOSSIBLE | BY_PERSON)
        fresh = {name: int(self.memory.get(name, where)[0]) for name in ("value", "flags")}
        return self.replace(key, fresh | {"flags": fresh["flags"] & own}, one.record)

    def _marked(self, run: Run) -> NDArray[np.uint8]:
        """The flags of readings, with what is to be said of each by the rule and by people."""
        key, flags = run["key"], run["flags"]
        if self._limited.any():
            wrong = np.abs(run["value"]) > self._possible(series_of(key), time_of(key))
            for at in self._choices.rows(key).tolist():  # what was chosen counts
                wrong[at] &= self._choices.of(int(key[at])) is None
            flags = flags | np.where(wrong & (flags & CONFLICT == 0), IMPOSSIBLE, 0).astype(np.uint8)
        ruled = self._rulings.rows(key)
        if len(ruled):
            flags = flags.copy()
        for at in ruled.tolist():
            one = self._rulings.of(int(key[at]), int(time_of(key[at : at + 1])[0]))
            if one is not None and not flags[at] & CONFLICT and self._choices.of(int(key[at])) is None:
                own = int(flags[at]) & ~IMPOSSIBLE | BY_PERSON
                flags[at] = own if one.verdict == Verdict.PLAIN else own | IMPOSSIBLE
        return np.asarray(flags)

    def _possible(self, series: Ints, at: Ints) -> Ints:
        """The most that a gauge can show, before the multiplier that is in force at an instant."""
        out, dated = self._most[series], np.array(list(self._ratings.changes), np.int64)
        for i in np.flatnonzero(np.isin(series, dated) & self._limited[series]).tolist():
            steps = self._ratings.changes[int(series[i])]
            one = ([m for m in steps if m.from_ms <= at[i]] or [steps[0]])[-1]
            out[i] = self._most_of(int(series[i]), one.numerator, one.denominator)
        return out

    def _most_of(self, series: int, numerator: int, denominator: int) -> int:
        limit, step = int(self._ratings.limit_per_hour[series]), int(self._ratings.step[series])
        return int(min(limit * 6 * denominator // (5 * numerator) + 2 * step, ANYTHING))

    def _tell(self, keys: Ints, record: Ints) -> None:
        """Notes what became of the verdicts on these readings."""
        if len(keys):
            now = self._verdicts(keys)
            for key, number in zip(keys.tolist(), record.tolist(), strict=True):
                self.told.note(key, now.get(key), number)

    def _verdicts(self, keys: Ints) -> dict[int, Said]:
        where, out = self.memory.find(keys), {}
        flags = self.memory.get("flags", where)
        for i in np.flatnonzero((flags & (IMPOSSIBLE | BY_PERSON) > 0) & (flags & CONFLICT == 0)).tolist():
            one = keys[i : i + 1]
            key, at = int(one[0]), int(time_of(one)[0])
            value = int(self.memory.get("value", (where[0][i : i + 1], where[1][i : i + 1]))[0])
            most, ruling = int(self._possible(series_of(one), time_of(one))[0]), self._rulings.of(key, at)
            by = ruling.by if ruling is not None and flags[i] & BY_PERSON else ""
            word = Verdict.SPIKE if flags[i] & IMPOSSIBLE else Verdict.PLAIN
            off = bool(by) and word == Verdict.SPIKE
            link = Link(at, at, value, most, word, decided=word == Verdict.PLAIN, written_off=off, by=by)
            out[key] = link, self._rulings.revision(key, at)
        return out

    def _flows(self, key: Ints, until: Ints, sign: int, record: Ints) -> Flows:
        """What readings in memory say of the time up to the next ones."""
        series, where = series_of(key), self.memory.find(key)
        flags = self.memory.get("flags", where).astype(np.int64)
        value = self._ratings.multiplied_at(series, time_of(key), self.memory.get("value", where))
        start, end = time_of(key), time_of(until)
        counted = (flags & (CONFLICT | IMPOSSIBLE) == 0).astype(np.int64)
        total = self._integrated[series]
        flows = Flows(
            self._points[series],
            np.full(len(key), sign, np.int64),
            start,
            np.minimum(end, start + self._hold_ms[series]),
            value * counted,
            np.where(written_off(flags), OFF, counted),
            counted * (flags & ESTIMATED == 0) * ~total,
            marks(flags),
            np.zeros(len(key), np.int64),
            np.zeros(len(key), np.int64),
            record,
        )
        if total.any():
            return join([_by_quarters(flows.take(~total)), _integrated(flows.take(total))])
        return _by_quarters(flows)


def _by_quarters(flows: Flows) -> Flows:
    """Values as value x milliseconds, cut at quarters of an hour: so they fit 64 bits, and base spans."""
    first, last = flows.start // QUARTER_MS, (flows.end - 1) // QUARTER_MS
    row, ordinal = spread(last - first + 1)
    quarter = first[row] + ordinal
    out = flows.take(row)
    start = np.maximum(out.start, quarter * QUARTER_MS)
    end = np.minimum(out.end, (quarter + 1) * QUARTER_MS)
    return replace(out, start=start, end=end, amount=out.amount * (end - start))


def _integrated(flows: Flows) -> Flows:
    """Values per hour as what passed: each value's line, zero at a full hour, read off at both ends.

    So a value that stays gives the same in every hour, to the last digit.
    """
    start = flows.start % HOUR_MS
    amount = _passed(flows.amount, start + flows.end - flows.start) - _passed(flows.amount, start)
    return replace(flows, amount=amount)


def _passed(per_hour: Ints, length_ms: Ints) -> Ints:
    """floor(value x time), without overflow."""
    whole, rest = np.divmod(per_hour, HOUR_MS)
    return np.asarray(whole * length_ms + rest * length_ms // HOUR_MS)
