"""The oracle of what a rise that cannot be may be else: a standstill that is caught up with, or another unit.

Word by word as in docs/books.md, one reading at a time; it shares no code with the operators.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.processors.oracle_doubt import Said, Series

DAY = 86_400_000


def scale(series: Series, i: int) -> int:
    """The power of ten by which reading i + 1 is in another unit than reading i; 0: it is not."""
    (start, first), (end, last) = series.readings[i], series.readings[i + 1]
    if series.limit is None or first <= 0 or last <= 0:
        return 0
    used = int(series.possible(i, i + 1))  # whole millionths
    for power in (-6, -3, -2, -1, 1, 2, 3, 6):
        factor = 10 ** abs(power)
        before, after = (first * factor, last) if power > 0 else (first, last * factor)
        rounding = series.step * factor
        for most in (used, used * factor):  # used in the finer unit, or in the other one
            precise = 100 * (most + 2 * rounding) <= max(before, after)
            if precise and -rounding <= after - before <= most + rounding:
                return 0 if _is_stated(series, start, end, power) else power
    return 0


def _is_stated(series: Series, start: int, end: int, power: int) -> bool:
    """Whether the multiplier changes to make up for it."""
    steps = pairwise(series.multipliers)
    return any(
        start < since <= end and other * Fraction(10) ** power == one for (_, one), (since, other) in steps
    )


def stood_still(series: Series, i: int) -> Said | None:
    """A broken rise, behind a standstill that explains it: the register was counting until then, and goes on
    from behind it. From the last reading of the standstill on that a person said is right.
    """
    value, end = series.readings[i][1], series.readings[i + 1][0]
    if not _jumps(series, i) or scale(series, i):
        return None
    began = _shown_since(series, i)
    first = max([began, *(k for k in range(began, i + 1) if series.readings[k][0] in series.kept)])
    if first == i or series.link(first, i + 1) != "smooth" or not _goes_on(series, first, i + 1):
        return None
    if not _counted_to(series, began):
        return None
    return series.readings[first][0], end, "stuck", True, False, i - first, value, value


def _shown_since(series: Series, i: int) -> int:
    """The first reading of those up to i that show the same, each smooth with the one before it."""
    value = series.readings[i][1]
    while i > 0 and series.pair(i - 1) == "smooth" and series.readings[i - 1][1] == value:
        i -= 1
    return i


def _jumps(series: Series, i: int) -> bool:
    """Whether from reading i to the next is a broken rise."""
    return series.pair(i) == "broken" and series.readings[i + 1][1] > series.readings[i][1]


def _counted_to(series: Series, first: int) -> bool:
    """Whether the register was counting where it began to stand still, or caught up to there."""
    if first == 0 or not _jumps(series, first - 1):
        return _is_counting(series, first)
    since = first
    for _ in range(2):
        if since == 0 or not _jumps(series, since - 1):
            break
        since = _shown_since(series, since - 1)
        if series.link(since, first) == "smooth" and _is_counting(series, since):
            return True
    return _came_back(series, first)


def _is_counting(series: Series, k: int) -> bool:
    """Whether the readings up to k show more than five values with no break between; or fewer, that do not
    follow zeros or a fall.
    """
    shown = 1
    while k > 0 and series.pair(k - 1) == "smooth":
        k -= 1
        shown += series.readings[k][1] != series.readings[k + 1][1]
        if shown > 5:
            return True
    if k == 0:
        return series.readings[0][1] != 0
    before, value = series.readings[k - 1][1], series.readings[k][1]
    return series.pair(k - 1) != "broken" or 0 < before < value or _came_back(series, k)


def _came_back(series: Series, k: int) -> bool:
    """Whether a reading that is not zero, at most a day before k, leads to it smoothly."""
    time = series.readings[k][0]
    near = [m for m in range(k) if series.readings[m][0] >= time - DAY and series.readings[m][1] != 0]
    return any(series.link(m, k) == "smooth" for m in near)


def _goes_on(series: Series, first: int, j: int) -> bool:
    """Whether it goes on from j, or goes on catching up with what it can have counted since the first."""
    if j + 1 == len(series.readings):
        return False
    return series.pair(j) == "smooth" or (_jumps(series, j) and series.link(first, j + 1) == "smooth")
