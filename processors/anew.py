"""Which part of a series is to be judged anew when readings come, go or change.

Almost always none. A reading that makes no break, ends none, and lies within the reach of no region leaves
every region as it is; and while a series has no regions that is two comparisons of its neighbours.

Why what ``stretches`` names is enough. Take the readings before and after the change, and a region that is
not in what it names.

1. Its breaks are the same, and between and beside them, as far as its ``reach``, so are the readings:
otherwise a
   changed reading lay in the reach, or at a break of it, and the region would have been named.
2. Runs have their ends at breaks or next to them, are at most a day long and do not contain a post. A run
that is new
   or gone has a changed reading among those from end to end, or begins or ends where a changed reading made
   it so (a dip's end is the first other value behind a break: in reach), or contained a post that moved. So
   it lies within a day of the change, this side of the nearest post that stayed: in the window.
3. Components are chains of overlapping runs. One that has a new run in it, or lost one, meets the window,
and so do
   the old components that are joined by it: all are named, and those they meet in turn.
4. So the region's component has the same runs, over the same readings. Its line is the same: the cheapest
way through
   is decided by runs and breaks of the component alone. What is found of it looks no further than its reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from processors.lines import RUN_MAX_MS, posts
from processors.regions import Regions

Ints = NDArray[np.int64]
Break = tuple[int, int]
"""Instants of the readings before and behind a break."""


def stretches(
    changed: Iterable[int],
    regions: Regions,
    before: Sequence[Break],
    after: Sequence[Break],
    decided: Sequence[Break] = (),
) -> list[tuple[int, int]]:
    """From when to when to judge anew: regions whose ``breaks`` lie within are replaced by those found there.

    ``changed``: instants of readings that came, went or say something else. ``regions``: of the series, as
    they were. ``before``, ``after``: its breaks before and after, in order; a fall that is a slip no more, or
    one again (processors.slips), counts as if its readings had changed. ``decided``: from when to when
    decisions are that are new, or no more. Judging needs the readings of a stretch, those of a day around it,
    and two more on either side; and what each of them is to the one before it.
    """
    broke = set(before) ^ set(after)
    times = list(changed)
    times += {t for pair in broke if not any(pair[0] <= t <= pair[1] for t in times) for t in pair}
    near = [*((t, t) for t in times), *decided]
    hit = [one for a, b in near for one in regions.reached(a, b)]
    turned = [(low, high) for low, high in broke if any(low <= t <= high for t in times)]
    turned += decided
    if not hit and not turned:
        return []
    walls, moved = _posts(before, after)
    doubtful = {t for t in times if any(one.reach[0] <= t <= one.reach[1] for one in hit)}
    doubtful |= {t for t in times if any(low <= t <= high for low, high in turned)}
    doubtful |= {t for span in decided for t in span}
    found = [(one.start, one.end) for one in hit] + turned
    found += [_window(t, walls) for t in (*doubtful, *moved)]
    return _closed(found, regions)


def _posts(before: Sequence[Break], after: Sequence[Break]) -> tuple[list[int], list[int]]:
    """Posts that stay, and those that come or go."""
    old, new = (set(posts(np.array([low for low, _ in some], np.int64)).tolist()) for some in (before, after))
    return sorted(old & new), sorted(old ^ new)


def _window(at: int, walls: Sequence[int]) -> tuple[int, int]:
    """A day around an instant, up to the nearest posts that stay."""
    low = max([at - RUN_MAX_MS, *(wall for wall in walls if wall < at)])
    high = min([at + RUN_MAX_MS, *(wall for wall in walls if wall > at)])
    return low, high


def _closed(found: list[tuple[int, int]], regions: Regions) -> list[tuple[int, int]]:
    """The same, apart from each other, and with every region that they share time with."""
    while True:
        shared = [one for low, high in found for one in regions.sharing(low, high)]
        joined = _joined(found + [(one.start, one.end) for one in shared])
        if joined == found:
            return joined
        found = joined


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if out and low < out[-1][1]:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out
