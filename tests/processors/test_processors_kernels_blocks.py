"""Where blocks of cells are: the directory beside a dictionary, the compiled loop beside its twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors import directory
from processors.directory import Directory
from processors.kernels.blocks import recent, recent_twin

Ints = NDArray[np.int64]

SHIFT = 2
spans = st.lists(st.tuples(st.integers(0, 5), st.integers(-40, 40)), max_size=40)


def columns(rows: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Series and spans."""
    both = np.array(rows, np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


@given(spans, spans)
def test_what_was_asked_for_last_is_found_by_the_loop_as_by_numpy(
    asked: list[tuple[int, int]], rows: list[tuple[int, int]]
) -> None:
    """Cells and the rows of which another block is wanted."""
    known = np.full((2, 6), -(2**31 - 1), np.int32)
    for number, (series, span) in enumerate(asked):
        known[:, series] = span >> SHIFT, number
    by_series, by_span = columns(rows)
    one = recent(by_series, by_span, known, SHIFT)
    other = recent_twin(by_series, by_span, known, SHIFT)
    assert (one[0].tolist(), one[1].tolist()) == (other[0].tolist(), other[1].tolist())


@given(st.lists(st.tuples(spans, st.booleans()), max_size=6), st.integers(0, 3))
def test_a_directory_is_a_dictionary(steps: list[tuple[list[tuple[int, int]], bool]], few: int) -> None:
    """Numbers of blocks made and looked up in any order, extents and stretches; new ones are joined early."""
    made, known = Directory(), dict[tuple[int, int], int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "_NEW_MIN", few)
        for rows, make in steps:
            series, block = columns(rows)
            found = made.look_up(series, block, make=make).tolist()
            if make:
                known |= dict(zip(rows, found, strict=True))
            assert found == [known.get(row, -1) for row in rows]
            cells, others = made.recent(series, block << SHIFT, SHIFT)
            said = zip(cells.tolist(), rows, strict=True)
            assert all(cell in (-1, known.get(row, -1) << SHIFT) for cell, row in said)
            assert len(others) == cells.tolist().count(-1)
    assert sorted(known.values()) == list(range(len(made)))
    assert_stretches(made, known)


def assert_stretches(made: Directory, known: dict[tuple[int, int], int]) -> None:
    """First and last block of each series, and those between two."""
    every = np.arange(6)
    low, high = np.full(6, -3), np.arange(6) * 4 - 3
    mine = [sorted(block for owner, block in known if owner == series) for series in range(6)]
    first, last = made.extents(every)
    for series, blocks in enumerate(mine):
        if blocks:
            assert (first[series], last[series]) == (blocks[0], blocks[-1])
        else:
            assert first[series] > last[series]
    owner, block = made.between(every, low, high)
    wanted = [(s, b) for s, blocks in enumerate(mine) for b in blocks if -3 <= b <= high[s]]
    assert list(zip(owner.tolist(), block.tolist(), strict=True)) == wanted
