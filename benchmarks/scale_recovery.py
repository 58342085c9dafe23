"""A worker that is killed: how long until another one goes on with its partition."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import kafka_topics as topics
from benchmarks.scale_load import Messages, shape_of, site_text
from benchmarks.scale_roles import LIVE_S, Copy, copies, until_read, until_shared
from bus.kafka_settings import KafkaSettings
from bus.kafka_shares import SESSION_MS
from bus.log import READINGS, RESULTS
from metering.errors import MeterflowError
from processors.worker_saver import SAVE_EVERY_S

WARM_MINUTES, MINUTES = 30, 240
SENT_AT_ONCE, EVERY_S = 10, 1.0
"""Messages of 100 readings: for 10,000 points six times what they say that are read once a minute."""
AGED_S = SAVE_EVERY_S + 5
"""So long messages come before the kill: the heir takes up a saved state, and what came behind it."""
_POLL_S = 0.05


def recovery(folder: Path, bootstrap: str, points: int, aged_s: float = AGED_S) -> dict[str, Any]:
    """Two workers on two partitions; one is killed while messages come, ``aged_s`` after they began to."""
    shape = shape_of(points, MINUTES)
    messages, site = Messages(shape), folder / "recovery.yaml"
    site.write_text(site_text(shape))
    kafka = KafkaSettings(bootstrap, f"recovery-{points}", partitions=2)
    with copies(folder, kafka, site, 2) as running:
        return {"points": points} | asyncio.run(_recovered(kafka, messages, running, aged_s))


async def _recovered(
    kafka: KafkaSettings, messages: Messages, running: list[Copy], aged_s: float
) -> dict[str, Any]:
    topic = kafka.topic(READINGS)
    first = messages.entries(0, WARM_MINUTES)
    await topics.fill_entries(kafka.bootstrap, topic, first, kafka.partitions)
    await until_shared(kafka, running)
    await until_read(kafka, running)
    enough, done = asyncio.Event(), asyncio.Event()
    coming = asyncio.create_task(_go_on(kafka, messages, enough))
    await asyncio.sleep(aged_s)
    victim, heir = running
    (lost,) = await asyncio.to_thread(victim.partitions)
    killed_s = time.perf_counter()
    victim.child.kill()
    await asyncio.to_thread(victim.child.wait)
    silent = asyncio.create_task(_longest_silence(heir, done))
    try:
        new_s = await _first_new(kafka, lost, killed_s)
    finally:
        enough.set()
        await coming
    await until_read(kafka, [heir])
    caught_up_s = time.perf_counter() - killed_s
    done.set()
    return {
        "session_timeout_s": SESSION_MS / 1000,
        "first_new_result_s": round(new_s, 2),
        "caught_up_s": round(caught_up_s, 2),
        "livez_slowest_ms": round(await silent * 1000),
    }


async def _go_on(kafka: KafkaSettings, messages: Messages, enough: asyncio.Event) -> None:
    """Messages of one plant after the other, until there are enough."""
    entries = messages.entries(WARM_MINUTES, MINUTES)
    while not enough.is_set():
        some = list(islice(entries, SENT_AT_ONCE))
        if not some:
            raise MeterflowError("the messages of the recovery were too few: it took too long")
        await topics.fill_entries(kafka.bootstrap, kafka.topic(READINGS), some, kafka.partitions)
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), EVERY_S)


async def _first_new(kafka: KafkaSettings, partition: int, killed_s: float) -> float:
    """Seconds from the kill to a result that nobody but the heir can have written."""
    place = TopicPartition(kafka.topic(RESULTS), partition)
    ends = await topics.ends_of(kafka.bootstrap, place.topic, kafka.partitions, isolation="read_uncommitted")
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([place])
        consumer.seek(place, ends[place])
        async with asyncio.timeout(LIVE_S * 4):
            while not await consumer.getmany(place, timeout_ms=int(_POLL_S * 1000), max_records=1):
                pass
        return time.perf_counter() - killed_s
    finally:
        await consumer.stop()


async def _longest_silence(copy: Copy, done: asyncio.Event) -> float:
    """How long the slowest answer to ``/livez`` took: what a probe has to bear."""
    longest_s = 0.0
    while not done.is_set():
        asked_s = time.perf_counter()
        answer = await asyncio.to_thread(copy.get, "/livez")
        longest_s = max(longest_s, time.perf_counter() - asked_s if answer else LIVE_S)
        await asyncio.sleep(_POLL_S)
    return longest_s
