"""What only the SQLite log does: its file, its owner, its threads."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import uvloop

from bus.log import READINGS, REJECTED, RESULTS, Entry, Snapshot
from bus.log_sqlite import SqliteLog, open_log
from bus.log_sqlite_file import FILE_NAME, FORMAT_VERSION
from bus.log_sqlite_reader import Readers
from metering.errors import MeterflowError, UsageError

ROOT = Path(__file__).parents[2]


def entries(*values: bytes) -> list[Entry]:
    """Records to append."""
    return [Entry("plant-1", value, 0) for value in values]


async def values(log: SqliteLog) -> list[bytes]:
    """All readings' values."""
    return [record.value for record in await log.read(READINGS, 0)]


def names(folder: Path) -> list[str]:
    """The folder's files."""
    return sorted(path.name for path in folder.iterdir())


def statement(folder: Path, sql: str) -> None:
    """Changes the file behind the log's back."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute(sql)
        connection.commit()


async def test_everything_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """Records, offsets also of a topic trimmed bare, and saved states."""
    log = await open_log(tmp_path / "new" / "folder")
    await log.append({READINGS: entries(b"a", b"b"), REJECTED: entries(b"x")})
    await log.trim(READINGS, 1)
    await log.trim(REJECTED, 1)
    await log.save("books", 2, {"a": b"1"})
    await log.close()
    log = await open_log(tmp_path / "new" / "folder")
    assert [(r.offset, r.value) for r in await log.read(READINGS, 0)] == [(1, b"b")]
    assert await log.end(REJECTED) == 1
    assert (await log.load("books")).offset == 2
    await log.append({READINGS: entries(b"c"), REJECTED: entries(b"y")})
    assert [r.offset for r in await log.read(REJECTED, 0)] == [1]
    await log.close()


async def test_closing_finishes_what_was_appended(tmp_path: Path) -> None:
    """Appends under way when the log is closed are durable, and their callers hear of it."""
    log = await open_log(tmp_path)
    appends = [asyncio.create_task(log.append({READINGS: entries(b"%d" % i)})) for i in range(50)]
    await asyncio.sleep(0)
    await log.close()
    await asyncio.gather(*appends)
    log = await open_log(tmp_path)
    assert await values(log) == [b"%d" % i for i in range(50)]
    await log.close()


async def test_a_closed_log_leaves_one_file_and_a_lock(tmp_path: Path) -> None:
    """The write-ahead log is moved into the file, so that a copy of it is the whole log."""
    log = await open_log(tmp_path)
    await log.append({READINGS: entries(b"a")})
    await log.read(READINGS, 0)
    await log.close()
    assert names(tmp_path) == ["lock", FILE_NAME]


def opened_elsewhere(folder: Path) -> str:
    """What another process says that opens the log."""
    code = (
        "import asyncio, sys, bus.log_sqlite as b, pathlib as p; asyncio.run(b.open_log(p.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return done.stderr


async def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    """A UsageError with the owner's process id, and the owner goes on."""
    log = await open_log(tmp_path)
    said = await asyncio.to_thread(opened_elsewhere, tmp_path)
    assert f"already running on this folder (process {os.getpid()})" in said
    with pytest.raises(UsageError, match="already running"):
        await open_log(tmp_path)
    await log.append({READINGS: entries(b"a")})
    await log.close()


async def test_a_file_deleted_while_in_use_takes_nothing_more(tmp_path: Path) -> None:
    """It could be written, but nobody would find it again."""
    log = await open_log(tmp_path)
    await log.append({READINGS: entries(b"a")})
    (tmp_path / FILE_NAME).rename(tmp_path / "elsewhere")
    with pytest.raises(MeterflowError, match="moved or deleted"):
        await log.append({READINGS: entries(b"b")})
    (tmp_path / "elsewhere").rename(tmp_path / FILE_NAME)
    await log.append({READINGS: entries(b"c")})
    assert await values(log) == [b"a", b"c"]
    await log.close()


async def test_a_closed_log_may_be_opened_by_the_next(tmp_path: Path) -> None:
    """The folder is let go, also when opening it failed."""
    await (await open_log(tmp_path)).close()
    statement(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(UsageError):
        await open_log(tmp_path)
    statement(tmp_path, f"PRAGMA user_version = {FORMAT_VERSION}")
    await (await open_log(tmp_path)).close()


async def test_a_newer_log_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Never guessed at."""
    await (await open_log(tmp_path)).close()
    statement(tmp_path, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    with pytest.raises(UsageError, match="newer meterflow") as refused:
        await open_log(tmp_path)
    assert "Update meterflow" in refused.value.hint


async def test_a_log_of_format_1_is_brought_up(tmp_path: Path) -> None:
    """It has its records and states; what was saved counts as done, as its results were appended before."""
    log = await open_log(tmp_path)
    await log.append({READINGS: entries(b"a")})
    await log.save("books", 3, {"a": b"1"})
    await log.close()
    statement(tmp_path, "ALTER TABLE consumer DROP COLUMN done")
    statement(tmp_path, "PRAGMA user_version = 1")
    log = await open_log(tmp_path)
    state = await log.load("books")
    assert (state.offset, state.done, dict(state.chunks)) == (3, 3, {"a": b"1"})
    assert await values(log) == [b"a"]
    await log.commit("books", 5, {READINGS: entries(b"b")})
    await log.close()
    log = await open_log(tmp_path)
    assert (await log.load("books")).done == 5
    await log.close()


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """It is not taken for a log, and stays as it is."""
    statement(tmp_path, "CREATE TABLE t (a)")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(UsageError, match="another program's"):
        await open_log(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """An error for people, not to be tried again."""
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(MeterflowError, match="not a database") as refused:
        await open_log(tmp_path)
    assert not refused.value.retry
    assert "restore" in refused.value.hint


async def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    """For example under a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot use the folder"):
        await open_log(tmp_path / "file" / "folder")


async def test_appends_of_many_callers_share_commits(tmp_path: Path) -> None:
    """While one group is made durable, the next one gathers."""
    log = await open_log(tmp_path)
    await asyncio.gather(*(log.append({READINGS: entries(b"%d" % i)}) for i in range(500)))
    metrics = log.metrics()
    assert metrics.appends == metrics.appended_records == 500
    assert metrics.commits < 100
    assert metrics.waiting == 0
    assert 0 < metrics.last_commit_s < 10
    assert metrics.file_bytes > 4096
    await log.close()


async def test_a_value_that_sqlite_cannot_take_fails_its_caller_only(tmp_path: Path) -> None:
    """Bad code of one caller is raised there; the others of its group are durable."""
    log = await open_log(tmp_path)
    bad = [Entry("plant-1", b"bad", 1 << 70)]
    appends = [log.append({READINGS: bad if i == 3 else entries(b"%d" % i)}) for i in range(6)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [OverflowError]
    assert await values(log) == [b"0", b"1", b"2", b"4", b"5"]
    await log.close()


async def test_a_cancelled_caller_harms_nobody(tmp_path: Path) -> None:
    """Its append happens or not, whole; others go on."""
    log = await open_log(tmp_path)
    cancelled = asyncio.create_task(log.append({READINGS: entries(b"x")}))
    await asyncio.sleep(0)
    cancelled.cancel()
    await log.append({READINGS: entries(b"a")})
    assert (await values(log))[-1] == b"a"
    await log.close()


async def test_a_commit_beside_a_save_does_not_have_the_state_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far its consumer has done is known all the time."""
    log = await open_log(tmp_path)
    try:
        await log.commit("books", 4, {})

        async def refused(*_: object) -> Snapshot:
            raise AssertionError("the state is read")

        monkeypatch.setattr(Readers, "snapshot", refused)
        saving = asyncio.create_task(log.save("books", 4, {"a": bytes(100)}))
        await asyncio.sleep(0)
        await log.commit("books", 5, {RESULTS: [Entry("", b"x", 0)]})
        await saving
        await log.commit("books", 5, {RESULTS: [Entry("", b"x", 0)]})
        assert await log.end(RESULTS) == 1
    finally:
        await log.close()


async def test_large_appends_are_whole(tmp_path: Path) -> None:
    """More records than one statement takes, and more bytes than one group."""
    log = await open_log(tmp_path)
    many = [bytes([i % 256]) * 100_000 for i in range(300)]
    await log.append({READINGS: entries(*many)})
    found = await log.read(READINGS, 0, bytes_max=1 << 30)
    assert [r.value for r in found] == many
    assert [r.offset for r in found] == list(range(300))
    await log.close()


async def test_room_let_go_by_trimming_is_used_again(tmp_path: Path) -> None:
    """A log that is trimmed as it grows keeps its size."""
    log = await open_log(tmp_path, checkpoint_bytes=1_000_000)
    sizes = []
    for _ in range(12):
        await log.append({READINGS: entries(*[bytes(20_000)] * 50)})
        await log.trim(READINGS, await log.end(READINGS) - 50)
        sizes.append(log.metrics().file_bytes)
    assert log.metrics().checkpoints > 5
    assert max(sizes[6:]) <= sizes[5] * 1.2
    await log.close()


async def test_appends_go_on_while_much_is_trimmed(tmp_path: Path) -> None:
    """Trimming takes its turn in slices: appends get between them."""
    log = await open_log(tmp_path)
    await log.append({READINGS: entries(*[bytes(50_000)] * 600)})
    trimming = asyncio.create_task(log.trim(READINGS, 600))
    between = 0
    while not trimming.done():
        await log.append({REJECTED: entries(b"x")})
        between += not trimming.done()
    assert between >= 3
    assert await log.read(READINGS, 0) == []
    await log.close()


async def test_a_damaged_file_is_no_passing_trouble(tmp_path: Path) -> None:
    """Reading a damaged page raises an error that says to restore a copy, not to try again."""
    log = await open_log(tmp_path)
    await log.append({READINGS: entries(*[bytes(3000)] * 300)})
    await log.close()
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + random.Random(1).randbytes(100_000) + content[middle + 100_000 :])
    log = await open_log(tmp_path)
    with pytest.raises(MeterflowError, match="malformed") as damaged:
        await log.read(READINGS, 0)
    assert not damaged.value.retry
    assert "restore" in damaged.value.hint
    await log.close()


def test_it_works_in_uvloop(tmp_path: Path) -> None:
    """Appending, waiting, reading and closing."""

    async def life() -> list[bytes]:
        log = await open_log(tmp_path)
        waiting = asyncio.create_task(log.wait(READINGS, 0, 10))
        await asyncio.gather(*(log.append({READINGS: entries(b"%d" % i)}) for i in range(20)))
        assert await waiting
        found = await values(log)
        await log.close()
        return found

    assert uvloop.run(life()) == [b"%d" % i for i in range(20)]


def test_a_loop_that_ends_without_closing_leaves_a_whole_log(tmp_path: Path) -> None:
    """As after a crash: what was acknowledged is there for the next process."""
    code = (
        "import asyncio, sys, pathlib\nfrom bus.log import *\nfrom bus.log_sqlite import open_log\n"
        "async def main():\n log = await open_log(pathlib.Path(sys.argv[1]))\n"
        " await log.append({READINGS: [Entry('a', b'b', 0)]})\nasyncio.run(main())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, timeout=30, check=True)

    async def found() -> list[bytes]:
        log = await open_log(tmp_path)
        try:
            return await values(log)
        finally:
            await log.close()

    assert asyncio.run(found()) == [b"b"]
