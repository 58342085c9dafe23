"""Traps of Kafka that others fell into, each met on a real broker."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING

import pytest

from bus.frames import encode_rows
from bus.kafka_batches import SEQUENCES
from bus.kafka_connection import Connection
from bus.kafka_producer import Producer
from bus.kafka_reader import FETCH_BYTES
from bus.kafka_settings import TRANSACTION_MS, KafkaSettings
from bus.kafka_shares import member_options
from bus.log import PORTIONS, READINGS, RESULTS, Entry, Record
from bus.log_kafka import open_kafka
from bus.rows_json import JsonRows, as_json
from metering.errors import MeterflowError, NotOwner, Unavailable
from tests.bus.kafka_tools import all_values, entry, numbers, opened, requests_of, settings_at

if TYPE_CHECKING:
    from bus.log_kafka import KafkaLog

COMMIT_MS = 1000
"""Of a processor under load; most commit ten times as often."""


async def test_unsafe_defaults_are_set(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write waits for all replicas, every read is of what is committed, no offset commits itself."""
    sent = requests_of(monkeypatch)
    async with opened(settings_at(kafka)) as (log,):
        await log.append({READINGS: [entry(1)]})
        await log.commit("process", 1, {RESULTS: [entry(1)]})
        await numbers(log, 1)
    produced = [r for r in sent if type(r).__name__ == "_Produce"]
    fetched = [r for r in sent if type(r).__name__ == "FetchRequest"]
    assert len(produced) >= 2
    assert {r.prepare({0: (3, 13)}).required_acks for r in produced} == {-1}
    assert {r._isolation_level for r in fetched} == {1}
    options = member_options(KafkaSettings(kafka), "group")
    assert not options["enable_auto_commit"]
    assert (options["auto_offset_reset"], options["isolation_level"]) == ("earliest", "read_committed")


def test_a_transaction_outlives_ten_commits_and_blocks_readers_no_longer_than_15_s() -> None:
    """Shorter ones end under a busy processor, longer ones hold up everybody else."""
    assert 10 * COMMIT_MS <= TRANSACTION_MS <= 15_000


async def committed_offset(log: KafkaLog, consumer: str = "process") -> int:
    """What Kafka's own tools show."""
    return await log._owner(consumer, 0)._committed()


async def test_a_zombie_commits_nothing(kafka: str) -> None:
    """Who lost the partition hears it, again and again; offset and results are the new owner's."""
    async with opened(settings_at(kafka), logs=2) as (zombie, owner):
        await zombie.load("process")
        await zombie.commit("process", 5, {RESULTS: [entry(1)]})
        assert (await owner.load("process")).done == 5
        await owner.commit("process", 9, {RESULTS: [entry(2)]})
        for _ in range(2):
            with pytest.raises(NotOwner):
                await zombie.commit("process", 6, {RESULTS: [entry(-1)]})
        with pytest.raises(NotOwner):
            await zombie.save("process", 6, {"a": b"zombie"})
        await owner.commit("process", 10, {RESULTS: [entry(3)]})
        assert await numbers(owner, 3) == [1, 2, 3]
        assert await committed_offset(owner) == 10


async def test_a_zombie_in_the_middle_of_a_transaction_leaves_nothing(kafka: str) -> None:
    """What it had written is aborted when the next owner comes; readers never see it."""
    settings = settings_at(kafka)
    async with opened(settings, logs=2) as (zombie, owner):
        await zombie.load("process")
        producer = zombie._owner("process", 0)._results.producer
        place = settings.topic(RESULTS), 0
        await producer._add_partitions([place])
        await producer.produce({place: [(b"energy", b"-1", 0)]})
        assert (await owner.load("process")).done == 0
        with pytest.raises(NotOwner):
            await zombie.commit("process", 4, {RESULTS: [entry(-1)]})
        await owner.commit("process", 4, {RESULTS: [entry(1)]})
        assert await numbers(owner, 1) == [1]


async def test_who_was_shut_out_may_come_back_by_loading(kafka: str) -> None:
    """A partition that Kafka's group gives back is taken up like any other."""
    async with opened(settings_at(kafka), logs=2) as (first, second):
        await first.load("process")
        await second.load("process")
        with pytest.raises(NotOwner):
            await first.commit("process", 1, {})
        await first.load("process")
        await first.commit("process", 1, {})
        with pytest.raises(NotOwner):
            await second.commit("process", 2, {})


async def test_a_sequence_crosses_2_to_the_31(kafka: str) -> None:
    """aiokafka's own turns negative there, and every later write fails."""
    settings = settings_at(kafka)
    async with opened(settings) as (log,):
        await log.append({READINGS: [entry(0)]}, 1)
        producer = log._appender._producer
        assert producer is not None
        producer.sequences[settings.topic(READINGS), 0] = SEQUENCES - 25
        for i in range(10):
            await log.append({READINGS: [entry(10 * i + j) for j in range(10)]})
        assert producer is log._appender._producer
        assert [int(r.value) for r in await log.read(READINGS, 0)] == list(range(100))


async def test_marks_of_transactions_are_nothing_to_read(kafka: str) -> None:
    """Who has read everything is at the end, though Kafka counts its marks, and waits in vain for more."""
    async with opened(settings_at(kafka)) as (log,):
        for i in range(3):
            await log.commit("process", i + 1, {RESULTS: [entry(i)]})
        assert await numbers(log, 3) == [0, 1, 2]
        offset = (await log.read(RESULTS, 0))[-1].offset + 1
        assert await log.end(RESULTS) == offset
        assert await log.read(RESULTS, offset) == []
        assert not await log.wait(RESULTS, offset, 0.05)
        await log.commit("process", 4, {RESULTS: [entry(3)]})
        assert await log.wait(RESULTS, offset, 5)
        assert [r.value for r in await log.read(RESULTS, offset)] == [b"3"]


async def test_what_was_fetched_is_not_fetched_again(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading on with small limits takes from what is there; reading elsewhere fetches."""
    async with opened(settings_at(kafka)) as (log,):
        await log.append({READINGS: [entry(i) for i in range(100)]})
        await log.read(READINGS, 0, records_max=1)
        sent = requests_of(monkeypatch)
        for i in range(1, 100):
            assert [int(r.value) for r in await log.read(READINGS, i, records_max=1)] == [i]
        assert sent == []
        assert [int(r.value) for r in await log.read(READINGS, 3, records_max=2)] == [3, 4]
        assert len(sent) == 1


async def test_a_record_longer_than_a_fetch_passes(kafka: str) -> None:
    """A reader never gets stuck; one that is too long for the topic is refused before it is sent."""
    async with opened(settings_at(kafka)) as (log,):
        large = [Entry("a", bytes([i]) * (FETCH_BYTES + 1000), 0) for i in range(3)]
        await log.append({READINGS: large})
        found: list[Record] = []
        while len(found) < 3:
            found += await log.read(READINGS, len(found))
        assert [r.value for r in found] == [e.value for e in large]
        with pytest.raises(MeterflowError, match="does not fit"):
            await log.append({READINGS: [Entry("a", bytes(9 << 20), 0)]})


async def test_bad_code_of_one_caller_fails_nobody_else(kafka: str) -> None:
    """A stamp that is none is raised where it came from."""
    async with opened(settings_at(kafka)) as (log,):
        bad = [Entry("a", b"bad", 1 << 70)]
        appends = [log.append({READINGS: bad if i == 2 else [entry(i)]}) for i in range(5)]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [struct.error]
        assert [r.value for r in await log.read(READINGS, 0)] == [b"0", b"1", b"3", b"4"]


async def test_several_readers_of_a_partition_do_not_disturb_each_other(kafka: str) -> None:
    """Each reads on where it was."""
    async with opened(settings_at(kafka)) as (log,):
        await log.append({READINGS: [entry(i) for i in range(300)]})

        async def follow(step: int) -> list[int]:
            seen: list[int] = []
            while len(seen) < 300:
                seen += [int(r.value) for r in await log.read(READINGS, len(seen), records_max=step)]
                await asyncio.sleep(0)
            return seen

        for seen in await asyncio.gather(*(follow(step) for step in (7, 11, 50, 300))):
            assert seen == list(range(300))


async def test_portions_of_all_partitions_meet_on_the_first(kafka: str) -> None:
    """In the transaction of the partition they come from."""
    async with opened(settings_at(kafka)) as (log,):
        for partition in (1, 3):
            topics = {RESULTS: [entry(partition)], PORTIONS: [Entry(str(partition), b"p%d" % partition, 0)]}
            await log.commit("process", 1, topics, partition)
        await log.wait(PORTIONS, 2, 5)
        assert await all_values(log, PORTIONS) == ["p1", "p3"]
        assert await numbers(log, 1, partition=3) == [3]


async def test_results_are_json_too(kafka: str) -> None:
    """In the same transaction, an object a record, more of them than fit into one batch."""
    settings = settings_at(kafka)
    rows: list[dict[str, object]] = [{"scope": f"plant:{i}", "unit": "kWh" * 200} for i in range(4_000)]
    topics = {RESULTS: [Entry("rollup", encode_rows("rollup", rows, 7), 5), Entry("interval", b"", 5)]}
    log = await open_kafka(settings, as_json=JsonRows())
    try:
        await log.commit("process", 1, topics, 2)
        place, reader = (settings.json_topic, 2), log._reader
        found: list[bytes] = []
        while len(found) < len(rows):
            assert await reader.wait(place, len(found), 5)
            found += [one.value for one in await reader.read(place, len(found), 5000, 8 << 20)]
        assert found == as_json(topics[RESULTS][0].value)
    finally:
        await log.close()


async def test_without_a_broker_calls_give_up_in_time() -> None:
    """Unavailable, with the address and what to do."""
    settings = settings_at("127.0.0.1:1", patience_ms=300, request_ms=200)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="Kafka cannot") as away:
        await open_kafka(settings)
    assert time.monotonic() - started < 2
    assert away.value.where == "127.0.0.1:1"


async def test_a_clock_that_jumped_ahead_does_not_hold_up_readings(kafka: str) -> None:
    """Their stamps never go back, so what Kafka refused would stay refused; the topic takes any stamp."""
    async with opened(settings_at(kafka)) as (log,):
        stamp_ms = int(time.time() * 1000) + 48 * 3_600_000
        await log.append({READINGS: [Entry("plant", b"", stamp_ms)]})
        (record,) = await log.read(READINGS, 0)
        assert record.stamp_ms == stamp_ms


async def test_going_on_is_not_taking_over(kafka: str) -> None:
    """After an error a producer starts again where it was, or hears that another one has come."""
    settings = settings_at(kafka)
    async with opened(settings) as (log,):
        connection = Connection(settings, "test")
        producer = Producer(connection, settings.transactional_id("process", 0))
        await producer.start()
        await producer.start(over=False)
        await log.load("process")
        with pytest.raises(NotOwner):
            await producer.start(over=False)
        await connection.close()
