"""What is doubtful in a register's readings, and what is found of it: regions of a series, with verdicts.

A *region* is a break that no run can bridge, or a component of runs with the breaks in it
(processors.lines). What is found depends on the region's readings and on the few beside it that ``reach``
names, on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, GAP, SMOOTH, UNSURE, WRAP, Allowance, Facts, Kinds
from processors.clocks import clocks_off
from processors.lines import FEW, RUN_MAX_MS, Readings, Runs, components, left_out, runs_of, that_save
from processors.standstill import Standstills

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHOWN_MAX = 5
"""A piece that shows one value no more often than that may be wrong wherever it stands."""
WRAPS_BY_CHANCE = 10
"""Where a register can rise by more than this part of its width, any fall may look like a wrap."""
FROM_EVER, FOR_EVER = -(2**62), 2**62


class Verdict(IntEnum):
    """What a link of the line is, where it is not simply smooth; or what was left out between its ends.

    PLAIN: it counted on, where that is not sure; or by a person: what was doubted is as it was read.
    REPLACEMENT: from one meter to the next. CONFLICT: two values for one instant. OVERLAP: an interval read
    that shares time with another.
    """

    PLAIN = 0
    ROLLOVER = 1
    DECREASE = 2
    SPIKE = 3
    GAP = 4
    RESET = 5
    GLITCH = 6
    STUCK = 7
    CLOCK_JUMP = 8
    REPLACEMENT = 9
    CONFLICT = 10
    OVERLAP = 11


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the line that is not a smooth pair: instants and register values of its ends.

    ``decided``: booked, by rule or by a person; otherwise held, or ``written_off`` by a person. ``by``: who
    decided, empty for the rule. ``wrapped``: the register passed its end in it. ``left``: how many
    readings between were left out, ``lowest`` and ``highest`` of them (0 where there are none).
    ``most_turns``: how often the register may have passed its end in it, 0 where that is not in doubt.
    ``scale``: the power of ten by which it shows another unit from its end on, 0 where it does not.
    ``other_unit``: it rises in a time in which the register shows another unit.
    """

    start: int
    end: int
    first: int
    last: int
    verdict: Verdict
    decided: bool
    wrapped: bool = False
    left: int = 0
    lowest: int = 0
    highest: int = 0
    written_off: bool = False
    by: str = ""
    most_turns: int = 0
    scale: int = 0
    other_unit: bool = False

    @property
    def status(self) -> str:
        """The word in the verdict's row."""
        if self.by:
            refused = self.verdict == Verdict.PLAIN and not self.most_turns
            return "refused" if refused else "confirmed"
        return "decided" if self.decided else "held"

    def beyond(self, allowance: Allowance) -> tuple[int, int] | None:
        """Of a rise that the limit does not allow the most that it does, and the limit in an hour that would;
        None for others, in and by a step into another unit, and over what was left out.
        """
        rise, in_another_unit = self.last - self.first, self.other_unit or (self.scale and not self.by)
        if rise <= 0 or self.left or in_another_unit:
            return None
        possible = int(allowance.over(np.array([self.start]), np.array([self.end]))[0])
        return None if rise <= possible else (possible, allowance.limit_for(self.start, self.end, rise))


@dataclass(frozen=True, slots=True)
class Region:
    """``start``, ``end``: instants of its outermost readings, both on the line; but a standstill that ends in
    it may have begun before.

    ``breaks``: instants before the first and behind the last of its breaks. ``reach``: a reading that makes
    no break and ends none changes nothing here unless it lies between these two instants, or at one of them.

    A region is *calm* if it is a single break that is not broken, and no broken pair is so near that a run
    could have both: nothing but its own two readings, and broken pairs that come, changes anything of it.
    """

    start: int
    end: int
    breaks: tuple[int, int]
    reach: tuple[int, int]
    links: tuple[Link, ...]

    @property
    def is_calm(self) -> bool:
        """Whether it reaches no further than its break."""
        return self.reach == self.breaks

    def left_out(self, time: Ints) -> Ints:
        """Those of some instants of readings, in order, that it leaves out."""
        spans = [np.searchsorted(time, [one.start + 1, one.end]) for one in self.links if one.left]
        return np.concatenate([time[:0], *(time[low:high] for low, high in spans)])


def counted_on(ends: tuple[int, int, int, int], kind: int, allowance: Allowance) -> Link:
    """The link of a wrap, or of a pair that is unsure: start, end, first, last."""
    if kind == WRAP:
        return Link(*ends, Verdict.ROLLOVER, decided=True, wrapped=True)
    verdict = Verdict.ROLLOVER if ends[3] < ends[2] else Verdict.PLAIN
    return Link(*ends, verdict, decided=False, most_turns=allowance.most_turns(*ends))


def calm(link: Link) -> Region:
    """The region of a single break with nothing doubtful around it."""
    span = (link.start, link.end)
    return Region(*span, span, span, (link,))


def judge(
    time: Ints,
    value: Ints,
    facts: Facts,
    kept: Bools | None = None,
    pair: Kinds | None = None,
    stays: Mapping[tuple[int, int], Region] = MappingProxyType({}),
    right: Bools | None = None,
) -> list[Region]:
    """The regions of a stretch of a series, in their order.

    ``time``: UTC milliseconds, rising; ``value``: register values in millionths; readings in conflict are not
    among them. ``kept``: which of them no run may leave out (posts, and what a person said is right).
    ``pair``: what each is to the one before it, where that is known from more readings than these.
    ``stays``: by their breaks regions that are as they were, if those are broken and no run bridges them.
    ``right``: those of ``kept`` that a person said are right.
    """
    readings = Readings(time, value, Allowance(facts), kept, pair)
    if len(readings.breaks) == 0:
        return []
    still = Standstills(readings, np.zeros(len(time), bool) if right is None else right)
    return list(_Judge(readings, still, stays).regions())


class _Judge:
    """``_runs``: those that may be left out; ``_region_ends``: from which position to which the region leads
    that is looked at.
    """

    def __init__(
        self, readings: Readings, still: Standstills, stays: Mapping[tuple[int, int], Region]
    ) -> None:
        self.readings, self._still, self._stays = readings, still, stays
        self.limited = readings.allowance.facts.limit_per_hour is not None
        self._saving: Runs

    def regions(self) -> Iterator[Region]:
        readings, at = self.readings, 0
        every = self._still.without_caught_up(runs_of(readings))
        breaks, parts, self._saving = readings.breaks.tolist(), components(every), that_save(readings, every)
        for runs in parts:
            start, end = int(runs.start[0]), int(runs.end.max())
            while at < len(breaks) and breaks[at] < start:
                yield self._lone(breaks[at])
                at += 1
            yield self._region(start, end, left_out(readings, runs))
            while at < len(breaks) and breaks[at] < end:
                at += 1
        for low in breaks[at:]:
            yield self._lone(low)

    def _lone(self, low: int) -> Region:
        """The region of a break that no run bridges."""
        is_broken = self.readings.pair[low] == BROKEN
        if is_broken and self._stays:
            known = self._stays.get((int(self.readings.time[low]), int(self.readings.time[low + 1])))
            if known is not None:
                return known
        if is_broken or self._is_beside_broken(low):
            return self._region(low, low + 1, [])
        return calm(self._link(low, low + 1, self._hypothesis(low)))

    def _is_beside_broken(self, low: int) -> bool:
        """Whether a broken pair is so near that a run could have both."""
        readings, time = self.readings, self.readings.time
        before, behind = readings.broken_beside(low)
        stretches = [(before, low)] * (before >= 0) + [(low, behind)] * (behind >= 0)
        return any(
            (last - first <= FEW or time[last + 1] - time[first] <= RUN_MAX_MS)
            and not readings.kept[first + 1 : last + 1].any()
            for first, last in stretches
        )

    def _region(self, start: int, end: int, out: list[tuple[int, int]]) -> Region:
        keeps = np.ones(end - start + 1, bool)
        for low, high in out:
            keeps[low + 1 - start : high - start] = False
        links = self._pairs(start, keeps) + [self._bridge(low, high) for low, high in out]
        off = clocks_off(self.readings, start, keeps, links) if len(out) else set()
        links = [self._off(one) if one.left and one.start in off else one for one in links]
        links = [self._stood_still(one) for one in sorted(links, key=lambda one: one.start)]
        ends = int(self.readings.time[start]), int(self.readings.time[end])
        return Region(*ends, *self._edges(start, end), tuple(links))

    def _pairs(self, start: int, keeps: Bools) -> list[Link]:
        """The breaks that stay."""
        pair = self.readings.pair[start : start + len(keeps) - 1]
        stays = np.flatnonzero((pair != SMOOTH) & keeps[:-1] & keeps[1:]) + start
        broken = [low for low in stays.tolist() if pair[low - start] == BROKEN]
        inside = range(start, start + len(pair))
        return [self._pair(low, inside, broken) for low in stays.tolist()]

    def _pair(self, low: int, inside: range, broken: list[int]) -> Link:
        """A break that stays; ``inside``: the pairs of its region, ``broken``: those of them that do, too."""
        link, kind = self._link(low, low + 1, self._hypothesis(low)), self.readings.pair[low]
        if kind == WRAP and self._by_chance(low, low + 1):
            beside = [other for other in (low - 1, low + 1) if self._is_broken_beside(low, other)]
            if any(
                other in broken if other in inside else not self._is_left_out(low, other) for other in beside
            ):
                return replace(link, decided=False, wrapped=False)
        return self._scaled(link) if kind == BROKEN else link

    def _is_broken_beside(self, low: int, other: int) -> bool:
        """Whether a pair next to one is broken: both in the time of a run, and with nothing between that must
        be kept.
        """
        readings, time = self.readings, self.readings.time
        first, middle = min(low, other), max(low, other)
        if first < 0 or middle >= len(readings.pair) or readings.pair[other] != BROKEN:
            return False
        return bool(time[middle + 1] - time[first] <= RUN_MAX_MS and not readings.kept[middle])

    def _is_left_out(self, low: int, other: int) -> bool:
        """Whether a pair of another region, next to one, goes with what can be left out from where they meet
        on, for less than it costs to keep.
        """
        ends, meet = (self._saving.start, other) if other > low else (self._saving.end, low)
        return bool((ends == meet).any())

    def _by_chance(self, low: int, high: int) -> bool:
        """Whether nearly any fall between two positions would look like a wrap."""
        at = self.readings.time[[low, high]]
        possible = int(self.readings.allowance.over(at[:1], at[1:])[0])
        return possible * WRAPS_BY_CHANCE > self.readings.allowance.facts.width

    def _scaled(self, link: Link) -> Link:
        """With the power of ten by which it steps."""
        scale = self.readings.allowance.scale(link.start, link.end, link.first, link.last)
        return replace(link, scale=scale) if scale else link

    def _hypothesis(self, low: int) -> Verdict:
        readings, kind = self.readings, int(self.readings.pair[low])
        if kind in (WRAP, GAP):
            return Verdict.ROLLOVER if kind == WRAP else Verdict.GAP
        rises = readings.value[low + 1] >= readings.value[low]
        if kind == UNSURE:
            return Verdict.PLAIN if rises else Verdict.ROLLOVER
        if rises:
            return Verdict.SPIKE
        at = readings.time[low : low + 2]
        from_zero = (
            self.limited and 0 <= readings.value[low + 1] <= readings.allowance.over(at[:1], at[1:])[0]
        )
        return Verdict.RESET if from_zero else Verdict.DECREASE

    def _bridge(self, low: int, high: int) -> Link:
        between = self.readings.value[low + 1 : high]
        below = bool((between < self.readings.value[low]).any())
        link = self._link(low, high, Verdict.GLITCH if below else Verdict.SPIKE)
        seen = (len(between), int(between.min()), int(between.max()))
        decided = self.limited and not self._in_doubt(low, high, link)
        return over(replace(link, decided=decided, wrapped=decided and link.wrapped), seen)

    def _off(self, link: Link) -> Link:
        return replace(link, verdict=Verdict.CLOCK_JUMP, decided=self.limited)

    def _in_doubt(self, low: int, high: int, link: Link) -> bool:
        """Whether what was left out may be right: it counts on, or stands where the register can have counted
        to, or a fall passes for a wrap too easily.
        """
        if link.wrapped:
            return self._by_chance(low, high)
        return self.readings.counts_on(low, high) or self._stands(low, high)

    def _stands(self, low: int, high: int) -> bool:
        """Whether a piece between two readings shows one value again and again that the register can have
        counted on to from the first of them, and that it would have been set back from to show the other.
        """
        readings = self.readings
        first, last = readings.pieces(low, high)
        still = (last - first >= SHOWN_MAX) & (readings.turns_until(last) == readings.turns_until(first))
        some = first[still & (readings.value[first] > readings.value[high])]
        return bool((readings.kinds(np.full(len(some), low), some) == SMOOTH).any())

    def _link(self, low: int, high: int, verdict: Verdict) -> Link:
        readings = self.readings
        time, value = readings.time, readings.value
        first, last = int(value[low]), int(value[high])
        kind = int(readings.kinds(np.array([low]), np.array([high]))[0])
        decided = wrapped = kind == WRAP
        link = Link(int(time[low]), int(time[high]), first, last, verdict, decided, wrapped)
        return replace(link, most_turns=turns(link, readings.allowance)) if kind == UNSURE else link

    def _stood_still(self, link: Link) -> Link:
        """A rise that cannot be, behind a standstill that explains it: the link over that."""
        if link.verdict != Verdict.SPIKE or link.left:
            return link
        still = self._still.before(int(np.searchsorted(self.readings.time, link.start)))
        if still is None:
            return link
        stuck = replace(self._link(*still, Verdict.STUCK), decided=True)
        return over(stuck, (still[1] - still[0] - 1, link.first, link.first))

    def _edges(self, start: int, end: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The outermost breaks; and two readings beyond those that show the same as their ends, or beyond
        what says something of the standstills that end in one of them.
        """
        readings = self.readings
        inside = readings.breaks[
            np.searchsorted(readings.breaks, start) : np.searchsorted(readings.breaks, end)
        ]
        low, high = int(inside[0]), int(inside[-1]) + 1
        oldest = int(np.searchsorted(readings.time, readings.time[low + 1] - RUN_MAX_MS))
        newest = int(np.searchsorted(readings.time, readings.time[high - 1] + RUN_MAX_MS, "right")) - 1
        first = max(int(readings.same_from(np.array([low]))[0]), min(oldest, low)) - FEW
        first = min([first, *(self._still.looked_back(one) for one in inside.tolist())])
        last = min(int(readings.other_after(np.array([high]))[0]) - 1, max(newest, high)) + FEW
        reach = (
            int(readings.time[first]) if first >= 0 else FROM_EVER,
            int(readings.time[last]) if last < len(readings) else FOR_EVER,
        )
        return (int(readings.time[low]), int(readings.time[high])), reach


def turns(link: Link, allowance: Allowance) -> int:
    """How often the register may have passed its end in a link; 0 where that is not in doubt."""
    return allowance.most_turns(link.start, link.end, link.first, link.last)


def over(link: Link, seen: tuple[int, int, int]) -> Link:
    """The link with how many readings it leaves out, and the lowest and the highest of them."""
    left, lowest, highest = seen
    return replace(link, left=left, lowest=lowest, highest=highest)
