"""State that has left memory: every value is as it was, whatever is written, grown and put out."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from meterflow.paging import room_in
from processors import memory
from processors.cells import CHUNK_CELLS, Cells
from processors.engine import Engine
from processors.room import IN_MEMORY, Room
from processors.rows import Rows
from tests.processors.laws import example
from tests.processors.log_driver import Driver, as_records

SEEDS = 30
SPANS = 8 * CHUNK_CELLS


def paged(folder: Path) -> Room:
    """A room that pages, or the test is worth nothing."""
    room = room_in(folder)
    assert room is not IN_MEMORY
    return room


@pytest.mark.parametrize("seed", range(8))
def test_columns_hold_what_was_written(tmp_path: Path, seed: int) -> None:
    """Cells that are written, put out, written again, grown and dumped, beside the same in memory."""
    chance, fields = np.random.default_rng(seed), {"amount": np.int64, "cause": np.uint8, "rest": np.int32}
    ones, others = (Cells(fields, series=3, room=room) for room in (paged(tmp_path), IN_MEMORY))
    for known in np.geomspace(16, SPANS, 60).astype(int).tolist():
        series, span = chance.integers(0, 3, 500), chance.integers(known - known // 8 - 1, known, 500)
        few = chance.integers(0, known, int(chance.integers(0, 3)) // 2)
        for cells in (ones, others):
            at, old = cells.at(series, span), cells.at(few % 3, few)
            cells["amount"][at] = span
            cells["cause"][old] += 1
        if chance.random() < 0.7:
            ones.put_out()
        if chance.random() < 0.5:
            dumped = [cells.dump() for cells in (ones, others)]
            assert dumped[0] == dumped[1]
        for name in ("exists", *fields):
            size = min(len(ones[name]), len(others[name]))
            assert (ones[name][:size] == others[name][:size]).all()
    assert all((ones[name] == others[name]).all() for name in ("exists", *fields))
    assert str(tmp_path) in Path("/proc/self/maps").read_text(), "nothing was put out"


def test_what_became_zero_stays_so(tmp_path: Path) -> None:
    """Also where it lies in a file as it was before."""
    cells = Cells({"amount": np.int64}, room=paged(tmp_path))
    cells["amount"][cells.at(np.zeros(9, np.int64), np.arange(9))] = 5
    for value in (5, 0):
        cells["amount"][cells.at(np.zeros(9, np.int64), np.arange(9))] = value
        for _ in range(3):
            cells.keep_no_changes()
            cells.put_out()
    cells.at(np.zeros(2 * CHUNK_CELLS, np.int64), np.arange(2 * CHUNK_CELLS))
    assert not cells["amount"].any()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_said_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Row by row, history and all, over late, doubtful and corrected readings, with dumps and loads."""
    monkeypatch.setattr(memory, "PUT_OUT_MIN", 1)
    one = example(random.Random(seed))
    ones, others = Driver(one.history.roster), Driver(one.history.roster)
    records, at, number = as_records(one.log), 0, 0
    _in_room(ones, paged(tmp_path))
    while at < len(records):
        size = one.sizes[number % len(one.sizes)]
        for driver in (ones, others):
            driver.feed(records[at : at + size])
        ones.engine.put_out()
        if one.starts[number % len(one.starts)]:
            for driver in (ones, others):
                driver.restart()
            assert ones.chunks == others.chunks
        at, number = at + size, number + 1
    assert ones.history == others.history


def _in_room(driver: Driver, room: Room) -> None:
    driver.engine = Engine(driver.roster, room)
    driver.rows = Rows(driver.engine)


def test_without_a_place_everything_stays_in_memory(tmp_path: Path) -> None:
    """A folder that is gone, as a disk that is full, loses nothing."""
    folder = tmp_path / "scratch"
    room = paged(folder)
    folder.rmdir()
    cells = Cells({"amount": np.int64}, room=room)
    at = cells.at(np.zeros(5000, np.int64), np.arange(5000))
    cells["amount"][at] = np.arange(5000)
    array = np.arange(10)
    for _ in range(3):
        cells.keep_no_changes()
        cells.put_out()
        assert (cells["amount"][at] == np.arange(5000)).all()
        assert room.put_out(array) is array
