"""What the site file states of registers: readings at the beginning and the end of an installation.

They count like any other reading, and before any other of that very instant. An initial one is there as soon
as its installation has a reading; a final one as soon as, besides, the point has one at its instant or
behind it. Both come with the record that brings that reading.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.readings import NO_TIME
from metering.roster import REGISTER, Installation, Roster
from processors.batch import STATED, Batch, SeriesIndex
from processors.memory import ROUNDED, Memory, key_of
from processors.runs import NONE

Ints = NDArray[np.int64]

_NEVER_MS = 2**62

_Statement = tuple[int, int, int, int]
"""Series, instant, value, number of the record."""


def _states(one: Installation) -> bool:
    return not (one.initial is None and one.final is None)


class Stated:
    """What is stated and not there yet."""

    def __init__(self, roster: Roster, index: SeriesIndex) -> None:
        self._index = index
        every = ((point.reads, one) for point in roster.points for one in point.installations)
        self._awaited = np.fromiter((reads == REGISTER and _states(one) for reads, one in every), bool)
        self._final_ms = np.full(len(roster.points), _NEVER_MS)
        self._finals: dict[int, list[int]] = {}

    def resume(self, memory: Memory) -> None:
        """Goes on from readings that are there."""
        for series in np.flatnonzero(self._awaited & (memory.newest != NONE)).tolist():
            self._awaited[series] = False
            one = self._index.installation(series)
            if one.final is not None:
                where = memory.find(key_of(np.array([series]), np.array([one.to_ms])))
                if where[0][0] < 0 or memory.get("revision", where)[0] != STATED:
                    self._await_final(series)

    def _await_final(self, series: int) -> None:
        one = self._index.installation(series)
        if one.final is not None:
            point = int(self._index.point[series])
            self._finals.setdefault(point, []).append(series)
            self._final_ms[point] = min(int(self._final_ms[point]), one.to_ms)

    def added(self, batch: Batch, seen: Ints) -> Batch:
        """A batch, by record, with what is stated; ``seen``: of each point, before it."""
        if not self._awaited.any() and not self._finals:
            return batch
        out: list[_Statement] = []
        rows = np.flatnonzero(self._awaited[batch.series])
        series, first = np.unique(batch.series[rows], return_index=True)
        began = dict(zip(series.tolist(), batch.record[rows[first]].tolist(), strict=True))
        for one, record in began.items():
            self._awaited[one] = False
            self._await_final(one)
            installation = self._index.installation(one)
            if installation.initial is not None:
                out.append((one, installation.from_ms, installation.initial, record))
        far = batch.point[batch.time >= self._final_ms[batch.point]]
        for point in sorted({*far.tolist(), *self._index.point[list(began)].tolist()}):
            out += self._final(point, batch, int(seen[point]), began)
        return self._with(batch, out) if out else batch

    def _final(self, point: int, batch: Batch, seen_ms: int, began: dict[int, int]) -> list[_Statement]:
        """What is there now of a point's final readings."""
        out: list[_Statement] = []
        times, records = batch.time[batch.point == point], batch.record[batch.point == point]
        for series in self._finals.pop(point, []):
            one = self._index.installation(series)
            assert one.final is not None
            behind = records[times >= one.to_ms][:1].tolist()
            if seen_ms >= one.to_ms or behind:
                first = 0 if seen_ms >= one.to_ms else int(behind[0])
                out.append((series, one.to_ms, one.final, max(first, began.get(series, 0))))
            else:
                self._finals.setdefault(point, []).append(series)
        waiting = [int(self._index.to_ms[series]) for series in self._finals.get(point, [])]
        self._final_ms[point] = min(waiting, default=_NEVER_MS)
        return out

    def _with(self, batch: Batch, statements: list[_Statement]) -> Batch:
        series, time, value, record = np.array(statements, np.int64).T
        step = self._index.step[series]
        pairs = zip(value.tolist(), step.tolist(), strict=True)
        whole = np.array([round(Fraction(*pair)) for pair in pairs], np.int64)
        size = len(series)
        columns = {
            "point": self._index.point[series],
            "series": series,
            "time": time,
            "start": np.full(size, NO_TIME),
            "value": whole * step,
            "revision": np.full(size, STATED),
            "flags": np.where(whole * step == value, 0, ROUNDED).astype(np.uint8),
            "record": record,
        }
        every = {name: np.concatenate([column, getattr(batch, name)]) for name, column in columns.items()}
        order = np.argsort(every["record"], kind="stable")
        ordered: dict[str, Any] = {name: column[order] for name, column in every.items()}
        return Batch(batch.offset, batch.stamp, **ordered, **batch.beside)
