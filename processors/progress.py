"""How far each point has come, and up to where its spans are final.

A point's frontier is the time of its newest reading, or the end of its patience where that is
later. Patience runs on the log's own time (the highest ``received`` stamp so far), never on a
clock: a span waits for a silent point until ``patience`` after its end, and, so that a replayed
past is not called late, also until ``patience`` after its plant first came that far; only a plant
that has said nothing at all for that long is taken to be silent up to now.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS
from metering.roster import GAUGE, Roster
from processors.batch import Batch
from processors.kernels import survey as loops
from processors.kernels.patience import Waits, Ways, moving, patience
from processors.memory import TIME_BITS, key_of
from processors.scaling import spread

Ints = NDArray[np.int64]

NEVER = loops.NEVER


@dataclass
class Survey:
    """Time record by record through a batch.

    ``log_time``: highest stamp up to each record. ``ways``: of plants, behind all of it. ``_patience``: up to
    where patience is used up, before the first record and behind each, in a ``_row`` of each waiting group of
    points in which it may move, or that has readings; the others stay at ``_waited``.
    """

    log_time: Ints
    ways: Ways
    _patience: Ints
    _group: Ints
    _row: Ints
    _moving: Ints
    _waited: Ints
    _keys: Ints
    _records: Ints

    def behind(
        self, columns: tuple[Ints, Ints, Ints, Ints, Ints, Ints], base_ms: Ints, interval: NDArray[np.bool_]
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """Rows that reach behind what was seen or waited for (processors.kernels.survey)."""
        return loops.behind(columns, self._patience, self._group, self._row, base_ms, interval)

    def waited_before(self, point: Ints, record: Ints) -> Ints:
        """Up to where patience of the points of readings was used up before their records."""
        return np.asarray(self._patience[self._row[self._group[point]], record])

    def waited(self, last: Ints) -> Ints:
        """Of every group of points, after its record in ``last``."""
        out = self._waited.copy()
        out[self._moving] = self._patience[np.arange(len(self._moving)), last[self._moving] + 1]
        return out

    def first_record(self, point: Ints, end: Ints, first: Ints, last: Ints) -> Ints:
        """The record in first..last through which a point's frontier reaches ``end``; last if none does."""
        reading = self.first_reading(point, end, last)
        row, width = self._row[self._group[point]], self._patience.shape[1]
        waited = np.searchsorted(self._waits, _packed(row, end)) - row * width - 1
        return np.asarray(np.clip(np.minimum(reading, waited), first, last))

    def first_reading(self, point: Ints, end: Ints, last: Ints) -> Ints:
        """The record with the first reading of each point at ``end`` or behind it, ``last`` if none."""
        if len(self._keys) == 0:
            return np.broadcast_to(last, end.shape)
        wanted = key_of(point, end)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        hit = (self._keys[at] >> TIME_BITS == point) & (self._keys[at] >= wanted)
        return np.where(hit, self._records[at], last)

    def track(self, before: Ints, after: Ints, lane: Ints, first: Ints, last: Ints) -> loops.Track:
        """The way of a pass from frontier to frontier: records ``first`` to ``last`` of each lane."""
        known = (self._keys, self._records, self._patience, self._group, self._row)
        return loops.Track(before, after, *known, lane, first, last, self.log_time)

    @cached_property
    def _waits(self) -> Ints:
        """All rows of patience in one ascending array."""
        rows = np.arange(len(self._patience))[:, None]
        return _packed(rows, self._patience).ravel()


def _packed(row: Ints, time: Ints) -> Ints:
    return (row << TIME_BITS + 1) + np.clip(time - TIME_FIRST_MS + 1, 0, 1 << TIME_BITS)


class Course:
    """A column of numbers as it was before a pass and is behind it: a pass costs what it moves, not what
    there is.
    """

    def __init__(self, values: Ints) -> None:
        self.before, self.after = values.copy(), values
        self._moved = np.empty(0, np.int64)

    def move(self, places: Ints, values: Ints) -> None:
        """What was behind the last pass is before this one, which changes these places, each once."""
        self.before, self.after = self.after, self.before
        self.after[self._moved] = self.before[self._moved]
        self.after[places] = values
        self._moved = places


class Progress:
    """State: log time, newest reading per point, horizon and its history per plant."""

    def __init__(self, roster: Roster) -> None:
        self.log_time = NEVER
        points = len(roster.points)
        self.reach = Course(np.full(points, NEVER, np.int64))
        """Newest readings of points."""
        self.frontier = Course(np.full(points, NEVER, np.int64))
        """Up to where each point's spans are final (UTC milliseconds, NEVER before anything came)."""
        self.moved = np.empty(0, np.int64)
        """The points whose frontier the last pass moved, ascending."""
        waits = sorted({(p.plant, p.patience_ms) for p in roster.points})
        number = {wait: group for group, wait in enumerate(waits)}
        self.group = np.array([number[p.plant, p.patience_ms] for p in roster.points], np.int64)
        self._by_group = np.argsort(self.group, kind="stable")
        self._group_first = np.searchsorted(self.group[self._by_group], np.arange(len(waits) + 1))
        self.waited = np.full(len(waits), NEVER, np.int64)
        self._wait_plant, self._wait_ms = np.array(waits, np.int64).reshape(-1, 2).T.copy()
        self.plant = np.array([p.plant for p in roster.points], np.int64)
        self.counted = np.array([p.reads != GAUGE for p in roster.points], bool)
        self.ways = Ways.none(len(roster.plants))

    @property
    def seen(self) -> Ints:
        """The time of the newest reading of each point."""
        return self.reach.after

    def resume(self) -> None:
        """Goes on from what was seen and waited for."""
        self.reach = Course(self.seen)
        self.frontier = Course(np.maximum(self.seen, self.waited[self.group]))

    def survey(self, batch: Batch) -> Survey:
        """Time through a batch, by record; changes nothing."""
        log_time = np.maximum.accumulate(np.maximum(batch.stamp, self.log_time))
        plant = self.plant[batch.point]
        waits = Waits(self._wait_plant, self._wait_ms, self.waited)
        plants = moving(self.ways, waits, plant, int(log_time[-1]))
        number = _numbered(plants, len(self.ways.spoke))[plant]
        readings = (batch.point, batch.time, batch.record, number)
        keys, records, newest = loops.survey(*readings, len(plants), len(log_time))
        groups, some = waits.of(plants)
        used_up, ways = patience(self.ways.of(plants), some, newest, log_time)
        row, ways = _numbered(groups, len(self.waited)), self.ways.with_those(plants, ways)
        return Survey(log_time, ways, used_up, self.group, row, groups, self.waited, keys, records)

    def advance(self, survey: Survey, last: Ints, point: Ints, time: Ints) -> None:
        """Takes the records up to ``last`` of each plant as past; these are their readings, by point."""
        waited, self.waited = self.waited, survey.waited(last[self._wait_plant])
        self.log_time = int(survey.log_time[last.max(initial=0)])
        heads = np.flatnonzero(np.append(True, point[1:] != point[:-1])[: len(point)])
        read = point[heads]
        newest = np.maximum.reduceat(time, heads) if len(heads) else time
        self.reach.move(read, np.maximum(self.seen[read], newest))
        waiting = self._waiting(np.flatnonzero(self.waited > waited))
        points = np.union1d(read, waiting) if len(waiting) else read
        frontier = np.maximum(self.seen[points], self.waited[self.group[points]])
        moved = frontier > self.frontier.after[points]
        self.moved = points[moved]
        self.frontier.move(self.moved, frontier[moved])

    def _waiting(self, groups: Ints) -> Ints:
        """The points of some groups."""
        row, ordinal = spread(np.diff(self._group_first)[groups])
        return np.asarray(self._by_group[self._group_first[groups][row] + ordinal])

    def finish(self, survey: Survey) -> None:
        """Keeps what patience may look back to, when all passes of a batch are done."""
        self.ways = survey.ways


def _numbered(some: Ints, size: int) -> Ints:
    """Of so many the number among ``some``, 0 of the others."""
    out = np.zeros(size, np.int64)
    out[some] = np.arange(len(some))
    return out
