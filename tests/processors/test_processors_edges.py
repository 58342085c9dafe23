"""What a register can have risen, to the last step: whoever asks is told the same."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metering.readings import NO_TIME, TIME_FIRST_MS
from processors.allowance import BROKEN, SMOOTH, UNSURE, WRAP
from processors.batch import SeriesIndex
from processors.books import Books
from processors.memory import key_of
from processors.runs import Run
from processors.verdicts import NO_LIMIT, judge
from tests.processors.histories import examples, roster_of
from tests.processors.oracle_doubt import DAY, HOUR, Series

SITE = st.sampled_from(["works", "park"])
START_MS = TIME_FIRST_MS + 830_000_000_000
LENGTH_MS = st.one_of(st.integers(1, 10**7), st.integers(1, 399 * 86_400_000))


def register(data: st.DataObject) -> tuple[Books, int]:
    """Books of a site, and one of its registers with a limit."""
    books = Books(SeriesIndex(roster_of(data.draw(SITE))))
    limited = np.flatnonzero(books.ratings.limit_per_hour != NO_LIMIT).tolist()
    return books, data.draw(st.sampled_from(limited))


def rolling(data: st.DataObject) -> tuple[Books, int, int]:
    """The same of a register that rolls, and a time in which it can do so once or twice."""
    books = Books(SeriesIndex(roster_of(data.draw(SITE))))
    limited = (books.ratings.limit_per_hour != NO_LIMIT) & (books.ratings.width > 0)
    series = data.draw(st.sampled_from(np.flatnonzero(limited).tolist()))
    turn_ms = HOUR * int(books.ratings.width[series]) // exactly(books, series, START_MS, START_MS + HOUR)
    return books, series, min(data.draw(st.integers(turn_ms // 2, 2 * turn_ms)), 399 * DAY)


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
    end = START_MS + length_ms
    most = exactly(books, series, START_MS, end)
    at = (np.array([series]), np.array([START_MS]), np.array([end]))
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
    times = np.array([START_MS, START_MS + length_ms])
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


@given(st.data(), st.integers(-1, 1), st.booleans())
@examples(4)
def test_a_turn_that_only_just_fits_is_not_sure(data: st.DataObject, beside: int, falls: bool) -> None:
    """The last millionth at which a turn more is possible is not sure, the next one is; so for a fall."""
    books, series, length_ms = rolling(data)
    end, width = START_MS + length_ms, int(books.ratings.width[series])
    fewest = exactly(books, series, START_MS, end) - width + beside
    if not 0 <= fewest < width:
        return
    at = (np.array([series]), np.array([START_MS]), np.array([end]))
    first, last = (width - 1, fewest - 1) if falls and fewest else (0, fewest)
    sure = WRAP if last < first else SMOOTH
    kind = judge(*at, np.array([first]), np.array([last]), books.ratings)[0]
    assert kind == (sure if beside > 0 else UNSURE)


@given(st.data(), st.integers(-1, 1))
@examples(2)
def test_books_hold_a_rise_that_may_hide_a_turn(data: st.DataObject, beside: int) -> None:
    """With the compiled loop as without it."""
    books, series, length_ms = rolling(data)
    times = np.array([START_MS, START_MS + length_ms])
    rise = exactly(books, series, *times.tolist()) - int(books.ratings.width[series]) + beside
    if rise <= 0:
        return
    run: Run = {
        "key": key_of(np.full(2, series), times),
        "value": np.array([0, rise]),
        "flags": np.zeros(2, np.uint8),
        "start": np.full(2, NO_TIME),
        "revision": np.zeros(2, np.int32),
    }
    books.insert(run, np.zeros(2, np.int64))
    assert (books.ledger.booked[series], books.ledger.held[series]) == (
        (rise, 0) if beside > 0 else (0, rise)
    )
