"""Rows of results as columns that Arrow takes as they are: codes of words, exact decimals, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS
from processors.changes import Touched
from processors.flows import ONE_BETWEEN, ONE_EDITED, ONE_OFF, ONE_SHAPED
from processors.kernels.library import (
    BYTE,
    INT32,
    INT64,
    OUT_BOOL,
    OUT_INT32,
    OUT_INT64,
    SIZE,
    Column,
    chosen,
    compiled,
)
from processors.scaling import scale

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Bools = NDArray[np.bool_]

VALID, ESTIMATE, DOUBTFUL, PARTIAL, MISSING = range(5)
OPEN, FINAL, REVISED = range(3)
IS_ROUNDED, IS_HELD, IS_MEAN, IS_INTEGRATED, IS_EDITED, IS_PROFILE, IS_REPLACED = (
    1 << bit for bit in range(7)
)
START, END, REVISION, REPORTED, POSITION = range(5)
NUMBERS = 5
"""Rows of ``Sheet.numbers``."""
INTERVAL_TEXTS, ROLLUP_TEXTS = 4, 5
"""How many texts a point has, and an account; behind them come codes that say how a row stands."""
FIGURES = 2
"""Roll-ups are said in so many figures beside their amount: kgce and kgCO2e."""
_SCALED_MAX, _INT64_MAX = 1 << 62, (1 << 63) - 1
_PER_MICRO = 1000

_OUT_FLOAT = Column(np.dtype(np.float64), written=True)
_OUT = (SIZE, SIZE, OUT_INT32, OUT_INT64, OUT_INT64, OUT_BOOL, _OUT_FLOAT)
_INTERVALS = compiled(
    "interval_rows",
    (SIZE, SIZE, *4 * (INT64,), *4 * (INT32,), BYTE, INT32, BYTE, *5 * (INT64,), INT32, INT64, INT64, *_OUT),
)
_ROLLUPS = compiled("rollup_rows", (SIZE, SIZE, *14 * (INT64,), BYTE, INT64, INT32, *3 * (INT64,), *_OUT))
_RENUMBER = compiled("renumber", (SIZE, SIZE, SIZE, INT64, OUT_INT32, OUT_INT32, OUT_INT32, OUT_INT64))


@dataclass(slots=True)
class Sheet:
    """Room for rows, ``size`` of which are there.

    ``codes``: a row of numbers of words per text. ``numbers``: start, end, revision, reported, position.
    ``amounts``: of each amount 128 bits a row, low half first; ``there``: whether it is known.
    """

    codes: Codes
    numbers: Ints
    amounts: Ints
    there: Bools
    share: NDArray[np.float64]
    size: int = 0

    @classmethod
    def empty(cls, texts: int, amounts: int, room: int) -> Sheet:
        return cls(
            np.empty((texts, room), np.int32),
            np.empty((NUMBERS, room), np.int64),
            np.empty((amounts, room, 2), np.int64),
            np.empty((amounts, room), bool),
            np.empty(room, np.float64),
        )

    @property
    def room(self) -> int:
        return len(self.share)

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """All of it, as the loops take it."""
        return self.codes, self.numbers, self.amounts, self.there, self.share


@dataclass(frozen=True, slots=True)
class Points:
    """Facts of points: length of their spans, what millionths are multiplied by to be in 10^-9 of their unit,
    the code of their kind among FLAGS, their lane, and a row of codes for each of their texts.
    """

    base_ms: Ints
    factor: Ints
    kinds: Ints
    lane: Ints
    texts: Codes


@dataclass(frozen=True, slots=True)
class Accounts:
    """Facts of accounts: a row of codes for each of their texts, and of the kind of its factors per figure.

    ``until``: of each kind, where its factors end in ``dated`` (from, to, numerator, denominator).
    """

    texts: Codes
    kinds: Ints
    until: Ints
    dated: Ints


Cells = Mapping[str, NDArray[Any]]
_BASE = ("amount", "known", "estimated", "held", "rounded", "readings", "revision", "cause", "reported")
_DERIVED = ("amount", "known", "estimated", "held", "suspect", "revision", "cause", "reported")


# -- base spans -----------------------------------------------------------------------------------


def _intervals_by_loop(
    rows: Touched, cells: Cells, facts: Points, frontier: Ints, positions: Ints, sheet: Sheet
) -> None:
    assert _INTERVALS is not None
    columns = (np.ascontiguousarray(one) for one in (rows.series, rows.span, rows.index))
    known = (facts.base_ms, facts.factor, facts.kinds, facts.lane, facts.texts)
    shape = (len(rows.index), len(facts.base_ms))
    story = (frontier, positions, sheet.size, sheet.room)
    _INTERVALS(*shape, *columns, *(cells[name] for name in _BASE), *known, *story, *sheet.columns)
    sheet.size += len(rows.index)


def intervals_twin(
    rows: Touched, cells: Cells, facts: Points, frontier: Ints, positions: Ints, sheet: Sheet
) -> None:
    """As ``intervals``, in numpy."""
    at, point = slice(sheet.size, sheet.size + len(rows.index)), rows.series
    of = _read(cells, rows.index, _BASE)
    length = facts.base_ms[point]
    unknown = IS_HELD * (of["held"] % ONE_BETWEEN > 0) | IS_REPLACED * (of["held"] % ONE_OFF >= ONE_BETWEEN)
    end = (rows.span + 1) * length
    gone = (of["known"] == 0) & (of["held"] == 0) & (of["readings"] == 0)
    sheet.codes[:INTERVAL_TEXTS, at] = facts.texts[:, point]
    sheet.codes[INTERVAL_TEXTS, at] = quality(of["known"], of["measured"], length, 0)
    sheet.codes[INTERVAL_TEXTS + 1, at] = marks(of["rounded"]) | unknown | facts.kinds[point]
    _tell(sheet, at, (end - length, end), of, positions[facts.lane[point]], gone, frontier[point])
    sheet.amounts[0, at] = wide(of["amount"], facts.factor[point])
    sheet.there[0, at] = of["known"] != 0
    sheet.share[at] = of["measured"] / length
    sheet.size += len(point)


def _read(cells: Cells, index: Ints, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    of = {name: cells[name][index] for name in names}
    return of | {"measured": of["known"] - of["estimated"]}


def marks(rounded: NDArray[Any]) -> Ints:
    """Codes of FLAGS: of rounded and of corrected readings, and of gaps shaped by reference days."""
    edited, shaped = rounded % ONE_SHAPED >= ONE_EDITED, rounded >= ONE_SHAPED
    codes = IS_ROUNDED * (rounded % ONE_EDITED > 0) + IS_EDITED * edited + IS_PROFILE * shaped
    return np.asarray(codes, np.int64)


def quality(known: Ints, measured: Ints, length: Ints, suspect: Ints | int) -> Ints:
    """Codes of qualities."""
    return np.select(
        [known == 0, known < length, np.broadcast_to(suspect, known.shape) > 0, measured < known],
        [MISSING, PARTIAL, DOUBTFUL, ESTIMATE],
        VALID,
    )


def _tell(
    sheet: Sheet,
    at: slice,
    edges: tuple[Ints, Ints],
    of: Cells,
    position: Ints,
    gone: Bools,
    frontier: Ints,
) -> None:
    """The story of rows: their state and cause are the last two codes."""
    sheet.numbers[START, at], sheet.numbers[END, at] = edges
    sheet.numbers[REVISION, at] = of["revision"]
    sheet.numbers[REPORTED, at] = np.maximum(of["reported"], TIME_FIRST_MS)
    sheet.numbers[POSITION, at] = np.where(gone, -position - 1, position)
    sheet.codes[-2, at] = states(gone | (edges[1] <= frontier), of["revision"])
    sheet.codes[-1, at] = of["cause"]


def states(reported: Bools, revision: Ints) -> Ints:
    """Codes of states."""
    return np.where(reported, np.where(revision > 0, REVISED, FINAL), OPEN)


def wide(values: Ints, factor: Ints | int) -> Ints:
    """values * factor in 128 bits, low half first."""
    by, out = np.broadcast_to(factor, values.shape), np.empty((len(values), 2), np.int64)
    if int(np.abs(values).max(initial=0)) * int(by.max(initial=0)) < _INT64_MAX:
        out[:, 0], out[:, 1] = values * by, (values * by) >> 63
        return out
    every = zip(values.tolist(), by.tolist(), strict=True)
    raw = b"".join((value * one).to_bytes(16, "little", signed=True) for value, one in every)
    return np.frombuffer(raw, np.dtype("<i8")).reshape(-1, 2)


intervals = chosen(_INTERVALS, _intervals_by_loop, intervals_twin)
"""(rows, cells' columns, facts, frontier of each point, position of each lane, sheet): says base spans as
they stand. Codes: the point's texts, quality, flags, state, cause.
"""


# -- roll-ups -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """Spans of accounts: class, edges, milliseconds expected, up to where the account is final, position; and
    the numbers of their cells.
    """

    account: Ints
    cls: Ints
    index: Ints
    start: Ints
    end: Ints
    expected: Ints
    frontier: Ints
    position: Ints


def _rollups_by_loop(told: Told, cells: Cells, facts: Accounts, sheet: Sheet) -> None:
    assert _ROLLUPS is not None
    columns = (np.ascontiguousarray(getattr(told, name)) for name in Told.__dataclass_fields__)
    known = (facts.texts, facts.kinds, facts.until, facts.dated, sheet.size, sheet.room)
    shape = (len(told.index), facts.texts.shape[1])
    _ROLLUPS(*shape, *columns, *(cells[name] for name in _DERIVED), *known, *sheet.columns)
    sheet.size += len(told.index)


def rollups_twin(told: Told, cells: Cells, facts: Accounts, sheet: Sheet) -> None:
    """As ``rollups``, in numpy."""
    at, account = slice(sheet.size, sheet.size + len(told.index)), told.account
    of = _read(cells, told.index, _DERIVED)
    unknown = of["known"] == 0
    gone = unknown & (of["held"] == 0)
    sheet.codes[:ROLLUP_TEXTS, at] = facts.texts[:, account]
    sheet.codes[ROLLUP_TEXTS, at] = told.cls
    sheet.codes[ROLLUP_TEXTS + 1, at] = quality(of["known"], of["measured"], told.expected, of["suspect"])
    _tell(sheet, at, (told.start, told.end), of, told.position, gone, told.frontier)
    sheet.amounts[0, at], sheet.there[0, at] = wide(of["amount"], _PER_MICRO), ~unknown
    for figure in range(FIGURES):
        values, there = _converted(of["amount"], told.start, facts.kinds[figure, account], facts)
        sheet.amounts[figure + 1, at] = wide(values, _PER_MICRO)
        sheet.there[figure + 1, at] = there & ~unknown
    some = told.expected > 0
    sheet.share[at] = np.divide(of["measured"], told.expected, out=np.zeros(len(account)), where=some)
    sheet.size += len(account)


def _converted(amount: Ints, start: Ints, kind: Ints, facts: Accounts) -> tuple[Ints, Bools]:
    """Amounts times the factor in force at ``start``, rounded once half to even; and where there is one."""
    out, there = np.zeros(len(amount), np.int64), np.zeros(len(amount), bool)
    first = np.append(0, facts.until)
    for number in np.unique(kind).tolist():
        for from_ms, to_ms, numerator, denominator in facts.dated[first[number] : first[number + 1]].tolist():
            mine = np.flatnonzero((kind == number) & (start >= from_ms) & (start < to_ms))
            there[mine] = True
            out[mine] = scale(amount[mine], numerator, denominator, _SCALED_MAX)[0]
    return out, there


rollups = chosen(_ROLLUPS, _rollups_by_loop, rollups_twin)
"""(told, cells' columns, facts, sheet): says spans of accounts as they stand.
Codes: the account's texts, class, quality, state, cause.
"""


# -- words ----------------------------------------------------------------------------------------


def _renumber_by_loop(codes: Codes, size: int, words: Ints, scratch: Codes) -> list[Codes]:
    assert _RENUMBER is not None
    used, counts = np.empty(codes.shape, np.int32), np.empty(len(codes), np.int64)
    _RENUMBER(size, len(codes), codes.shape[1], words, scratch, codes, used, counts)
    return [row[:count] for row, count in zip(used, counts.tolist(), strict=True)]


def renumber_twin(codes: Codes, size: int, words: Ints, scratch: Codes) -> list[Codes]:
    """As ``renumber``, in numpy."""
    del words, scratch
    out = []
    for row in codes[:, :size]:
        different, first, which = np.unique(row, return_index=True, return_inverse=True)
        order = np.argsort(first)
        number = np.empty(len(order), np.int32)
        number[order] = np.arange(len(order))
        row[:] = number[which]
        out.append(different[order])
    return out


renumber = chosen(_RENUMBER, _renumber_by_loop, renumber_twin)
"""(codes, size, words, scratch) -> of each column of codes those that appear in its first ``size`` rows, by
first appearance; the codes become their numbers among these.

``words``: how many there may be of each column; ``scratch``: as many numbers in all, -1 each, and left so.
"""
