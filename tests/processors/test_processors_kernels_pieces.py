"""The compiled loops of spans give exactly what their twins give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.cells import CHUNK_CELLS
from processors.changes import Touches
from processors.flows import COUNTED, Flows
from processors.kernels import pieces as kernel
from processors.kernels import shares
from processors.kernels.library import COMPILED
from processors.spans_base import BASE_FIELDS

Ints = NDArray[np.int64]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the loops are not built")

BASE_MS = np.array([900_000, 0, 3_600_000, 14_400_000], np.int64)
"""Of four points; the second one reads intervals."""
RECORDS, HOUR_MS, YEAR_MS = 5, 3_600_000, 365 * 86_400_000
SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.integers(0, 16)
REACH_MS = st.sampled_from([5_000, HOUR_MS, 100 * HOUR_MS, YEAR_MS])


def flows_of(random: np.random.Generator, rows: int, reach_ms: int) -> Flows:
    start = random.integers(-reach_ms, reach_ms, rows)
    length = random.integers(1, reach_ms // 6 + 2, rows)
    booked = random.integers(0, 4, rows)
    counted = booked == COUNTED
    return Flows(
        random.integers(0, len(BASE_MS), rows),
        random.choice([-1, 1], rows),
        start,
        start + length,
        random.integers(-(10**12), 10**12, rows) * counted,
        booked,
        random.integers(0, 2, rows) * counted,
        random.integers(0, 2, rows),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        random.integers(0, RECORDS, rows),
    )


def inputs(
    seed: int, rows: int, reach_ms: int
) -> tuple[Flows, Touches, list[kernel.Stretches], kernel.Clock]:
    """Flows that partly take back what others bring, readings, spans that are wanted anyway."""
    random = np.random.default_rng(seed)
    flows = flows_of(random, rows, reach_ms)
    again = Flows(*(getattr(flows, name)[: rows // 2] for name in Flows.__dataclass_fields__))
    back = Flows(
        *(-again.sign if name == "sign" else getattr(again, name) for name in Flows.__dataclass_fields__)
    )
    both = Flows(
        *(np.concatenate([getattr(flows, name), getattr(back, name)]) for name in Flows.__dataclass_fields__)
    )
    read = random.choice([0, 2, 3], rows)
    touches = Touches(read, random.integers(-reach_ms, reach_ms, rows), random.integers(0, RECORDS, rows))
    first = random.integers(-3, 3, 3)
    wanted = [kernel.Stretches(np.array([0, 2, 3]), first, first + random.integers(-1, 4, 3))]
    before = random.integers(-reach_ms, reach_ms, len(BASE_MS))
    log_time = np.sort(random.integers(1, 10**6, RECORDS))
    return both, touches, wanted, kernel.Clock(BASE_MS, before, log_time)


def columns_of(rows: kernel.Pieces) -> dict[str, list[int]]:
    return {name: rows[name].tolist() for name in kernel.PIECE_COLUMNS}


@given(SEEDS, ROWS, REACH_MS)
@settings(deadline=None)
def test_flows_are_cut_and_added_up_as_the_twin_does_it(seed: int, rows: int, reach_ms: int) -> None:
    """Pieces of flows of either sign, near or far apart, of points with and without base spans."""
    given_ = inputs(seed, rows, reach_ms)
    assert columns_of(kernel.pieces(*given_)) == columns_of(kernel.pieces_twin(*given_))


@given(SEEDS, ROWS, st.sampled_from([HOUR_MS, 100 * HOUR_MS]))
@settings(deadline=None)
def test_cells_take_up_pieces_as_the_twin_does_it(seed: int, rows: int, reach_ms: int) -> None:
    """Every column of the cells, what is dirty, and which rows are to be said."""
    random, taken = np.random.default_rng(seed), kernel.pieces(*inputs(seed, rows, reach_ms))
    causes = random.integers(0, 2, len(BASE_MS)), random.integers(1, 4, 2)
    index = random.permutation(2 * CHUNK_CELLS)[: len(taken)]
    index = np.where((taken["kinds"] & kernel.MADE == 0) & (random.random(len(taken)) < 0.5), -1, index)
    answers = []
    for settle in (kernel.settle, kernel.settle_twin):
        cells = {"exists": np.zeros(2 * CHUNK_CELLS, np.uint8)}
        cells |= {name: np.zeros(2 * CHUNK_CELLS, kind) for name, kind in BASE_FIELDS.items()}
        cells["readings"][index[::2]] = 1
        dirty = np.zeros(2, bool)
        keep = settle(taken, index, causes, cells, dirty)
        answers.append([keep.tolist(), dirty.tolist(), *(column.tolist() for column in cells.values())])
    assert answers[0] == answers[1]


@given(SEEDS, ROWS, REACH_MS)
@settings(deadline=None)
def test_changes_are_dealt_out_as_the_twin_does_it(seed: int, rows: int, reach_ms: int) -> None:
    """Points with none, one and several owners, whose spans have different lengths; all rows, or some."""
    random = np.random.default_rng(seed)
    owners = shares.Owners(
        np.array([0, 0, 1, 3, 6]),
        np.array([0, 0, 1, 0, 1, 2]),
        random.choice([-1, 1], 6),
        np.array([60_000, 900_000, 1], np.int64) if reach_ms < HOUR_MS else np.array([60_000, 900_000, 7]),
    )
    sums = {name: random.integers(-5, 6, rows) for name in shares.SHARE_COLUMNS[2:]}
    times = random.integers(-reach_ms, reach_ms, (random.integers(1, 4), rows))
    some = None if seed % 2 else random.random(rows) < random.random()
    given_ = random.integers(0, 4, rows), times, sums, owners, some
    found, expected = shares.deal(*given_), shares.deal_twin(*given_)
    assert {name: values.tolist() for name, values in found.items()} == {
        name: values.tolist() for name, values in expected.items()
    }
