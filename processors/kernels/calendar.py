"""Where spans of accounts start and end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS
from processors.kernels.library import INT64, OUT_INT64, SIZE, chosen, compiled

Ints = NDArray[np.int64]

GRID, QUARTER = range(2)
"""Classes of spans that are all of one length; those behind them are by the calendar of a zone."""
_AHEAD = 64
"""So many spans to come are looked up with those that are wanted."""

_EDGES = compiled("edges", (SIZE, SIZE, *8 * (INT64,), OUT_INT64, OUT_INT64))


class Calendar:
    """``starts(zone, class, spans)`` says where spans of a zone start: asked once of each that comes up.

    By account: ``zone``, and ``grid_ms``, how long spans of the first of the ``classes`` are.
    """

    def __init__(
        self, zone: Ints, grid_ms: Ints, classes: int, starts: Callable[[int, int, Ints], Ints]
    ) -> None:
        self.zone, self.grid_ms, self.classes, self.starts = zone, grid_ms, classes, starts
        tables = (int(zone.max(initial=0)) + 1) * classes
        self._known: dict[int, Ints] = {}
        self._low, self._size, self._at = (np.zeros(tables, np.int64) for _ in range(3))
        self._starts = np.empty(0, np.int64)

    @property
    def tables(self) -> tuple[Ints, Ints, Ints, Ints]:
        """As the loop takes them."""
        return self._low, self._size, self._at, self._starts

    def learn(self, series: Ints, span: Ints) -> None:
        """Notes where these spans start, and those between them."""
        account = series // self.classes
        cls = series - account * self.classes
        table = np.where(cls > QUARTER, self.zone[account] * self.classes + cls, -1)
        for one in np.unique(table[table >= 0]).tolist():
            mine = span[table == one]
            low, until = int(mine.min()), int(mine.max()) + 2 + _AHEAD
            if one in self._known:
                low = min(low, int(self._low[one]))
                until = max(until, int(self._low[one]) + len(self._known[one]))
            zone, cls = divmod(one, self.classes)
            self._known[one] = self.starts(zone, cls, np.arange(low, until))
            self._low[one], self._size[one] = low, until - low
        for one, at in zip(self._known, np.cumsum([0, *map(len, self._known.values())]), strict=False):
            self._at[one] = at
        self._starts = np.concatenate(list(self._known.values()))


def _edges_by_loop(calendar: Calendar, series: Ints, span: Ints) -> tuple[Ints, Ints]:
    assert _EDGES is not None
    start, end = np.empty(len(series), np.int64), np.empty(len(series), np.int64)
    columns = (np.ascontiguousarray(series), np.ascontiguousarray(span), calendar.zone, calendar.grid_ms)
    told = _EDGES(len(series), calendar.classes, *columns, *calendar.tables, start, end)
    if told < len(series):
        calendar.learn(series[told:], span[told:])
        told = _EDGES(len(series), calendar.classes, *columns, *calendar.tables, start, end)
    assert told == len(series)
    return start, end


def edges_twin(calendar: Calendar, series: Ints, span: Ints) -> tuple[Ints, Ints]:
    """As ``edges``, in numpy."""
    start, end = np.empty(len(span), np.int64), np.empty(len(span), np.int64)
    account = series // calendar.classes
    cls = series - account * calendar.classes
    for one in np.unique(cls).tolist():
        mine = np.flatnonzero(cls == one)
        for edge, spans in ((start, span[mine]), (end, span[mine] + 1)):
            edge[mine] = _starts(calendar, one, account[mine], spans)
    return start, end


def _starts(calendar: Calendar, cls: int, account: Ints, span: Ints) -> Ints:
    if cls <= QUARTER:
        return np.asarray(span * (calendar.grid_ms[account] if cls == GRID else QUARTER_MS))
    zones, out = calendar.zone[account], np.empty(len(span), np.int64)
    for zone in np.unique(zones).tolist():
        mine = zones == zone
        different, which = np.unique(span[mine], return_inverse=True)
        out[mine] = calendar.starts(zone, cls, different)[which]
    return out


edges = chosen(_EDGES, _edges_by_loop, edges_twin)
"""(calendar, series, span) -> start and end of spans, UTC milliseconds; series: account * classes + class."""
