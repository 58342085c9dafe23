"""What people said which value counts, where two came for one instant (or one that is not right).

It counts above all revisions of that reading, and waits where there is no reading yet. The highest revision
of what was said counts; two of the same that differ cancel each other.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metering.readings import NO_TIME
from processors.decisions import Placed, highest_revision, may_count, rows_about
from processors.memory import EDITED, ESTIMATED, ROUNDED

Ints = NDArray[np.int64]
Variant = tuple[int, int, int]
"""Value, start and own flags of a reading: all that two readings of one identity can differ in."""


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """The value that counts, in millionths before the multiplier, and who said so.

    ``start_ms``: of an interval read the start that counts with it; NO_TIME where nobody said.
    """

    revision: int
    value: int
    rounded: bool
    by: str
    start_ms: int = NO_TIME

    def among(self, variants: Iterable[Variant]) -> Variant:
        """The reading that is chosen, edited; what no meter said is an estimate."""
        named = [one for one in variants if one[1] == self.start_ms] or list(variants)
        same = sorted(one for one in named if one[0] == self.value)
        if not same:
            return self.value, min(named)[1], EDITED | ESTIMATED | (ROUNDED if self.rounded else 0)
        start = same[0][1]
        flags = functools.reduce(operator.and_, (one[2] for one in same if one[1] == start))
        return self.value, start, flags | EDITED


class Choices:
    """By key of a reading, all that may count."""

    def __init__(self) -> None:
        self.every: dict[int, set[Choice]] = {}

    def take(self, one: Placed) -> int | None:
        """Takes in what was said; the key, where something else counts now."""
        key, start_ms = one.key, one.said.from_ms if one.said.from_ms != one.said.to_ms else NO_TIME
        said = Choice(one.said.revision, one.value, one.rounded, one.said.by, start_ms)
        before = self.of(key)
        self.every[key] = may_count(self.every.get(key, set()), said)
        return None if self.of(key) == before else key

    def of(self, key: int) -> Choice | None:
        """What counts at a key."""
        known = self.every.get(key, set())
        return min(known) if len({(one.value, one.rounded, one.start_ms) for one in known}) == 1 else None

    def revision(self, key: int) -> int | None:
        """The highest that was said of a key, whether it counts or not; None: nobody said anything."""
        return highest_revision(self.every.get(key, ()))

    def rows(self, key: Ints) -> Ints:
        """Which of some keys something was said of."""
        return rows_about(key, self.every)
