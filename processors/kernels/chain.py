"""The flows of registers where all of it is plain; what is not is left to the books, which define it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import (
    BOOL,
    BYTE,
    FLOAT,
    INT64,
    OUT_BOOL,
    OUT_INT64,
    SIZE,
    chosen,
    compiled,
)

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Readings:
    """Some readings: keys, register values, flags; a key of -1 stands for none."""

    key: Ints
    value: Ints
    flags: Bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of every series. ``simple``: one whole multiplier for ever, ``numerator``.

    ``near_ms``: readings so far apart at most are measured. ``limited``: rises by at most ``per_ms`` a
    millisecond and ``allowance``. ``width``: where it rolls, 0 where that is not known.
    """

    numerator: Ints
    near_ms: Ints
    point: Ints
    allowance: Ints
    width: Ints
    simple: Bools
    limited: Bools
    per_ms: NDArray[np.float64]


Columns = tuple[Ints, ...]
"""Point, sign, start, end, amount, measured, rounded and record of flows."""

_READINGS = (INT64, INT64, BYTE)
_FACTS = (*5 * (INT64,), BOOL, BOOL, FLOAT)
_CHAIN = compiled(
    "chain",
    (SIZE, *_READINGS, INT64, *3 * _READINGS, *_FACTS, OUT_INT64, OUT_BOOL, *8 * (OUT_INT64,)),
)

_BREAKS = compiled("breaks", (SIZE, *4 * (INT64,), *5 * (INT64,), BOOL, BOOL, FLOAT, SIZE, OUT_INT64))


def _chain_by_loop(
    run: Readings,
    record: Ints,
    before: Readings,
    after: Readings,
    newest: Readings,
    facts: Facts,
    booked: Ints,
) -> tuple[Columns, Bools]:
    assert _CHAIN is not None
    general = np.empty(len(run.key), bool)
    out = [np.empty(len(run.key) + 2 * len(before.key), np.int64) for _ in range(8)]
    readings = [getattr(one, name) for one in (before, after, newest) for name in ("key", "value", "flags")]
    columns = [getattr(facts, name) for name in Facts.__dataclass_fields__]
    flows = _CHAIN(
        len(run.key), run.key, run.value, run.flags, record, *readings, *columns, booked, general, *out
    )
    return tuple(column[:flows] for column in out), general


def chain_twin(
    run: Readings,
    record: Ints,
    before: Readings,
    after: Readings,
    newest: Readings,
    facts: Facts,
    booked: Ints,
) -> tuple[Columns, Bools]:
    """Leaves everything to the books."""
    del record, before, after, newest, facts, booked
    return tuple(np.empty(0, np.int64) for _ in range(8)), np.ones(len(run.key), bool)


chain = chosen(_CHAIN, _chain_by_loop, chain_twin)
"""The plain flows that new readings bring, and which readings are left out: those of series with anything
that is not plain.

``run``: sorted by key, none known, none in conflict; ``before``, ``after``: the neighbours in memory of those
of them that are not behind ``newest``, the newest reading of each series. ``booked`` by series is raised.
"""


def _breaks_by_loop(
    columns: tuple[Ints, Ints, Ints, Ints], newest: Ints, value: Ints, watched: Ints, facts: Facts, steps: int
) -> Ints:
    assert _BREAKS is not None
    rows = np.empty(len(columns[0]), np.int64)
    known = (facts.allowance, facts.width, facts.simple, facts.limited, facts.per_ms)
    found = _BREAKS(len(rows), *columns, newest, value, watched, *known, steps, rows)
    return rows[:found].copy()


def breaks_twin(
    columns: tuple[Ints, Ints, Ints, Ints], newest: Ints, value: Ints, watched: Ints, facts: Facts, steps: int
) -> Ints:
    """Names every row."""
    del newest, value, watched, facts, steps
    return np.arange(len(columns[0]))


breaks = chosen(_BREAKS, _breaks_by_loop, breaks_twin)
"""Rows that may be the end of a break: whether they are is to be looked at.

``columns``: key, value, record, and the newest time of the series in earlier records, by key. ``newest`` and
its ``value``, ``watched`` (the greatest key in reach of a doubt) by series. Left out are rows that are behind
all of their series and surely count on from the row before them, as of their record, which came once and
lies no further than ``steps`` rows of later records away.
"""
