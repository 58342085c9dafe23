"""Kafka killed, paused, cut off and shared anew while work goes on: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bus import kafka_producer
from bus.kafka_settings import KafkaSettings
from bus.kafka_shares import Shares
from bus.log import READINGS, RESULTS
from bus.log_kafka import KafkaLog, open_kafka
from metering.errors import NotOwner, Unavailable, UsageError
from tests.bus.kafka_proxy import END_TXN, PRODUCE, Proxy
from tests.bus.kafka_tools import all_values, entry, numbers, opened, settings_at
from tests.real.kafka import KafkaServer
from tests.real.server import free_port

LONG = bool(os.environ.get("METERFLOW_LONG"))
SEED = int(os.environ.get("METERFLOW_SEED", "1"))
PATIENCE = {"request_ms": 500, "patience_ms": 1500}


@pytest.fixture(scope="module")
def port() -> int:
    """Where clients are sent to: a proxy's, made anew by each test."""
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[KafkaServer]:
    """A broker of this module's own, behind the proxy's address."""
    quick = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}
    place = tmp_path_factory.mktemp("kafka")
    with KafkaServer(place, advertised=f"127.0.0.1:{port}", settings=quick) as broker:
        yield broker


async def commit(log: KafkaLog, number: int, partition: int = 0) -> None:
    """Commits until it has happened, as a worker does."""
    while True:
        try:
            await log.commit("process", number + 1, {RESULTS: [entry(number)]}, partition)
            return
        except Unavailable:
            await asyncio.sleep(0.05)


async def test_answers_that_get_lost_change_nothing(server: KafkaServer, port: int) -> None:
    """Of Produce or EndTxn: what had happened is not done again, what had not is."""
    settings = settings_at(f"127.0.0.1:{port}", **PATIENCE)
    rounds = 500 if LONG else 6
    chance = random.Random(SEED)
    async with Proxy(port, server.port) as proxy, opened(settings) as (log,):
        for number in range(rounds):
            if number % 2:
                proxy.swallow[chance.choice((PRODUCE, END_TXN))] = 1
            await commit(log, number)
        assert proxy.swallowed >= rounds // 2 - 1
        assert await numbers(log, rounds) == list(range(rounds))
        assert (await log.load("process")).done == rounds


async def test_a_transaction_that_kafka_timed_out_is_done_again(
    server: KafkaServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner slept too long and nobody came: it hears that, and goes on."""
    monkeypatch.setattr(kafka_producer, "TRANSACTION_MS", 1000)
    settings = settings_at(f"127.0.0.1:{port}")
    async with Proxy(port, server.port), opened(settings) as (log,):
        await log.load("process")
        producer = log._owner("process", 0)._producer
        place = settings.topic(RESULTS), 0
        await producer._add_partitions([place])
        await producer.produce({place: [(b"energy", b"-1", 0)]})
        await asyncio.sleep(2)
        with pytest.raises(Unavailable, match="too long"):
            await log.commit("process", 1, {RESULTS: [entry(-2)]})
        await log.commit("process", 1, {RESULTS: [entry(0)]})
        assert await numbers(log, 1) == [0]


async def test_a_broker_that_stands_still_is_told_of_and_waited_for(server: KafkaServer, port: int) -> None:
    """Calls say Unavailable in time; the same log works on when it goes on."""
    settings = settings_at(f"127.0.0.1:{port}", **PATIENCE)
    async with Proxy(port, server.port), opened(settings) as (log,):
        await log.append({READINGS: [entry(0)]})
        await log.load("process")
        server.pause()
        try:
            started = time.monotonic()
            calls = [log.append({READINGS: [entry(1)]}), log.read(READINGS, 1), log.commit("process", 1, {})]
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, Unavailable)
            assert time.monotonic() - started < 6
        finally:
            server.resume()
        await commit(log, 1)
        await log.append({READINGS: [entry(2)]})
        assert (await all_values(log, READINGS))[-1] == "2"


async def test_a_broker_killed_in_the_middle_of_transactions(server: KafkaServer, port: int) -> None:
    """Started again, the same log goes on within 30 s: every result once, none missing."""
    settings = settings_at(f"127.0.0.1:{port}", **PATIENCE)
    async with Proxy(port, server.port), opened(settings) as (log,):
        number = 0
        going = True

        async def work() -> None:
            nonlocal number
            while going:
                await commit(log, number)
                number += 1

        working = asyncio.create_task(work())
        for _ in range(10 if LONG else 1):
            await asyncio.sleep(0.7)
            server.kill()
            before = number
            await asyncio.to_thread(server.start)
            started = time.monotonic()
            while number < before + 5:
                await asyncio.sleep(0.05)
                assert not working.done()
            assert time.monotonic() - started < 30
        going = False
        await working
        assert await numbers(log, number) == list(range(number))


class Member:
    """A copy of a role: commits numbers in the partitions that are its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.log: KafkaLog
        self.working: dict[int, asyncio.Task[None]] = {}
        self.shares: Shares

    async def live(self, leave: asyncio.Event) -> None:
        """Joins, works, leaves."""
        self.log = await open_kafka(self.settings)
        shares = Shares(
            self.settings, "process", READINGS, taken=self.taken, given_up=self.given_up, session_ms=6000
        )
        async with shares as self.shares:
            await asyncio.wait(
                [asyncio.create_task(leave.wait()), asyncio.create_task(shares.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
        await self.log.close()

    async def taken(self, partition: int) -> None:
        self.working[partition] = asyncio.create_task(self.work(partition))

    async def given_up(self, partition: int) -> None:
        task = self.working.pop(partition)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def work(self, partition: int) -> None:
        try:
            number = (await self.log.load("process", partition)).done
            while True:
                await commit(self.log, number, partition)
                number += 1
                await asyncio.sleep(0.02)
        except NotOwner:
            self.shares.again(partition)


async def progress(log: KafkaLog, more: int = 5) -> None:
    """Waits until there are some more results on every partition."""
    before = [await log.end(RESULTS, partition) for partition in range(log.partitions)]
    for partition, end in enumerate(before):
        assert await log.wait(RESULTS, end + 2 * more, 40, partition)


async def test_members_come_and_go_and_every_result_is_there_once(kafka: str) -> None:
    """Three copies on four partitions: at most one gets anything done on each."""
    settings = settings_at(kafka)
    async with opened(settings) as (log,):
        leaving = [asyncio.Event() for _ in range(3)]
        lives = []
        for leave in leaving:
            lives.append(asyncio.create_task(Member(settings).live(leave)))
            await progress(log)
        leaving[0].set()
        await lives[0]
        await progress(log)
        for leave in leaving:
            leave.set()
        await asyncio.gather(*lives)
        for partition in range(settings.partitions):
            done = (await log.load("process", partition)).done
            assert await numbers(log, done, partition) == list(range(done))


async def test_an_error_in_a_callback_ends_the_membership(kafka: str) -> None:
    """It is raised, not only logged."""
    settings = settings_at(kafka)

    async def taken(_: int) -> None:
        raise UsageError("no such thing")

    async def given_up(_: int) -> None:
        """Nothing was taken up."""

    shares = Shares(settings, "process", READINGS, taken=taken, given_up=given_up)
    async with opened(settings), shares:
        with pytest.raises(UsageError, match="no such thing"):
            await asyncio.wait_for(shares.wait(), 20)
