"""What people said of single readings: whether an interval read, or what a gauge showed, counts.

``plain``: it counts, whatever speaks against it; ``spike``, ``overlap``: it does not, and is written off.
What was said is kept by the reading's key and, of an interval read, its start; it waits where there is no
such reading. The highest revision counts; two of the same that differ cancel each other.

Of reads that share time one can count. One that somebody said counts *stands*, unless it shares time with
one that stands by a higher revision; of two of the same revision neither does. What shares time with one that
stands is written off; what remains is as the rule has it, as if nothing else had been there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.decisions import Placed, highest_revision, may_count, rows_about
from processors.doubt import Verdict
from processors.memory import TIME_BITS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What ``by`` said of a reading."""

    revision: int
    verdict: Verdict
    by: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What people make of a reading. ``by``: empty where it is as the rule has it, whatever ``verdict`` is.
    ``revision``: what the next decision on it has to be above.
    """

    verdict: Verdict
    by: str
    revision: int


class Rulings:
    """All that was said, by key of a reading and its start."""

    def __init__(self) -> None:
        self.every: dict[int, dict[int, set[Ruling]]] = {}
        self._series: set[int] = set()

    def take(self, one: Placed) -> int:
        """Takes in what was said; the key that it is about."""
        key = one.key
        self.put(key, one.said.from_ms, [_ruling(one)])
        return key

    def put(self, key: int, start_ms: int, rulings: Iterable[Ruling]) -> None:
        """The same for what is of a key and a start."""
        known = self.every.setdefault(key, {})
        for one in rulings:
            known[start_ms] = may_count(known.get(start_ms, set()), one)
        self._series.add(int(key) >> TIME_BITS)

    def of(self, key: int, start_ms: int) -> Ruling | None:
        """What counts of what was said."""
        known = self.every.get(key, {}).get(start_ms, set())
        return min(known, key=lambda one: one.by) if len({one.verdict for one in known}) == 1 else None

    def revision(self, key: int, start_ms: int) -> int | None:
        """The highest that was said, whether it counts or not; None: nobody said anything."""
        return highest_revision(self.every.get(key, {}).get(start_ms, ()))

    def rows(self, key: Ints) -> Ints:
        """Which of some keys something was said of."""
        return rows_about(key, self.every)

    def of_series(self, series: int) -> bool:
        """Whether anything was said of any of its readings."""
        return series in self._series


def _ruling(one: Placed) -> Ruling:
    return Ruling(one.said.revision, Verdict[one.said.verdict.upper()], one.said.by)


@dataclass(frozen=True, slots=True)
class Claims:
    """Reads of one series that are not in conflict, and with them all that share time with any of them.

    ``rulings``: what counts of what was said of each; ``revisions``: the highest that was, -1 where nothing.
    """

    start: Ints
    end: Ints
    rulings: list[Ruling | None]
    revisions: list[int]

    def __len__(self) -> int:
        return len(self.start)

    def sharing(self, at: int) -> Bools:
        """Which share time with one of them; it does itself."""
        return np.asarray((self.start < self.end[at]) & (self.start[at] < self.end))


def settled(claims: Claims) -> tuple[dict[int, Standing], Bools]:
    """By number what people make of reads, where anything was said; and which the rule has to look at."""
    ruled = {at: one for at, one in enumerate(claims.rulings) if one is not None}
    right = {at: one.revision for at, one in ruled.items() if one.verdict == Verdict.PLAIN}
    out = {at: one for at, one in ruled.items() if at not in right}
    revision, stands = np.array(claims.revisions, np.int64), _standing(claims, right)
    for at in reversed(stands):  # the highest revision has the last word
        beside = claims.sharing(at)
        revision[beside] = np.maximum(revision[beside], ruled[at].revision)
        lost = Ruling(ruled[at].revision, Verdict.OVERLAP, ruled[at].by)
        mine = np.flatnonzero(beside).tolist()
        out |= {other: lost for other in mine if other not in ruled or ruled[other].verdict == Verdict.PLAIN}
        out[at] = ruled[at]
    free = np.ones(len(claims), bool)
    free[list(out)] = False
    said = np.flatnonzero(revision >= 0).tolist()
    nobody = Ruling(0, Verdict.PLAIN, "")
    found = {at: out.get(at, nobody) for at in said}
    return {at: Standing(one.verdict, one.by, int(revision[at])) for at, one in found.items()}, free


def _standing(claims: Claims, right: dict[int, int]) -> list[int]:
    """Which of the reads that somebody said count do, the highest revision first."""
    out: list[int] = []
    taken = np.zeros(len(claims), bool)
    for revision in sorted(set(right.values()), reverse=True):
        level = [at for at, own in right.items() if own == revision and not taken[at]]
        for at in [at for at in level if claims.sharing(at)[level].sum() == 1]:
            out.append(at)
            taken |= claims.sharing(at)
    return out
