"""Base spans: what points with registers used in each of their shortest spans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.cells import Cells, Grouping
from processors.changes import Pass, Touched, Touches, joined
from processors.flows import Flows
from processors.kernels.pieces import MADE, SAID, Clock, Pieces, Stretches, pieces, settle
from processors.room import IN_MEMORY, Room

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BASE_FIELDS = {
    "amount": np.int64,
    "known": np.int32,
    "estimated": np.int32,
    "held": np.int32,
    "rounded": np.int32,
    "readings": np.uint8,
    "revision": np.int32,
    "cause": np.uint8,
    "reported": np.int64,
}
"""``estimated``: of what is known. ``readings``: 1 where there are any."""
_SUMS = ("amount", "known", "measured", "held", "rounded", "revision", "reported")
_FLIPS_MIN, _FLIPS_A_POINT = 1 << 16, 4
"""More spans than these are looked for among those that exist."""


@dataclass(frozen=True, slots=True)
class BaseDeltas:
    """What changes in base spans that start at ``start``: a row each, by point and span.

    ``some``: which rows there are changes of, None where it is all.
    """

    point: Ints
    start: Ints
    sums: dict[str, Ints]
    some: Bools | None = None

    def __len__(self) -> int:
        return len(self.point)

    def take(self, mask: Bools) -> BaseDeltas:
        mask = mask if self.some is None else mask & self.some
        return BaseDeltas(
            self.point[mask], self.start[mask], {name: column[mask] for name, column in self.sums.items()}
        )


class BaseSpans:
    """``base_ms``: of each point, 0 where it has none (its spans are then the intervals it reads)."""

    def __init__(self, base_ms: Ints, room: Room = IN_MEMORY) -> None:
        self.base_ms = base_ms
        self.cells = Cells(BASE_FIELDS, series=len(base_ms), room=room)
        self._open: list[Touched] = []
        """What passes of this batch changed of what was open then."""

    def apply(self, flows: Flows, touches: Touches, step: Pass) -> tuple[Touched, BaseDeltas]:
        """Adds flows; what a pass says, and what it changes.

        ``touches``: new register readings, whose span exists even if nothing is known of it.
        """
        wanted = [self._flips(step)]
        if step.closing:
            still = self._still_open(step)
            wanted.append(Stretches(still.series, still.span, still.span))
        clock = Clock(self.base_ms, step.before, step.survey.log_time)
        rows = pieces(flows, touches, wanted, clock)
        point, span, kinds = rows["point"], rows["span"], rows["kinds"]
        index = self.cells.place(point, span, kinds & MADE > 0)
        causes = step.lanes.of_point, step.causes[step.first]
        keep = settle(rows, index, causes, self.cells.columns, self.cells.dirty)
        said = Touched(point, span, index).take(keep)
        end = (said.span + 1) * self.base_ms[said.series]
        self.cells.changed(said.index)
        step.stamp(said.series, end, said.index, self.cells["reported"])
        return self._said(said, end, step), self._deltas(rows)

    def _deltas(self, rows: Pieces) -> BaseDeltas:
        said = rows["kinds"] & SAID > 0
        sums = {name: rows[name] for name in _SUMS}
        deltas = BaseDeltas(rows["point"], rows["start"], sums, None if said.all() else said)
        return deltas if said.any() else deltas.take(said)

    def _said(self, rows: Touched, end: Ints, step: Pass) -> Touched:
        """What a pass says; what is open waits for the end of the batch and then says it all."""
        if step.closing:
            return rows
        final = end <= step.after[rows.series]
        self._open.append(rows.take(~final))
        return rows.take(final)

    def _still_open(self, step: Pass) -> Touched:
        """What waits; what became final since was said when it did."""
        every, self._open = joined(self._open), []
        groups = Grouping(every.series, every.span)
        series, span = groups.keys
        rows = Touched(series, span, groups.first(every.index))
        return rows.take((rows.span + 1) * self.base_ms[rows.series] > step.before[rows.series])

    def _flips(self, step: Pass) -> Stretches:
        """The spans that a pass makes final, as far as there may be any."""
        moved = step.moved[0]
        moved = moved[self.base_ms[moved] > 0]
        base = self.base_ms[moved]
        first, last = self.cells.extents(moved)
        low = np.maximum(step.before[moved] // base, first)
        high = np.minimum(step.after[moved] // base - 1, last)
        some = low <= high
        moved, low, high = moved[some], low[some], high[some]
        if (high - low + 1).sum() > max(_FLIPS_MIN, _FLIPS_A_POINT * len(moved)):
            moved, low, _ = self.cells.between(moved, low, high)
            high = low
        return Stretches(moved, low, high)
