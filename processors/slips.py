"""Falls that a register's resolution explains: its last digit wavers, or a 32-bit float carries it.

A *small* fall is one of at most two steps of the register, or of the last bit of a 32-bit float, whichever
is more, and of at most a hundredth of what it shows then. It is a *slip* where the register does not go on
falling: from behind the last reading before it that shows no more than the one behind the fall, to before
the first one behind it that shows no less than the one before the fall, the highest before it is above the
lowest behind it by no more than a small fall may be. Not further than ``SLIP_MAX_MS`` is looked, nor beyond a
pair that is neither smooth nor a small fall. A slip counts as smooth: the register was read as exactly as it
can be. One that creeps back falls by more than that, and each fall of it is a break.

Whether a fall is a slip depends on readings within ``SLIP_MAX_MS`` of it, and turns only with one that makes
or ends a break itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, SMOOTH, Allowance, Kinds

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SLIP_MAX_MS = 43_200_000


def pairs_of(time: Ints, value: Ints, allowance: Allowance) -> Kinds:
    """What each reading is to the one before it, slips among the smooth."""
    kinds = allowance.kinds(time[:-1], time[1:], value[:-1], value[1:])
    broken = np.flatnonzero(kinds == BROKEN)
    small = broken[allowance.small(value[broken], value[broken + 1])]
    if len(small) == 0:
        return kinds
    hard = kinds != SMOOTH
    hard[small] = False
    slips = [low for low in small.tolist() if _is_slip(low, time, value, hard, allowance)]
    kinds[slips] = SMOOTH
    return kinds


def _is_slip(low: int, time: Ints, value: Ints, hard: Bools, allowance: Allowance) -> bool:
    """Whether the readings around the small fall behind position ``low`` lie near to each other."""
    first, last = int(value[low]), int(value[low + 1])
    highest, lowest = first, last
    for k in _beside(low, -1, time, hard, int(time[low + 1]) - SLIP_MAX_MS):
        if value[k] <= last:
            break
        highest = max(highest, int(value[k]))
    for k in _beside(low + 1, 1, time, hard, int(time[low]) + SLIP_MAX_MS):
        if value[k] >= first:
            break
        lowest = min(lowest, int(value[k]))
    return bool(highest - lowest <= allowance.resolution(value[low : low + 1])[0])


def _beside(at: int, step: int, time: Ints, hard: Bools, until_ms: int) -> Iterator[int]:
    """Positions next to one in a direction, up to an instant and to the next break."""
    while 0 <= at + step < len(time) and not hard[min(at, at + step)]:
        at += step
        if (time[at] - until_ms) * step > 0:
            return
        yield at
