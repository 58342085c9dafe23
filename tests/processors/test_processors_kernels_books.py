"""The compiled loop of the books: with it and without it they say the same."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metering.readings import NO_TIME, TIME_FIRST_MS
from processors.batch import SeriesIndex
from processors.books import Books
from processors.flows import Flows, join
from processors.kernels import library
from processors.memory import CONFLICT, ESTIMATED, ROUNDED, key_of
from processors.runs import Run
from tests.processors.histories import roster_of

Ints = NDArray[np.int64]


def ints(values: Any) -> Ints:
    """An array of int64."""
    return np.array(values, np.int64)


class GeneralBooks(Books):
    """Books that leave nothing to the loop."""

    def _plain(self, run: Run, record: Ints) -> tuple[Flows, NDArray[np.bool_]]:
        del run
        return join([]), np.ones(len(record), bool)


def rows_of(flows: Flows) -> list[tuple[int, ...]]:
    """Flows in an order of their own."""
    return sorted(zip(*(getattr(flows, f.name).tolist() for f in fields(Flows)), strict=True))


MINUTE_MS = 60_000
REGISTERS = roster_of("works")
STEPS = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(0, 40),
            st.sampled_from([0, 0, 0, 0, 1, -1, 500_000_000]),
            st.sampled_from([0, 0, 0, ROUNDED, ESTIMATED, CONFLICT]),
            st.integers(0, 3),
        ),
        max_size=30,
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.skipif(not library.COMPILED, reason="the loops are not built: make setup")
@given(STEPS)
@settings(deadline=None)
def test_books_with_and_without_the_loop_say_the_same(steps: list[list[tuple[int, ...]]]) -> None:
    """Late readings, falls, leaps, held ones and estimates: flows, ledger and verdicts are equal."""
    index = SeriesIndex(REGISTERS)
    fast, general = Books(index), GeneralBooks(index)
    known: set[int] = set()
    for step in steps:
        run, record = run_of(step, known)
        one, other = (
            books.insert({name: column.copy() for name, column in run.items()}, record)
            for books in (fast, general)
        )
        assert rows_of(one) == rows_of(other)
        for name in ("booked", "held", "written_off", "touched"):
            assert np.array_equal(getattr(fast.ledger, name), getattr(general.ledger, name))
        assert (fast.verdicts, fast.changed_verdicts) == (general.verdicts, general.changed_verdicts)


def run_of(step: list[tuple[int, ...]], known: set[int]) -> tuple[Run, Ints]:
    """New readings of a step, sorted by key: registers that rise by some steps a minute, but for mishaps."""
    rows = {}
    for series, minute, mishap, mark, number in step:
        key = int(key_of(ints([series]), ints([TIME_FIRST_MS + minute * MINUTE_MS]))[0])
        if key not in known:
            rows[key] = (max(minute * 100_000 + mishap, 0), mark, number)
    known.update(rows)
    columns_of = [rows[key] for key in sorted(rows)]
    value, flags, record = (ints([row[i] for row in columns_of]) for i in range(3))
    size = len(rows)
    run: Run = {
        "key": ints(sorted(rows)),
        "value": value,
        "flags": flags.astype(np.uint8),
        "start": np.full(size, NO_TIME),
        "revision": np.zeros(size, np.int32),
    }
    return run, record
