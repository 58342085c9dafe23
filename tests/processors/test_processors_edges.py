"""What a register can have risen, to the last step: whoever asks is told the same."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metering.readings import NO_TIME, TIME_FIRST_MS
from processors.allowance import BROKEN, SMOOTH, WRAP
from processors.batch import SeriesIndex
from processors.books import Books
from processors.memory import Run, key_of
from processors.verdicts import NO_LIMIT, judge
from tests.processors.histories import examples, roster_of
from tests.processors.oracle_doubt import Series

SITE = st.sampled_from(["works", "park"])
LENGTH_MS = st.one_of(st.integers(1, 10**7), st.integers(1, 399 * 86_400_000))


def register(data: st.DataObject) -> tuple[Books, int]:
    """Books of a site, and one of its registers with a limit."""
    books = Books(SeriesIndex(roster_of(data.draw(SITE))))
    limited = np.flatnonzero(books.ratings.limit_per_hour != NO_LIMIT).tolist()
    return books, data.draw(st.sampled_from(limited))


def exactly(books: Books, series: int, start: int, end: int) -> int:
    """The highest rise that is possible, in exact fractions."""
    facts = books.ratings.allowance(series).facts
    dated = [(m.from_ms, Fraction(m.numerator, m.denominator)) for m in facts.multipliers]
    pair = [(start, 0), (end, 0)]
    return floor(Series(pair, facts.limit_per_hour, facts.width or None, facts.step, dated).possible(0, 1))


@given(st.data(), LENGTH_MS, st.integers(-1, 1))
@examples(4)
def test_a_rise_is_judged_exactly_at_the_edge(data: st.DataObject, length_ms: int, beside: int) -> None:
    """The last millionth that is possible is smooth, the next one is not; and so for a wrap."""
    books, series = register(data)
    start = TIME_FIRST_MS + 830_000_000_000
    most = exactly(books, series, start, start + length_ms)
    at = (np.array([series]), np.array([start]), np.array([start + length_ms]))
    zero, rise = np.zeros(1, np.int64), np.array([most + beside])
    assert judge(*at, zero, rise, books.ratings)[0] == (BROKEN if beside > 0 else SMOOTH)
    width = int(books.ratings.width[series])
    if width > most + 1:
        assert judge(*at, zero + width, rise, books.ratings)[0] == (BROKEN if beside > 0 else WRAP)


@given(st.data(), LENGTH_MS, st.integers(-1, 1))
@examples(2)
def test_books_take_a_rise_exactly_at_the_edge(data: st.DataObject, length_ms: int, beside: int) -> None:
    """With the compiled loop as without it."""
    books, series = register(data)
    times = np.array([TIME_FIRST_MS + 830_000_000_000, TIME_FIRST_MS + 830_000_000_000 + length_ms])
    most = exactly(books, series, *times.tolist())
    run: Run = {
        "key": key_of(np.full(2, series), times),
        "value": np.array([0, most + beside]),
        "flags": np.zeros(2, np.uint8),
        "start": np.full(2, NO_TIME),
        "revision": np.zeros(2, np.int32),
    }
    books.insert(run, np.zeros(2, np.int64))
    assert (books.ledger.booked[series] > 0) == (beside <= 0)
