"""Links along a register's line, and the flows they are: amounts behind the multiplier, in exact integers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.flows import COUNTED, OFF, Flows, join, marks, read_off
from processors.memory import EDITED, ESTIMATED
from processors.scaling import scale
from processors.verdicts import Ratings

Ints = NDArray[np.int64]

BOOKED, WRAPPED, BRIDGED, SHAPELESS, WRITTEN_OFF, DECIDED = (1 << bit for bit in range(6))
"""Outcomes of a link, as bits. Neither BOOKED nor WRITTEN_OFF: it is held. WRAPPED: the register passed its
end in it. BRIDGED: something was left out of it, or a person decided: never measured. SHAPELESS: too long to
be spread. DECIDED: by a person."""


@dataclass
class Segments:
    """Stretches between two neighbouring readings of a register; -1 in ``sign`` takes one back.

    ``flags``: of either reading; ``outcome``: bits, see above.
    """

    series: Ints
    sign: Ints
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    flags: Ints
    record: Ints
    outcome: Ints

    def __len__(self) -> int:
        return len(self.series)

    def take(self, mask: NDArray[Any]) -> Segments:
        return Segments(*(getattr(self, f.name)[mask] for f in fields(self)))

    def has(self, bit: int) -> NDArray[np.bool_]:
        """Which have this outcome."""
        return np.asarray(self.outcome & bit > 0)


def differing(one: Segments, other: Segments) -> tuple[Segments, Segments]:
    """Two lines without the links that both have."""
    _, mine, yours = np.intersect1d(one.start, other.start, assume_unique=True, return_indices=True)
    same = np.ones(len(mine), bool)
    for name in ("end", "first", "last", "flags", "outcome"):
        same &= getattr(one, name)[mine] == getattr(other, name)[yours]
    return one.take(_all_but(len(one), mine[same])), other.take(_all_but(len(other), yours[same]))


def _all_but(size: int, some: Ints) -> NDArray[np.bool_]:
    out = np.ones(size, bool)
    out[some] = False
    return out


class Spreading:
    """Makes flows of links. ``points``: of every series."""

    def __init__(self, ratings: Ratings, points: Ints) -> None:
        self._ratings, self._points = ratings, points

    def flows(self, part: Segments) -> Flows:
        """The flows of links that have a shape."""
        shapeless = part.has(SHAPELESS)
        if shapeless.any():
            part = part.take(~shapeless)
        ratings, booked = self._ratings, part.has(BOOKED)
        last = part.last + np.where(part.has(WRAPPED), ratings.width[part.series], 0)
        amount = ratings.multiplied(part.series, last) - ratings.multiplied(part.series, part.first)
        near = part.end - part.start <= 2 * ratings.expect_ms[part.series]
        measured = booked & near & (part.flags & ESTIMATED == 0) & ~part.has(BRIDGED)
        zero = np.zeros(len(amount), np.int64)
        flows = Flows(
            self._points[part.series],
            part.sign,
            part.start,
            part.end,
            np.where(booked, amount, 0),
            np.where(part.has(WRITTEN_OFF), OFF, booked),
            measured.astype(np.int64),
            marks(part.flags | EDITED * part.has(DECIDED)),
            zero,
            zero,
            part.record,
        )
        return self._rescaled(flows, part, last)

    def _rescaled(self, flows: Flows, part: Segments, last: Ints) -> Flows:
        """Cuts flows where their multiplier changes; each part counts with its own."""
        if not self._ratings.changes:
            return flows
        dated = np.isin(part.series, np.array(list(self._ratings.changes), np.int64))
        out = [flows.take(~dated)]
        for i in np.flatnonzero(dated).tolist():
            out += self._dated(
                flows.take(np.array([i])), int(part.series[i]), int(part.first[i]), int(last[i])
            )
        return join(out)

    def _dated(self, flow: Flows, series: int, first: int, last: int) -> list[Flows]:
        """The parts of one flow; estimated, as nobody read the register where its multiplier changes."""
        start, end = int(flow.start[0]), int(flow.end[0])
        multipliers = self._ratings.changes[series]
        edges = [start, *(m.from_ms for m in multipliers[1:] if start < m.from_ms < end), end]
        out, known = [], len(edges) == 2 or first == last
        for low, high in pairwise(edges):
            at = [
                int(read_off(*(np.array([x]) for x in (last - first, end - start, e - start)))[0])
                for e in (low, high)
            ]
            multiplier = [m for m in multipliers if m.from_ms <= low] or [multipliers[0]]
            values = np.array([first + at[0], first + at[1]])
            scaled, _, _ = scale(values, multiplier[-1].numerator, multiplier[-1].denominator, 2**62)
            amount = int(scaled[1] - scaled[0]) if flow.booked[0] == COUNTED else 0
            columns = {"start": np.array([low]), "end": np.array([high]), "amount": np.array([amount])}
            out.append(replace(flow, **columns, measured=flow.measured * known))
        return out
