"""A disk in trouble below the service: a second of each trouble here, longer by `make endurance`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.endurance import endurance_faults
from tests.endurance.endurance_disk import has_compiler

LONG = os.environ.get("METERFLOW_LONG") == "1"
SECONDS, READINGS = (10.0, 20_000) if LONG else (0.5, 2_000)


def test_a_disk_in_trouble_loses_nothing_and_is_told(tmp_path: Path) -> None:
    """Full, broken, read-only: acknowledging stops and goes on by itself; a slow or full store only lags."""
    assert has_compiler() or not os.environ.get("CI"), "cc is missing"
    if not has_compiler():
        pytest.skip("cc is missing: install gcc to try a disk in trouble below the service")
    said: list[str] = []
    outcome = endurance_faults.run(tmp_path, 1, SECONDS, READINGS, said.append)
    assert outcome.faults == [], said
    assert (
        len(outcome.figures) == len(endurance_faults.LOG_TROUBLES) + len(endurance_faults.OTHER_TROUBLES) + 1
    )
