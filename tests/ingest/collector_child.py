"""A collector in a process to be killed: URL LOG CLIENT RECEIVE_MAXIMUM.

LOG is the folder of an SQLite log, or ``kafka BOOTSTRAP PREFIX``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bus.kafka_settings import KafkaSettings
from bus.log import Log
from bus.log_kafka import open_kafka
from bus.log_sqlite import open_log
from ingest.broker_settings import Broker
from ingest.collector import Collector
from tests.ingest.ingest_builders import NOW_MS, roster


async def opened(place: str) -> Log:
    """The log at LOG."""
    if place.startswith("kafka "):
        _, bootstrap, prefix = place.split(" ")
        return await open_kafka(KafkaSettings(bootstrap, prefix, partitions=1))
    return await open_log(Path(place))


async def serve(url: str, place: str, client: str, receive_maximum: int) -> None:
    """Says ``listening`` once, and goes on until it is killed."""
    log = await opened(place)
    settings = Broker(url, client=client, receive_maximum=receive_maximum, retry_s=0.05)  # type: ignore[arg-type]
    collector = Collector(log, roster(), settings, clock_ms=lambda: NOW_MS)
    await collector.start()
    while not collector.counters.accepted:  # noqa: ASYNC110 nothing tells of it
        await asyncio.sleep(0.002)
    sys.stderr.write("listening\n")
    await collector.watch()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
