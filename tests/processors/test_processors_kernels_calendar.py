"""Edges of spans: the compiled loop gives exactly what its numpy twin gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from metering.civil import zone
from processors.kernels.calendar import Calendar, edges, edges_twin
from processors.spans import CLASSES, NAMES

Ints = NDArray[np.int64]
ZONES = [zone("Europe/Berlin"), zone("Australia/Lord_Howe")]
ZONE_OF, GRID_MS = np.array([0, 1, 1]), np.array([60_000, 900_000, 1_000])
FIRST, LAST = 1_700_000_000_000, 1_800_000_000_000


def starts(zone: int, cls: int, spans: Ints) -> Ints:
    """Where spans of a zone start."""
    return ZONES[zone].start_of(NAMES[cls], spans)  # type: ignore[arg-type]


def span_at(series: int, instant: int) -> int:
    """The span of a series that holds an instant."""
    account, cls = divmod(series, CLASSES)
    if cls == 0:
        return int(instant // GRID_MS[account])
    return int(ZONES[ZONE_OF[account]].index_of(NAMES[cls], np.array([instant]))[0])


rows = st.lists(st.tuples(st.integers(0, 3 * CLASSES - 1), st.integers(FIRST, LAST)), max_size=20)


@given(st.lists(rows, min_size=1, max_size=3))
def test_spans_have_the_edges_that_numpy_finds(batches: list[list[tuple[int, int]]]) -> None:
    """Of all classes, in two zones whose clocks change; later batches reach beyond earlier ones."""
    calendar = Calendar(ZONE_OF, GRID_MS, CLASSES, starts)
    for batch in batches:
        series = np.array([one for one, _ in batch], np.int64)
        span = np.array([span_at(*row) for row in batch], np.int64)
        start, end = edges(calendar, series, span)
        assert [start.tolist(), end.tolist()] == [
            part.tolist() for part in edges_twin(calendar, series, span)
        ]
        instant = np.array([at for _, at in batch], np.int64)
        assert ((start <= instant) & (instant < end)).all()
