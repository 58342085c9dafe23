"""The log as the archive has it: all readings and decisions in the order of receipt, some at a time.

A stretch holds what was received up to an instant, of every plant. As in ``compute``, what was received at
one time is one record, whose offset is its place: the log's own offsets are of one partition each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.decisions import Decision
from metering.readings import Readings
from sinks.archive_reader import Archive, Batch

Ints = NDArray[np.int64]

STRETCH_READINGS = 60_000
"""So many are worked on at once, but for those of one instant."""
HELD_READINGS, PLANT_READINGS_MIN = 1 << 20, 1 << 14
"""So many are in memory, cut among the plants, half of them ahead; of each at least the second number."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Readings with the number of the record of each, decisions with theirs. Of each record ``offset`` and
    ``stamp``: when it was received, UTC milliseconds. ``last``: none comes behind it.
    """

    readings: list[tuple[Readings, Ints]]
    decisions: list[tuple[int, str, Decision]]
    offset: Ints
    stamp: Ints
    last: bool


class _Plant:
    """One plant's readings as far as they are in memory; ``stamp``: when each was received, never falling."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.stamp: Ints = np.zeros(1, np.int64)
        self.there = self.more()

    def more(self) -> bool:
        """Whether there are further readings, which are in memory then."""
        batch = next(self._batches, None)
        if batch is None:
            return False
        self.readings, self._taken = batch.readings, 0
        self.stamp = np.maximum.accumulate(np.maximum(batch.readings.received, self.stamp[-1]))
        return True

    def rest(self) -> Ints:
        """When those were received that are not taken yet."""
        return self.stamp[self._taken :]

    def take(self, until_ms: int) -> tuple[Readings, Ints]:
        """What was received up to then."""
        some = slice(self._taken, int(np.searchsorted(self.stamp, until_ms, "right")))
        self._taken = some.stop
        return self.readings.part(some), self.stamp[some]


def stretches(archive: Archive, plants: Collection[str]) -> Iterator[Stretch]:
    """All that the archive has of some plants, in the order of receipt; at least one, the last one.

    Raises what ``Archive`` raises.
    """
    of_each = [(plant, one) for plant in plants for _, some in archive.decisions(plant) for one in some]
    decided = sorted(((one.received_ms, plant, one) for plant, one in of_each), key=lambda each: each[0])
    rows_max = max(PLANT_READINGS_MIN, HELD_READINGS // 2 // max(1, len(plants)))
    with ThreadPoolExecutor(1, "archive") as pool:
        read = (archive.readings(plant, rows_max=rows_max, evidence=False) for plant in plants)
        begun = [_Plant(batches) for batches in [_ahead(pool, one) for one in read]]
        yield from _stretches([one for one in begun if one.there], decided)


def _ahead(pool: Executor, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The next one is read while one is worked on."""
    following = pool.submit(next, batches, None)
    while (batch := following.result()) is not None:
        following = pool.submit(next, batches, None)
        yield batch


def _stretches(every: list[_Plant], decided: list[tuple[int, str, Decision]]) -> Iterator[Stretch]:
    offset, newest_ms = 0, 0
    while every:
        until_ms = min(int(one.stamp[-1]) for one in every)
        for edge in _edges(every, until_ms):
            parts = [one.take(edge) for one in every]
            mine = [each for each in decided if each[0] <= edge]
            del decided[: len(mine)]
            yield (made := _stretch(parts, mine, offset))
            offset, newest_ms = offset + len(made.stamp), edge
        every = [one for one in every if len(one.rest()) or one.more()]
    yield _stretch([], decided, offset, tick_ms=newest_ms)


def _edges(every: Sequence[_Plant], until_ms: int) -> Iterator[int]:
    """Up to when each stretch is, the last one up to ``until_ms``."""
    stamps = np.sort(np.concatenate([one.rest() for one in every]))
    stamps = stamps[: np.searchsorted(stamps, until_ms, "right")]
    inner = np.unique(stamps[STRETCH_READINGS::STRETCH_READINGS])
    yield from inner[inner < until_ms].tolist()
    yield until_ms


def _stretch(
    parts: Sequence[tuple[Readings, Ints]],
    decided: Sequence[tuple[int, str, Decision]],
    offset: int,
    *,
    tick_ms: int | None = None,
) -> Stretch:
    """``tick_ms``: of the last one, which lets no time go on but has a record in any case."""
    said = [at for at, _, _ in decided] + ([] if tick_ms is None else [tick_ms])
    stamp = np.unique(np.concatenate([*(its for _, its in parts), np.array(said, np.int64)]))
    return Stretch(
        [(readings, np.searchsorted(stamp, its)) for readings, its in parts if len(its)],
        [(int(np.searchsorted(stamp, at)), plant, one) for at, plant, one in decided],
        offset + np.arange(len(stamp)),
        stamp,
        tick_ms is not None,
    )
