"""Time through a batch: how far each point and plant comes, and which readings reach behind that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS
from processors.kernels.library import BOOL, INT64, OUT_BOOL, OUT_INT64, SIZE, chosen, compiled
from processors.kernels.memory import TIME_BITS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
NEVER = -(2**62)
"""Before anything was seen."""

_SURVEY = compiled("survey", (*4 * (SIZE,), *4 * (INT64,), *4 * (OUT_INT64,)))
_NEAREST = compiled("nearest", (SIZE, SIZE, *3 * (INT64,), SIZE, SIZE, OUT_INT64, OUT_BOOL))
_STAMP = compiled("stamp", (SIZE, *5 * (INT64,), SIZE, INT64, INT64, SIZE, *7 * (INT64,), OUT_INT64))
_BEHIND = compiled("behind", (SIZE, SIZE, *10 * (INT64,), BOOL, OUT_INT64, OUT_BOOL))


def _survey_by_loop(
    point: Ints, time: Ints, record: Ints, plant: Ints, plants: int, records: int
) -> tuple[Ints, Ints, Ints]:
    assert _SURVEY is not None
    least, greatest = (int(point.min()), int(point.max())) if len(point) else (0, 0)
    scratch = np.empty(greatest - least + 2, np.int64)
    keys, numbers = np.empty(len(point), np.int64), np.empty(len(point), np.int64)
    highest = np.full((plants, records), NEVER, np.int64)
    sizes = (len(point), least, greatest - least + 1, records)
    _SURVEY(*sizes, point, time, record, plant, scratch, keys, numbers, highest)
    return keys, numbers, highest


def survey_twin(
    point: Ints, time: Ints, record: Ints, plant: Ints, plants: int, records: int
) -> tuple[Ints, Ints, Ints]:
    """As ``survey``, in numpy."""
    order = np.argsort(point.astype(np.uint16) if point.max(initial=0) < 1 << 16 else point, kind="stable")
    keys = (point[order] << TIME_BITS) | (time[order] - TIME_FIRST_MS + 1)
    highest = np.full((plants, records), NEVER, np.int64)
    np.maximum.at(highest, (plant, record), time)
    return np.maximum.accumulate(keys), record[order], highest


def _behind_by_loop(
    columns: tuple[Ints, Ints, Ints, Ints, Ints, Ints],
    patience: Ints,
    group: Ints,
    row: Ints,
    base_ms: Ints,
    interval: Bools,
) -> tuple[Ints, Bools]:
    assert _BEHIND is not None
    size = len(columns[0])
    rows, over = np.empty(size, np.int64), np.empty(size, bool)
    if columns[2].strides == (0,):  # no interval reads, none of whose starts are looked at
        columns = (*columns[:2], columns[1], *columns[3:])
    count = _BEHIND(size, patience.shape[1], *columns, patience, group, row, base_ms, interval, rows, over)
    return rows[:count].copy(), over[:count].copy()


def behind_twin(
    columns: tuple[Ints, Ints, Ints, Ints, Ints, Ints],
    patience: Ints,
    group: Ints,
    row: Ints,
    base_ms: Ints,
    interval: Bools,
) -> tuple[Ints, Bools]:
    """As ``behind``, in numpy."""
    point, time, start, record, seen_series, seen_point = columns
    reads, base = interval[point], base_ms[point]
    waited = patience[row[group[point]], record]
    known = np.where(seen_series != NEVER, seen_series, time)
    start_known = np.where(reads, start, known)
    frontier = np.maximum(np.where(reads, waited, seen_point), waited)
    over = (time <= seen_point) | (reads & (start < seen_series))
    rows = np.flatnonzero(over | (frontier >= (_spans_of(start_known, base) + 1) * base))
    return rows, over[rows]


def _spans_of(time: Ints, base: Ints) -> Ints:
    """Division by one number is several times faster than by many."""
    uniform = len(base) > 0 and bool((base == base[0]).all())
    return np.asarray(time // (int(base[0]) if uniform else base))


def _nearest_by_loop(series: Ints, record: Ints, rows: Ints, step: int, steps_max: int) -> tuple[Ints, Bools]:
    assert _NEAREST is not None
    place, sure = np.empty(len(rows), np.int64), np.empty(len(rows), bool)
    _NEAREST(len(series), len(rows), series, record, rows, step, steps_max, place, sure)
    return place, sure


def nearest_twin(series: Ints, record: Ints, rows: Ints, step: int, steps_max: int) -> tuple[Ints, Bools]:
    """As ``nearest``, in numpy."""
    last = len(series) - 1

    def inside(place: Ints) -> Bools:
        within = np.clip(place, 0, last)
        return np.asarray((within == place) & (series[within] == series[rows]))

    place = rows.copy()
    for _ in range(steps_max):
        moving = inside(place) & (record[np.clip(place, 0, last)] >= record[rows])
        place += step * moving
        if not moving.any():
            break
    there = inside(place)
    sure = ~there | (record[np.clip(place, 0, last)] < record[rows])
    return np.where(there, place, -1), sure


survey = chosen(_SURVEY, _survey_by_loop, survey_twin)
"""(point, time, record, plant; number of plants, of records) -> (keys, records, highest).

Rows come by record. ``keys``, ``records``: by point and row, the highest key of the point so far (point above
time) and the row's record. ``highest``: of each plant (row) and record the newest time, NEVER without any.
"""
behind = chosen(_BEHIND, _behind_by_loop, behind_twin)
"""The rows that reach behind what was seen or behind their point's patience, and whether it is the former.

``columns``: point, time, start, record, and the newest time of the row's series, and of its point, in earlier
records. ``patience``: of groups before each record, ``row``: that of each group. By point: ``group``,
``base_ms`` and whether it is read in intervals. An interval read reaches back to its start: it may share time
with the one before.
"""
nearest = chosen(_NEAREST, _nearest_by_loop, nearest_twin)
"""The nearest row of the same series of an earlier record (-1: none), in direction ``step``; and sure?

Rows come by series. Where more than ``steps_max`` rows lie between, it is not sure.
"""


@dataclass(frozen=True, slots=True)
class Track:
    """A pass's way through a batch. ``keys``, ``records``: by ``survey``; ``patience``: as in ``behind``.

    ``before``, ``after``: every point's frontier; ``first``, ``last``: records of each lane.
    """

    before: Ints
    after: Ints
    keys: Ints
    records: Ints
    patience: Ints
    group: Ints
    row: Ints
    lane: Ints
    first: Ints
    last: Ints
    log_time: Ints


Rows = tuple[Ints, Ints, Ints]
"""Point, end of a span, and its cell."""
Reached = Callable[[Ints, Ints], Ints]


def _stamp_by_loop(rows: Rows, track: Track, reached: Reached, reported: Ints) -> None:
    assert _STAMP is not None
    del reached
    shape, columns = (len(rows[0]), *map(np.ascontiguousarray, rows)), (track.keys, track.records)
    patience = (track.patience.shape[1], track.patience, track.group, track.row)
    way = (track.lane, track.first, track.last, track.log_time)
    _STAMP(*shape, track.before, track.after, len(track.keys), *columns, *patience, *way, reported)


def stamp_twin(rows: Rows, track: Track, reached: Reached, reported: Ints) -> None:
    """As ``stamp``, in numpy."""
    point, end, index = rows
    now = (end > track.before[point]) & (end <= track.after[point])
    np.maximum.at(reported, index[now], reached(point[now], end[now]))


stamp = chosen(_STAMP, _stamp_by_loop, stamp_twin)
"""Raises ``reported`` of cells that became final to the log time of the record through which their point
reached their end: ``reached(point, end)``.
"""
