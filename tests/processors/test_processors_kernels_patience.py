"""Patience through a batch: the compiled loop gives exactly what its numpy twin gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.kernels import library
from processors.kernels.patience import Waits, Ways, moving, patience, patience_twin
from processors.progress import NEVER

Ints = NDArray[np.int64]
WAITS = Waits(*np.array([[0, 0, 2], [0, 2_500, 7_000], [NEVER, 3_000, 900]]))
TIMES = st.integers(0, 9_000)


def ascending(data: st.DataObject, size: int) -> Ints:
    """So many instants, some of the same second."""
    return np.array(sorted(data.draw(st.lists(TIMES, min_size=size, max_size=size))), np.int64)


def ways(data: st.DataObject, plants: int) -> Ways:
    """What may be known of plants before 10 s."""
    sizes = [data.draw(st.integers(0, 4)) for _ in range(plants)]
    times = [ascending(data, size) for size in sizes]
    horizons = [ascending(data, size) for size in sizes]
    spoke = np.array([every[-1] if len(every) else NEVER for every in times], np.int64)
    return Ways(np.cumsum([0, *sizes]), np.concatenate(times), np.concatenate(horizons), spoke)


def same(one: tuple[Ints, Ways], other: tuple[Ints, Ways]) -> bool:
    """Whether both say the same."""
    columns: list[tuple[Any, Any]] = [(one[0], other[0])]
    columns += [(getattr(one[1], name), getattr(other[1], name)) for name in Ways.__dataclass_fields__]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in columns)


@pytest.mark.skipif(not library.COMPILED, reason="the loops are not built: make setup")
@given(st.data())
def test_patience_is_used_up_as_numpy_finds_it(data: st.DataObject) -> None:
    """Two groups in a plant, a plant without points, times that never came; batch behind batch."""
    known, records = ways(data, 3), data.draw(st.integers(1, 5))
    log_time = 9_000 + ascending(data, records)
    each = st.lists(TIMES | st.just(NEVER), min_size=records, max_size=records)
    newest = np.array(data.draw(st.lists(each, min_size=3, max_size=3)), np.int64)
    assert same(patience(known, WAITS, newest, log_time), patience_twin(known, WAITS, newest, log_time))


@given(st.data())
def test_plants_whose_patience_stands_still_may_be_left_out(data: st.DataObject) -> None:
    """Of the others alone comes what comes of all; those that are left out wait for what they waited for."""
    known, records = ways(data, 3), data.draw(st.integers(1, 5))
    log_time = data.draw(st.integers(0, 9_000)) + ascending(data, records)
    each = st.just([NEVER] * records) | st.lists(TIMES | st.just(NEVER), min_size=records, max_size=records)
    newest = np.array(data.draw(st.lists(each, min_size=3, max_size=3)), np.int64)
    plants = moving(known, WAITS, np.flatnonzero((newest != NEVER).any(axis=1)), int(log_time[-1]))
    groups, waits = WAITS.of(plants)
    used_up, left = patience(known.of(plants), waits, newest[plants], log_time)
    every, all_left = patience(known, WAITS, newest, log_time)
    assert used_up.tolist() == every[groups].tolist()
    others = np.setdiff1d(np.arange(len(WAITS.plant)), groups)
    assert (every[others] == WAITS.waited[others, None]).all()
    both, silent = known.with_those(plants, left), np.setdiff1d(np.arange(3), plants)
    assert same((used_up, both.of(plants)), (used_up, all_left.of(plants)))
    assert same((used_up, both.of(silent)), (used_up, known.of(silent)))


def test_a_partition_without_plants_has_nobody_to_wait_for() -> None:
    """Its records are ticks: neither way fails of them."""
    none = np.zeros(0, np.int64)
    known, waits = Ways(np.zeros(1, np.int64), none, none, none), Waits(none, none, none)
    newest, log_time = np.zeros((0, 2), np.int64), np.array([1_000, 2_000])
    loops = [patience_twin(known, waits, newest, log_time)]
    if patience is not patience_twin:
        loops.append(patience(known, waits, newest, log_time))
    for used_up, left in loops:
        assert used_up.shape == (0, 3)
        assert same((used_up, left), (used_up, known))
