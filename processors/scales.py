"""Registers that go on in another unit: a gateway that gives Wh for kWh from some reading on.

A step by a power of ten, exact to what can have been used meanwhile, is no chance: a register that was
replaced or set back does not show a thousandth of what it showed. What follows is held, as it would be a
thousand times too little or too much, until a person decides, or the register shows again what it can have
counted on to from before the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.allowance import SMOOTH, Allowance
from processors.doubt import FOR_EVER, FROM_EVER, Link, Verdict

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
