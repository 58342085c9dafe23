"""The SQLite log on a disk that is full, broken or held by somebody else."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest

from bus.log import READINGS, Entry
from bus.log_sqlite import SqliteLog, open_log
from bus.log_sqlite_file import FILE_NAME
from metering.errors import MeterflowError, Unavailable
from tests.bus.disk import Disk, broken

ROOT = Path(__file__).parents[2]
VALUE = bytes(50_000)


def entries(*numbers: int) -> list[Entry]:
    """Records of 50 kB."""
    return [Entry("plant-1", VALUE, number) for number in numbers]


async def stamps(log: SqliteLog) -> list[int]:
    """The numbers of all records."""
    return [record.stamp_ms for record in await log.read(READINGS, 0, records_max=9999, bytes_max=1 << 30)]


async def fill(log: SqliteLog) -> tuple[list[int], Unavailable, float]:
    """Appends until the log refuses: what it took, the refusal, and how long that took in seconds."""
    taken: list[int] = []
    while True:
        started = time.monotonic()
        try:
            await log.append({READINGS: entries(len(taken))})
        except Unavailable as error:
            return taken, error, time.monotonic() - started
        taken.append(len(taken))


def integrity(folder: Path) -> list[tuple[str]]:
    """SQLite's own check of every page."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; only root can mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root; the file size limit is tested anyway")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_full_disk_stops_the_log_and_room_lets_it_go_on(small_disk: Path) -> None:
    """Appends are refused within a second, nothing taken is lost, and work goes on by itself: T23."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    log = await open_log(small_disk / "log", checkpoint_bytes=300_000)
    taken, error, refused_s = await fill(log)
    assert refused_s < 1
    assert "Make room" in error.hint
    for _ in range(3):
        with pytest.raises(Unavailable):
            await log.append({READINGS: entries(-1)})
    assert await stamps(log) == taken
    ballast.unlink()
    await log.append({READINGS: entries(len(taken), len(taken) + 1)})
    assert await stamps(log) == [*taken, len(taken), len(taken) + 1]
    await log.close()
    assert integrity(small_disk / "log") == [("ok",)]


async def test_a_log_closed_on_a_full_disk_opens_again_with_everything(small_disk: Path) -> None:
    """Nothing that was acknowledged depends on closing well."""
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    log = await open_log(small_disk / "log", checkpoint_bytes=300_000)
    taken, _, _ = await fill(log)
    await log.close()
    (small_disk / "ballast").unlink()
    log = await open_log(small_disk / "log")
    assert await stamps(log) == taken
    await log.close()


async def limited(folder: Path) -> None:
    """In a process of its own: fills files up to a limit of 2 MB, lifts it, and goes on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
    log = await open_log(folder, checkpoint_bytes=300_000)
    taken, _, refused_s = await fill(log)
    assert refused_s < 1
    assert await stamps(log) == taken
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await log.append({READINGS: entries(len(taken))})
    assert await stamps(log) == [*taken, len(taken)]
    await log.close()
    print(len(taken) + 1)  # noqa: T201 - the answer to the test


def test_a_limit_on_file_sizes_is_like_a_full_disk(tmp_path: Path) -> None:
    """The same without root: files may not grow, then they may."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert int(done.stdout) > 10
    assert integrity(tmp_path) == [("ok",)]


async def test_a_locked_file_is_unavailable_until_it_is_let_go(tmp_path: Path) -> None:
    """Another program in a transaction: refused within a second, then work goes on."""
    log = await open_log(tmp_path)
    await log.append({READINGS: entries(0)})
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(Unavailable, match="locked") as refused:
            await log.append({READINGS: entries(1)})
        assert time.monotonic() - started < 1
        assert "close it" in refused.value.hint
        other.execute("ROLLBACK")
        await log.append({READINGS: entries(2)})
    assert await stamps(log) == [0, 2]
    await log.close()


def fail_at(operation: str, error: apsw.Error, asked: str, _: str) -> None:
    """A fault of a disk in one operation."""
    if asked == operation:
        raise error


async def test_a_broken_disk_is_unavailable_and_the_log_goes_on_behind_it(tmp_path: Path) -> None:
    """Each kind of failing write and fsync: refused with a hint, whole or not at all, then taken."""
    disk = Disk()
    log = await open_log(tmp_path, storage=disk)
    await log.append({READINGS: entries(0)})
    taken = [0]
    errors = [
        ("write", broken(apsw.IOError, sqlite3.SQLITE_IOERR_WRITE)),
        ("write", broken(apsw.FullError, sqlite3.SQLITE_FULL)),
        ("sync", broken(apsw.IOError, sqlite3.SQLITE_IOERR_FSYNC)),
    ]
    for number, (operation, error) in enumerate(errors, 1):
        disk.fault = partial(fail_at, operation, error)
        with pytest.raises(Unavailable) as refused:
            await log.append({READINGS: entries(number * 10)})
        assert refused.value.hint
        disk.fault = lambda *_: None
        await log.append({READINGS: entries(number)})
        taken += [s for s in await stamps(log) if s == number * 10] + [number]
        assert await stamps(log) == taken
    assert log.metrics().reopened == len(errors)
    await log.close()


async def test_a_waiting_reader_hears_of_records_that_an_error_left_in_the_log(tmp_path: Path) -> None:
    """A commit whose fsync failed may turn out to be there: it is read like any other."""
    disk = Disk()
    log = await open_log(tmp_path, storage=disk)
    failing = iter([True] * 3)

    def fail(operation: str, _: str) -> None:
        if operation == "sync" and next(failing, False):
            raise broken(apsw.IOError, sqlite3.SQLITE_IOERR_FSYNC)

    await log.append({READINGS: entries(0)})
    waiting = asyncio.create_task(log.wait(READINGS, 1, 30))
    disk.fault = fail
    with pytest.raises(Unavailable):
        await log.append({READINGS: entries(1)})
    while True:
        try:
            await log.save("books", 0, {})
            break
        except Unavailable:
            continue
    there = await stamps(log)
    assert there in ([0], [0, 1])
    assert waiting.done() == (len(there) == 2)
    waiting.cancel()
    await log.close()


async def test_a_log_that_lost_acknowledged_records_refuses_to_go_on(tmp_path: Path) -> None:
    """Opened again after an error, the file must hold what was acknowledged."""
    disk = Disk()
    log = await open_log(tmp_path, storage=disk)
    await log.append({READINGS: entries(0, 1, 2)})

    def fail(*_: str) -> None:
        raise broken(apsw.IOError, sqlite3.SQLITE_IOERR_WRITE)

    disk.fault = fail
    with pytest.raises(Unavailable):
        await log.append({READINGS: entries(3)})
    disk.fault = lambda *_: None
    thief = disk.writer(tmp_path / FILE_NAME)
    thief.execute("DELETE FROM record WHERE stamp_ms = 2")
    thief.close()
    with pytest.raises(MeterflowError, match="are gone") as refused:
        await log.append({READINGS: entries(3)})
    assert not refused.value.retry
    await log.close()


if __name__ == "__main__":
    asyncio.run(limited(Path(sys.argv[1])))
