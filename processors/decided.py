"""What people decided of a register's doubtful readings, and what the line is with it.

A decision is about what lies between two readings, named by their instants. It counts while both are among
the readings that count; otherwise it lies idle, and counts again when they are. It says what happened:

- ``glitch``, ``spike``, ``stuck``, ``clock_jump`` with readings between: these are left out;
- ``plain``: what lies between is right and is kept. Where nothing does, the rise is booked, as an estimate;
- ``rollover``: the fall is booked over the register's end; ``reset``, ``decrease``, ``spike`` with nothing
  between: the register was moved, nothing was used by that: the difference is written off, and what was used
  is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from processors.allowance import Facts
from processors.doubt import Link, Region, Verdict, judge, over, posts_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

OUT = frozenset({Verdict.GLITCH, Verdict.SPIKE, Verdict.STUCK, Verdict.CLOCK_JUMP})


@dataclass(frozen=True, slots=True)
class Decision:
    """What ``by`` said of what lies between two readings; the highest revision counts."""

    start: int
    end: int
    verdict: Verdict
    by: str
    revision: int = 0


def in_force(decisions: Sequence[Decision]) -> list[Decision]:
    """The highest revision of each; two of the same revision that differ cancel each other."""
    out = []
    for span in sorted({(one.start, one.end) for one in decisions}):
        mine = [one for one in decisions if (one.start, one.end) == span]
        last = {one for one in mine if one.revision == max(other.revision for other in mine)}
        out += [min(last, key=lambda one: one.by)] if len({one.verdict for one in last}) == 1 else []
    return out


def judge_decided(
    time: Ints, value: Ints, facts: Facts, decisions: Sequence[Decision], kept: Bools | None = None
) -> list[Region]:
    """As ``judge``, with decisions in force. A run that a person left out is a region, doubtful or not.

    ``kept``: posts of the readings that are not left out by a person; None: of a whole series, to be found.
    """
    known = [one for one in decisions if np.isin([one.start, one.end], time).all()]
    out, right = np.zeros(len(time), bool), np.zeros(len(time), bool)
    for one in known:
        between = (time > one.start) & (time < one.end)
        out |= between if one.verdict in OUT else False
        right |= between if one.verdict == Verdict.PLAIN else False
        right |= (time == one.start) | (time == one.end)
    out &= ~right
    right |= np.isin(time, posts_of(time[~out], value[~out], facts)) if kept is None else kept
    regions = judge(time[~out], value[~out], facts, right[~out])
    for one in known:
        regions = _with(regions, one, (time, value, out), facts)
    return sorted(regions, key=lambda region: region.breaks)


def _with(
    regions: list[Region], decision: Decision, readings: tuple[Ints, Ints, Bools], facts: Facts
) -> list[Region]:
    """The regions with one decision's link as it says."""
    span = (decision.start, decision.end)
    time, value, out = readings
    lost = np.flatnonzero(out & (time > decision.start) & (time < decision.end))
    seen = (len(lost), int(value[lost].min()), int(value[lost].max())) if len(lost) else (0, 0, 0)
    gone = tuple(time[lost].tolist())
    for number, region in enumerate(regions):
        if any((link.start, link.end) == span for link in region.links):
            links = tuple(
                _decided(link, decision, seen, facts) if (link.start, link.end) == span else link
                for link in region.links
            )
            changed = replace(region, links=links, left_out=tuple(sorted({*region.left_out, *gone})))
            return [*regions[:number], changed, *regions[number + 1 :]]
    if len(lost) == 0 or any(region.start < span[1] and region.end > span[0] for region in regions):
        return regions
    first, last = (int(value[np.searchsorted(time, at)]) for at in span)
    link = over(Link(*span, first, last, decision.verdict, True, by=decision.by), seen)
    return [*regions, Region(*span, span, span, (link,), gone)]


def _decided(link: Link, decision: Decision, seen: tuple[int, int, int], facts: Facts) -> Link:
    """A link as a person has it; unchanged where that cannot be. ``seen``: of what the person left out."""
    said, rise = replace(link, verdict=decision.verdict, by=decision.by), link.last - link.first
    if seen[0]:
        return over(said if link.decided else link, seen)
    match decision.verdict:
        case Verdict.PLAIN:
            return replace(said, decided=True) if rise >= 0 else link
        case Verdict.ROLLOVER:
            can_be = rise < 0 <= rise + facts.width
            return replace(said, decided=True, wrapped=True) if can_be else link
        case Verdict.RESET | Verdict.DECREASE | Verdict.SPIKE if not link.left and not link.decided:
            return replace(said, written_off=True)
    return link
