"""Intensity: which windows of which ratios a pass touched, rolling and calendar, in event time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.roster import Roster
from processors.accounts import grid_ms
from processors.changes import Changes, Pass, Touched
from processors.figures import (
    CALENDAR,
    DENOMINATOR_COARSER,
    DENOMINATOR_INCOMPLETE,
    DENOMINATOR_ZERO,
    FACTOR_UNKNOWN,
    KNOWN,
    NUMERATOR_INCOMPLETE,
    REASONS,
    ROLLING_MS,
    WINDOWS,
    Figures,
    Job,
    WindowRows,
    accounts_of,
)
from processors.lanes import Lanes
from processors.progress import NEVER
from processors.ratios import Ratio, ratios
from processors.reads import Reads
from processors.shapes import longer
from processors.spans import CLASSES, GRID, Spans

Ints = NDArray[np.int64]

APART_SPANS = 10_000
"""Windows further apart are worked out by themselves: what lies between takes neither time nor room."""
STRETCH_SPANS = 2_000
"""Shorter stretches are looked through span by span, longer ones by what exists in them."""
FinalOf = Callable[[Ints], NDArray[np.bool_]]
"""Which spans are final."""


@dataclass(frozen=True, slots=True)
class _Move:
    """The last grid span of the newest reading of a ratio's members, and of what is final; before and behind
    a pass.
    """

    seen_before: int
    seen: int
    final_before: int
    final: int

    @property
    def still(self) -> bool:
        return self.seen == self.seen_before and self.final == self.final_before


_NOTHING = np.empty(0, np.int64)


class Windows:
    """The windows of all ratios: which are to be said anew, and what they say."""

    def __init__(self, roster: Roster, spans: Spans, reads: Reads, lanes: Lanes) -> None:
        self.roster, self.spans = roster, spans
        self.ratios = ratios(roster, spans.accounts)
        self.figures = Figures(roster, spans, reads, lanes, self.ratios)
        self._open: dict[tuple[int, str], Ints] = {}
        """By ratio and window, what passes of this batch changed of what was open."""
        self._rolls = [r for r in self.ratios if any(w in ROLLING_MS for w in r.spec.windows)]
        self._calendars = [r for r in self.ratios if any(w in CALENDAR for w in r.spec.windows)]
        for ratio in self._rolls:
            self._grid(ratio)
        self._grid_ms = spans.grid_ms[[ratio.denominator.index for ratio in self.ratios]]

    def _grid(self, ratio: Ratio) -> None:
        plant = next(p for p in self.roster.plants if f"plant:{p.id}" == ratio.spec.scope)
        step = grid_ms(self.roster.points[p].base_ms for p in plant.points if self.roster.points[p].sign)
        for account in accounts_of(ratio):
            self.spans.gridded[account] = True
            self.spans.grid_ms[account] = step

    def members_of(self, ratio: Ratio) -> Ints:
        """The points of both sides."""
        return self.figures.members[ratio.index]

    # -- rolling ----------------------------------------------------------------------------------

    def rolled(self, changes: Changes, step: Pass) -> WindowRows | None:
        """The rolling windows whose figure or finality changed in a pass."""
        moves, content = self._moves(step), _by_account(changes.grid)
        jobs = []
        for ratio in self._rolls:
            move = moves[ratio.index]
            touched = [content[a] for a in accounts_of(ratio) if a in content]
            if touched or len(changes.reads) or not move.still or step.closing:
                jobs += self._rolled(ratio, move, touched, changes, step)
        return self._evaluated(jobs, step)

    def _moves(self, step: Pass) -> list[_Move]:
        """How far each ratio has come, in numbers of its grid."""
        most, least = self.figures.most, self.figures.least
        ends = (most(step.seen_before), most(step.seen_after), least(step.before), least(step.after))
        columns = [(end // self._grid_ms - 1).tolist() for end in ends]
        return [_Move(*row) for row in zip(*columns, strict=True)]

    def _rolled(
        self, ratio: Ratio, move: _Move, touched: list[Ints], changes: Changes, step: Pass
    ) -> list[Job]:
        grid, content = int(self._grid_ms[ratio.index]), np.unique(np.concatenate([_NOTHING, *touched]))
        out = []
        for window in (w for w in ratio.spec.windows if w in ROLLING_MS):
            length = ROLLING_MS[window] // grid
            parts = [_ranges(content, length, NEVER, move.seen)]
            if move.final > move.final_before:
                known = self._known(ratio, GRID, move.final_before + 2 - length, move.final)
                parts.append(_ranges(known, length, move.final_before + 1, min(move.final, move.seen)))
            if move.seen > move.seen_before:
                last = min(move.seen, move.seen_before + length)
                parts.append(np.arange(max(move.seen_before + 1, 0), last + 1))
            if len(changes.reads):
                parts += self._coarsened_rolling(ratio, window, move.seen, changes)
            spans = self._said(ratio, window, np.unique(np.concatenate(parts)), _until(move.final), step)
            if len(spans):
                out.append(Job(ratio, window, spans))
        return out

    def _coarsened_rolling(self, ratio: Ratio, window: str, horizon: int, changes: Changes) -> list[Ints]:
        """The windows in changed reads of the denominator that are longer than they are."""
        grid = int(self.spans.grid_ms[ratio.denominator.index])
        length, out = ROLLING_MS[window] // grid, []
        for start, end in longer(changes.reads, ratio.denominator.members, ROLLING_MS[window]):
            low, high = start // grid, min((end - 1) // grid + length - 1, horizon)
            out.append(_ranges(self._known(ratio, GRID, low - length + 1, high), length, low, high))
        return out

    def _said(self, ratio: Ratio, window: str, spans: Ints, final: FinalOf, step: Pass) -> Ints:
        """The windows that a pass says: what is open waits for the end of the batch."""
        waiting = self._open.pop((ratio.index, window), None)
        spans = spans if waiting is None else np.union1d(spans, waiting)
        if step.closing or len(spans) == 0:
            return spans
        said = final(spans)
        self._open[ratio.index, window] = spans[~said]
        return spans[said]

    def _known(self, ratio: Ratio, cls: int, first: int, last: int) -> Ints:
        """Spans first..last of a class in which anything is known of any of a ratio's accounts, ascending."""
        if last - first < STRETCH_SPANS:
            there = np.zeros(max(last - first + 1, 0), bool)
            for account in accounts_of(ratio) if len(there) else ():
                there |= self.spans.derived.run(account * CLASSES + cls, first, last) >= 0
            return first + np.flatnonzero(there)
        series = np.sort(np.array(accounts_of(ratio)) * CLASSES + cls)
        first_block, last_block = self.spans.derived.extents(series)
        low, high = np.maximum(first, first_block), np.minimum(last, last_block)
        return np.unique(self.spans.derived.between(series, low, high)[1])

    def stretch(self, ratio: Ratio, window: str, first: int, last: int) -> Ints:
        """The last grid spans, within first..last, of windows with anything in them, and one behind each run.

        What lies between has no value; the windows behind the runs say so.
        """
        length = ROLLING_MS[window] // int(self.spans.grid_ms[ratio.denominator.index])
        return _ranges(self._known(ratio, GRID, first - length, last), length + 1, first, last)

    def evaluate(self, ratio: Ratio, window: str, spans: Ints, step: Pass) -> WindowRows:
        """Rolling windows whose last grid spans are ``spans`` (ascending, at least one)."""
        rows = self._evaluated([Job(ratio, window, spans)], step)
        assert rows is not None
        return rows

    def _evaluated(self, jobs: list[Job], step: Pass) -> WindowRows | None:
        if not jobs:
            return None
        near = []
        for job in jobs:
            apart = np.flatnonzero(np.diff(job.spans) > APART_SPANS) + 1
            near += [Job(job.ratio, job.window, part) for part in np.split(job.spans, apart)]
        return self.figures.rolling(near, step)

    # -- calendar ---------------------------------------------------------------------------------

    def calendar(self, changes: Changes, step: Pass) -> WindowRows | None:
        """The calendar windows whose figure or finality changed in a pass."""
        jobs = []
        cls, account = changes.derived.series % CLASSES, changes.derived.series // CLASSES
        for ratio in self._calendars:
            mine = np.isin(account, accounts_of(ratio))
            for window in (w for w in ratio.spec.windows if w in CALENDAR):
                touched = changes.derived.span[mine & (cls == CALENDAR[window])]
                spans = np.union1d(touched, self._closed(ratio, CALENDAR[window], step))
                spans = np.union1d(spans, self._coarsened(ratio, CALENDAR[window], changes))
                spans = self._said(ratio, window, spans, self._is_final(ratio, CALENDAR[window], step), step)
                if len(spans):
                    jobs.append(Job(ratio, window, spans))
        return self.figures.calendar(jobs, step) if jobs else None

    def _is_final(self, ratio: Ratio, cls: int, step: Pass) -> FinalOf:
        series, until = ratio.denominator.index * CLASSES + cls, step.after[self.members_of(ratio)].min()
        return lambda spans: self.spans.edges(np.full(len(spans), series), spans)[1] <= until

    def _closed(self, ratio: Ratio, cls: int, step: Pass) -> Ints:
        """The calendar windows that became final because the last of both sides' members passed them."""
        members = self.members_of(ratio)
        before, after = step.before[members].min(), step.after[members].min()
        parts = [np.empty(0, np.int64)]
        for account in accounts_of(ratio):
            series = account * CLASSES + cls
            extent = self.spans.derived.extent(series)
            if after > before and extent is not None:
                known = np.flatnonzero(self.spans.derived.run(series, *extent) >= 0) + extent[0]
                end = self.spans.edges(np.full(len(known), series), known)[1]
                parts.append(known[(end > before) & (end <= after)])
        return np.concatenate(parts)

    def _coarsened(self, ratio: Ratio, cls: int, changes: Changes) -> Ints:
        """The calendar windows in changed reads of the denominator that are as long as none of them."""
        account = np.array([ratio.denominator.index])
        parts = [np.empty(0, np.int64)]
        for start, end in longer(changes.reads, ratio.denominator.members, 0):
            low, high = (int(self.spans.span_of(account, np.array([at]), cls)[0]) for at in (start, end - 1))
            if low < high:
                parts.append(self._known(ratio, cls, low, high))
        return np.concatenate(parts)


def _until(last: int) -> FinalOf:
    return lambda spans: spans <= last


def _by_account(grid: Touched) -> dict[int, Ints]:
    """The touched grid spans of each account."""
    account = grid.series // CLASSES
    order = np.argsort(account, kind="stable")
    numbers, firsts = np.unique(account[order], return_index=True)
    return (
        dict(zip(numbers.tolist(), np.split(grid.span[order], firsts[1:]), strict=True)) if len(order) else {}
    )


def _ranges(spans: Ints, length: int, first: int, last: int) -> Ints:
    """The last grid spans, within first..last, of all windows that hold one of ``spans`` (ascending)."""
    if len(spans) == 0:
        return spans
    opens = np.flatnonzero(np.append(True, np.diff(spans) > length))
    closes = np.append(opens[1:], len(spans)) - 1
    parts = [
        np.arange(max(low, first), min(high + length - 1, last) + 1)
        for low, high in zip(spans[opens].tolist(), spans[closes].tolist(), strict=True)
    ]
    every = np.concatenate(parts)
    at = np.searchsorted(spans, every, "right") - 1
    return every[every - spans[at] < length]


__all__ = [
    "CALENDAR",
    "DENOMINATOR_COARSER",
    "DENOMINATOR_INCOMPLETE",
    "DENOMINATOR_ZERO",
    "FACTOR_UNKNOWN",
    "KNOWN",
    "NUMERATOR_INCOMPLETE",
    "REASONS",
    "ROLLING_MS",
    "WINDOWS",
    "WindowRows",
    "Windows",
]
