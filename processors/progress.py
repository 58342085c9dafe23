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
from processors.memory import TIME_BITS, key_of

Ints = NDArray[np.int64]

NEVER = loops.NEVER
SECOND_MS = 1000
"""A plant's horizon is looked up as of the last full second of log time, so that one step per
second is all that must be kept."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """A plant through a batch: ``horizon``, its newest time, at log ``times``; per record, when it spoke."""

    times: Ints
    horizon: Ints
    spoke: Ints


@dataclass
class Survey:
    """Time record by record through a batch.

    ``log_time``: highest stamp up to each record. ``patience``: row per waiting group of points, column
    per record, and one before the first: up to where patience is used up before it.
    """

    log_time: Ints
    horizons: list[Horizon]
    _patience: Ints
    _group: Ints
    _keys: Ints
    _records: Ints

    def behind(
        self, columns: tuple[Ints, Ints, Ints, Ints, Ints, Ints], base_ms: Ints, interval: NDArray[np.bool_]
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """Rows that reach behind what was seen or waited for (processors.kernels.survey)."""
        return loops.behind(columns, self._patience, self._group, base_ms, interval)

    def waited_before(self, point: Ints, record: Ints) -> Ints:
        """Up to where patience of each point was used up before a record."""
        return np.asarray(self._patience[self._group[point], record])

    def waited(self, last: Ints) -> Ints:
        """Of every group of points, after its record in ``last``."""
        return np.asarray(self._patience[np.arange(len(last)), last + 1])

    def first_record(self, point: Ints, end: Ints, first: Ints, last: Ints) -> Ints:
        """The record in first..last through which a point's frontier reaches ``end``; last if none does."""
        reading = self.first_reading(point, end, last)
        group, width = self._group[point], self._patience.shape[1]
        waited = np.searchsorted(self._waits, _packed(group, end)) - group * width - 1
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
        known = (self._keys, self._records, self._patience, self._group)
        return loops.Track(before, after, *known, lane, first, last, self.log_time)

    @cached_property
    def _waits(self) -> Ints:
        """Patience of all groups in one ascending array."""
        groups = np.arange(len(self._patience))[:, None]
        return _packed(groups, self._patience).ravel()


def _packed(group: Ints, time: Ints) -> Ints:
    return (group << TIME_BITS + 1) + np.clip(time - TIME_FIRST_MS + 1, 0, 1 << TIME_BITS)


class Progress:
    """State: log time, newest reading per point, horizon and its history per plant."""

    def __init__(self, roster: Roster) -> None:
        self.log_time = NEVER
        self.seen = np.full(len(roster.points), NEVER, np.int64)
        self.waits = sorted({(p.plant, p.patience_ms) for p in roster.points})
        self.group = np.array([self.waits.index((p.plant, p.patience_ms)) for p in roster.points], np.int64)
        self.waited = np.full(len(self.waits), NEVER, np.int64)
        self._wait_plant = np.array([plant for plant, _ in self.waits], np.int64)
        self.plant = np.array([p.plant for p in roster.points], np.int64)
        self.counted = np.array([p.reads != GAUGE for p in roster.points], bool)
        self.spoke = np.full(len(roster.plants), NEVER, np.int64)
        self.history: list[tuple[Ints, Ints]] = [
            (np.empty(0, np.int64), np.empty(0, np.int64)) for _ in roster.plants
        ]

    @property
    def frontier(self) -> Ints:
        """Up to where each point's spans are final (UTC milliseconds, NEVER before anything came)."""
        return np.maximum(self.seen, self.waited[self.group])

    def survey(self, batch: Batch) -> Survey:
        """Time through a batch, by record; changes nothing."""
        log_time = np.maximum.accumulate(np.maximum(batch.stamp, self.log_time))
        patience = np.empty((len(self.waits), len(log_time) + 1), np.int64)
        patience[:, 0] = self.waited
        keys, records, highest = loops.survey(
            batch.point, batch.time, batch.record, self.plant, len(self.history), len(log_time)
        )
        horizons = [self._horizon(plant, newest, log_time) for plant, newest in enumerate(highest)]
        for row, (plant, wait_ms) in enumerate(self.waits):
            patience[row, 1:] = self._used_up(wait_ms, log_time, horizons[plant])
        np.maximum.accumulate(patience, axis=1, out=patience)
        return Survey(log_time, horizons, patience, self.group, keys, records)

    def _horizon(self, plant: int, newest: Ints, log_time: Ints) -> Horizon:
        """Its history and the batch together; ``newest``: of each record its newest time, or NEVER."""
        times, horizon = self.history[plant]
        spoke = np.full(len(log_time), self.spoke[plant], np.int64)
        record = np.flatnonzero(newest != NEVER)
        if len(record):
            times = np.concatenate([times, log_time[record]])
            horizon = np.maximum.accumulate(np.concatenate([horizon, newest[record]]))
            at = np.searchsorted(record, np.arange(len(log_time)), "right") - 1
            spoke = np.where(at >= 0, log_time[record[np.maximum(at, 0)]], spoke)
        return Horizon(times, horizon, spoke)

    def _used_up(self, wait_ms: int, log_time: Ints, plant: Horizon) -> Ints:
        times, horizon, spoke = plant.times, plant.horizon, plant.spoke
        limit = log_time - wait_ms
        at = np.searchsorted(times // SECOND_MS, limit // SECOND_MS) - 1
        then = (
            np.where(at >= 0, horizon[np.maximum(at, 0)], NEVER) if len(times) else np.full(len(limit), NEVER)
        )
        started = spoke != NEVER
        silent = started & (spoke <= limit)
        return np.where(silent, limit, np.where(started, np.minimum(limit, then), NEVER))

    def advance(self, survey: Survey, last: Ints, point: Ints, time: Ints) -> None:
        """Takes the records up to ``last`` of each plant as past, of which these are the readings."""
        np.maximum.at(self.seen, point, time)
        self.waited = survey.waited(last[self._wait_plant])
        self.log_time = int(survey.log_time[last.max(initial=0)])

    def finish(self, survey: Survey) -> None:
        """Keeps what patience may look back to, when all passes of a batch are done."""
        for plant, one in enumerate(survey.horizons):
            self.spoke[plant] = one.spoke[-1]
            if len(one.times):
                self.history[plant] = self._thin(one.times, one.horizon, plant)

    def _thin(self, times: Ints, horizon: Ints, plant: int) -> tuple[Ints, Ints]:
        """Keeps what patience can still look back to: one step per second of log time."""
        longest = max(wait for owner, wait in self.waits if owner == plant)
        seconds = times // SECOND_MS
        keep = np.flatnonzero(np.append(seconds[1:] != seconds[:-1], True))
        old = np.searchsorted(seconds[keep], (self.log_time - longest) // SECOND_MS) - 1
        keep = keep[max(int(old), 0) :]
        return times[keep], horizon[keep]
