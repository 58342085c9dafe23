"""Registers that go on in another unit: a gateway that gives Wh for kWh from some reading on.

A step by a power of ten, exact to what can have been used meanwhile, is no chance: a register that was
replaced or set back does not show a thousandth of what it showed. What follows is held, as it would be a
thousand times too little or too much, until a person decides, or the register shows again what it can have
counted on to from before the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from processors.allowance import SMOOTH, Allowance
from processors.doubt import FOR_EVER, FROM_EVER, Link, Region, Verdict
from processors.fallbacks import Change
from processors.regions import Regions

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Span = tuple[int, int]

_STEPS = frozenset({Verdict.SPIKE, Verdict.DECREASE, Verdict.RESET})
"""What a broken pair is that stays on the line."""


@dataclass(frozen=True, slots=True)
class Step:
    """A time in which a register is in another unit: the link that steps into it, and ``until`` when."""

    since: Link
    until: int = FOR_EVER

    @property
    def span(self) -> Span:
        """From when to when."""
        return self.since.end, self.until


def steps(
    links: Iterable[Link],
    decided: Sequence[Span],
    allowance: Allowance,
    low: int = FROM_EVER,
    known: Sequence[Step] = (),
) -> tuple[Step, ...]:
    """The times in which what a register shows is in another unit, by all links of it that are not plain.

    ``decided``: from when to when decisions in force are; a step that lies in one of them is decided.
    ``known``: those that begin before an instant (``low``), by links from which on they go on; what ends one
    of them before that is as it was.
    """
    out = [one for one in known if one.until <= low]
    since = known[-1].since if len(known) > len(out) else None
    for link in sorted((one for one in links if _is_step(one)), key=lambda one: one.start):
        if since is None:
            covered = any(start <= link.start and link.end <= end for start, end in decided)
            since = link if link.scale and not covered else None
        elif _counts_on(since, link, allowance):
            out.append(Step(since, link.end))
            since = None
    return (*out, Step(since)) if since else tuple(out)


def _is_step(link: Link) -> bool:
    return link.verdict in _STEPS and not link.left


def _counts_on(since: Link, link: Link, allowance: Allowance) -> bool:
    """Whether a register shows behind a link what it can have counted on to from before another one."""
    ends = (since.start, link.end, since.first, link.last)
    return bool(allowance.kinds(*(np.array([number], np.int64) for number in ends))[0] == SMOOTH)


def within(start: Ints, spans: Sequence[Span]) -> Bools:
    """Which of some links, by the instants that they begin at, begin in one of some stretches."""
    out = np.zeros(len(start), bool)
    for low, high in spans:
        out |= (start >= low) & (start < high)
    return out


def noted(region: Region, spans: Sequence[Span]) -> Region:
    """A region whose rises beyond the limit say whether they lie in such a time: there the limit is that of
    another unit.
    """
    links = tuple(
        replace(one, other_unit=_lies_in(one, spans)) if _is_beyond(one) else one for one in region.links
    )
    return region if links == region.links else replace(region, links=links)


def turned(change: Change, regions: Regions, before: Sequence[Span], spans: Sequence[Span]) -> Change:
    """Regions that come and go, with those that lie in times that are no more, or are new; ``regions``: as
    they were.
    """
    (lost, found), gone = change, {one.breaks for one in change[0]}
    near = [one for low, high in {*before} ^ {*spans} for one in regions.sharing(low, high)]
    stay = {one.breaks: one for one in near if one.breaks not in gone}
    some = [(one, noted(one, spans)) for one in stay.values()]
    some = [(old, new) for old, new in some if old != new]
    found = [noted(one, spans) for one in found]
    return lost + [old for old, _ in some], found + [new for _, new in some]


def _lies_in(link: Link, spans: Sequence[Span]) -> bool:
    return any(low <= link.start < high for low, high in spans)


def _is_beyond(link: Link) -> bool:
    """Whether it may be a rise beyond the limit."""
    return link.verdict in (Verdict.SPIKE, Verdict.GAP) and link.last > link.first and not link.left
