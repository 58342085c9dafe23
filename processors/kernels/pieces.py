"""Flows cut at span edges, added up by point and span, and added to cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.cells import CHUNK_CELLS, Grouping
from processors.changes import Touches
from processors.flows import BETWEEN, COUNTED, HELD, OFF, ONE_BETWEEN, ONE_OFF, Flows, cut, spans_of
from processors.kernels.library import INT64, OUT_BYTE, OUT_INT32, OUT_INT64, SIZE, chosen, compiled
from processors.kernels.shares import CELL_NUMBERS, close, ints
from processors.scaling import spread

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MADE, SAID, READ, WANTED = 1, 2, 4, 8
"""Kinds of a row: its cell is to be made; its sums change it; it has new readings; it is wanted anyway."""
PIECE_COLUMNS = (
    "point",
    "span",
    "kinds",
    "amount",
    "known",
    "measured",
    "held",
    "rounded",
    "revision",
    "reported",
    "start",
    "seen",
)
_SETTLED = tuple("exists amount known estimated held rounded readings revision cause reported".split())
_FLOWS = ("point", "sign", "start", "end", "amount", "booked", "measured", "rounded", "record")
_TOUCHES, _STRETCHES = ("point", "time_ms", "record"), ("point", "first", "last")
_NONE = [np.empty(0, np.int64) for _ in _STRETCHES]
_FAR = 1 << 60

_WANTED = (SIZE, INT64, INT64, INT64)
_REACH = compiled("reach", (SIZE, *3 * (INT64,), SIZE, INT64, INT64, *_WANTED, *_WANTED, INT64, OUT_INT64))
_PIECES = compiled(
    "pieces",
    (
        *(SIZE, *9 * (INT64,), SIZE, *3 * (INT64,), *_WANTED, *_WANTED, INT64, INT64, INT64),
        *(OUT_INT64, SIZE, OUT_INT64),
    ),
)
_SETTLE = compiled(
    "settle",
    (
        *(
            SIZE,
            SIZE,
            INT64,
            INT64,
            INT64,
            INT64,
            OUT_BYTE,
            OUT_INT64,
            OUT_INT32,
            OUT_INT32,
            OUT_INT32,
            OUT_INT32,
        ),
        *(OUT_BYTE, OUT_INT32, OUT_BYTE, OUT_INT64, OUT_BYTE, OUT_BYTE),
    ),
)


@dataclass(frozen=True, slots=True)
class Stretches:
    """Spans first..last (inclusive) of points."""

    point: Ints
    first: Ints
    last: Ints


@dataclass(frozen=True, slots=True)
class Clock:
    """``base_ms``: of each point, 0 where it has no base spans; ``before``: up to where its spans were final.

    ``log_time``: of each record.
    """

    base_ms: Ints
    before: Ints
    log_time: Ints


@dataclass(frozen=True, slots=True)
class Pieces:
    """``table``: a row for each of PIECE_COLUMNS, its first ``count`` numbers of spans, by point and span."""

    table: Ints
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> Ints:
        column: Ints = self.table[PIECE_COLUMNS.index(name), : self.count]
        return column


# -- pieces ---------------------------------------------------------------------------------------


def _pieces_by_loop(flows: Flows, touches: Touches, wanted: list[Stretches], clock: Clock) -> Pieces:
    assert _REACH is not None
    assert _PIECES is not None
    columns = {name: ints(getattr(flows, name)) for name in _FLOWS}
    lists = [_columns_of(touches, _TOUCHES), *(_columns_of(one, _STRETCHES) for one in wanted)]
    assert 1 <= len(wanted) <= 2
    read, one, other = [*lists, _NONE][:3]
    sizes, base = np.empty(2, np.int64), clock.base_ms
    some = (columns[name] for name in ("point", "start", "end"))
    both = (len(one[0]), *one, len(other[0]), *other)
    found = _REACH(len(flows), *some, len(read[0]), *read[:2], *both, base, sizes)
    if found < 0:
        return _pieces_by_loop(*_by_point(flows, touches, wanted), clock)
    size, most = sizes.tolist()
    if not close(size, len(flows) + len(touches.point)):
        return pieces_twin(flows, touches, wanted, clock)
    cells, rows = np.empty((most, CELL_NUMBERS), np.int64), np.empty((len(PIECE_COLUMNS), size), np.int64)
    given = (len(flows), *columns.values(), len(read[0]), *read, *both)
    return Pieces(rows, _PIECES(*given, base, clock.before, clock.log_time, cells, size, rows))


def _columns_of(rows: Touches | Stretches, names: tuple[str, ...]) -> list[Ints]:
    return [ints(getattr(rows, name)) for name in names]


def _by_point(
    flows: Flows, touches: Touches, wanted: list[Stretches]
) -> tuple[Flows, Touches, list[Stretches]]:
    """The same, each by point, and all that is wanted in one list."""
    order = np.argsort(touches.point, kind="stable")
    read = Touches(*(column[order] for column in _columns_of(touches, _TOUCHES)))
    columns = [
        np.concatenate(parts) for parts in zip(*(_columns_of(one, _STRETCHES) for one in wanted), strict=True)
    ]
    order = np.argsort(columns[0], kind="stable")
    together = Stretches(*(column[order] for column in columns))
    return flows.take(np.argsort(flows.point, kind="stable")), read, [together]


def pieces_twin(flows: Flows, touches: Touches, wanted: list[Stretches], clock: Clock) -> Pieces:
    """As ``pieces``, in numpy."""
    registers = clock.base_ms[flows.point] > 0
    flows = flows if registers.all() else flows.take(registers)
    parts = [_cut_rows(flows, clock), _touch_rows(touches, clock), *(_wanted_rows(one) for one in wanted)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    groups = Grouping(columns["point"], columns["span"])
    point, span = groups.keys
    sums = {name: groups.sum(columns[name]) for name in ("amount", "known", "measured", "held", "rounded")}
    differs = np.zeros(len(point), bool)
    for values in sums.values():
        differs |= values != 0
    final = (span + 1) * clock.base_ms[point] <= clock.before[point]
    cut_, read, want = (groups.max(columns[name]) > 0 for name in ("cut", "readings", "wanted"))
    said = cut_ & (differs | ~final)
    rows = {
        "point": point,
        "span": span,
        "kinds": MADE * (said | read) + SAID * said + READ * read + WANTED * want,
        **sums,
        "revision": differs & final,
        "reported": np.where(cut_, groups.max(np.where(columns["cut"] > 0, columns["now"], -_FAR)), 0),
        "start": span * clock.base_ms[point],
        "seen": np.where(read, groups.min(np.where(columns["readings"] > 0, columns["now"], _FAR)), 0),
    }
    kept = said | read | want
    return Pieces(np.array([rows[name][kept] for name in PIECE_COLUMNS], np.int64), int(kept.sum()))


def _rows_of(point: Ints, span: Ints, **columns: Ints) -> dict[str, Ints]:
    zero = np.zeros(len(point), np.int64)
    names = ("amount", "known", "measured", "held", "rounded", "cut", "now", "readings", "wanted")
    return {"point": point, "span": span} | {name: columns.get(name, zero) for name in names}


def _cut_rows(flows: Flows, clock: Clock) -> dict[str, Ints]:
    base = clock.base_ms[flows.point]
    parts = cut(flows, spans_of(flows.start, base), spans_of(flows.end - 1, base), lambda f, s: s * base[f])
    flow, length = parts.flow, parts.end - parts.start
    sign, booked = flows.sign[flow], flows.booked[flow]
    return _rows_of(
        flows.point[flow],
        parts.span,
        amount=sign * parts.amount,
        known=sign * length * (booked == COUNTED),
        measured=sign * length * flows.measured[flow],
        held=sign
        * (length * (booked == HELD) + ONE_OFF * (booked == OFF) + ONE_BETWEEN * (booked == BETWEEN)),
        rounded=sign * flows.rounded[flow],
        cut=np.ones(len(flow), np.int64),
        now=clock.log_time[flows.record[flow]],
    )


def _touch_rows(touches: Touches, clock: Clock) -> dict[str, Ints]:
    span = spans_of(touches.time_ms, clock.base_ms[touches.point])
    ones = np.ones(len(span), np.int64)
    return _rows_of(touches.point, span, now=clock.log_time[touches.record], readings=ones)


def _wanted_rows(wanted: Stretches) -> dict[str, Ints]:
    row, ordinal = spread(np.maximum(wanted.last - wanted.first + 1, 0))
    return _rows_of(wanted.point[row], wanted.first[row] + ordinal, wanted=np.ones(len(row), np.int64))


pieces = chosen(_PIECES, _pieces_by_loop, pieces_twin)
"""(flows, touches, wanted, clock) -> what changes of base spans, and which of them are wanted in any case.

Flows of points without base spans are left out. ``reported``: the last log time of what changes a span,
``seen``: the first one of its new readings.
"""


# -- settling -------------------------------------------------------------------------------------


def _settle_by_loop(
    rows: Pieces, index: Ints, causes: tuple[Ints, Ints], cells: dict[str, NDArray[Any]], dirty: Bools
) -> Bools:
    assert _SETTLE is not None
    keep = np.empty(len(rows), np.uint8)
    columns = (cells[name] for name in _SETTLED)
    rooms = (len(rows), rows.table.shape[1], rows.table)
    _SETTLE(*rooms, ints(index), *causes, *columns, dirty.view(np.uint8), keep)
    return keep.view(np.bool_)


def settle_twin(
    rows: Pieces, index: Ints, causes: tuple[Ints, Ints], cells: dict[str, NDArray[Any]], dirty: Bools
) -> Bools:
    """As ``settle``, in numpy."""
    kinds, there = rows["kinds"], index >= 0
    keep = there & (kinds & (WANTED | SAID) > 0)
    made = there & (kinds & MADE > 0)
    cells["exists"][index[made]] = 1
    dirty[index[made] // CHUNK_CELLS] = True
    read = np.flatnonzero(made & (kinds & READ > 0))
    without_row = [cells[name][index[read]] == 0 for name in ("readings", "known", "held")]
    fresh = read[np.logical_and.reduce(without_row)]
    keep[fresh] = True
    _raise(cells["reported"], index[fresh], rows["seen"][fresh])
    cells["readings"][index[read]] = 1
    said = np.flatnonzero(made & (kinds & SAID > 0))
    columns = {name: rows[name][said] for name in ("amount", "known", "held", "rounded", "revision")}
    columns["estimated"] = columns["known"] - rows["measured"][said]
    for name, values in columns.items():
        changed = values != 0
        cells[name][index[said[changed]]] += values[changed].astype(cells[name].dtype)
    revised = said[rows["revision"][said] > 0]
    lane, cause = causes
    cells["cause"][index[revised]] = cause[lane[rows["point"][revised]]]
    _raise(cells["reported"], index[said], rows["reported"][said])
    return keep


def _raise(column: Ints, index: Ints, values: Ints) -> None:
    column[index] = np.maximum(column[index], values)


settle = chosen(_SETTLE, _settle_by_loop, settle_twin)
"""(rows, index, causes, cells' columns, dirty chunks) -> which rows are to be said anew.

Adds what changes to the cells (``index``: -1 where there is none), by point and span each once. ``causes``:
the lane of each point, and the cause of each lane.
"""
