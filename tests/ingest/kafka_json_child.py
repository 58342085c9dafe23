"""Takes readings from a topic of JSON until it is stopped or killed: run by the tests that kill it."""

from __future__ import annotations

import asyncio
import signal
import sys

from bus.kafka_settings import KafkaSettings
from bus.log_kafka import open_kafka
from ingest.kafka_json import JsonTopic, KafkaJson
from tests.ingest.ingest_builders import NOW_MS, roster

SESSION_MS = 6_000
"""The least that Kafka allows: so long a killed copy keeps its partitions."""


async def take(bootstrap: str, prefix: str, topic: str) -> None:
    """Says on standard output when it has put the first readings on the log."""
    log = await open_kafka(KafkaSettings(bootstrap, prefix))
    source = KafkaJson(
        log, roster(), JsonTopic(topic, prefix), clock_ms=lambda: NOW_MS, session_ms=SESSION_MS
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await source.start()
    while not source.counters.accepted and not stop.is_set():  # noqa: ASYNC110 counters tell nobody
        await asyncio.sleep(0.005)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await stop.wait()
    await source.stop()
    await log.close()


if __name__ == "__main__":
    asyncio.run(take(*sys.argv[1:]))
