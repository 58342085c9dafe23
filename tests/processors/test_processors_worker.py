"""The worker's commit: results are said once, by one owner, also after a kill or an unanswered write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bus.frames import decode_readings, decode_table, encode_readings
from bus.log import READINGS, RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.errors import NotOwner, Unavailable
from metering.readings import Evidence, dictionary
from metering.roster import Roster
from processors import operators
from processors.operators import FRAME_ROWS_MAX, Plants
from processors.worker import Worker
from tests.processors.one_register import minutes, one_register, run, said, worked


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    """One plant with one register."""
    return one_register(tmp_path)


class OddLog(MemoryLog):
    """A log whose next commits happen, but are not answered; or whose partition has gone to another."""

    unanswered = 0
    taken = False

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        """Says that it cannot, after it has; or that it may not."""
        if self.taken:
            raise NotOwner("somebody else works on it")
        await super().commit(consumer, done, topics, partition)
        if self.unanswered:
            self.unanswered -= 1
            raise Unavailable("no answer")


@pytest.mark.parametrize("some", [{0, 1, 2, 3}, {1, 2}, {0}], ids=str)
def test_evidence_changes_nothing_that_is_said(roster: Roster, some: set[int]) -> None:
    """Records with it, without it and of both kinds in turn: the same rows."""

    async def test() -> None:
        plain, mixed = MemoryLog(), MemoryLog()
        entries = minutes(0, 1, 2, 3)
        await plain.append({READINGS: entries})
        await mixed.append({READINGS: [known(e) if i in some else e for i, e in enumerate(entries)]})
        for log in (plain, mixed):
            await worked(Worker(log, Plants(roster)), log)
        assert await said(mixed) == await said(plain) != []

    run(test())


def known(entry: Entry) -> Entry:
    """The same readings with evidence."""
    readings = decode_readings(entry.value)
    topic, digest = dictionary(["meterflow/v1/p/e"]), np.full((1, 32), 7, np.uint8)
    evidence = Evidence(topic, dictionary(["hall-3"]), digest, np.zeros(1, np.int32), "5e" * 32)
    return Entry(entry.key, encode_readings(replace(readings, evidence=evidence)), entry.stamp_ms)


def test_what_a_killed_worker_said_is_not_said_again(roster: Roster) -> None:
    """Without a saved state all is stepped again, and only what is new is put on the log."""

    async def test() -> None:
        log = MemoryLog()
        await log.append({READINGS: minutes(0, 1, 2)})
        await worked(Worker(log, Plants(roster)), log)
        before = await said(log)
        await log.append({READINGS: minutes(3)})
        second = Worker(log, Plants(roster))
        assert await second.start()
        await worked(second, log)
        after = await said(log)
        assert before
        assert after[: len(before)] == before
        ends = {row["end"].minute for row in after[len(before) :]}
        assert ends == {3, 4}

    run(test())


def test_an_unanswered_commit_is_not_repeated(roster: Roster) -> None:
    """The log is asked whether it happened."""

    async def test() -> None:
        log, plain = OddLog(), MemoryLog()
        log.unanswered = 1
        for one in (log, plain):
            await one.append({READINGS: minutes(0, 1, 2)})
            await worked(Worker(one, Plants(roster)), one)
        assert await said(log) == await said(plain)
        assert (await log.load(Plants.consumer)).done == 3

    run(test())


def test_a_worker_that_has_lost_its_partition_ends(roster: Roster) -> None:
    """It raises NotOwner, and has said nothing."""

    async def test() -> None:
        log = OddLog()
        log.taken = True
        await log.append({READINGS: minutes(0, 1)})
        with pytest.raises(NotOwner):
            await Worker(log, Plants(roster)).run()
        assert await said(log) == []

    run(test())


def test_many_rows_become_several_records(roster: Roster) -> None:
    """A gap of a week at a span a minute: no record of results has more rows than the limit."""

    async def test() -> None:
        log = MemoryLog()
        await log.append({READINGS: minutes(0, 7 * 1440)})
        await worked(Worker(log, Plants(roster)), log)
        sizes = [len(decode_table(record.value)[1]) for record in await log.read(RESULTS, 0)]
        assert max(sizes) <= FRAME_ROWS_MAX
        assert len({row["end"] for row in await said(log)}) == 7 * 1440 + 1

    run(test())


class PartedLog(MemoryLog):
    """A log that counts what it is told, and stands still when it has taken so many parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[int] = []
        """How far results were done when each part came."""
        self.parts_max = 1000

    async def commit_part(
        self, consumer: str, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        """Takes it, unless it stands still."""
        if len(self.parts) == self.parts_max:
            await asyncio.sleep(3600)
        self.parts.append((await self.load(consumer, partition)).done)
        await super().commit_part(consumer, topics, partition)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one record of results."""
    monkeypatch.setattr(operators, "PART_BYTES_MAX", 1)


@pytest.mark.usefixtures("small_parts")
def test_more_rows_than_one_commit_takes_are_said_in_parts(roster: Roster) -> None:
    """A gap of a week: every row once, and done is moved by the last part only."""

    async def test() -> None:
        log = PartedLog()
        await log.append({READINGS: minutes(0, 7 * 1440)})
        await worked(Worker(log, Plants(roster)), log)
        ends = [row["end"] for row in await said(log)]
        assert log.parts == [0, 0]
        assert len(ends) == len(set(ends)) == 7 * 1440 + 1
        assert (await log.load(Plants.consumer)).done == 2

    run(test())


@pytest.mark.usefixtures("small_parts")
def test_a_worker_killed_between_two_parts_says_the_same_again(roster: Roster) -> None:
    """What was said before the kill comes again as it was, also with more behind it; nothing is missing."""

    async def test() -> None:
        log, plain = PartedLog(), MemoryLog()
        await log.append({READINGS: minutes(0, 7 * 1440)})
        log.parts_max = 1
        task = asyncio.create_task(Worker(log, Plants(roster)).run())
        while not log.parts:  # noqa: ASYNC110 a plain list
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        before, log.parts_max = await said(log), 1000
        for one, which in ((log, (3,)), (plain, (0, 7 * 1440, 3))):
            await one.append({READINGS: minutes(*which)})
            worker = Worker(one, Plants(roster))
            assert await worker.start()
            await worked(worker, one)
        again = (await said(log))[len(before) :]
        assert len(before) == FRAME_ROWS_MAX
        assert _latest(again) == _latest(before + again) == _latest(await said(plain))
        stories = [{_figures(row) for row in rows if row["state"] != "open"} for rows in (before, again)]
        assert stories[0] <= stories[1]

    run(test())


def _latest(rows: list[dict[str, Any]]) -> dict[Any, tuple[Any, ...]]:
    return {row["start"]: _figures(row) for row in rows}


def _figures(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row without its position, which says how the log was cut into batches."""
    return tuple(value for name, value in row.items() if name != "position")
