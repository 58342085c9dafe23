"""Open rollup rows wait a little before they are stored, so that they are stored less often.

Every batch of results says the open rows of its points again: of each point the quarter of an hour, the
hour, the day, the month and the year that it is in. InfluxDB takes only so many rows a second, and nobody
waits for these to the second. So they are collected for ``COLLECT_S`` seconds, the newest row of a key in
place of the older, and then leave in a few pieces between the batches, so that what is urgent never waits
for all of them. The last piece leaves ``LIMIT_S`` seconds after its first row came in.

A row that is more than open (reported, or gone) does not wait, and calls along those that wait for the same
end: which row of a key is the last word is for influx_merge.py to say, which then sees both. No I/O here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bus.frames import schema
from metering.tables import POSITION, ROLLUP
from sinks.influx_layout import measurement
from sinks.influx_merge import versions
from sinks.influx_points import points
from sinks.store_layout import OPEN

Frame = tuple[str, pa.Table]
COLLECT_S, LIMIT_S = 1.0, 2.0
ROWS_MAX = 100_000
"""So many rows may be collected, some 250 bytes each; more of them leave at once."""
_PIECES, _PIECE_ROWS_MIN = 4, 1_000
_NONE = schema(ROLLUP).empty_table()


class WaitingRoom:
    """Rows of one partition that wait. One thread at a time; times are seconds of one monotonic clock.

    ``read``: the offset behind all records that were taken in. ``stored``: the offset before which no row
    waits; provided that what was handed out is stored, everything before it is.
    """

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, offset: int) -> None:
        """Lets go of everything; the log is read again from this offset."""
        self.read = self.stored = self._left_from = offset
        self._collected = self._leaving = _NONE
        self._since_s = self._leaving_since_s = 0.0
        self._piece_rows = 0

    @property
    def empty(self) -> bool:
        """Whether no row waits."""
        return not len(self._collected) and not len(self._leaving)

    def sift(self, frames: Sequence[Frame], done: int, now_s: float) -> list[Frame]:
        """What of the records before the offset ``done`` is to be stored at once; the rest is collected."""
        urgent = [frame for frame in frames if frame[0] != ROLLUP.name]
        rollups = [rows for table, rows in frames if table == ROLLUP.name]
        if rollups:
            rows = pa.concat_tables(rollups)
            waits = _is_open(rows)
            self._collect(rows.filter(waits), now_s)
            others = rows.filter(pc.invert(waits))
            urgent += [(ROLLUP.name, each) for each in (*self._called(others["end"]), others) if len(each)]
        self.read = done
        self._settle()
        return urgent

    def next(self, now_s: float, *, whole: bool = False) -> list[Frame]:
        """What is to leave now: a piece, nothing, or with ``whole`` everything that waits."""
        if whole or len(self._collected) > ROWS_MAX:
            rows = _newest(pa.concat_tables([self._leaving, self._collected]))
            self._collected = self._leaving = _NONE
        else:
            if not len(self._leaving) and len(self._collected) and now_s >= self._since_s + COLLECT_S:
                self._leave()
            count = len(self._leaving) if now_s >= self._leaving_since_s + LIMIT_S else self._piece_rows
            rows, self._leaving = self._leaving.slice(0, count), self._leaving.slice(count)
        self._settle()
        return [(ROLLUP.name, rows)] if len(rows) else []

    def rest_s(self, now_s: float) -> float | None:
        """For how long nothing has to leave; None while nothing waits."""
        if len(self._leaving):
            return 0.0
        return max(self._since_s + COLLECT_S - now_s, 0.0) if len(self._collected) else None

    def _collect(self, rows: pa.Table, now_s: float) -> None:
        if len(rows):
            if not len(self._collected):
                self._since_s = now_s
            self._collected = pa.concat_tables([self._collected, rows])

    def _called(self, ends: Any) -> list[pa.Table]:
        """Those that wait for one of these ends, no longer waiting; the older ones first."""
        if not len(ends) or self.empty:
            return []
        ends = pc.unique(ends)
        called = []
        for name in ("_leaving", "_collected"):
            rows = getattr(self, name)
            meant = pc.is_in(rows["end"], ends)
            if pc.any(meant).as_py():
                called.append(rows.filter(meant))
                setattr(self, name, rows.filter(pc.invert(meant)))
        return called

    def _leave(self) -> None:
        """What is collected begins to leave."""
        self._leaving, self._collected = _newest(self._collected), _NONE
        self._leaving_since_s, self._left_from = self._since_s, self.read
        self._piece_rows = max(-(-len(self._leaving) // _PIECES), _PIECE_ROWS_MIN)

    def _settle(self) -> None:
        if self.empty:
            self.stored = self.read
        elif not len(self._leaving):
            self.stored = max(self.stored, self._left_from)


def _is_open(rows: pa.Table) -> Any:
    """Which rows are neither reported nor say that their key has no row any more."""
    return pc.and_(pc.equal(pc.fill_null(rows["state"], ""), OPEN), pc.greater_equal(rows[POSITION], 0))


def _newest(rows: pa.Table) -> pa.Table:
    """The newest row of each key, those of one time together: their requests touch few shards.

    Rows that InfluxDB cannot store are all kept: their times say nothing.
    """
    layout = measurement(ROLLUP.name)
    its, by = points(layout, rows), versions(layout, rows)
    order = np.lexsort((np.arange(len(rows)), by.revision, by.position, its.times, its.series))
    keys = np.stack([its.series[order], its.times[order]])
    last = np.append((keys[:, 1:] != keys[:, :-1]).any(axis=0), np.ones(min(len(rows), 1), bool))
    kept = order[last | ~its.storable[order]]
    return rows.take(pa.array(kept[np.argsort(its.times[kept], kind="stable")]))
