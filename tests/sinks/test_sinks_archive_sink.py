"""From the log into the archive: all of it, however often it stops, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bus.frames import encode_readings
from bus.log import READINGS, Entry, Log
from bus.log_memory import MemoryLog
from bus.log_sqlite import open_log
from metering.errors import UsageError
from metering.readings import NO_SEQ, NO_TIME, Readings, absent, dictionary
from sinks import archive_sink
from sinks.archive_check import check
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive
from sinks.archive_sink import CONSUMER, ArchiveSink

NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
PLANT = "steel-1"


def one(value: int, plant: str = PLANT) -> Entry:
    """A record of one reading."""
    number = np.array([value], np.int64)
    readings = Readings(
        plant=plant,
        point=dictionary(["main"]),
        time=NOON_MS + number,
        start=np.array([NO_TIME]),
        mantissa=number,
        exponent=np.array([0], np.int8),
        unit=absent(1),
        serial=absent(1),
        product=absent(1),
        revision=np.array([0], np.int32),
        seq=np.array([NO_SEQ]),
        quality=np.array([0], np.uint8),
        flags=np.array([0], np.uint8),
        received=NOON_MS + number,
    )
    return Entry(plant, encode_readings(readings), NOON_MS)


async def until(check: Callable[[], object]) -> None:
    """Waits until it is true."""
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 20 s")


async def archived(log: Log, folder: Path, *, cost_max: int = 150, age_s: float = 900.0) -> ArchiveSink:
    """Archives all that is on the log, and stops."""
    sink = ArchiveSink(log, FolderPlace(folder), cost_max=cost_max, age_s=age_s)
    run = asyncio.create_task(sink.run())
    end = await log.end(READINGS)
    try:
        await until(lambda: run.done() or sink._gathered.until >= end)
    finally:
        await sink.stop()
        await run
    return sink


def values(folder: Path) -> list[int]:
    """Of all readings, in the order of the log."""
    batches = Archive(FolderPlace(folder)).readings(PLANT)
    return [value for batch in batches for value in batch.readings.mantissa.tolist()]


def with_log(test: Callable[[Log], Awaitable[None]]) -> None:
    """Runs a test on a log in memory."""
    asyncio.run(_closed(test, MemoryLog()))


async def _closed(test: Callable[[Log], Awaitable[None]], log: Log) -> None:
    await test(log)
    await log.close()


def entries(values: Sequence[int]) -> dict[str, list[Entry]]:
    """Records of one reading each, with a tick between them."""
    tick = Entry(PLANT, b"", NOON_MS)
    return {READINGS: [entry for value in values for entry in (one(value), tick)]}


def test_what_is_on_the_log_is_archived_once(tmp_path: Path) -> None:
    """Over stops and starts, on the log of a folder; its position follows."""

    async def scenario() -> None:
        offset = 0
        for round_ in range(3):
            log = await open_log(tmp_path / "data")
            await log.append(entries(range(round_ * 7, round_ * 7 + 7)))
            sink = await archived(log, tmp_path / "archive")
            assert sink.readings == 7
            offset = sink.offset
            assert (await log.load(CONSUMER)).done == offset
            await log.close()
        assert values(tmp_path / "archive") == list(range(21))
        report = check(FolderPlace(tmp_path / "archive"), {0: offset})
        assert (report.readings, report.until, report.problems) == (21, {0: offset}, [])

    asyncio.run(scenario())


def test_readings_wait_until_they_are_enough_or_old(tmp_path: Path) -> None:
    """A trickle makes one file; when its first reading is old enough it is written without a stop."""

    async def scenario(log: Log) -> None:
        sink = ArchiveSink(log, FolderPlace(tmp_path), age_s=1.0)
        run = asyncio.create_task(sink.run())
        for value in range(5):
            await log.append(entries([value]))
            await asyncio.sleep(0.02)
        await until(lambda: sink.readings == 5)
        assert len(FolderPlace(tmp_path).sizes("readings")) == 1
        await sink.stop()
        await run

    with_log(scenario)


def test_ticks_are_no_lag(tmp_path: Path) -> None:
    """What waits is counted without them, and is 0 when all that came is archived."""

    async def scenario(log: Log) -> None:
        await log.append(entries(range(3)))
        sink = ArchiveSink(log, FolderPlace(tmp_path))
        run = asyncio.create_task(sink.run())
        await until(lambda: sink._gathered.until == 6)
        assert (sink.offset, sink.lag) == (0, 3)
        await sink.stop()
        await run
        assert sink.lag == 0
        await log.append({READINGS: [Entry(PLANT, b"", NOON_MS)] * 2})
        after = ArchiveSink(log, FolderPlace(tmp_path))
        run = asyncio.create_task(after.run())
        await until(lambda: after._gathered.until == 8)
        assert (after.offset < 8, after.lag) == (True, 0)
        await after.stop()
        await run

    with_log(scenario)


def test_a_store_that_takes_nothing_is_tried_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why, lets go of nothing, and goes on by itself."""
    monkeypatch.setattr(archive_sink, "RETRY_S", (0.05, 0.1))
    (tmp_path / "readings").write_text("in the way")

    async def scenario(log: Log) -> None:
        await log.append(entries(range(9)))
        sink = ArchiveSink(log, FolderPlace(tmp_path), cost_max=150)
        run = asyncio.create_task(sink.run())
        await until(lambda: "cannot be written" in sink.error)
        assert sink.offset == 0
        (tmp_path / "readings").unlink()
        await until(lambda: sink.readings == 9)
        await sink.stop()
        await run
        assert values(tmp_path) == list(range(9))

    with_log(scenario)


def test_what_the_log_let_go_of_is_told_as_a_hole(tmp_path: Path) -> None:
    """The rest is archived; the check says what is not."""

    async def scenario(log: Log) -> None:
        await log.append(entries(range(9)))
        await log.trim(READINGS, 4)
        await archived(log, tmp_path)
        assert values(tmp_path) == list(range(2, 9))
        (problem,) = check(FolderPlace(tmp_path)).problems
        assert (problem.kind, problem.path) == ("hole", "manifest/0-0-4.json")

    with_log(scenario)


def test_a_lost_manifest_is_made_again(tmp_path: Path) -> None:
    """From the log, without touching what is behind it."""

    async def scenario(log: Log) -> None:
        await log.append(entries(range(9)))
        await archived(log, tmp_path)
        gone = sorted((tmp_path / "manifest").iterdir())[1]
        gone.unlink()
        await archived(log, tmp_path)
        assert values(tmp_path) == list(range(9))
        assert check(FolderPlace(tmp_path)).problems == []

    with_log(scenario)


def test_two_logs_do_not_meet_in_one_archive(tmp_path: Path) -> None:
    """The second one is refused; so is one that ends before the archive does."""

    async def first(log: Log) -> None:
        await log.append(entries(range(3)))
        await archived(log, tmp_path)
        await log.forget(CONSUMER)
        with pytest.raises(UsageError, match="of another log"):
            await archived(log, tmp_path)

    async def second(log: Log) -> None:
        with pytest.raises(UsageError, match="of another log"):
            await archived(log, tmp_path)

    async def shorter(log: Log) -> None:
        await log.save(CONSUMER, 0, {"number": b"1" * 32})
        (tmp_path / "log" / "0.json").unlink()
        with pytest.raises(UsageError, match="ahead of the log"):
            await archived(log, tmp_path)

    with_log(first)
    with_log(second)
    with_log(shorter)


@pytest.mark.parametrize("kept", [b"", b"PK nonsense"])
def test_what_the_log_keeps_of_the_archive_may_be_damaged(tmp_path: Path, kept: bytes) -> None:
    """Then the archive's own number counts, and is put right on the log."""

    async def twice(log: Log) -> None:
        await log.append(entries(range(3)))
        await archived(log, tmp_path)
        number = (await log.load(CONSUMER)).chunks["number"]
        await log.save(CONSUMER, 0, {"number": kept})
        await archived(log, tmp_path)
        assert (await log.load(CONSUMER)).chunks["number"] == number

    with_log(twice)
