"""What people decided of a register's doubtful readings, and what the line is with it.

A decision is about what lies between two readings, named by their instants. It is in force while both are
among the readings that count; otherwise it lies idle. It says what happened:

- ``glitch``, ``spike``, ``stuck``, ``clock_jump`` with readings between: these are left out;
- ``plain``: what lies between is right and is kept. Where nothing does, the rise is booked, as an estimate;
- ``rollover``: a fall, or a rise that may hide a turn, is booked over the register's end;
- ``reset``, ``decrease``, ``spike`` with nothing between: the register was moved, nothing was used by that:
  the difference is written off, and what was used is unknown.

What is left out by a person is taken away before the rule looks at the readings; what a person said is right
it may not leave out. So a decision lies within itself: the links of the line that it says something of are
between its two readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, GAP, SMOOTH, UNSURE, WRAP, Allowance
from processors.decisions import highest_revision, may_count
from processors.doubt import Link, Verdict, over, turns

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Span = tuple[int, int]

OUT = frozenset({Verdict.GLITCH, Verdict.SPIKE, Verdict.STUCK, Verdict.CLOCK_JUMP})
"""What lies between is left out."""
MOVED = frozenset({Verdict.RESET, Verdict.DECREASE, Verdict.SPIKE})
"""Nothing lies between: the register was moved."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What ``by`` said of what lies between two readings; the highest revision counts."""

    start: int
    end: int
    verdict: Verdict
    by: str
    revision: int = 0

    @property
    def span(self) -> Span:
        """From when to when it is."""
        return self.start, self.end


def settled(decisions: Iterable[Decision]) -> Decision | None:
    """What counts of all that was said of one span: the highest revision; two of the same that differ cancel
    each other.
    """
    every = set(decisions)
    last = {one for one in every if one.revision == max(other.revision for other in every)}
    return min(last, key=lambda one: one.by) if len({one.verdict for one in last}) == 1 else None


def in_force(decisions: Iterable[Decision], time: Ints) -> list[Decision]:
    """Those that say something of readings at these instants: both of theirs are there, and there is
    something between them, or nothing, as their word wants.
    """
    return [one for one in decisions if _is_in_force(one, time)]


def _is_in_force(one: Decision, time: Ints) -> bool:
    low, high = np.searchsorted(time, one.span).tolist()
    if high >= len(time) or (time[low], time[high]) != one.span:
        return False
    if high - low > 1:
        return one.verdict in OUT or one.verdict == Verdict.PLAIN
    return one.verdict in MOVED or one.verdict in (Verdict.PLAIN, Verdict.ROLLOVER)


def marks(time: Ints, decisions: Sequence[Decision]) -> tuple[Bools, Bools]:
    """Which readings people left out, and which they said are right; decisions in force."""
    out, right = np.zeros(len(time), bool), np.zeros(len(time), bool)
    for one in decisions:
        low, high = np.searchsorted(time, one.span).tolist()
        last = int(np.searchsorted(time, one.end, "right"))
        right[low : low + int(low < last and time[low] == one.start)] = True
        right[high:last] = True
        if one.verdict == Verdict.PLAIN:
            right[low:last] = True
        elif one.verdict in OUT:
            out[low:last] = True
    return out & ~right, right


@dataclass(frozen=True, slots=True)
class Line:
    """Readings of a stretch of a series: those on the line, and those that people left out."""

    time: Ints
    value: Ints
    lost_time: Ints
    lost_value: Ints


def said_of(
    line: Line, decisions: Sequence[Decision], rule: Mapping[Span, Link], allowance: Allowance
) -> dict[Span, Link]:
    """What decisions in force make of links of a line, and rows of ``plain`` over readings, by instants.

    ``rule``: the links that are doubtful. Of two that left out the same, the shorter (then the earlier) says
    what it was.
    """
    found: dict[Span, Link] = {}
    for one in sorted(decisions, key=lambda one: (one.start - one.end, -one.start)):
        for link in _of(one, line, rule, allowance):
            found[link.start, link.end] = link
    return found


def _of(one: Decision, line: Line, rule: Mapping[Span, Link], allowance: Allowance) -> Iterator[Link]:
    low, high = np.searchsorted(line.time, one.span).tolist()
    whole = high < len(line.time) and (line.time[low], line.time[high]) == one.span
    if one.verdict in OUT:
        last = int(np.searchsorted(line.time, one.end, "right"))
        lost = np.searchsorted(line.lost_time, line.time[low:last])
        for at in np.flatnonzero(np.diff(lost)).tolist():
            values = line.lost_value[lost[at] : lost[at + 1]]
            seen = (len(values), int(values.min()), int(values.max()))
            yield over(_bridged(_pair(line, low + at, one), rule, allowance), seen)
    if whole and high - low == 1:
        link = _decided(one, _pair(line, low, one), allowance)
        between = np.searchsorted(line.lost_time, one.start) < np.searchsorted(line.lost_time, one.end)
        if link is not None and not between:
            yield link
    elif whole and one.verdict == Verdict.PLAIN:
        first, last_value = int(line.value[low]), int(line.value[high])
        yield Link(*one.span, first, last_value, Verdict.PLAIN, decided=True, by=one.by)


def _pair(line: Line, low: int, one: Decision) -> Link:
    """The link from a reading of the line to the next, as a person has it, not booked."""
    start, end = (int(at) for at in line.time[low : low + 2])
    first, last = (int(value) for value in line.value[low : low + 2])
    return Link(start, end, first, last, one.verdict, decided=False, by=one.by)


def _kind(link: Link, allowance: Allowance) -> int:
    columns = (np.array([number], np.int64) for number in (link.start, link.end, link.first, link.last))
    return int(allowance.kinds(*columns)[0])


def _bridged(link: Link, rule: Mapping[Span, Link], allowance: Allowance) -> Link:
    """Over readings that a person left out: booked if it can be, else as the rule has it. Where it is not
    sure how often the register turned, as seldom as can be. Of a slip the rule says nothing: it is booked.
    """
    if _kind(link, allowance) not in (SMOOTH, WRAP, UNSURE):
        return rule.get((link.start, link.end), replace(link, decided=True))
    wrapped = link.last < link.first
    return replace(link, decided=True, wrapped=wrapped, most_turns=turns(link, allowance))


def _decided(one: Decision, link: Link, allowance: Allowance) -> Link | None:
    """With nothing left out: as a person has it; None where that cannot be, or says nothing."""
    kind, rise = _kind(link, allowance), link.last - link.first
    link = replace(link, most_turns=turns(link, allowance))
    match one.verdict:
        case Verdict.PLAIN:
            return replace(link, decided=True) if kind in (BROKEN, UNSURE) and rise >= 0 else None
        case Verdict.ROLLOVER:
            falls = rise < 0 <= rise + allowance.facts.width
            can_be = kind == UNSURE or (kind != GAP and falls)
            return replace(link, decided=True, wrapped=True) if can_be else None
        case Verdict.RESET | Verdict.DECREASE | Verdict.SPIKE:
            return replace(link, written_off=True)
    return None


@dataclass
class Decided:
    """What people said of one series. ``every``: of each span all that may count, come what may; ``counts``:
    what counts of it; ``force``: those of them that are in force; ``said``: what they make of links.
    """

    every: dict[Span, set[Decision]] = field(default_factory=dict)
    counts: dict[Span, Decision] = field(default_factory=dict)
    force: list[Decision] = field(default_factory=list)
    said: dict[Span, Link] = field(default_factory=dict)

    def take(self, one: Decision) -> bool:
        """Takes in what was said; whether something else counts now."""
        known = self.every.get(one.span, set())
        may = may_count(known, one)
        if may == known:
            return False
        self.every[one.span] = may
        before = self.counts.pop(one.span, None)
        now = settled(may)
        if now is not None:
            self.counts[one.span] = now
        return before != now

    def revision(self, span: Span) -> int | None:
        """The highest that was said of a span, whether it counts or not; None: nobody said anything."""
        return highest_revision(self.every.get(span, ()))

    def touched(self, times: Ints, spans: list[Span]) -> list[Span]:
        """Spans of decisions that changed readings lie in, these ones, and all that share time with them."""
        every = {one.span for one in (*self.counts.values(), *self.force)}
        out = {one for one in every if ((times >= one[0]) & (times <= one[1])).any()} | set(spans)
        more = out
        while more:
            more = {s for s in every - out if any(s[0] <= high and s[1] >= low for low, high in more)}
            out |= more
        return sorted(out)

    def said_between(self, old: Ints, new: Ints) -> dict[Span, Link]:
        """What is said of links between readings of a stretch, by their instants before and after."""
        ends = [int(time) for some in (old, new) for ends in (some[:1], some[-1:]) for time in ends]
        return {s: one for s, one in self.said.items() if min(ends) <= s[0] and s[1] <= max(ends)}

    def standing(self, touched: list[Span], time: Ints) -> list[Decision]:
        """Those in force once readings of spans that are touched are these."""
        stay = [one for one in self.force if one.span not in touched]
        return stay + in_force([self.counts[span] for span in touched if span in self.counts], time)
