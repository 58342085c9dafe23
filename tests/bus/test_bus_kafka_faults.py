"""Kafka killed, paused, cut off and shared anew while work goes on: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator

import pytest

from bus import kafka_producer
from bus.kafka_shares import Shares
from bus.log import READINGS, RESULTS
from bus.log_kafka import KafkaLog
from metering.errors import Unavailable, UsageError
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
        producer = log._owner("process", 0)._results.producer
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
