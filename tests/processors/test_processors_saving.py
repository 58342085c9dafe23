"""A state is saved beside the batches that follow: none waits, nothing is lost, whenever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from bus.log import READINGS, Record
from bus.log_memory import MemoryLog
from metering.errors import NotOwner, Unavailable
from metering.roster import Roster
from processors import worker_saver
from processors.operators import Part, Plants
from processors.worker import Worker
from tests.processors.one_register import minutes, one_register, run, said, worked

CONSUMER = Plants.consumer


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    """One plant with one register."""
    return one_register(tmp_path)


@pytest.fixture(autouse=True)
def saved_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save is due after every batch."""
    monkeypatch.setattr(worker_saver, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(worker_saver, "RETRY_S", 0.005)


class SlowLog(MemoryLog):
    """A log whose saves wait for ``going``, and fail so often; ``saves``: at which offsets they were."""

    def __init__(self) -> None:
        super().__init__()
        self.going = asyncio.Event()
        self.failing = 0
        self.saves: list[int] = []
        self.error: Exception = Unavailable("no answer")

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        """Notes it, waits, then takes it or not."""
        self.saves.append(offset)
        await self.going.wait()
        if self.failing:
            self.failing -= 1
            raise self.error
        await super().save(consumer, offset, chunks, dropped, partition)


class CountedPlants(Plants):
    """Operators that note how far they were when they were dumped."""

    def __init__(self, roster: Roster, dumps: list[int]) -> None:
        super().__init__(roster)
        self.dumps = dumps
        self.between = True

    def parts(self, records: Sequence[Record]) -> Iterator[Part]:
        """Until the last of them, the state is that of no offset."""
        self.between = False
        yield from super().parts(records)
        self.between = True

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        """Notes it first."""
        assert self.between
        self.dumps.append(int(self.engine.hop.received.sum()))
        return super().dump()


async def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 plain numbers
            await asyncio.sleep(0.002)


async def batch(log: MemoryLog, worker: Worker, *which: int) -> None:
    """Has the worker take these minutes as a batch of their own."""
    await log.append({READINGS: minutes(*which)})
    end = await log.end(READINGS)
    await until(lambda: worker.offset == end)


async def goes_on_as_if_never_ended(log: MemoryLog, roster: Roster, count: int) -> None:
    """A second worker from what is saved and done says with the first what one alone says."""
    plain = MemoryLog()
    await plain.append({READINGS: minutes(*range(count), count)})
    await worked(Worker(plain, Plants(roster)), plain)
    await log.append({READINGS: minutes(count)})
    second = Worker(log, Plants(roster))
    assert await second.start()
    await worked(second, log)
    figures = [
        {row["start"]: (row["amount"], row["state"]) for row in await said(one)} for one in (log, plain)
    ]
    assert figures[0] == figures[1]
    assert len(figures[0]) == count + 1


def test_batches_go_on_while_a_state_is_saved(roster: Roster) -> None:
    """The save is that of its dump, whatever came meanwhile."""

    async def test() -> None:
        log = SlowLog()
        worker = Worker(log, Plants(roster))
        task = asyncio.create_task(worker.run())
        for minute in range(4):
            await batch(log, worker, minute)
        assert log.saves == [1]
        log.going.set()
        await until(lambda: len(log.saves) == 2)
        await worker.stop()
        await task
        assert (await log.load(CONSUMER)).offset == 4
        await goes_on_as_if_never_ended(log, roster, 4)

    run(test())


@pytest.mark.parametrize("saves", [0, 1, 2])
def test_a_kill_while_a_state_is_saved_loses_nothing(roster: Roster, saves: int) -> None:
    """The state saved before is taken up, and everything behind it is stepped again."""

    async def test() -> None:
        log = SlowLog()
        worker = Worker(log, Plants(roster))
        task = asyncio.create_task(worker.run())
        for minute in range(saves):
            log.going.set()
            await batch(log, worker, minute)
            await until(lambda: worker.saver.offset == worker.offset and not worker.saver._turn.locked())
        log.going.clear()
        for minute in range(saves, saves + 3):
            await batch(log, worker, minute)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        log.going.set()
        assert (await log.load(CONSUMER)).offset == saves
        await goes_on_as_if_never_ended(log, roster, saves + 3)

    run(test())


def test_a_state_that_could_not_be_saved_is_saved_before_any_later_one(roster: Roster) -> None:
    """A dump is only what changed since the one before: without that one it is worth nothing."""

    async def test() -> None:
        log = SlowLog()
        dumps: list[int] = []
        worker = Worker(log, CountedPlants(roster, dumps))
        task = asyncio.create_task(worker.run())
        log.failing = 3
        await batch(log, worker, 0)
        await until(lambda: log.saves == [1])
        log.going.set()
        await until(lambda: worker.saver.error == "no answer")
        await batch(log, worker, 1)
        await until(lambda: log.saves == [1, 1, 1, 1, 2])
        assert dumps == [1, 2]
        assert worker.saver.error == ""
        await worker.stop()
        await task
        await goes_on_as_if_never_ended(log, roster, 2)

    run(test())


def test_a_stop_finishes_the_save_in_hand_and_makes_the_last_one(roster: Roster) -> None:
    """In this order, and then the worker has ended."""

    async def test() -> None:
        log = SlowLog()
        worker = Worker(log, Plants(roster))
        task = asyncio.create_task(worker.run())
        await batch(log, worker, 0)
        await until(lambda: log.saves == [1])
        await batch(log, worker, 1)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        log.going.set()
        await stopping
        await task
        assert log.saves == [1, 2]
        assert (await log.load(CONSUMER)).offset == 2

    run(test())


def test_a_stop_while_nothing_can_be_saved_ends_and_saves_nothing_later(roster: Roster) -> None:
    """What is saved is what was saved before; the rest is worked out again."""

    async def test() -> None:
        log = SlowLog()
        log.failing = 1_000_000
        log.going.set()
        worker = Worker(log, Plants(roster))
        task = asyncio.create_task(worker.run())
        await batch(log, worker, 0)
        await until(lambda: len(log.saves) > 1)
        await batch(log, worker, 1)
        await worker.stop()
        await task
        assert set(log.saves) == {1}
        log.failing = 0
        assert (await log.load(CONSUMER)).offset == 0
        await goes_on_as_if_never_ended(log, roster, 2)

    run(test())


def test_a_worker_whose_save_finds_another_owner_ends(roster: Roster) -> None:
    """It raises NotOwner, though it has nothing to commit."""

    async def test() -> None:
        log = SlowLog()
        log.failing, log.error = 1, NotOwner("somebody else works on it")
        log.going.set()
        worker = Worker(log, Plants(roster))
        await log.append({READINGS: minutes(0)})
        with pytest.raises(NotOwner):
            await worker.run()
        assert not worker.running

    run(test())


def test_a_worker_whose_turn_it_is_not_saves_later(roster: Roster) -> None:
    """It goes on with its batches meanwhile, and dumps only when it may save."""

    async def test() -> None:
        log, turn = SlowLog(), asyncio.Lock()
        log.going.set()
        dumps: list[int] = []
        worker = Worker(log, CountedPlants(roster, dumps), saving=turn)
        await turn.acquire()
        task = asyncio.create_task(worker.run())
        for minute in range(3):
            await batch(log, worker, minute)
        assert dumps == log.saves == []
        turn.release()
        await batch(log, worker, 3)
        await until(lambda: bool(log.saves))
        await worker.stop()
        await task
        assert (await log.load(CONSUMER)).offset == 4
        await goes_on_as_if_never_ended(log, roster, 4)

    run(test())


def test_two_states_are_not_saved_at_once(roster: Roster) -> None:
    """Of workers that share a turn one saves while the other goes on, and then the other does."""

    async def test() -> None:
        logs, turn = [SlowLog(), SlowLog()], asyncio.Lock()
        workers = [Worker(log, Plants(roster), saving=turn) for log in logs]
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        for minute in range(3):
            for log, worker in zip(logs, workers, strict=True):
                await batch(log, worker, minute)
        assert sorted(len(log.saves) for log in logs) == [0, 1]
        for log in logs:
            log.going.set()
        await asyncio.gather(*(worker.stop() for worker in workers))
        await asyncio.gather(*tasks)
        assert [(await log.load(CONSUMER)).offset for log in logs] == [3, 3]

    run(test())


def test_no_state_is_dumped_between_two_parts_of_a_batch(
    roster: Roster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be that of no offset."""
    monkeypatch.setattr("processors.operators.PART_BYTES_MAX", 1)

    async def test() -> None:
        log = SlowLog()
        log.going.set()
        dumps: list[int] = []
        worker = Worker(log, CountedPlants(roster, dumps))
        await log.append({READINGS: minutes(0, 7 * 1440)})
        task = asyncio.create_task(worker.run())
        await until(lambda: log.saves == [2])
        await worker.stop()
        await task
        assert dumps == [2]

    run(test())


def test_whoever_asked_is_told_of_every_saved_state(roster: Roster) -> None:
    """After it is saved, and not where it could not be."""

    async def test() -> None:
        log, told = SlowLog(), list[int]()
        worker = Worker(log, Plants(roster), saved=lambda: told.append(len(log.saves)))
        task = asyncio.create_task(worker.run())
        log.failing = 2
        await batch(log, worker, 0)
        await until(lambda: log.saves == [1])
        assert told == []
        log.going.set()
        await until(lambda: told == [3])
        await worker.stop()
        await task
        assert told == [3]

    run(test())
