"""The compiled loops that say rows give exactly what their twins give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.changes import Touched
from processors.flows import ONE_BETWEEN, ONE_EDITED, ONE_OFF, ONE_SHAPED
from processors.kernels import rows as kernel
from processors.kernels.library import COMPILED
from processors.spans import DERIVED_FIELDS
from processors.spans_base import BASE_FIELDS

Ints = NDArray[np.int64]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the loops are not built")

POINTS, LANES, CELLS, WORDS, ROOM = 4, 2, 12, 5, 20
HOUR_MS, DATED_MS = 3_600_000, 1_767_225_600_000
HIGHEST = [10, 10**12, 2**62, 2**63 - 1]
SEEDS = st.integers(0, 2**32 - 1)


def cells_of(random: np.random.Generator, fields: Mapping[str, Any], highest: int) -> dict[str, NDArray[Any]]:
    """Cells with sums up to ``highest``, times up to an hour, and often nothing."""
    out = {name: random.integers(0, 3, CELLS).astype(kind) for name, kind in fields.items()}
    out["amount"] = random.integers(-highest, highest, CELLS)
    for name in ("known", "estimated"):
        out[name] = random.choice([0, HOUR_MS // 2, HOUR_MS], CELLS).astype(fields[name])
    marks = random.choice([0, 1, ONE_EDITED, ONE_SHAPED], (2, CELLS)).sum(axis=0)
    out["held"] = random.choice([0, HOUR_MS, ONE_OFF, ONE_BETWEEN, HOUR_MS + ONE_BETWEEN], CELLS).astype(
        fields["held"]
    )
    out["rounded"] = marks.astype(fields["rounded"])
    out["reported"] = random.choice([0, DATED_MS], CELLS)
    return out


def said(sheet: kernel.Sheet) -> list[list[int] | list[float]]:
    """All that is on a sheet, as far as it counts: an amount that is not known says nothing."""
    pairs = np.where(sheet.there[:, : sheet.size, None], sheet.amounts[:, : sheet.size], 0)
    columns = (sheet.codes, sheet.numbers, sheet.there, sheet.share)
    return [pairs.tolist(), *(column[..., : sheet.size].tolist() for column in columns)]


@given(SEEDS, st.integers(0, 9), st.sampled_from(HIGHEST))
@settings(deadline=None)
def test_base_spans_are_said_as_the_twin_says_them(seed: int, rows: int, highest: int) -> None:
    """Of points with units of their own, twice on one sheet; any amounts, known and unknown."""
    random = np.random.default_rng(seed)
    facts = kernel.Points(
        np.full(POINTS, HOUR_MS),
        10 ** random.integers(0, 10, POINTS),
        random.choice([0, kernel.IS_MEAN, kernel.IS_INTEGRATED], POINTS),
        random.integers(0, LANES, POINTS),
        random.integers(0, WORDS, (kernel.INTERVAL_TEXTS, POINTS)).astype(np.int32),
    )
    where = Touched(
        random.integers(0, POINTS, rows), random.integers(-9, 9, rows), random.integers(0, CELLS, rows)
    )
    story = (random.integers(-9, 9, POINTS) * HOUR_MS, random.integers(0, 99, LANES))
    cells, sheets = cells_of(random, BASE_FIELDS, highest), []
    for say in (kernel.intervals, kernel.intervals_twin):
        sheet = kernel.Sheet.empty(kernel.INTERVAL_TEXTS + 4, 1, ROOM)
        say(where, cells, facts, *story, sheet)
        say(where, cells, facts, *story, sheet)
        sheets.append(said(sheet))
    assert sheets[0] == sheets[1]


@given(SEEDS, st.integers(0, 9), st.sampled_from(HIGHEST))
@example(1, 9, 2**63 - 1)
@settings(deadline=None)
def test_spans_of_accounts_are_said_as_the_twin_says_them(seed: int, rows: int, highest: int) -> None:
    """With dated factors, none or several in force, rounded half to even, and what is too large for them."""
    random = np.random.default_rng(seed)
    dated = [
        (DATED_MS + int(first) * HOUR_MS, DATED_MS + 4 * HOUR_MS, int(numerator), int(denominator))
        for first, numerator, denominator in random.choice([1, 2, 3, 4, 1229, 10**4, 2**40], (5, 3)).tolist()
    ]
    facts = kernel.Accounts(
        random.integers(0, WORDS, (kernel.ROLLUP_TEXTS, POINTS)).astype(np.int32),
        random.integers(0, 3, (kernel.FIGURES, POINTS)),
        np.array([0, 2, 5]),
        np.array(dated, np.int64),
    )
    start = DATED_MS + random.integers(0, 5, rows) * HOUR_MS
    told = kernel.Told(
        random.integers(0, POINTS, rows),
        random.integers(0, 6, rows),
        random.integers(0, CELLS, rows),
        start,
        start + HOUR_MS,
        random.choice([0, HOUR_MS], rows),
        DATED_MS + random.integers(0, 9, rows) * HOUR_MS,
        random.integers(0, 99, rows),
    )
    cells, sheets = cells_of(random, DERIVED_FIELDS, highest), []
    for say in (kernel.rollups, kernel.rollups_twin):
        sheet = kernel.Sheet.empty(kernel.ROLLUP_TEXTS + 4, 1 + kernel.FIGURES, ROOM)
        say(told, cells, facts, sheet)
        say(told, cells, facts, sheet)
        sheets.append(said(sheet))
    assert sheets[0] == sheets[1]


@given(SEEDS, st.integers(0, ROOM))
def test_words_are_numbered_by_first_appearance_as_the_twin_does_it(seed: int, rows: int) -> None:
    """Columns of few and of many words; what the loop notes meanwhile is as before in the end."""
    random = np.random.default_rng(seed)
    words = np.array([1, WORDS, 4 * ROOM])
    codes = np.array([random.integers(0, many, ROOM) for many in words], np.int32)
    scratch, again = np.full(int(words.sum()), -1, np.int32), codes.copy()
    used = kernel.renumber(codes, rows, words, scratch)
    twins = kernel.renumber_twin(again, rows, words, scratch)
    assert [one.tolist() for one in used] == [one.tolist() for one in twins]
    assert codes.tolist() == again.tolist()
    assert (scratch == -1).all()
