"""Kills, damage and full disks: what is committed stays, and the store opens."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from metering.errors import MeterflowError, Unavailable, UsageError
from metering.query import Query
from sinks.store_duckdb import DuckStore, open_existing, open_store

Builder = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("child_store.py")
KILLS = 100 if os.environ.get("METERFLOW_LONG") else 10
SERIES = 40


def start(path: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(CHILD), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def killed_at(path: Path, seconds: float) -> int:
    """Runs a writer, kills it some time after its first commit; the last position it had confirmed."""
    with start(path) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(seconds)
        child.kill()
        return int((first + child.stdout.read()).split()[-1])


def test_a_killed_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """kill -9 at random moments: every confirmed row is there once, and the position fits the rows."""
    path, dice = tmp_path / "results.duckdb", random.Random(7)
    for _ in range(KILLS):
        confirmed = killed_at(path, dice.uniform(0.0, 0.3))
        store, rebuilt = open_store(path)
        position = store.position()
        assert not rebuilt
        assert confirmed <= position <= confirmed + 1
        rows = store.rows(Query("interval", equal={"state": ("final",)}))
        filling = store.rows(Query("interval", equal={"state": ("open",)}))
        rejected = store.rows(Query("rejected"))
        store.close()
        assert len(rows) == len({(row["point"], row["end"]) for row in rows}) == position * SERIES
        assert [row["cause"] for row in filling] == [f"batch {position - 1}"] * SERIES
        assert [row["topic"] for row in rejected] == [f"t/{n}" for n in range(position)]


@pytest.mark.parametrize("damage", ["garbage", "flipped", "cut", "empty"])
def test_a_damaged_file_is_moved_aside_and_an_empty_store_opened(
    tmp_path: Path, interval: Builder, frame: Builder, damage: str
) -> None:
    """The old file is kept beside it; the caller is told that everything has to be computed again."""
    path = tmp_path / "results.duckdb"
    store, _ = open_store(path)
    store.write([frame("interval", [interval()])], 7)
    store.close()
    whole = path.read_bytes()
    flipped = bytes(byte ^ 255 for byte in whole[4096:12288])
    broken = {
        "garbage": b"nonsense" * 5000,
        "flipped": whole[:4096] + flipped + whole[12288:],
        "cut": whole[:5000],
        "empty": b"",
    }
    path.write_bytes(broken[damage])
    store, rebuilt = open_store(path)
    assert rebuilt
    assert (store.position(), store.rows(Query("interval"))) == (0, [])
    assert store.moved_aside is not None
    assert store.moved_aside.read_bytes() == broken[damage]
    store.close()


def test_a_missing_file_means_rebuilding(tmp_path: Path) -> None:
    """Whoever deletes the store gets it computed again; its forgotten log is not applied to the new one."""
    path = tmp_path / "results.duckdb"
    (tmp_path / "results.duckdb.wal").write_bytes(b"left over")
    store, rebuilt = open_store(path)
    store.close()
    assert rebuilt
    assert [file.read_bytes() for file in tmp_path.glob("*.damaged-*.wal")] == [b"left over"]
    store, rebuilt = open_store(path)
    store.close()
    assert not rebuilt


def test_a_store_of_another_shape_is_rebuilt(tmp_path: Path) -> None:
    """Columns of an older version are not altered in place: the rows come again from the log."""
    path = tmp_path / "results.duckdb"
    open_store(path)[0].close()
    with duckdb.connect(str(path)) as other:
        other.execute("UPDATE meterflow_store SET shape = 'of old'")
    store, rebuilt = open_store(path)
    store.close()
    assert rebuilt


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "results.duckdb"
    open_store(path)[0].close()
    with duckdb.connect(str(path)) as other:
        other.execute("UPDATE meterflow_store SET version = 99")
    with pytest.raises(UsageError, match="newer version"):
        open_store(path)
    assert [file.name for file in tmp_path.iterdir()] == ["results.duckdb"]


def test_a_foreign_duckdb_file_is_refused(tmp_path: Path) -> None:
    """Somebody's own analysis is not taken for a damaged store."""
    path = tmp_path / "results.duckdb"
    with duckdb.connect(str(path)) as other:
        other.execute("CREATE TABLE mine (x INTEGER)")
    with pytest.raises(UsageError, match="no store of meterflow"):
        open_store(path)
    assert path.exists()


def test_a_store_that_another_process_has_open_is_unavailable(tmp_path: Path) -> None:
    """One owner; the file is not moved away under it."""
    path = tmp_path / "results.duckdb"
    with start(path) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(Unavailable, match="another process"):
            open_store(path)
        child.kill()
    assert not list(tmp_path.glob("*damaged*"))


def test_opening_for_reading_makes_and_moves_nothing(tmp_path: Path) -> None:
    """An export of a missing or damaged store says so and leaves the folder as it is."""
    path = tmp_path / "results.duckdb"
    with pytest.raises(UsageError, match="no results here"):
        open_existing(path)
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(MeterflowError, match="cannot be used"):
        open_existing(path)
    assert [file.name for file in tmp_path.iterdir()] == ["results.duckdb"]
    path.unlink()
    open_store(path)[0].close()
    store = open_existing(path)
    assert store.rows(Query("interval")) == []
    store.close()


def test_a_folder_in_its_place_is_not_moved(tmp_path: Path) -> None:
    """What is no file cannot be a damaged store."""
    path = tmp_path / "results.duckdb"
    path.mkdir()
    with pytest.raises(Unavailable):
        open_store(path)
    assert path.is_dir()


def test_a_full_disk_stops_writing_and_nothing_else(
    store: DuckStore, interval: Builder, frame: Builder
) -> None:
    """While there is no room writes fail, reads go on; with room again the same write passes."""
    rows = [interval(f"point-{i}", str(i)) for i in range(20_000)]
    store.write([frame("interval", rows[:10])], 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size + 4096, hard))
    try:
        for _ in range(3):
            with pytest.raises(Unavailable, match="cannot write to the result store"):
                store.write([frame("interval", rows)], 2)
        assert len(store.rows(Query("interval"))) == 10
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.position() == 1
    store.write([frame("interval", rows)], 2)
    assert (len(store.rows(Query("interval"))), store.position()) == (20_000, 2)
