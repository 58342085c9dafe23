"""The embedded service under kill -9: a few of them here, a hundred by `make endurance`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.endurance import endurance_kills

LONG = os.environ.get("METERFLOW_LONG") == "1"
KILLS, READINGS = (30, 200_000) if LONG else (4, 10_000)


def test_nothing_is_lost_or_counted_twice_over_kills(tmp_path: Path) -> None:
    """Every table is compute's by the site file that was applied meanwhile, ledgers and hops balance, and the
    archive gives the same results.
    """
    said: list[str] = []
    outcome = endurance_kills.run(tmp_path, 1, KILLS, READINGS, said.append)
    assert outcome.faults == [], said
    assert (outcome.lost, outcome.double) == (0, 0)
    assert outcome.kills.total() == KILLS
    assert outcome.changing, said
    assert outcome.messages >= outcome.readings > READINGS // 2
