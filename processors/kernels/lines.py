"""Runs of readings that may be left out, and the cheapest line through them (processors.lines)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import INT64, OUT_INT64, SIZE, chosen, compiled

Ints = NDArray[np.int64]
STAY = -1
"""Where a line goes on to the next node."""
_RADIX = 1 << 40
"""Above any number of readings."""


@dataclass(frozen=True, slots=True)
class Breaks:
    """Breaks of a series, in order: ``low``, the position of the reading before each; where a dip behind each
    may end (``behind``) and a bump before each begin (``ahead``), -1: nowhere; what the ``pieces`` before
    each cost, how many of these count on (``counting``); how many pairs before each, and in all, are
    ``broken``.
    """

    low: Ints
    behind: Ints
    ahead: Ints
    pieces: Ints
    counting: Ints
    broken: Ints


@dataclass(frozen=True, slots=True)
class Leaving:
    """Runs of a line by the nodes they lead from and to, the shortest first, with the parts of their cost."""

    start: Ints
    end: Ints
    events: Ints
    lost: Ints
    other: Ints
    wraps: Ints


Rate = tuple[int, int, int, int, int]
"""Whether there is a limit; what may rise in a millisecond: whole, and parts of how many; and besides."""

_RUNS = compiled("runs", (SIZE, *9 * (INT64,), *6 * (SIZE,), *3 * (OUT_INT64,)))
_CHEAPEST = compiled("cheapest", (SIZE, INT64, INT64, SIZE, *6 * (INT64,), OUT_INT64, OUT_INT64))
COMPILED = _RUNS is not None


def runs(
    breaks: Breaks, time: Ints, value: Ints, kept: Ints, rate: Rate, width: int, most: int
) -> tuple[Ints, Ints, Ints]:
    """Start, end and cost of the runs, in no order; only with the compiled loops.

    ``kept``: how many readings before each must be kept. ``most``: how many breaks a run has at most.
    """
    assert _RUNS is not None
    out = [np.empty(3 * most * len(breaks.low), np.int64) for _ in range(3)]
    columns = [getattr(breaks, name) for name in Breaks.__dataclass_fields__]
    count = _RUNS(len(breaks.low), *columns, time, value, kept, *rate, width, *out)
    return out[0][:count], out[1][:count], out[2][:count]


def _cheapest_by_loop(stay: Ints, stay_wraps: Ints, leaving: Leaving) -> Ints:
    assert _CHEAPEST is not None
    nodes = len(stay) + 1
    to_go, out = np.empty(4 * nodes, np.int64), np.empty(nodes, np.int64)
    columns = [getattr(leaving, name) for name in Leaving.__dataclass_fields__]
    _CHEAPEST(nodes, stay, stay_wraps, len(leaving.start), *columns, to_go, out)
    return out


def cheapest_twin(stay: Ints, stay_wraps: Ints, leaving: Leaving) -> Ints:
    """The same in Python's own integers."""
    nodes = len(stay) + 1
    to_go, out = [0] * nodes, np.full(nodes, STAY)
    by_start: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]
    columns = [getattr(leaving, name).tolist() for name in Leaving.__dataclass_fields__]
    for start, end, *parts in zip(*columns, strict=True):
        by_start[start].append((end, _weight(*parts)))
    steps = zip(stay.tolist(), stay_wraps.tolist(), strict=True)
    staying = [_weight(events, 0, 0, wraps) for events, wraps in steps]
    for at in range(nodes - 2, -1, -1):
        best = staying[at] + to_go[at + 1]
        for end, weight in by_start[at]:
            if weight + to_go[end] < best:
                best, out[at] = weight + to_go[end], end
        to_go[at] = best
    return out


def _weight(events: int, lost: int, other: int, wraps: int) -> int:
    """One number that compares as the four do, one after the other."""
    return ((events * _RADIX + lost) * _RADIX + other) * _RADIX + wraps


cheapest = chosen(_CHEAPEST, _cheapest_by_loop, cheapest_twin)
"""Of each node where the cheapest line to the last one goes on.

``stay``, ``stay_wraps``: what it costs from each node to the next, in events and in wraps.
"""
