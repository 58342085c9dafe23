"""Which part of a series is to be judged anew when readings come, go or change.

Almost always none. A reading that makes no break, ends none, and lies within the reach of no region leaves
every region as it is; and while a series has no regions that is two comparisons of its neighbours.

Why what ``stretches`` names is enough. Take the readings before and after the change, and a region that is
not in what it names.

1. Its breaks are the same, and between and beside them, as far as its ``reach``, so are the readings:
otherwise a
   changed reading lay in the reach, or at a break of it, and the region would have been named.
2. Runs have their ends at breaks or next to them, are at most a day long or leave out few readings, and do
not contain a post. A run that is new
   or gone has a changed reading among those from end to end, or begins or ends where a changed reading made
   it so (a dip's end is the first other value behind a break: in reach), or contained a post that moved. So
   it lies within a day of the change, or so few readings away and one more, as they were or as they are now,
   this side of the nearest post that stayed: in the window. A run that leaves out few readings lies in the
   reach of each break that it leads over, and would with one reading more: one that goes makes itself known.
3. Components are chains of overlapping runs. One that has a new run in it, or lost one, meets the window,
and so do
   the old components that are joined by it: all are named, and those they meet in turn.
4. So the region's component has the same runs, over the same readings. Its line is the same: the cheapest
way through
   is decided by runs and breaks of the component alone. What is found of it looks no further than its reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.doubt import Region
from processors.lines import FEW, RUN_MAX_MS, posts
from processors.regions import Regions

Ints = NDArray[np.int64]
Break = tuple[int, int]
"""Instants of the readings before and behind a break."""


@dataclass(frozen=True, slots=True)
class Course:
    """Readings of a series by their ``time``, in order, and its ``breaks``, in two columns."""

    time: Ints
    breaks: Ints


@dataclass(frozen=True, slots=True)
class Anew:
    """``spans``: from when to when to judge anew. ``near``: instants by which anything may have changed, in
    order; a region that stays, with none of them in its reach, is as it was.
    """

    spans: list[Break]
    near: Ints


def stretches(
    changed: Ints, regions: Regions, before: Course, after: Course, decided: Sequence[Break] = ()
) -> Anew:
    """From when to when to judge anew: regions whose ``breaks`` lie within are replaced by those found there.

    ``changed``: instants of readings that came, went or say something else, in order. ``regions``: of the
    series, as they were. ``before``, ``after``: its readings as far around these as a run may lead, and their
    breaks; a fall that is a slip no more, or one again (processors.slips), counts as if its readings had
    changed.
    ``decided``: from when to when decisions are that are new, or no more. Judging needs the readings of a
    stretch, and what processors.judging names beside it; and what
    each of them is to the one before it.
    """
    broke = _of_one(before.breaks, after.breaks)
    untouched = np.searchsorted(changed, broke[:, 0]) == np.searchsorted(changed, broke[:, 1], "right")
    times = np.union1d(changed, broke[untouched])
    ends = np.array(decided, np.int64).reshape(-1, 2)
    hit = regions.reached(times, ends)
    if not hit and not len(broke) and not decided:
        return Anew([], times)
    walls, moved = _posts(before.breaks, after.breaks)
    turned = np.concatenate([broke, ends])
    doubtful = np.concatenate([turned, np.array([one.reach for one in hit], np.int64).reshape(-1, 2)])
    windows = np.concatenate([times[_covered(times, doubtful)], ends.ravel(), moved])
    found = [(one.start, one.end) for one in hit] + [_behind(one, walls) for one in hit]
    found += [*_tuples(turned), *_windows(np.unique(windows), walls, (before, after))]
    return Anew(_closed(_joined(found), regions), np.union1d(np.concatenate([times, moved]), ends))


def _of_one(before: Ints, after: Ints) -> Ints:
    """Breaks that are in one of two lists only; nearly all that the two have in common is at their ends."""
    size = min(len(before), len(after))
    same = (before[:size] == after[:size]).all(1)
    head = size if same.all() else int(same.argmin())
    size -= head
    same = (before[len(before) - size :] == after[len(after) - size :]).all(1)[::-1]
    tail = size if same.all() else int(same.argmin())
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    return np.array(sorted({*_tuples(old)} ^ {*_tuples(new)}), np.int64).reshape(-1, 2)


def _tuples(breaks: Ints) -> list[Break]:
    return list(zip(breaks[:, 0].tolist(), breaks[:, 1].tolist(), strict=True))


def _posts(before: Ints, after: Ints) -> tuple[Ints, Ints]:
    """Posts that stay, and those that come or go."""
    old, new = posts(before[:, 0]), posts(after[:, 0])
    return np.intersect1d(old, new), np.setxor1d(old, new)


def _covered(times: Ints, spans: Ints) -> NDArray[np.bool_]:
    """Which instants lie in one of some spans, or at its ends."""
    if len(spans) == 0:
        return np.zeros(len(times), bool)
    spans = spans[np.argsort(spans[:, 0])]
    until = np.append(np.iinfo(np.int64).min, np.maximum.accumulate(spans[:, 1]))
    return np.asarray(until[np.searchsorted(spans[:, 0], times, "right")] >= times)


def _behind(one: Region, walls: Ints) -> Break:
    """From the first break of a region to where a run may lead that begins at one of them."""
    first, last = one.breaks
    until = max(last + RUN_MAX_MS, one.reach[1]) + 1
    return first - 1, min([until, *walls[np.searchsorted(walls, last) :][:1].tolist()])


def _windows(at: Ints, walls: Ints, courses: Iterable[Course]) -> list[Break]:
    """As far as runs over each instant may lead, before a change and after, and a moment, as a wrap next to
    a run depends on it; up to the nearest posts that stay.
    """
    low, high = at - RUN_MAX_MS - 1, at + RUN_MAX_MS + 1
    for time in (course.time for course in courses if len(course.time)):
        first, last = np.searchsorted(time, at) - FEW - 1, np.searchsorted(time, at, "right") + FEW
        low = np.minimum(low, time[np.maximum(first, 0)] - 1)
        high = np.maximum(high, time[np.minimum(last, len(time) - 1)] + 1)
    if len(walls):
        before, after = np.searchsorted(walls, at) - 1, np.searchsorted(walls, at, "right")
        low = np.where(before >= 0, np.maximum(low, walls[before]), low)
        some = after < len(walls)
        high[some] = np.minimum(high[some], walls[after[some]])
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _closed(found: list[Break], regions: Regions) -> list[Break]:
    """The same, apart from each other, and with every region that they share time with."""
    while True:
        shared = [one for low, high in found for one in regions.sharing(low, high)]
        joined = _joined(found + [(one.start, one.end) for one in shared])
        if joined == found:
            return joined
        found = joined


def _joined(spans: Iterable[Break]) -> list[Break]:
    out: list[Break] = []
    for low, high in sorted(spans):
        if out and low < out[-1][1]:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out
