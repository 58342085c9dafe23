"""Standstills that registers seemed to catch up with, until they fell back behind it.

What a register shows behind a standstill for longer than a run may be, and then comes back from, to less than
it rose to and where it can have counted to since it stood still, was no catching up: so much had not been
used. Only broken pairs that stay on the line say so. They may come long behind the standstill, with anything
between: so this is found of regions (processors.doubt), each time one comes or goes, and not of readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from processors.allowance import SMOOTH, Allowance
from processors.doubt import FOR_EVER, Link, Region, Verdict
from processors.regions import Regions

Span = tuple[int, int]
Change = tuple[list[Region], list[Region]]
"""Regions of a series that are no more, and others that are."""

ON_LINE = frozenset({Verdict.SPIKE, Verdict.DECREASE, Verdict.RESET})
"""What a broken pair is that stays on the line."""


class CaughtUp:
    """Of each series the regions that a standstill ends in."""

    def __init__(self) -> None:
        self._regions: dict[int, dict[Span, Region]] = {}

    def put(self, series: int, lost: Iterable[Region], found: Iterable[Region]) -> None:
        """Regions of a series that are no more, and others that are."""
        gone, come = ([one for one in some if _caught_up(one)] for some in (lost, found))
        if gone or come:
            known = self._regions.setdefault(series, {})
            for one in gone:
                known.pop(one.breaks, None)
            known.update({one.breaks: one for one in come})

    def settled(
        self, series: int, change: Change, regions: Regions, allowance: Allowance, decided: Sequence[Span]
    ) -> Change:
        """A change with what is said then of all standstills that a register caught up with; ``regions``: as
        they were. ``decided``: from when to when decisions in force are; what they lie over says nothing.
        """
        (lost, found), gone = change, {one.breaks for one in change[0]}
        stay = [one for breaks, one in self._regions.get(series, {}).items() if breaks not in gone]
        moved = _broken([*lost, *found], ()) if stay else []
        turned = [one for one in stay if decided or _may_turn(one, moved, allowance)]
        come = [one for one in found if _caught_up(one)]
        if not come and not turned:
            return lost, found
        low = min(one.start for one in (*come, *turned))
        others = [one for one in regions.sharing(low, FOR_EVER) if one.breaks not in gone]
        pairs = _broken([*others, *found], decided)
        new = [(one, _said(one, pairs, allowance)) for one in turned]
        found = [_said(one, pairs, allowance) for one in found]
        lost = lost + [old for old, one in new if one != old]
        return lost, found + [one for old, one in new if one != old]


def _caught_up(region: Region) -> bool:
    return any(link.verdict == Verdict.STUCK for link in region.links)


def _broken(regions: Iterable[Region], decided: Sequence[Span]) -> list[Link]:
    """The broken pairs that stay on the line, and that nobody said anything of."""
    links = (link for one in regions for link in one.links if link.verdict in ON_LINE and not link.left)
    return [one for one in links if not any(low <= one.start and one.end <= high for low, high in decided)]


def _may_turn(region: Region, pairs: Sequence[Link], allowance: Allowance) -> bool:
    """Whether a register comes back behind a standstill by one of the broken pairs that come or go."""
    return any(_comes_back(link, pairs, allowance) for link in region.links if link.verdict == Verdict.STUCK)


def _comes_back(stuck: Link, pairs: Iterable[Link], allowance: Allowance) -> bool:
    """Whether a register shows less, behind one of some pairs, than what it caught up to, and what it can
    have counted to since it stood still.
    """
    behind = [one for one in pairs if one.start >= stuck.end and stuck.first <= one.last < stuck.last]
    if not behind:
        return False
    end, last = (np.array([getattr(one, name) for one in behind], np.int64) for name in ("end", "last"))
    start, first = (np.full(len(behind), number) for number in (stuck.start, stuck.first))
    return bool((allowance.kinds(start, end, first, last) == SMOOTH).any())


def _said(region: Region, pairs: Sequence[Link], allowance: Allowance) -> Region:
    """A region whose standstills are held that the register came back behind."""
    links = tuple(
        replace(one, decided=not _comes_back(one, pairs, allowance)) if one.verdict == Verdict.STUCK else one
        for one in region.links
    )
    return region if links == region.links else replace(region, links=links)
