"""A soak of some seconds; one of two hours by `make endurance PART=soak ARGS="--seconds 7200"`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tests.endurance import endurance_soak
from tests.endurance.endurance_soak import Sample, flatness, slope

LONG = os.environ.get("METERFLOW_LONG") == "1"
SECONDS, READINGS = (300.0, 20_000) if LONG else (8.0, 1_500)


def test_memory_descriptors_and_threads_are_flat(tmp_path: Path) -> None:
    """Messages come again, clients come and go, pages are read: nothing grows, nothing counts twice: T25."""
    said: list[str] = []
    outcome = endurance_soak.run(tmp_path, 1, SECONDS, READINGS, said.append)
    assert outcome.faults == [], outcome.text()
    assert outcome.messages > 100
    assert len(outcome.samples) > 5


def test_what_grows_is_found() -> None:
    """A descriptor a minute, a thread a minute, 5 MB an hour; and what is level is not."""
    level = [Sample(60.0 * i, 150 + i % 3, 40 + i % 2, 20) for i in range(121)]
    assert flatness(level) == []
    cold = [replace(s, resident_mb=140, descriptors=26, threads=12) for s in level[:9]]
    assert flatness(cold + level[9:]) == []
    more = [replace(s, descriptors=s.descriptors + i) for i, s in enumerate(level)]
    assert [text.split()[0] for text in flatness(more)] == ["descriptors"]
    more = [replace(s, threads=s.threads + i) for i, s in enumerate(level)]
    assert [text.split()[0] for text in flatness(more)] == ["threads"]
    more = [replace(s, resident_mb=s.resident_mb + i / 12) for i, s in enumerate(level)]
    assert [text.split()[0] for text in flatness(more)] == ["memory"]
    assert slope([0, 1, 2], [5, 7, 9]) == 2
