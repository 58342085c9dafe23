"""Up to where patience is used up, record by record of a batch, and what it may look back to afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import INT64, OUT_INT64, SIZE, chosen, compiled
from processors.kernels.survey import NEVER

Ints = NDArray[np.int64]

SECOND_MS = 1000
"""A plant's horizon is looked up as of the last full second of log time, so that one step per
second is all that must be kept."""

_PATIENCE = compiled("patience", (SIZE, SIZE, SIZE, *8 * (INT64,), *5 * (OUT_INT64,), SIZE, OUT_INT64))


@dataclass(frozen=True, slots=True)
class Ways:
    """How far plants came: ``horizon``, the newest time, at log ``times``; those of plant p are first[p] to
    first[p + 1]. ``spoke``: when each was heard last, NEVER before.
    """

    first: Ints
    times: Ints
    horizon: Ints
    spoke: Ints

    @classmethod
    def none(cls, plants: int) -> Ways:
        """Before anything came."""
        empty = np.empty(0, np.int64)
        return cls(np.zeros(plants + 1, np.int64), empty, empty, np.full(plants, NEVER, np.int64))

    def of(self, plants: Ints) -> Ways:
        """Of some plants, ascending."""
        if len(plants) == len(self.spoke):
            return self
        lengths, mine = np.diff(self.first), self._mask(plants, self.first)
        first = np.append(0, np.cumsum(lengths[plants]))
        return Ways(first, self.times[mine], self.horizon[mine], self.spoke[plants])

    def with_those(self, plants: Ints, ways: Ways) -> Ways:
        """The same with other ways of some plants."""
        if len(plants) == len(self.spoke):
            return ways
        lengths, spoke = np.diff(self.first), self.spoke.copy()
        lengths[plants], spoke[plants] = np.diff(ways.first), ways.spoke
        first = np.append(0, np.cumsum(lengths))
        old, new = self._mask(plants, self.first), self._mask(plants, first)
        times, horizon = np.empty((2, int(first[-1])), np.int64)
        times[new], horizon[new] = ways.times, ways.horizon
        times[~new], horizon[~new] = self.times[~old], self.horizon[~old]
        return Ways(first, times, horizon, spoke)

    def _mask(self, plants: Ints, first: Ints) -> NDArray[np.bool_]:
        """Which rows are of these plants, if those of plant p are first[p] to first[p + 1]."""
        mine = np.zeros(len(self.spoke), bool)
        mine[plants] = True
        return np.repeat(mine, np.diff(first))


@dataclass(frozen=True, slots=True)
class Waits:
    """Groups of points that wait alike, by plant: whose, how long, and up to where it is used up."""

    plant: Ints
    wait_ms: Ints
    waited: Ints

    def of(self, plants: Ints) -> tuple[Ints, Waits]:
        """The groups of some plants, ascending, and the same of them alone, their plants numbered anew."""
        number = np.searchsorted(plants, self.plant)
        groups = np.flatnonzero(number < len(plants))
        groups = groups[plants[number[groups]] == self.plant[groups]]
        return groups, Waits(number[groups], self.wait_ms[groups], self.waited[groups])


def moving(ways: Ways, waits: Waits, plant: Ints, log_time: int) -> Ints:
    """The plants that have readings (``plant``), or whose patience may move up to a log time, ascending; one
    if there are none.

    It goes to where the plant was at most, if it was anywhere then, or to the end of the silence.
    """
    some = np.zeros(len(ways.spoke), bool)
    some[plant] = True
    known = np.flatnonzero(ways.first[1:] > ways.first[:-1])
    first, then = (np.full(len(some), each, np.int64) for each in (-NEVER, NEVER))
    first[known], then[known] = ways.times[ways.first[known]], ways.horizon[ways.first[known + 1] - 1]
    limit, spoke = log_time - waits.wait_ms, ways.spoke[waits.plant]
    then = np.where(first[waits.plant] // SECOND_MS < limit // SECOND_MS, then[waits.plant], NEVER)
    used = np.where(spoke <= limit, limit, np.minimum(limit, then))
    some[waits.plant[(spoke != NEVER) & (used > waits.waited)]] = True
    some[:1] |= not some.any()
    return np.flatnonzero(some)


def _patience_by_loop(ways: Ways, waits: Waits, newest: Ints, log_time: Ints) -> tuple[Ints, Ways]:
    assert _PATIENCE is not None
    (plants, records), groups, spoke = newest.shape, len(waits.plant), ways.spoke.copy()
    longest = int(np.diff(ways.first).max(initial=0)) + records
    patience, kept = np.empty((groups, records + 1), np.int64), np.empty(plants + 1, np.int64)
    times, horizon = np.empty((2, len(ways.times) + newest.size), np.int64)
    given = (ways.first, ways.times, ways.horizon, log_time, newest, waits.plant, waits.wait_ms, waits.waited)
    scratch = np.empty(2 * longest + records, np.int64)
    made = (spoke, patience, kept, times, horizon)
    size = _PATIENCE(plants, records, groups, *given, *made, longest, scratch)
    return patience, Ways(kept, times[:size].copy(), horizon[:size].copy(), spoke)


def patience_twin(ways: Ways, waits: Waits, newest: Ints, log_time: Ints) -> tuple[Ints, Ways]:
    """As ``patience``, in numpy."""
    patience = np.empty((len(waits.plant), len(log_time) + 1), np.int64)
    patience[:, 0] = waits.waited
    kept, spoke = [], ways.spoke.copy()
    for plant, mine in enumerate(newest):
        cut = slice(*ways.first[plant : plant + 2].tolist())
        times, horizon, spoken = _joined(ways.times[cut], ways.horizon[cut], mine, log_time, spoke[plant])
        groups = np.flatnonzero(waits.plant == plant)
        for group in groups.tolist():
            wait_ms = int(waits.wait_ms[group])
            patience[group, 1:] = _used_up(wait_ms, log_time, times, horizon, spoken)
        longest = int(waits.wait_ms[groups].max(initial=0))
        keep = _thin(times, int(log_time[-1]) - longest)
        kept.append((times[keep], horizon[keep]))
        spoke[plant] = spoken[-1]
    np.maximum.accumulate(patience, axis=1, out=patience)
    first = np.cumsum([0, *(len(times) for times, _ in kept)])
    none = np.empty(0, np.int64)
    times = np.concatenate([none, *(times for times, _ in kept)])
    horizon = np.concatenate([none, *(horizon for _, horizon in kept)])
    return patience, Ways(first, times, horizon, spoke)


def _joined(times: Ints, horizon: Ints, newest: Ints, log_time: Ints, spoke: int) -> tuple[Ints, Ints, Ints]:
    """What is known of a plant and the batch together; and when it spoke last, by record."""
    spoken, record = np.full(len(log_time), spoke, np.int64), np.flatnonzero(newest != NEVER)
    if len(record):
        times = np.concatenate([times, log_time[record]])
        horizon = np.maximum.accumulate(np.concatenate([horizon, newest[record]]))
        at = np.searchsorted(record, np.arange(len(log_time)), "right") - 1
        spoken = np.where(at >= 0, log_time[record[np.maximum(at, 0)]], spoken)
    return times, horizon, spoken


def _used_up(wait_ms: int, log_time: Ints, times: Ints, horizon: Ints, spoken: Ints) -> Ints:
    limit = log_time - wait_ms
    at = np.searchsorted(times // SECOND_MS, limit // SECOND_MS)
    then = np.append(NEVER, horizon)[at]
    used = np.where(spoken <= limit, limit, np.minimum(limit, then))
    return np.where(spoken != NEVER, used, NEVER)


def _thin(times: Ints, from_ms: int) -> Ints:
    """Keeps what patience can still look back to: one step per second of log time."""
    seconds = times // SECOND_MS
    keep = np.flatnonzero(np.append(seconds[1:] != seconds[:-1], len(times) > 0))
    old = int(np.searchsorted(seconds[keep], from_ms // SECOND_MS)) - 1
    return keep[max(old, 0) :]


patience = chosen(_PATIENCE, _patience_by_loop, patience_twin)
"""(ways, waits, newest, log time) -> up to where patience is used up, and the ways to be kept.

``newest``: of each plant (row) and record its newest time, or NEVER. Patience: row per group, column per
record and one before the first. There is a plant, and a record.
"""
