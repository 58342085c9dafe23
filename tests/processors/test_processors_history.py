"""What was reported stays to be seen: every final row and every change of it, in the order of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from metering.tables import TABLES
from tests.processors.histories import examples, histories, logs
from tests.processors.log_driver import Driver, run
from tests.processors.test_processors_laws import around

if TYPE_CHECKING:
    from tests.processors.log_driver import Key, Row

REPORTED = ("interval", "rollup", "intensity", "verdict", "alert")


def reported(driver: Driver) -> dict[tuple[str, Key], list[Row]]:
    """By key, every row that was reported, each once, in the order they were said."""
    out: dict[tuple[str, Key], list[Row]] = {}
    for name, row in driver.history:
        if name in REPORTED:
            versions = out.setdefault((name, tuple(row[column] for column in TABLES[name].key)), [])
            shown = {"gone": True} if row["gone"] else row
            said_before = versions and versions[-1] != shown
            if row.get("state") != "open" and (said_before or not versions) and (versions or not row["gone"]):
                versions.append(shown)
    return {key: versions for key, versions in out.items() if versions}


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
