"""The line through a register's readings: which to leave out, so that the fewest events explain the rest.

Theory. Two consecutive readings are a pair; a pair that is neither smooth nor a slip (processors.slips) is a
break. The line is the chain of readings that one believes. It keeps the first and the last, and between two
that it keeps it may leave out a
*run*, where

- the two ends are at most ``RUN_MAX_MS`` apart, or at most ``FEW`` readings lie between them (who reads once
  a day, or once a month, has wrong ones too); and the one counts on from the other (smooth, or over the end);
- there is a broken pair among those from end to end, and at most ``RUN_BREAKS_MAX`` breaks;
- the run is cut off on both sides by a break; or on one, and what touches the other end shows one value only,
  which cannot stand beside the far end: a *dip* (breaks off, and rises to its end from below its beginning),
  or a *bump* (a single reading that rises from its beginning to above its end, then breaks off).

A *piece* is what lies between two breaks. Every event costs: a broken pair that stays 3, a piece that is
left out 2 where it shows one value (a zero, however often it is repeated), 3 where it shows up to five, and 5
where it shows more: it counts on, and is left out (held) only where the breaks at both ends are more than the
register can rise from end to end. So a reset that counts on is kept, and a glitch that is cut off on both
sides is not. Of the cheapest lines the one that leaves out the fewest
readings counts, then the fewest that are not zero, then the one with the fewest wraps, then the one that
keeps the earlier reading. What it keeps between two broken pairs is left out after all where it may be and
both are more than the register can rise from end to end: another register, whatever happened to that one.

On a day (UTC) with more than ``UNRULY_BREAKS`` breaks the reading before the first of them, and before every
``POST_EVERY``th one behind it, is a *post*: no run leaves it out. So there is an end to what one reading can
change.

A run depends only on its own readings; so readings that lie inside of no possible run cut the series into
parts that do not know of each other. That is what makes a line local: ``components`` are these parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, GAP_MAX_MS, SMOOTH, WRAP, Allowance, Kinds
from processors.kernels import lines as kernel
from processors.kernels.lines import STAY, Breaks, Leaving, cheapest
from processors.slips import pairs_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RUN_MAX_MS = 86_400_000
FEW = 2
"""So few readings a run may leave out however long it is."""
RUN_BREAKS_MAX = 100
UNRULY_BREAKS, POST_EVERY = 20, 200
_ONE_VALUE, _BROKEN = 2, 3
_COSTS = np.array([_ONE_VALUE, 3, 3, 3, 3, 2 * _BROKEN - 1])
"""Of a piece by how often it rises: one that counts on costs hardly less than the two breaks around it do."""
_COUNTS_ON = len(_COSTS) - 1
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs that may be left out, by the positions of their ends; sorted. ``cost``: of their pieces."""

    start: Ints
    end: Ints
    cost: Ints

    def __len__(self) -> int:
        return len(self.start)


class Readings:
    """Readings of one series in their order, with what its pairs are.

    ``breaks``: positions of the readings before each break. ``kept``: readings that may not be left out.
    """

    def __init__(
        self,
        time: Ints,
        value: Ints,
        allowance: Allowance,
        kept: Bools | None = None,
        pair: Kinds | None = None,
    ) -> None:
        self.time, self.value, self.allowance = time, value, allowance
        self.pair = pairs_of(time, value, allowance) if pair is None else pair
        self.breaks: Ints = np.flatnonzero(self.pair != SMOOTH)
        self.kept = np.zeros(len(time), bool) if kept is None else kept
        self._broken = self.breaks[self.pair[self.breaks] == BROKEN]
        self._wraps = self.breaks[self.pair[self.breaks] == WRAP]
        self._kept = np.append(0, np.cumsum(self.kept)) if self.kept.any() else None
        self._turns = np.flatnonzero(value[1:] != value[:-1]) + 1

    def __len__(self) -> int:
        return len(self.time)

    def other_after(self, at: Ints) -> Ints:
        """The first position behind each that shows another value; the length where there is none."""
        return np.append(self._turns, len(self))[np.searchsorted(self._turns, at, "right")]

    def same_from(self, at: Ints) -> Ints:
        """The position since which the register has shown what it shows at each."""
        return np.append(0, self._turns)[np.searchsorted(self._turns, at, "right")]

    def began(self, at: int) -> int:
        """The position since which the register has shown what it shows at one, with no break between."""
        turn, cut = int(np.searchsorted(self._turns, at, "right")), int(np.searchsorted(self.breaks, at))
        same, whole = self._turns[turn - 1] if turn else 0, self.breaks[cut - 1] + 1 if cut else 0
        return int(max(same, whole))

    def turns_until(self, at: Ints) -> Ints:
        """How often the register showed something new up to each position."""
        return np.asarray(np.searchsorted(self._turns, at, "right"))

    def kinds(self, start: Ints, end: Ints) -> Kinds:
        """What the readings at some positions are to those at others."""
        return self.allowance.kinds(self.time[start], self.time[end], self.value[start], self.value[end])

    def pieces(self, low: int, high: int) -> tuple[Ints, Ints]:
        """The first and the last position of each piece of the readings between two positions."""
        cuts = self.breaks[np.searchsorted(self.breaks, low + 1) : np.searchsorted(self.breaks, high - 1)]
        return np.append(low + 1, cuts + 1), np.append(cuts, high - 1)

    def counts_on(self, low: int, high: int) -> bool:
        """Whether a piece of the readings between two positions shows more values than a glitch does."""
        first, last = self.pieces(low, high)
        return bool((self.turns_until(last) - self.turns_until(first) >= _COUNTS_ON).any())

    def keeps(self, start: Ints, end: Ints) -> Bools:
        """Whether a reading that must be kept lies between those at some positions and those at others."""
        if self._kept is None:
            return np.zeros(len(start), bool)
        return np.asarray(self._kept[end] > self._kept[start + 1])

    def kept_until(self) -> Ints:
        """How many readings before each must be kept; and of all of them."""
        return np.zeros(len(self) + 1, np.int64) if self._kept is None else self._kept

    def broken_until(self, at: Ints) -> Ints:
        """How many pairs are broken before each position."""
        return np.asarray(np.searchsorted(self._broken, at))

    def broken_beside(self, low: int) -> tuple[int, int]:
        """The broken pairs next to a pair that is not, by their first positions; -1 where there is none."""
        at = int(np.searchsorted(self._broken, low))
        before = int(self._broken[at - 1]) if at else -1
        return before, int(self._broken[at]) if at < len(self._broken) else -1

    def wraps_until(self, at: Ints) -> Ints:
        """How many pairs are wraps before each position."""
        return np.asarray(np.searchsorted(self._wraps, at))


def posts(low_ms: Ints) -> Ints:
    """Instants of the posts, by the instants of the readings before each break."""
    day = low_ms // _DAY_MS
    first = np.searchsorted(day, day)
    many = np.searchsorted(day, day, "right") - first > UNRULY_BREAKS
    return np.asarray(low_ms[many & ((np.arange(len(day)) - first) % POST_EVERY == 0)])


def runs_of(readings: Readings) -> Runs:
    """Every run that may be left out."""
    if not (readings.pair[readings.breaks] == BROKEN).any():
        return _runs([])
    longest_ms = min(int(readings.time[-1] - readings.time[0]), GAP_MAX_MS)
    breaks, rate = described(readings), readings.allowance.rate(longest_ms)
    if kernel.COMPILED and rate is not None:
        columns = (readings.time, readings.value, readings.kept_until())
        width = readings.allowance.facts.width
        found = kernel.runs(breaks, *columns, rate, width, RUN_BREAKS_MAX)
        return _runs([(*found, found[2])])
    return runs_by_numpy(readings, breaks)


def may_lead(time: Ints, start: Ints, end: Ints) -> Bools:
    """Whether the ends of runs, by their positions, may be as far apart."""
    return np.asarray((time[end] - time[start] <= RUN_MAX_MS) | (end - start - 1 <= FEW))


def described(readings: Readings) -> Breaks:
    """What runs have to know of the breaks that they are between."""
    low, high = readings.breaks, readings.breaks + 1
    behind = readings.other_after(high)
    behind[behind > np.append(low[1:], len(readings) - 1)] = -1
    ahead = np.where(low - 1 >= np.append(0, high[:-1]), low - 1, -1)
    rises = readings.turns_until(low[1:]) - readings.turns_until(high[:-1])
    pieces = np.append(0, np.cumsum(_COSTS[np.minimum(rises, _COUNTS_ON)]))
    counting = np.append(0, np.cumsum(rises >= _COUNTS_ON))
    return Breaks(low, behind, ahead, pieces, counting, readings.broken_until(np.append(low, len(readings))))


def runs_by_numpy(readings: Readings, breaks: Breaks) -> Runs:
    """Every run between some breaks, as the compiled loop finds them, for all limits and multipliers."""
    low, high, size = breaks.low, breaks.low + 1, 0
    found: list[_Found] = []
    waiting: list[_Found] = []
    for more in range(min(RUN_BREAKS_MAX, len(low))):
        first = np.arange(len(low) - more)
        near = may_lead(readings.time, low[first], high[more:])
        if not near.any():
            break
        first = first[near & (breaks.broken[more + 1 :] > breaks.broken[first])]
        last = first + more
        cost = breaks.pieces[last] - breaks.pieces[first]
        start, end = low[first], high[last]
        counts_on = breaks.counting[last] > breaks.counting[first]
        smooth = np.full(len(first), SMOOTH)
        if more:
            some = np.flatnonzero(counts_on)  # of others a break or two more or less says enough
            some = some[~_told_apart(readings, start[some], end[some])]
            apart = end.copy()
            apart[some] = -1
            waiting.append((start, apart, cost, np.where(counts_on, smooth, WRAP)))
        lower = (readings.value[end] < readings.value[start]) & ~counts_on
        dip, bump = np.where(lower, breaks.behind[last], -1), np.where(lower, breaks.ahead[first], -1)
        waiting += [(start, dip, cost + _ONE_VALUE, smooth), (bump, end, cost + _ONE_VALUE, smooth)]
        size += 3 * len(first)
        if size > _TOGETHER:
            found, waiting, size = [*found, _counting_on(readings, waiting)], [], 0
    return _runs([*found, _counting_on(readings, waiting)])


def _told_apart(readings: Readings, start: Ints, end: Ints) -> Bools:
    """Whether runs, cut off on both sides, lie further off the line than the register could count on from end
    to end.
    """
    value = readings.value
    off = np.minimum(np.abs(value[start + 1] - value[start]), np.abs(value[end] - value[end - 1]))
    return np.asarray(off > readings.allowance.over(readings.time[start], readings.time[end]))


_TOGETHER = 1 << 16
"""Runs looked at in one go."""
_Found = tuple[Ints, Ints, Ints, Ints]
"""Start, end and cost of runs (a start or end of -1: there is none), and what the link may be at most."""


def _counting_on(readings: Readings, waiting: list[_Found]) -> _Found:
    """Those runs whose end counts on from their start, with nothing in them that must be kept."""
    if not waiting:
        none = np.empty(0, np.int64)
        return none, none, none, none
    start, end, cost, most = (np.concatenate(columns) for columns in zip(*waiting, strict=True))
    good = (start >= 0) & (end >= 0)
    good &= may_lead(readings.time, start, end) & ~readings.keeps(start, end)
    some = np.flatnonzero(good)
    some = some[readings.kinds(start[some], end[some]) <= most[some]]
    return start[some], end[some], cost[some], most[some]


def _runs(found: list[_Found]) -> Runs:
    if not found:
        return Runs(*(np.empty(0, np.int64) for _ in range(3)))
    start, end, cost, _ = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((end, start))
    return Runs(start[order], end[order], cost[order])


def that_save(readings: Readings, runs: Runs) -> Runs:
    """Those that cost less than the broken pairs in them would."""
    broken = readings.broken_until(runs.end) - readings.broken_until(runs.start)
    some = runs.cost < _BROKEN * broken
    return Runs(runs.start[some], runs.end[some], runs.cost[some])


def components(runs: Runs) -> list[Runs]:
    """The runs that overlap, together; two that only share an end do not."""
    if len(runs) == 0:
        return []
    until = np.maximum.accumulate(runs.end)
    edges = [0, *(np.flatnonzero(runs.start[1:] >= until[:-1]) + 1).tolist(), len(runs)]
    return [Runs(runs.start[a:b], runs.end[a:b], runs.cost[a:b]) for a, b in pairwise(edges)]


def left_out(readings: Readings, runs: Runs) -> list[tuple[int, int]]:
    """The ends of the runs of one component that its line leaves out, in their order."""
    nodes = np.unique(np.concatenate([runs.start, runs.end]))
    broken, wraps = readings.broken_until(nodes), readings.wraps_until(nodes)
    chosen = cheapest(_BROKEN * np.diff(broken), np.diff(wraps), _leaving(readings, runs, nodes))
    return _of_others(readings, runs, _followed(nodes.tolist(), chosen.tolist()))


def _leaving(readings: Readings, runs: Runs, nodes: Ints) -> Leaving:
    """The runs by the numbers of their nodes, with what they cost."""
    lost = runs.end - runs.start - 1
    zeros = np.append(0, np.cumsum(readings.value == 0))
    other = lost - (zeros[runs.end] - zeros[runs.start + 1])
    wraps = (readings.kinds(runs.start, runs.end) == WRAP).astype(np.int64)
    start, end = np.searchsorted(nodes, runs.start), np.searchsorted(nodes, runs.end)
    return Leaving(start, end, runs.cost, lost, other, wraps)


def _of_others(readings: Readings, runs: Runs, out: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What the cheapest line leaves out, and what it keeps of other registers between two broken pairs.

    Whatever happened to the other register meanwhile, it is one event more to take it for this one.
    """
    cut_off = (readings.pair[runs.start] == BROKEN) & (readings.pair[runs.end - 1] == BROKEN)
    starts, ends = runs.start[cut_off], runs.end[cut_off]
    others = _told_apart(readings, starts, ends) & (readings.kinds(starts, ends) == SMOOTH)
    starts, ends = starts[others], ends[others]
    shortest = np.argsort(ends - starts, kind="stable")
    for start, end in zip(starts[shortest].tolist(), ends[shortest].tolist(), strict=True):
        if not any(low <= pair < high for low, high in out for pair in (start, end - 1)):
            out = sorted([one for one in out if not start < one[0] < end] + [(start, end)])
    return out


def _followed(nodes: list[int], chosen: list[int]) -> list[tuple[int, int]]:
    out, at = [], 0
    while at < len(nodes) - 1:
        if chosen[at] == STAY:
            at += 1
        else:
            out.append((nodes[at], nodes[chosen[at]]))
            at = chosen[at]
    return out
