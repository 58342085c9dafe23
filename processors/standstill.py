"""How far back a register stood still: what a rise that cannot be may have caught up with.

A standstill may begin where the one before it was caught up with, and that one where another was. It is
looked back over ``CAUGHT_UP_MAX`` of these, and no further: so what says something of it has an end
(processors.anew).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from processors.allowance import BROKEN, SMOOTH, Kinds

Ints = NDArray[np.int64]

CAUGHT_UP_MAX = 2
"""So many rises that cannot be a standstill is looked back over, with nothing but standstills between."""
_LOOK = 64
"""So many readings are looked at first for where a standstill began."""


def jumps(value: Ints, pair: Kinds, low: int) -> bool:
    """Whether the register rises behind a position as it cannot."""
    return bool(pair[low] == BROKEN and value[low + 1] > value[low])


def began_before(value: Ints, pair: Kinds, low: int, began: Callable[[int], int]) -> Iterator[int]:
    """Since which position the register shows what it does at one; then the same of what it showed before,
    where that ends in a rise that cannot be, ``CAUGHT_UP_MAX`` times. ``began``: the first of these.
    """
    for _ in range(CAUGHT_UP_MAX):
        yield (at := began(low))
        if at == 0 or not jumps(value, pair, at - 1):
            return
        low = at - 1
    yield began(low)


def judged_from(value: Ints, pair: Kinds, first: int) -> int:
    """From which reading on to judge those from a position on: from two before the standstills that reach it
    and end in rises that cannot be. Less than 0: from before all of these.
    """
    some = np.flatnonzero(pair[first:] != SMOOTH)[: 2 + CAUGHT_UP_MAX] + first
    for low in some.tolist():
        if jumps(value, pair, low):
            *_, oldest = began_before(value, pair, low, lambda at: _began(value, pair, at))
            first = min(first, oldest - 2)
    return first


def _began(value: Ints, pair: Kinds, at: int) -> int:
    """The position since which the register has shown what it shows at one, with no break between."""
    high, size = at, _LOOK
    while high > 0:
        low = max(0, high - size)
        other = np.flatnonzero((value[low:high] != value[at]) | (pair[low:high] != SMOOTH))
        if len(other):
            return low + int(other[-1]) + 1
        high, size = low, 4 * size
    return 0
