"""The SQLite log in a process that is killed at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from bus.log import READINGS, RESULTS, Record
from bus.log_sqlite import open_log
from bus.log_sqlite_file import FILE_NAME
from tests.bus import appender

ROOT = Path(__file__).parents[2]
ROUNDS = 100 if os.environ.get("METERFLOW_LONG") == "1" else 20


def acknowledged_until_killed(folder: Path, first: int, after_s: float) -> set[int]:
    """Runs the appender, kills it so long after it has opened the log, and gives what it printed."""
    command = [sys.executable, appender.__file__, str(folder), str(first)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        try:
            _, _ = child.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        printed, _ = child.communicate()
        assert child.returncode == -signal.SIGKILL
    return {int(line) for line in printed.split(b"\n")[:-1]}


async def all_records(folder: Path) -> tuple[list[Record], list[Record], int, dict[str, bytes]]:
    """Both topics, and the consumer's saved state."""
    log = await open_log(folder)
    readings = await log.read(READINGS, 0, records_max=1 << 30, bytes_max=1 << 40)
    results = await log.read(RESULTS, 0, records_max=1 << 30, bytes_max=1 << 40)
    state = await log.load("books")
    await log.close()
    return readings, results, state.offset, dict(state.chunks)


def check(folder: Path, acknowledged: set[int]) -> int:
    """Everything acknowledged is there, everything there is whole; gives the next free number."""
    readings, results, offset, chunks = asyncio.run(all_records(folder))
    numbers = [record.stamp_ms for record in results]
    assert acknowledged <= set(numbers)
    assert len(set(numbers)) == len(numbers), "something is there twice"
    assert [record.offset for record in results] == list(range(len(results)))
    assert all(record.value == appender.value_of(record.stamp_ms) for record in results[-500:])
    assert readings == results[len(results) - len(readings) :]
    assert offset <= len(results)
    assert len(results) - len(readings) <= max(0, offset - 200)
    assert chunks.get("offset", b"0") == b"%d" % offset
    return max(numbers, default=-1) + 1


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    """Killed with SIGKILL again and again, the log opens every time with every acknowledged record: T4."""
    chooser = random.Random(4)
    acknowledged: set[int] = set()
    following = 0
    for _ in range(ROUNDS):
        acknowledged |= acknowledged_until_killed(tmp_path, following, chooser.uniform(0.01, 0.2))
        following = check(tmp_path, acknowledged)
    assert len(acknowledged) > 10 * ROUNDS
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
