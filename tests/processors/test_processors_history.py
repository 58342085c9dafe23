"""What was reported stays to be seen: every final row and every change of it, in the order of the log."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.processors.histories import examples, histories, logs
from tests.processors.laws import around, reported, said_again
from tests.processors.log_driver import run


@given(st.data())
@examples()
def test_the_same_log_reports_the_same_however_it_is_cut(data: st.DataObject) -> None:
    """Cut into any batches, a log reports the same rows, and what supersedes them, one after the other."""
    history = data.draw(histories())
    log = data.draw(logs(history.readings))
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 10, 50]), min_size=1, max_size=20))
    one, other = (reported(run(history.roster, log, cut=cut)) for cut in (lambda: 1, around(sizes)))
    differing: list[Any] = [
        (key, one.get(key), other.get(key))
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key)
    ]
    assert differing[:2] == []


@given(st.data())
@examples()
def test_a_figure_that_is_reported_again_is_a_revision(data: st.DataObject) -> None:
    """A row that was reported stays as it was said, when it was said; or it has a higher revision."""
    history = data.draw(histories())
    log = data.draw(logs(history.readings))
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 10, 50]), min_size=1, max_size=20))
    driver = run(history.roster, log, cut=around(sizes))
    assert said_again(driver)[:2] == said_again(driver, "intensity")[:2] == []
