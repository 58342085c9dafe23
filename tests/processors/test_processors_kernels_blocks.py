"""Where blocks of cells are: the directory beside a dictionary, the compiled loop beside its twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors import directory
from processors.directory import Directory
from processors.kernels.blocks import Part, cells, cells_twin, joined, joined_twin, key_of

Ints = NDArray[np.int64]

SHIFT = 2
spans = st.lists(st.tuples(st.integers(0, 5), st.integers(-40, 40)), max_size=40)


def columns(rows: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Series and spans."""
    both = np.array(rows, np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


@given(spans, st.data())
def test_cells_are_found_by_the_loop_as_by_numpy(known: list[tuple[int, int]], data: st.DataObject) -> None:
    """Existing or not, to be made or not, after what was asked before."""
    keys = np.unique(key_of(*columns(known)))
    cut = data.draw(st.integers(0, len(keys)))
    parts = Part.of(keys[:cut], 0), Part.of(keys[cut:], cut)
    exists = (np.arange(len(keys) << SHIFT) % 3 > 0).astype(np.uint8)
    last = np.full((2, 4), -(2**31 - 1), np.int32)
    for _ in range(2):
        rows = data.draw(spans)
        some = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
        for make in (False, True, some):
            args = (*columns(rows), SHIFT, make, parts, exists)
            room = np.pad(last, ((0, 0), (0, 2)), constant_values=-(2**31 - 1))
            one, other = cells(*args, room), cells_twin(*args, room)
            assert [part.tolist() for part in one] == [part.tolist() for part in other]
            last = room[:, :4].copy()


@given(st.lists(st.integers(0, 99), unique=True), st.data())
def test_keys_are_joined_by_the_loop_as_by_numpy(keys: list[int], data: st.DataObject) -> None:
    """In front of, behind and between each other; none on either side."""
    cut = data.draw(st.integers(0, len(keys)))
    parts = Part.of(np.array(keys[:cut], np.int64), 0), Part.of(np.array(keys[cut:], np.int64), cut)
    one, other = joined(*parts), joined_twin(*parts)
    assert (one.keys.tolist(), one.numbers.tolist()) == (other.keys.tolist(), other.numbers.tolist())


@given(st.lists(st.tuples(spans, st.booleans()), max_size=6), st.integers(0, 3))
def test_a_directory_is_a_dictionary(steps: list[tuple[list[tuple[int, int]], bool]], few: int) -> None:
    """Numbers of blocks made and looked up in any order, extents and stretches; new ones are joined early."""
    made, known = Directory(), dict[tuple[int, int], int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "_NEW_MIN", few)
        for rows, make in steps:
            series, block = columns(rows)
            exists = np.ones(len(made) << SHIFT, np.uint8)
            _, lacking = made.cells(series, block << SHIFT, SHIFT, make, exists)
            made.add(np.unique(lacking))
            found = made.look_up(series, block).tolist()
            if make:
                known |= dict(zip(rows, found, strict=True))
            assert found == [known.get(row, -1) for row in rows]
    assert sorted(known.values()) == list(range(len(made)))
    where = {key: number for number, key in enumerate(made.keys().tolist())}
    assert [where[key] for key in sorted(where)] == [known[row] for row in sorted(known)]
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
