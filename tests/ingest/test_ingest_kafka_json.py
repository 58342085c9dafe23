"""Readings from a real Kafka topic of JSON: all of them on the log, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError

from bus.frames import decode_readings, decode_table
from bus.kafka_connection import Connection
from bus.kafka_reader import Lanes
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS, REJECTED
from bus.log_kafka import KafkaLog, open_kafka
from bus.partition import partition_of
from ingest.decode import Decoded
from ingest.kafka_fetch import Fetcher
from ingest.kafka_json import JsonTopic, KafkaJson
from ingest.kafka_member import joined
from metering.errors import Unavailable
from tests.ingest.ingest_builders import NOW_MS, roster, rows
from tests.ingest.kafka_json_child import SESSION_MS
from tests.real.kafka import KafkaServer

LONG = os.environ.get("METERFLOW_LONG") == "1"
SEED = int(os.environ.get("METERFLOW_SEED", "1"))
PARTITIONS = 2
PATIENCE_S = 40.0


def reading(number: int, plant: str = "steel") -> tuple[bytes, bytes]:
    """Key and value of a plant's number-th reading; each has a time of its own."""
    value = {"plant": plant, "point": "main", "time": NOW_MS - number, "value": number}
    return plant.encode(), json.dumps(value).encode()


async def topic_of(kafka: str, readings: Sequence[tuple[bytes, bytes]]) -> str:
    """A new topic with these records."""
    name = f"others-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await admin.close()
    await write(kafka, name, readings)
    return name


async def write(
    kafka: str, topic: str, readings: Sequence[tuple[bytes, bytes]], codec: str | None = None
) -> None:
    """More records, by key."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5, compression_type=codec)
    await producer.start()
    for sent in [await producer.send(topic, value, key=key) for key, value in readings]:
        await sent
    await producer.stop()


@asynccontextmanager
async def opened(kafka: str, prefix: str = "") -> AsyncIterator[KafkaLog]:
    """A log of its own."""
    log = await open_kafka(KafkaSettings(kafka, prefix or f"log-{uuid.uuid4().hex[:8]}", patience_ms=2_000))
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def taking(log: KafkaLog, topic: str) -> AsyncIterator[KafkaJson]:
    """A source at work."""
    source = KafkaJson(log, roster(), JsonTopic(topic, log.settings.prefix), clock_ms=lambda: NOW_MS)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


async def until(true: Callable[[], bool], what: str) -> None:
    """Waits until it is true."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s, f"waited in vain for {what}"
        await asyncio.sleep(0.02)


async def on_log(log: KafkaLog, topic: str = READINGS) -> list[tuple[int, dict[str, Any]]]:
    """Everything on the log with its partition."""
    found: list[tuple[int, dict[str, Any]]] = []
    for partition in range(log.partitions):
        at = 0
        while records := await log.read(topic, at, partition=partition, records_max=1000):
            at = records[-1].offset + 1
            for record in (r for r in records if r.value):
                if topic == READINGS:
                    every = rows(Decoded([decode_readings(record.value)], [], 0))
                else:
                    every = decode_table(record.value)[1].to_pylist()
                found += [(partition, row) for row in every]
    return found


def copies(found: Sequence[tuple[int, dict[str, Any]]]) -> Counter[int]:
    """How often each number of ``reading`` is there."""
    return Counter(NOW_MS - row["time"] for _, row in found)


async def test_readings_come_to_their_plants_partitions_once(kafka: str) -> None:
    """All of two plants, in order, however the topic was partitioned; nothing again after a restart."""
    sent = [reading(i, plant) for i in range(500) for plant in ("steel", "paper")]
    topic = await topic_of(kafka, sent)
    async with opened(kafka) as log:
        async with taking(log, topic) as source:
            await until(lambda: source.counters.accepted == 1000, "the readings")
        async with taking(log, topic) as source:
            await until(lambda: source.listening, "the end of the topic")
            assert source.counters.received == 0
        found = await on_log(log)
    assert all(partition == partition_of(row["plant"], 4) for partition, row in found)
    steel = [NOW_MS - row["time"] for _, row in found if row["plant"] == "steel"]
    assert steel == list(range(500))
    assert len(found) == 1000


async def test_what_is_no_reading_is_on_rejected(kafka: str) -> None:
    """With its reason and its own text; the readings around it are taken."""
    bad = [(b"steel", b"{"), (b"", b'{"point":"main"}'), (b"steel", b"")]
    topic = await topic_of(kafka, [reading(0), *bad, reading(1)])
    async with opened(kafka) as log:
        async with taking(log, topic) as source:
            await until(lambda: source.counters.received == 5, "all records")
        reasons = sorted(row["reason"] for _, row in await on_log(log, REJECTED))
        assert copies(await on_log(log)) == {0: 1, 1: 1}
    assert reasons == ["empty", "not_json", "wrong_shape"]


async def test_compressed_records_are_taken_as_others_are(kafka: str) -> None:
    """Of every codec that Kafka knows, one after the other."""
    codecs = (None, "gzip", "snappy", "lz4", "zstd")
    topic = await topic_of(kafka, [])
    for number, codec in enumerate(codecs):
        await write(kafka, topic, [reading(1000 * number + i) for i in range(1000)], codec)
    async with opened(kafka) as log:
        async with taking(log, topic) as source:
            await until(lambda: source.counters.accepted == 1000 * len(codecs), "all readings")
        found = [NOW_MS - row["time"] for _, row in await on_log(log)]
    assert found == list(range(1000 * len(codecs)))


async def test_it_listens_only_at_the_end_of_its_partitions(kafka: str) -> None:
    """Only then does silence say something about the meters; what comes later is taken at once."""
    topic = await topic_of(kafka, [reading(0)])
    async with opened(kafka) as log, taking(log, topic) as source:
        assert not source.listening
        await until(lambda: source.listening, "the end of the topic")
        assert source.counters.accepted == 1
        await write(kafka, topic, [reading(1)])
        await until(lambda: source.counters.accepted == 2, "the next reading")


async def test_copies_share_the_topic_and_take_over(kafka: str) -> None:
    """Two copies have a partition each; the one that stays takes up what the other had, at its position."""
    topic = await topic_of(kafka, [reading(i, plant) for i in range(100) for plant in ("steel", "paper")])
    async with opened(kafka) as log, taking(log, topic) as stays:
        async with taking(log, topic) as goes:
            await until(lambda: stays.counters.accepted + goes.counters.accepted >= 200, "the readings")
            await until(lambda: stays.listening and goes.listening, "both to have a share")
        more = [reading(i, plant) for i in range(100, 200) for plant in ("steel", "paper")]
        before = stays.counters.accepted
        await write(kafka, topic, more)
        await until(lambda: stays.counters.accepted == before + 200, "the rest, from one copy")
        found = await on_log(log)
    assert set(copies(found)) == set(range(200))
    assert {number: count for number, count in copies(found).items() if count != 2} == {}


async def test_a_broker_that_dies_is_waited_for(kafka_server: Callable[..., KafkaServer]) -> None:
    """Its end is seen in ``error``; when it is back, the rest comes, and nothing is missing."""
    server = kafka_server()
    topic = await topic_of(server.address, [reading(i) for i in range(100)])
    async with opened(server.address) as log, taking(log, topic) as source:
        await until(lambda: source.counters.accepted == 100, "the first readings")
        server.kill()
        await until(lambda: bool(source.error), "the error to be seen")
        await asyncio.to_thread(server.start)
        await write(server.address, topic, [reading(i) for i in range(100, 200)])
        await until(lambda: source.counters.accepted >= 200, "the readings behind the outage")
        await until(lambda: source.error == "", "the error to be gone")
        assert set(copies(await on_log(log))) == set(range(200))


async def test_a_kill_loses_nothing(kafka: str) -> None:
    """Killed at random moments while it reads: every reading is on the log; copies are dropped later."""
    kills, count, chance = (50, 200_000, random.Random(SEED)) if LONG else (2, 40_000, random.Random(SEED))
    topic = await topic_of(kafka, [reading(i, ("steel", "paper")[i % 2]) for i in range(count)])
    prefix = f"log-{uuid.uuid4().hex[:8]}"
    async with opened(kafka, prefix) as log:
        for _ in range(kills):
            await asyncio.to_thread(_killed, [kafka, prefix, topic], chance.uniform(0, 0.1))
        async with taking(log, topic) as source:
            await until(lambda: source.listening, "the end of the topic")
        found = copies(await on_log(log))
    assert set(found) == set(range(count)), f"seed {SEED}: {count - len(found)} are missing"


def _killed(arguments: list[str], after_s: float) -> None:
    command = [sys.executable, "-m", "tests.ingest.kafka_json_child", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        begun = _begun(child)
        time.sleep(after_s if begun else 0)
        child.kill()


def _begun(child: subprocess.Popen[str]) -> bool:
    """Whether it has put anything on the log; nothing is left to be read when it has not for a while."""
    assert child.stdout is not None
    return bool(select.select([child.stdout], [], [], 2 * SESSION_MS / 1000)[0])


async def test_a_mistake_of_ours_ends_the_source_and_is_seen(kafka: str) -> None:
    """It is no state of Kafka's that goes by: ``watch`` raises it, ``error`` tells of it."""
    topic = await topic_of(kafka, [reading(0)])

    def clock_ms() -> int:
        raise ZeroDivisionError("no clock")

    async with opened(kafka) as log:
        source = KafkaJson(log, roster(), JsonTopic(topic, log.settings.prefix), clock_ms=clock_ms)
        await source.start()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(source.watch(), PATIENCE_S)
        assert (source.error, source.listening) == ("reading has failed: no clock", False)
        await source.stop()
        assert await on_log(log) == []


@pytest.mark.parametrize(
    ("error", "told"), [(KeyError("ours"), KeyError), (KafkaConnectionError("theirs"), Unavailable)]
)
async def test_what_goes_wrong_while_partitions_are_shared_is_not_only_logged(
    kafka: str, error: Exception, told: type[Exception]
) -> None:
    """aiokafka does no more than that; whoever has joined is told, so that it does not wait for ever."""
    topic = await topic_of(kafka, [])

    async def changed(positions: Mapping[int, int]) -> None:
        del positions
        raise error

    async with joined(KafkaSettings(kafka), topic, topic, changed) as member:
        await until(lambda: member.failed is not None, "the error")
        assert isinstance(member.failed, told)


async def test_a_position_that_is_no_more_does_not_hold_up_other_partitions(kafka: str) -> None:
    """It goes to the first record there is, as after a topic was made anew; the others go on."""
    topic = await topic_of(kafka, [(b"%d" % i, b"%d" % i) for i in range(20)])
    connection = Connection(KafkaSettings(kafka), "test")
    fetcher = Fetcher(connection, Lanes(), topic, {0: 10_000, 1: 0})
    found: dict[int, list[bytes]] = {0: [], 1: []}
    ends: dict[int, bool] = {}
    while not all(ends.get(partition) for partition in found):
        for partition, part in (await fetcher.next()).items():
            assert part.error is None
            found[partition] += part.values.all()
            ends[partition] = part.at_end
    await write(kafka, topic, [(b"%d" % i, b"new") for i in range(20)])
    while b"new" not in found[0] or b"new" not in found[1]:
        for partition, part in (await fetcher.next()).items():
            found[partition] += part.values.all()
    await fetcher.close()
    await connection.close()
    assert all(len(each) > each.count(b"new") > 0 for each in found.values())
    old = [value for each in found.values() for value in each if value != b"new"]
    assert len(old) == len(set(old))
