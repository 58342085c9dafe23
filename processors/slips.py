"""Falls that a register's resolution explains: its last digit wavers, or a 32-bit float carries it.

A *small* fall is one of at most two steps of the register, or of the last bit of a 32-bit float, whichever
is more, and of at most a hundredth of what it shows then. It is a *slip* where the register does not go on
falling: from behind the last reading before it that shows no more than the one behind the fall, to before
the first one behind it that shows no less than the one before the fall, the highest before it is above the
lowest behind it by no more than a small fall may be. Not further than ``SLIP_MAX_MS`` is looked, nor beyond a
pair that is neither smooth nor a small fall. Where such a pair leads to one of those two readings the fall is
no slip: of a fall that is booked and the rise that makes it good, held, less than nothing would be left. A
slip counts as smooth: the register was read as exactly as it can be. One that creeps back falls by more than
that, and each fall of it is a break.

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
_NEAR = 4
"""So many readings next to a fall are looked at for all falls at once: few look at more."""


def pairs_of(time: Ints, value: Ints, allowance: Allowance) -> Kinds:
    """What each reading is to the one before it, slips among the smooth."""
    kinds = allowance.kinds(time[:-1], time[1:], value[:-1], value[1:])
    broken = np.flatnonzero(kinds == BROKEN)
    small = broken[allowance.small(value[broken], value[broken + 1])]
    if len(small) == 0:
        return kinds
    hard = kinds != SMOOTH
    hard[small] = False
    kinds[_slips(small, time, value, hard, allowance)] = SMOOTH
    return kinds


def _slips(small: Ints, time: Ints, value: Ints, hard: Bools, allowance: Allowance) -> Ints:
    """Those small falls around which the readings lie near to each other; by the positions before them."""
    first, last = value[small], value[small + 1]
    room = allowance.resolution(first)
    highest, looks_back = _near(small, -1, (first, last), time, hard, value)
    lowest, looks_on = _near(small + 1, 1, (first, last), time, hard, value)
    open_ = (looks_back | looks_on) & (highest - lowest <= room)
    known = small[~open_ & (highest - lowest <= room)]
    rest = [low for low in small[open_].tolist() if _is_slip(low, time, value, hard, allowance)]
    return np.concatenate([known, np.array(rest, np.int64)])


def _near(
    at: Ints, step: int, ends: tuple[Ints, Ints], time: Ints, hard: Bools, value: Ints
) -> tuple[Ints, Bools]:
    """What the few readings next to each of some falls go up to (before them), or down to (behind them), and
    where there is more to look at, or a break that may lead over the fall. ``at``: that end of the fall.
    """
    first, last = ends
    over = np.zeros(len(at), bool)
    found, on = first if step < 0 else last, np.ones(len(at), bool)
    until = time[at - step] + step * SLIP_MAX_MS
    for _ in range(_NEAR):
        to = at + step
        on = on & (to >= 0) & (to < len(time))
        to = np.where(on, to, at)
        on &= (time[to] - until) * step <= 0
        within = value[to] > last if step < 0 else value[to] < first
        cut = hard[np.minimum(np.minimum(at, to), len(hard) - 1)]
        over |= on & cut & ~within
        on &= ~cut & within
        beyond = np.maximum(found, value[to]) if step < 0 else np.minimum(found, value[to])
        found, at = np.where(on, beyond, found), to
    return found, on | over


def _is_slip(low: int, time: Ints, value: Ints, hard: Bools, allowance: Allowance) -> bool:
    """Whether the readings around the small fall behind position ``low`` lie near to each other, and no break
    leads over it.
    """
    first, last = int(value[low]), int(value[low + 1])
    highest, lowest, room = first, last, int(allowance.resolution(value[low : low + 1])[0])
    for k, is_cut in _beside(low, -1, time, hard, int(time[low + 1]) - SLIP_MAX_MS):
        if is_cut and value[k] <= last:
            return False
        if is_cut or value[k] <= last:
            break
        highest = max(highest, int(value[k]))
        if highest - lowest > room:
            return False
    for k, is_cut in _beside(low + 1, 1, time, hard, int(time[low]) + SLIP_MAX_MS):
        if is_cut and value[k] >= first:
            return False
        if is_cut or value[k] >= first:
            break
        lowest = min(lowest, int(value[k]))
        if highest - lowest > room:
            return False
    return True


def _beside(at: int, step: int, time: Ints, hard: Bools, until_ms: int) -> Iterator[tuple[int, bool]]:
    """Positions next to one in a direction, up to an instant or over one break; whether one leads there."""
    while 0 <= at + step < len(time):
        is_cut = bool(hard[min(at, at + step)])
        at += step
        if (time[at] - until_ms) * step > 0:
            return
        yield at, is_cut
        if is_cut:
            return
