"""The oracle of clocks that are off: docs/books.md ("clock_jump") word by word.

Slow and meant to be obviously right; it shares no code with the operators.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.processors.oracle_doubt import Series

MINUTE = 60_000


def clock_is_off(series: Series, chain: list[int], region: tuple[int, int], run: tuple[int, int]) -> bool:
    """What was left out of the burst that a run belongs to is what the line shows within ten minutes."""
    first, last = region
    kept = [k for k in chain if first <= k <= last]
    begin, end = _burst(series, kept, run)
    lost = [k for k in range(begin, end) if k not in chain]
    since, until = series.readings[begin][0] - 30 * MINUTE, series.readings[end][0] + 30 * MINUTE
    for i, j in pairwise(kept):
        slips = j == i + 1 and series.pair(i) == "smooth"
        near = series.readings[j][0] > since and series.readings[i][0] < until
        if near and series.readings[j][1] < series.readings[i][1] and not slips:
            return False
    if first > 0 and series.pair(first - 1) == "smooth":
        kept.insert(0, first - 1)
    if last + 1 < len(series.readings) and series.pair(last) == "smooth":
        kept.append(last + 1)
    for k in lost:
        time, value = series.readings[k]
        low = [m for m in kept if series.readings[m][0] <= time - 10 * MINUTE] or kept[:1]
        high = [m for m in kept if series.readings[m][0] >= time + 10 * MINUTE] or kept[-1:]
        (since, lowest), (until, highest) = series.readings[low[-1]], series.readings[high[0]]
        if not lowest <= value <= highest or max(time - since, until - time) > 30 * MINUTE:
            return False
    return len(lost) >= 2


def _burst(series: Series, kept: list[int], run: tuple[int, int]) -> tuple[int, int]:
    """From where to where the runs lead that are at most half an hour from one another, around one."""
    runs = [(i, j) for i, j in pairwise(kept) if j > i + 1]
    begin, end = run
    for i, j in runs:
        if i >= end and series.readings[i][0] - series.readings[end][0] <= 30 * MINUTE:
            end = j
    for i, j in reversed(runs):
        if j <= begin and series.readings[begin][0] - series.readings[j][0] <= 30 * MINUTE:
            begin = i
    return begin, end
