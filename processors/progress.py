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
from processors.kernels.patience import Waits, Ways, patience
from processors.memory import TIME_BITS, key_of

Ints = NDArray[np.int64]

NEVER = loops.NEVER


@dataclass
class Survey:
    """Time record by record through a batch.

    ``log_time``: highest stamp up to each record. ``patience``: row per waiting group of points, column
    per record, and one before the first: up to where patience is used up before it. ``ways``: of plants,
    behind all of it.
    """

    log_time: Ints
    ways: Ways
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
        waits = sorted({(p.plant, p.patience_ms) for p in roster.points})
        number = {wait: group for group, wait in enumerate(waits)}
        self.group = np.array([number[p.plant, p.patience_ms] for p in roster.points], np.int64)
        self.waited = np.full(len(waits), NEVER, np.int64)
        self._wait_plant, self._wait_ms = np.array(waits, np.int64).reshape(-1, 2).T.copy()
        self.plant = np.array([p.plant for p in roster.points], np.int64)
        self.counted = np.array([p.reads != GAUGE for p in roster.points], bool)
        self.ways = Ways.none(len(roster.plants))

    @property
    def frontier(self) -> Ints:
        """Up to where each point's spans are final (UTC milliseconds, NEVER before anything came)."""
        return np.maximum(self.seen, self.waited[self.group])

    def survey(self, batch: Batch) -> Survey:
        """Time through a batch, by record; changes nothing."""
        log_time = np.maximum.accumulate(np.maximum(batch.stamp, self.log_time))
        plants = len(self.ways.spoke)
        keys, records, newest = loops.survey(
            batch.point, batch.time, batch.record, self.plant, plants, len(log_time)
        )
        waits = Waits(self._wait_plant, self._wait_ms, self.waited)
        used_up, ways = patience(self.ways, waits, newest, log_time)
        return Survey(log_time, ways, used_up, self.group, keys, records)

    def advance(self, survey: Survey, last: Ints, point: Ints, time: Ints) -> None:
        """Takes the records up to ``last`` of each plant as past, of which these are the readings."""
        np.maximum.at(self.seen, point, time)
        self.waited = survey.waited(last[self._wait_plant])
        self.log_time = int(survey.log_time[last.max(initial=0)])

    def finish(self, survey: Survey) -> None:
        """Keeps what patience may look back to, when all passes of a batch are done."""
        self.ways = survey.ways
