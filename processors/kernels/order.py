"""The readings of a batch by series, time and row, and what was seen of each one's series before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.kernels.library import INT64, OUT_INT64, SIZE, chosen, compiled
from processors.kernels.memory import TIME_BITS

Ints = NDArray[np.int64]

_ORDER = compiled("order", (SIZE, SIZE, INT64, INT64, INT64, INT64, OUT_INT64, OUT_INT64, OUT_INT64))


def _order_by_loop(series: Ints, time: Ints, record: Ints, newest: Ints) -> tuple[Ints, Ints]:
    assert _ORDER is not None
    n, size = len(series), len(newest)
    order, seen = np.empty(n, np.int64), np.empty(n, np.int64)
    scratch = np.empty(size + 1, np.int64)
    if _ORDER(n, size, series, time, record, newest, scratch, order, seen) < 0:
        return order_twin(series, time, record, newest)
    return order, seen


def order_twin(series: Ints, time: Ints, record: Ints, newest: Ints) -> tuple[Ints, Ints]:
    """As ``order``, in numpy."""
    by_series = np.argsort(series.astype(np.uint16) if len(newest) <= 1 << 16 else series, kind="stable")
    series, time, record = series[by_series], time[by_series], record[by_series]
    seen = _seen_before(series, record, time, newest)
    by_time = np.argsort((series << TIME_BITS) + time, kind="stable")
    return by_series[by_time], seen[by_time]


def _seen_before(series: Ints, record: Ints, time: Ints, newest: Ints) -> Ints:
    """The newest time of the same series in earlier records (rows by series and record)."""
    n = len(series)
    if n == 0:
        return series
    new_series = np.append(True, series[1:] != series[:-1])
    new_record = new_series | np.append(True, record[1:] != record[:-1])
    known = newest[series]
    shift = np.cumsum(new_series) << TIME_BITS  # keeps series apart in one running maximum
    highest = np.maximum.accumulate(np.maximum(time, known) + shift) - shift
    previous = np.where(new_series, known, np.append(0, highest[:-1]))
    return np.asarray(previous[np.maximum.accumulate(np.where(new_record, np.arange(n), 0))])


order = chosen(_ORDER, _order_by_loop, order_twin)
"""(series, time, record, newest) -> (order, seen): all by row, ``newest`` by series; rows come by record.

``order``: the rows by series, time and row. ``seen``: of each of them the newest time of its series in
earlier records and before the batch. Times are 0 to 2**43; ``newest`` may be far below.
"""
