"""How far each point has come, and up to where its spans are final.

A point's frontier is the time of its newest reading, or the end of its patience where that is
later. Patience runs on the log's own time (the highest ``received`` stamp so far), never on a
clock: a span waits for a silent point until ``patience`` after its end, and, so that a replayed
past is not called late, also until ``patience`` after its plant first came that far; only a plant
that has said nothing at all for that long is taken to be silent up to now.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.roster import GAUGE, Roster
from processors.batch import Batch
from processors.memory import TIME_BITS, key_of

Ints = NDArray[np.int64]

NEVER = -(2**62)
SECOND_MS = 1000
"""A plant's horizon is looked up as of the last full second of log time, so that one step per
second is all that must be kept."""


@dataclass
class Survey:
    """Time record by record through a batch.

    ``log_time``: highest stamp up to each record. ``patience``: row per waiting group of points,
    column per record: up to where patience is used up. ``seen``: per point after the batch.
    """

    log_time: Ints
    patience: Ints
    batch: Batch
    seen: Ints
    _keys: Ints
    _records: Ints

    def first_record(self, group: Ints, point: Ints, end: Ints, first: int, last: int) -> Ints:
        """The record in first..last through which a point's frontier reaches ``end``; -1 if before."""
        at = np.searchsorted(self._keys, key_of(point, end))
        inside = at < len(self._keys)
        hit = (
            inside & (self._keys[np.where(inside, at, 0)] >> TIME_BITS == point)
            if len(self._keys)
            else inside
        )
        reading = (
            np.where(hit, self._records[np.where(hit, at, 0)], last)
            if len(self._keys)
            else np.full(len(end), last)
        )
        reading = np.clip(reading, first, last)
        out = reading
        for g in np.unique(group).tolist():
            mine = group == g
            waited = first + np.searchsorted(self.patience[g, first : last + 1], end[mine])
            out[mine] = np.minimum(out[mine], waited)
        return out


class Progress:
    """State: log time, newest reading per point, horizon and its history per plant."""

    def __init__(self, roster: Roster) -> None:
        self.log_time = NEVER
        self.seen = np.full(len(roster.points), NEVER, np.int64)
        self.waits = sorted({(p.plant, p.patience_ms) for p in roster.points})
        self.group = np.array([self.waits.index((p.plant, p.patience_ms)) for p in roster.points], np.int64)
        self.waited = np.full(len(self.waits), NEVER, np.int64)
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
        """Time through a batch; changes nothing."""
        log_time = np.maximum.accumulate(np.maximum(batch.stamp, self.log_time))
        patience = np.empty((len(self.waits), len(log_time)), np.int64)
        plants = self.plant[batch.point]
        for plant in range(len(self.history)):
            mine = plants == plant
            times, horizon, spoke = self._horizon(plant, batch.record[mine], batch.time[mine], log_time)
            for row, (owner, wait_ms) in enumerate(self.waits):
                if owner == plant:
                    patience[row] = self._used_up(wait_ms, log_time, times, horizon, spoke)
        patience = np.maximum.accumulate(np.maximum(patience, self.waited[:, None]), axis=1)
        order = np.lexsort((batch.record, batch.point))
        keys = np.maximum.accumulate(key_of(batch.point[order], batch.time[order]))
        seen = self.seen.copy()
        np.maximum.at(seen, batch.point, batch.time)
        return Survey(log_time, patience, batch, seen, keys, batch.record[order])

    def _horizon(self, plant: int, record: Ints, time: Ints, log_time: Ints) -> tuple[Ints, Ints, Ints]:
        """History and batch together: log times, horizon at them; per record when the plant last spoke."""
        old_times, old_horizon = self.history[plant]
        order = np.argsort(record, kind="stable")
        record, time = record[order], time[order]
        times = np.concatenate([old_times, log_time[record]])
        horizon = np.maximum.accumulate(np.concatenate([old_horizon, time]))
        spoke = np.full(len(log_time), self.spoke[plant], np.int64)
        if len(record):
            at = np.searchsorted(record, np.arange(len(log_time)), "right") - 1
            spoke = np.where(at >= 0, log_time[record[np.maximum(at, 0)]], spoke)
        return times, horizon, spoke

    def _used_up(self, wait_ms: int, log_time: Ints, times: Ints, horizon: Ints, spoke: Ints) -> Ints:
        limit = log_time - wait_ms
        at = np.searchsorted(times // SECOND_MS, limit // SECOND_MS) - 1
        then = (
            np.where(at >= 0, horizon[np.maximum(at, 0)], NEVER) if len(times) else np.full(len(limit), NEVER)
        )
        started = spoke != NEVER
        silent = started & (spoke <= limit)
        return np.where(silent, limit, np.where(started, np.minimum(limit, then), NEVER))

    def advance(self, survey: Survey, first: int, last: int) -> None:
        """Takes the records first..last of a surveyed batch as past."""
        batch = survey.batch
        mine = (batch.record >= first) & (batch.record <= last)
        np.maximum.at(self.seen, batch.point[mine], batch.time[mine])
        self.waited = survey.patience[:, last].copy()
        self.log_time = int(survey.log_time[last])
        plants = self.plant[batch.point[mine]]
        record, time = batch.record[mine], batch.time[mine]
        for plant in np.unique(plants).tolist():
            here = plants == plant
            times, horizon, spoke = self._horizon(plant, record[here], time[here], survey.log_time)
            self.spoke[plant] = spoke[last]
            self.history[plant] = self._thin(times, horizon, plant)

    def _thin(self, times: Ints, horizon: Ints, plant: int) -> tuple[Ints, Ints]:
        """Keeps what patience can still look back to: one step per second of log time."""
        longest = max(wait for owner, wait in self.waits if owner == plant)
        seconds = times // SECOND_MS
        keep = np.flatnonzero(np.append(seconds[1:] != seconds[:-1], True))
        old = np.searchsorted(seconds[keep], (self.log_time - longest) // SECOND_MS) - 1
        keep = keep[max(int(old), 0) :]
        return times[keep], horizon[keep]
