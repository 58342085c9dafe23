"""Topics of the benchmark: made, filled with the load, read back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from benchmarks.kafka_load import PARTITIONS, Load, entries, messages
from bus.log import Entry
from bus.partition import partition_of
from metering.errors import MeterflowError

_POLL_S = 0.2
BATCH_BYTES = 1 << 20
_Record = tuple[bytes, bytes, int]
"""Key, value, timestamp in UTC milliseconds."""


async def make(bootstrap: str, topics: Mapping[str, Mapping[str, str]]) -> None:
    """Makes topics with their settings."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        new = [NewTopic(name, PARTITIONS, 1, topic_configs=dict(given)) for name, given in topics.items()]
        await admin.create_topics(new)
    finally:
        await admin.close()


async def fill_json(bootstrap: str, topic: str, load: Load, stamp_ms: int) -> None:
    """One JSON reading a record, key = plant."""
    parts = (
        (partition, [(key.encode(), line, stamp_ms) for key, line in zip(keys, lines, strict=True)])
        for partition, keys, lines in messages(load)
    )
    await _fill(bootstrap, topic, parts)


async def fill_frames(bootstrap: str, topic: str, load: Load, stamp_ms: int) -> None:
    """Records of the readings topic, as ingest writes them."""
    await fill_entries(bootstrap, topic, entries(load, stamp_ms), PARTITIONS)


async def fill_entries(bootstrap: str, topic: str, entries: Iterable[Entry], partitions: int) -> None:
    """Records as they are, each into its plant's partition."""
    parts = (
        (partition_of(entry.key, partitions), [(entry.key.encode(), entry.value, entry.stamp_ms)])
        for entry in entries
    )
    await _fill(bootstrap, topic, parts, partitions)


async def _fill(
    bootstrap: str, topic: str, parts: Iterable[tuple[int, list[_Record]]], partitions: int = PARTITIONS
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        batches = {partition: producer.create_batch() for partition in range(partitions)}
        for partition, records in parts:
            for key, value, stamp_ms in records:
                if batches[partition].append(key=key, value=value, timestamp=stamp_ms) is None:
                    await producer.send_batch(batches[partition], topic, partition=partition)
                    batches[partition] = producer.create_batch()
                    batches[partition].append(key=key, value=value, timestamp=stamp_ms)
        for partition, batch in batches.items():
            if batch.record_count():
                await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def values(bootstrap: str, topic: str) -> list[bytes]:
    """Everything that a topic holds, partition by partition in order, committed transactions only."""
    return [value async for value in each_value(bootstrap, topic, PARTITIONS)]


async def each_value(bootstrap: str, topic: str, partitions: int) -> AsyncIterator[bytes]:
    """The same one after the other."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(one) < end for one, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    if record.value is not None:
                        yield record.value
    finally:
        await consumer.stop()


async def records(bootstrap: str, topic: str) -> int:
    """How many records a topic holds that nobody has let go of."""
    return sum((await ends_of(bootstrap, topic)).values())


async def wait_until_read(
    bootstrap: str,
    group: str,
    topic: str,
    check: Callable[[], None],
    timeout_s: float,
    partitions: int = PARTITIONS,
) -> None:
    """Waits until a group has committed all that is in a topic; ``check`` is called now and then.

    Raises MeterflowError after ``timeout_s``.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(timeout_s):
            while await _left(bootstrap, admin, group, topic, partitions):
                check()
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise MeterflowError(f"{topic} was not read by {group} within {timeout_s:.0f} s") from None
    finally:
        await admin.close()


async def _left(bootstrap: str, admin: AIOKafkaAdminClient, group: str, topic: str, partitions: int) -> int:
    """Records of a topic that its group has not committed yet."""
    ends = await ends_of(bootstrap, topic, partitions)
    try:
        kept = await admin.list_consumer_group_offsets(group)
    except KafkaError:  # no group yet, or its coordinator is being chosen
        return 1
    return sum(max(end - (kept[place].offset if place in kept else 0), 0) for place, end in ends.items())


async def ends_of(
    bootstrap: str, topic: str, partitions: int = PARTITIONS, *, isolation: str = "read_committed"
) -> dict[TopicPartition, int]:
    """The next offset of each partition; with ``read_uncommitted`` behind open transactions, too."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=isolation)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(
            [TopicPartition(topic, number) for number in range(partitions)]
        )
        return ends
    finally:
        await consumer.stop()
