"""What every interval and roll-up of the core's load must say, in exact integers, and the check of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.core_load import FIRST_MS, MINUTE_MS, Load
from bus.frames import decode_table

Ints = NDArray[np.int64]

MISSING = -1
SPANS = ("15m", "hour", "day", "month", "year")
MEASURES = ("electricity", "water")
_DECIMAL_PER_MICRO = 1000


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows that say the right amount; those that say another one, are missing or too many."""

    right: int
    wrong: int


def registers_at_edges(load: Load) -> Ints:
    """A row per minute's edge, a column per point, in millionths; outside of its readings what they show."""
    times, values = load.times, load.values * load.millionths
    out = np.empty((load.shape.minutes + 1, load.shape.points), np.int64)
    edge = FIRST_MS + np.arange(1, load.shape.minutes)[:, None] * MINUTE_MS
    rise, length = np.diff(values, axis=0), np.diff(times, axis=0)
    out[1:-1] = values[:-1] + rise * (edge - times[:-1]) // length
    out[0], out[-1] = values[0], values[-1]
    return out


class Results:
    """What was said last of every interval and every roll-up."""

    def __init__(self, load: Load) -> None:
        self._shape, self._edges = load.shape, registers_at_edges(load)
        self._water = load.is_water
        self._intervals = np.full((load.shape.minutes, load.shape.points), MISSING, np.int64)
        self._rollups: list[Ints] = []
        self._strange = 0

    def add(self, frame: bytes) -> None:
        """Takes a record of results."""
        name, rows = decode_table(frame)
        if name == "interval":
            self._add_intervals(rows)
        elif name == "rollup":
            self._add_rollups(rows)
        else:
            self._strange += len(rows) * (name in ("verdict", "rejected"))

    def _add_intervals(self, rows: pa.Table) -> None:
        point = _number(rows["point"])
        self._intervals[_minute(rows["start"]), point] = _micro(rows["amount"])

    def _add_rollups(self, rows: pa.Table) -> None:
        points = pc.starts_with(rows["scope"], "point:").to_numpy()
        scope = _number(rows["scope"]) + np.where(points, 0, self._shape.points)
        which = pc.index_in(rows["measures"], pa.array(MEASURES)).to_numpy()
        span = pc.index_in(rows["span"], pa.array(SPANS)).to_numpy()
        columns = (span, scope, which, _minute(rows["start"]), _minute(rows["end"]), _micro(rows["amount"]))
        self._rollups.append(np.array(columns, np.int64))

    def intervals(self) -> Checked:
        """All of them."""
        wrong = int((self._intervals != np.diff(self._edges, axis=0)).sum()) + self._strange
        return Checked(self._intervals.size - wrong, wrong)

    def rollups(self) -> Checked:
        """All of them: of points, and of plants per measure; in all spans of the calendar."""
        rows = np.concatenate([np.empty((6, 0), np.int64), *self._rollups], axis=1)[:, ::-1]
        rows = rows[:, np.unique(_keys(*rows[:4]), return_index=True)[1]]
        span, scope, which, start, end, amount = rows
        low, high = (np.clip(edge, 0, self._shape.minutes) for edge in (start, end))
        right = int((self._between(scope, which, low, high) == amount).sum())
        accounts = self._shape.points + self._shape.plants * len(MEASURES)
        spans = -(-self._shape.minutes // 15) + sum(
            len(np.unique(start[span == one])) for one in range(1, len(SPANS))
        )
        return Checked(right, max(accounts * spans, rows.shape[1]) - right)

    def _between(self, scope: Ints, which: Ints, low: Ints, high: Ints) -> Ints:
        """What scopes used from edge to edge."""
        points = scope < self._shape.points
        point = np.where(points, scope, 0)
        plants = np.where(self._water, 0, self._edges), np.where(self._water, self._edges, 0)
        sums = [one.reshape(len(one), self._shape.plants, -1).sum(axis=2) for one in plants]
        plant, several = np.where(points, 0, scope - self._shape.points), np.array(sums)
        of_point = self._edges[high, point] - self._edges[low, point]
        return np.where(points, of_point, several[which, high, plant] - several[which, low, plant])


def _keys(span: Ints, scope: Ints, which: Ints, start: Ints) -> Ints:
    """One number for each row; starts lie within some years."""
    return ((scope * len(SPANS) + span) * len(MEASURES) + which << 24) + start + (1 << 23)


def _number(names: pa.ChunkedArray) -> Ints:
    """The digits behind the last dash."""
    parts = pc.list_element(pc.split_pattern(names, "-", max_splits=1, reverse=True), 1)
    return np.asarray(parts.cast(pa.int64()).to_numpy())


def _minute(column: pa.ChunkedArray) -> Ints:
    return np.asarray((column.cast(pa.int64()).to_numpy() - FIRST_MS) // MINUTE_MS)


def _micro(column: pa.ChunkedArray) -> Ints:
    """Amounts with nine decimals as millionths, 0 where none is known; MISSING where it is finer."""
    array = column.combine_chunks()
    words = np.frombuffer(array.buffers()[1], np.int64)[array.offset * 2 :][: len(array) * 2 : 2]
    known = array.is_valid().to_numpy(zero_copy_only=False)
    micro = np.where(words % _DECIMAL_PER_MICRO == 0, words // _DECIMAL_PER_MICRO, MISSING)
    return np.where(known, micro, 0)
