"""Which readings begin a pass because of what a register did: with and without the compiled loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import unsettled
from processors.batch import build
from processors.engine import Engine
from processors.kernels import library
from processors.kernels.chain import breaks_twin
from processors.passes import sorted_by_key
from processors.unsettled import Found
from tests.processors.histories import doubted, examples, histories, logs
from tests.processors.log_driver import Arrival, as_records, run


def found(engine: Engine, log: list[Arrival]) -> Found:
    """What is found of a log, as one batch."""
    batch, seen = sorted_by_key(
        build(as_records(log), engine.index),
        engine._newest(),
        engine.progress.seen,
        engine.index,
    )
    late = np.flatnonzero((batch.time <= seen.of_series) & ~engine.index.interval[batch.point])
    return unsettled.Unsettled(engine.index, engine.books).find(batch, seen.of_series, late)


@pytest.mark.skipif(not library.COMPILED, reason="the loops are not built: make setup")
@given(st.data())
@examples()
def test_the_loop_leaves_out_only_what_counts_on(data: st.DataObject) -> None:
    """What is found is the same when every row is looked at."""
    history = data.draw(histories() | doubted())
    log = data.draw(logs(history.readings))
    half = len(log) // 2
    engine = run(history.roster, log[:half]).engine
    one = found(engine, log[half:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unsettled, "breaks", breaks_twin)
        other = found(engine, log[half:])
    assert (one.rows.tolist(), one.series.tolist()) == (other.rows.tolist(), other.series.tolist())
