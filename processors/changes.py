"""What a pass changes: the words in which spans, windows and rows speak of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.flows import Flows
from processors.kernels.survey import stamp
from processors.lanes import Lanes
from processors.progress import Survey

Ints = NDArray[np.int64]


@dataclass
class Deltas:
    """What changes in spans: (series, span) and sums to add; ``reported``: log time of the change."""

    series: Ints
    span: Ints
    sums: dict[str, Ints]
    reported: Ints


@dataclass
class Touches:
    """New register readings: point, time, number of the log record."""

    point: Ints
    time_ms: Ints
    record: Ints


@dataclass
class Touched:
    """Cells to be reported anew: ``series`` is a point (base) or ``account * CLASSES + class``."""

    series: Ints
    span: Ints
    index: Ints

    def take(self, mask: NDArray[np.bool_]) -> Touched:
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        return Touched(self.series.take(rows), self.span.take(rows), self.index.take(rows))

    def cut(self, first: int, until: int) -> Touched:
        """Rows from ``first`` up to ``until``."""
        some = slice(first, until)
        return Touched(self.series[some], self.span[some], self.index[some])


@dataclass
class Changes:
    """Rows to say anew, the grid spans whose content changed, and interval reads that did."""

    base: Touched
    derived: Touched
    grid: Touched
    reads: Flows


@dataclass
class Pass:
    """A stretch of records of each lane that is taken at once.

    ``first``, ``last``: of each lane, numbers of records. ``causes``: per record, why final rows change by
    it; only the first one's do. ``closing``: what is open is said, too. ``before``, ``after``: every
    point's frontier; ``seen_*``: its newest reading; ``of_accounts_*``: every account's frontier.
    ``moved``: the points and the accounts whose frontier it moves, ascending.
    """

    survey: Survey
    lanes: Lanes
    first: Ints
    last: Ints
    causes: Ints
    closing: bool
    before: Ints
    after: Ints
    seen_before: Ints
    seen_after: Ints
    of_accounts_before: Ints
    of_accounts_after: Ints
    moved: tuple[Ints, Ints]

    def reached(self, point: Ints, end: Ints) -> Ints:
        """The log time of the record in this pass by which each point's frontier reached ``end``."""
        lane = self.lanes.of_point[point]
        record = self.survey.first_record(point, end, self.first[lane], self.last[lane])
        return np.asarray(self.survey.log_time[record])

    def stamp(self, point: Ints, end: Ints, index: Ints, reported: Ints) -> None:
        """What becomes final in this pass was said when it did: spans of points by their end, in cells."""
        track = self.survey.track(self.before, self.after, self.lanes.of_point, self.first, self.last)
        stamp((point, end, index), track, self.reached, reported)

    def first_seen(self, point: Ints, end: Ints) -> Ints:
        """The log time of the record in this pass with each point's first reading at ``end`` or behind it."""
        lane = self.lanes.of_point[point]
        record = self.survey.first_reading(point, end, self.last[lane])
        return np.asarray(self.survey.log_time[np.maximum(record, self.first[lane])])


def concatenated(parts: list[Deltas]) -> Deltas:
    """Changes of different cells, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Deltas(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.span for part in parts]),
        {name: np.concatenate([part.sums[name] for part in parts]) for name in parts[0].sums},
        np.concatenate([part.reported for part in parts]),
    )


def joined(parts: list[Touched]) -> Touched:
    """One after the other."""
    if not parts:
        return Touched(*(np.empty(0, np.int64) for _ in range(3)))
    if len(parts) == 1:
        return parts[0]
    return Touched(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("series", "span", "index"))
    )
