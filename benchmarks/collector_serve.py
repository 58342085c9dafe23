"""A collector in a process of its own, until as many messages are on its log as it is told."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

import structlog
import uvloop

from benchmarks.ingest_site import roster
from bus.log import Log
from bus.log_memory import MemoryLog
from bus.log_sqlite import open_log
from ingest.broker_settings import Broker
from ingest.collector import Collector


async def opened(log: str) -> Log:
    """``memory``, ``kafka:BOOTSTRAP`` (topics with a prefix of their own) or ``sqlite:FOLDER``."""
    kind, _, where = log.partition(":")
    if kind == "sqlite":
        return await open_log(Path(where))
    if kind == "kafka":
        from bus.kafka_settings import KafkaSettings  # noqa: PLC0415 a driver that others do not wait for
        from bus.log_kafka import open_kafka  # noqa: PLC0415

        bootstrap, _, prefix = where.partition("/")
        return await open_kafka(KafkaSettings(bootstrap, prefix=prefix or "bench"))
    return MemoryLog()


async def collect(url: str, client: str, log_place: str, messages: int, receive_maximum: int) -> None:
    """Prints ``ready`` when it listens, and what it took when the last message is acknowledged."""
    log = await opened(log_place)
    settings = Broker(url, client=client, receive_maximum=receive_maximum)  # type: ignore[arg-type]
    collector = Collector(log, roster(), settings)
    await collector.start()
    while not collector.listening:  # noqa: ASYNC110 nothing tells of it
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    before, loop = resource.getrusage(resource.RUSAGE_SELF), asyncio.get_running_loop()
    started_s = loop.time()
    while collector.counters.acknowledged < messages:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    after = resource.getrusage(resource.RUSAGE_SELF)
    counters = collector.counters
    found = {
        "seconds": loop.time() - started_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "accepted": counters.accepted,
        "batches": counters.batches,
        "unacknowledged_peak": collector.status.waiting_peak,
        "peak_memory_mb": after.ru_maxrss // 1024,
    }
    print(json.dumps(found), flush=True)
    await collector.stop()
    await log.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(collect(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
