"""Power cuts of the whole service: some here, a thousand by `make endurance PART=power`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.endurance import endurance_power
from tests.endurance.endurance_disk import Disk, Event, has_compiler

LONG = os.environ.get("METERFLOW_LONG") == "1"
POINTS, RESTARTS, READINGS = (1000, 10, 4000) if LONG else (20, 1, 1500)
CREATE, WRITE, TRUNCATE, SYNC, RENAME, REMOVE = range(1, 7)


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Log, saved state, store and archive on one disk, cut at many moments: all of it is there and fits."""
    assert has_compiler() or not os.environ.get("CI"), "cc is missing"
    if not has_compiler():
        pytest.skip("cc is missing: install gcc to try power cuts of the whole service")
    said: list[str] = []
    outcome = endurance_power.run(tmp_path, 1, POINTS, RESTARTS, READINGS, said.append)
    assert outcome.faults == [], said
    assert (outcome.points, outcome.restarts) == (POINTS, RESTARTS)
    assert outcome.events > POINTS


def laid_out(folder: Path, *events: tuple[int, str, str, bytes]) -> set[tuple[tuple[str, bytes], ...]]:
    """Every way in which a disk is found after these operations and a power cut, of two hundred tries."""
    disk = Disk()
    for operation, name, other, data in events:
        disk.take(Event(operation, name, other, 0, data, 0))
    found = set()
    for seed in range(200):
        disk.cut(folder / str(seed), random.Random(seed))
        files = sorted((folder / str(seed)).glob("*")) if (folder / str(seed)).exists() else []
        found.add(tuple((path.name, path.read_bytes()) for path in files))
    return found


def test_the_disk_keeps_what_was_synced_and_nothing_else_for_sure(tmp_path: Path) -> None:
    """A file that was renamed without a sync may be the old one, the new one, or the new one empty."""
    old = [(CREATE, "a", "", b""), (WRITE, "a", "", b"old"), (SYNC, "a", "", b""), (SYNC, ".", "", b"")]
    new = [(CREATE, "b", "", b""), (WRITE, "b", "", b"new"), (RENAME, "b", "a", b"")]
    found = laid_out(tmp_path / "unsynced", *old, *new)
    assert {(("a", b"old"),), (("a", b"new"),), (("a", b""),)} <= found
    synced = [*new[:2], (SYNC, "b", "", b""), new[2], (SYNC, ".", "", b"")]
    assert laid_out(tmp_path / "synced", *old, *synced) == {(("a", b"new"),)}
