"""How far points and accounts have come: what passes move one by one is what all of it says at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.engine import Engine
from tests.processors.histories import examples, histories, logs
from tests.processors.log_driver import as_records


@given(st.data())
@examples()
def test_a_pass_moves_the_frontiers_that_its_records_move(data: st.DataObject) -> None:
    """Those of points and of accounts, before it and behind it; the others are as they were."""
    history = data.draw(histories())
    engine = Engine(history.roster)
    progress, (points, accounts) = engine.progress, engine.frontiers
    known = points.after.copy(), accounts.after.copy()
    records, cut = as_records(data.draw(logs(history.readings))), data.draw(st.integers(1, 5))
    for first in range(0, len(records), cut):
        for _ in engine.step(records[first : first + cut]):
            assert (points.before.tolist(), accounts.before.tolist()) == tuple(one.tolist() for one in known)
            assert (
                points.after.tolist() == np.maximum(progress.seen, progress.waited[progress.group]).tolist()
            )
            assert accounts.after.tolist() == engine.accounts.frontier(points.after).tolist()
            known = points.after.copy(), accounts.after.copy()
