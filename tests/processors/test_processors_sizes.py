"""What is handed on comes in pieces: tables of some thousand rows, chunks of state below a megabyte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from processors import state
from processors.memory import PIECE, Memory, key_of
from processors.rows import ROWS_MAX
from processors.runs import NONE
from tests.processors.log_driver import as_records
from tests.processors.test_processors_far import CLOCK_RESET_MS, both, driver_of

if TYPE_CHECKING:
    from pathlib import Path

MEGABYTE = 1_000_000
DAYS_MS = 60 * 86_400_000


def test_a_gap_of_many_spans_is_said_in_tables_of_some_thousand_rows(tmp_path: Path) -> None:
    """Two readings 60 days apart at a base of a minute: 86,400 rows of each point."""
    driver = driver_of(tmp_path)
    arrivals = [both(CLOCK_RESET_MS, CLOCK_RESET_MS, 0), both(CLOCK_RESET_MS, CLOCK_RESET_MS + DAYS_MS, 9)]
    sizes = [len(t) for step in driver.engine.step(as_records(arrivals)) for _, t in driver.rows.emit(step)]
    assert sum(sizes) > 2 * 86_400
    assert max(sizes) <= ROWS_MAX


def test_no_chunk_of_state_is_larger_than_a_megabyte(tmp_path: Path) -> None:
    """However many readings a run has, and cells a pass makes."""
    driver = driver_of(tmp_path)
    driver.feed(as_records([both(CLOCK_RESET_MS, CLOCK_RESET_MS, 0)]))
    time_ms = CLOCK_RESET_MS + 1000 * np.arange(1, 200_000)
    key = key_of(np.zeros(len(time_ms), np.int64), time_ms)
    driver.engine.books.memory.add({"key": key, "value": key, "flags": np.zeros(len(key), np.uint8)})
    changed, _ = state.dump(driver.engine)
    assert max(map(len, changed.values())) < MEGABYTE
    assert sum(name.startswith("registers/") for name in changed) > len(key) // PIECE


def test_a_changed_reading_changes_one_piece() -> None:
    """A correction does not write a whole run anew; what was dumped is found again."""
    memory = Memory(1)
    key = key_of(np.zeros(100_000, np.int64), CLOCK_RESET_MS + 1000 * np.arange(100_000))
    memory.add({"key": key, "value": np.arange(100_000), "flags": np.zeros(len(key), np.uint8)})
    chunks, _ = memory.dump()
    memory.put("revision", memory.find(key[50_000:50_001]), np.array([3]))
    changed, gone = memory.dump()
    assert (len(changed), gone) == (1, [])
    other = Memory(1)
    other.load(chunks | changed)
    where = other.find(key)
    assert other.get("value", where).tolist() == list(range(100_000))
    assert np.flatnonzero(other.get("revision", where)).tolist() == [50_000]
    assert (other.before(key[:1])[0], other.after(key[:1])[0]) == (NONE, key[1])
