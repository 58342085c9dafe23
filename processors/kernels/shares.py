"""Changes of points dealt out to those they belong to, added up by owner and span.

The compiled loop adds up in a table of all spans from the first to the last one: where these lie close
together, nothing has to be sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.cells import Grouping
from processors.flows import spans_of
from processors.kernels.library import BYTE, INT64, OUT_INT64, SIZE, chosen, compiled
from processors.scaling import spread

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHARE_COLUMNS = ("owner", "span", "amount", "known", "measured", "held", "rounded", "revision", "reported")
_DEALT = SHARE_COLUMNS[2:]
CELL_NUMBERS = 8
"""Of a cell of a table."""
_ROOM_MIN, _ROOM_RATIO = 1 << 14, 8
_ALL = np.empty(0, np.uint8)

_DEAL = compiled("deal", (SIZE, SIZE, SIZE, INT64, INT64, SIZE, BYTE, *[INT64] * 12, OUT_INT64))
_SHARES = compiled("shares", (SIZE, *[INT64] * 4, SIZE, OUT_INT64))


def ints(values: NDArray[Any]) -> Ints:
    """As a loop takes them."""
    return np.ascontiguousarray(values, np.int64)


def close(size: int, rows: int) -> bool:
    """Whether rows lie so close together that a table of this size is worth its room."""
    return size <= _ROOM_MIN + _ROOM_RATIO * rows


def offsets(low: Ints, high: Ints) -> tuple[Ints, int]:
    """Where each owner's span 0 would be in a table of all spans low..high, and how long that table is."""
    sizes = np.maximum(high - low + 1, 0)
    low[sizes == 0] = 0
    high[sizes == 0] = -1
    until = np.cumsum(sizes)
    return until - sizes - low, int(until[-1]) if len(until) else 0


@dataclass(frozen=True, slots=True)
class Owners:
    """Who points belong to, in pairs by point: those of point p are first[p]..first[p + 1].

    ``step_ms``: of each owner, how long its spans are.
    """

    first: Ints
    owner: Ints
    sign: Ints
    step_ms: Ints


def _deal_by_loop(
    point: Ints, time: Ints, sums: dict[str, Ints], owners: Owners, some: Bools | None = None
) -> dict[str, Ints]:
    assert _DEAL is not None
    assert _SHARES is not None
    names, few, which = _local(point, owners)
    low, high = _reach_of(few, time)
    at, size = offsets(low, high)
    if not close(size, time.size):
        return deal_twin(point, time, sums, owners, some)
    table = np.zeros((size, CELL_NUMBERS), np.int64)
    columns = (ints(sums[name]) for name in _DEALT)
    shape = (len(point), len(time), len(names))
    which_rows = (some is None, _ALL if some is None else some.view(np.uint8))
    pairs = (few.first, few.owner, few.sign, few.step_ms)
    count = _DEAL(*shape, which, ints(time), *which_rows, *columns, *pairs, at, table)
    rows = np.empty((len(SHARE_COLUMNS), count), np.int64)
    _SHARES(len(low), low, high, at, table, count, rows)
    out = dict(zip(SHARE_COLUMNS, rows, strict=True))
    if len(names):
        layer, owner = np.divmod(out["owner"], len(names))
        out["owner"] = layer * len(owners.step_ms) + names[owner]
    return out


def _local(point: Ints, owners: Owners) -> tuple[Ints, Owners, Ints]:
    """The owners of some points, ascending; the same for these points alone, numbered anew; of each row the
    number of its point. All of a site are many more than what a pass touches.
    """
    different, which = _numbered(point, len(owners.first) - 1)
    counts = owners.first[different + 1] - owners.first[different]
    until = np.cumsum(counts)
    pair = np.repeat(owners.first[different] - until + counts, counts) + np.arange(counts.sum())
    names, owner = _numbered(owners.owner[pair], len(owners.step_ms))
    return names, Owners(np.append(0, until), owner, owners.sign[pair], owners.step_ms[names]), which


def _numbered(values: Ints, size: int) -> tuple[Ints, Ints]:
    """The different ones of numbers below ``size``, ascending, and of each row which of these it is."""
    there = np.zeros(size, bool)
    there[values] = True
    different = np.flatnonzero(there)
    number = np.empty(size, np.int64)
    number[different] = np.arange(len(different))
    return different, number[values]


def _reach_of(owners: Owners, time: Ints) -> tuple[Ints, Ints]:
    if time.size == 0 or len(owners.step_ms) == 0:
        size = len(time) * len(owners.step_ms)
        return np.zeros(size, np.int64), np.full(size, -1, np.int64)
    edges = (time.min(axis=1), time.max(axis=1))
    low, high = ((edge[:, None] // owners.step_ms).ravel() for edge in edges)
    return low, high


def deal_twin(
    point: Ints, time: Ints, sums: dict[str, Ints], owners: Owners, some: Bools | None = None
) -> dict[str, Ints]:
    """As ``deal``, in numpy."""
    if some is not None:
        point, time, sums = point[some], time[:, some], {name: each[some] for name, each in sums.items()}
    layers = [_dealt(point, one, sums, owners) for one in time]
    for number, layer in enumerate(layers):
        layer["owner"] += number * len(owners.step_ms)
    return {name: np.concatenate([layer[name] for layer in layers]) for name in SHARE_COLUMNS}


def _dealt(point: Ints, time: Ints, sums: dict[str, Ints], owners: Owners) -> dict[str, Ints]:
    row, ordinal = spread(owners.first[point + 1] - owners.first[point])
    pair = owners.first[point][row] + ordinal
    owner = owners.owner[pair]
    groups = Grouping(owner, spans_of(time[row], owners.step_ms[owner]))
    out = dict(zip(SHARE_COLUMNS, groups.keys, strict=False))
    for name in _DEALT[:-1]:
        values = sums[name][row]
        out[name] = groups.sum(values * owners.sign[pair] if name == "amount" else values)
    return out | {"reported": groups.max(sums["reported"][row])}


deal = chosen(_DEAL, _deal_by_loop, deal_twin)
"""(point, time, sums, owners, some) -> the same by owner and span: amounts by sign, the latest ``reported``.

``time``: in layers, a row of them for each; the owners of layer k are numbered from k times their number on.
``sums``: a column for each of SHARE_COLUMNS behind owner and span; so is what comes out. ``some``: which rows
count, None where all do.
"""
