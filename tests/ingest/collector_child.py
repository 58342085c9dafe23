"""A collector over the SQLite log in a process to be killed: URL FOLDER CLIENT RECEIVE_MAXIMUM."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bus.log_sqlite import open_log
from ingest.broker_settings import Broker
from ingest.collector import Collector
from tests.ingest.ingest_builders import NOW_MS, roster


async def serve(url: str, folder: Path, client: str, receive_maximum: int) -> None:
    """Says ``listening`` once, and goes on until it is killed."""
    log = await open_log(folder)
    settings = Broker(url, client=client, receive_maximum=receive_maximum, retry_s=0.05)  # type: ignore[arg-type]
    collector = Collector(log, roster(), settings, clock_ms=lambda: NOW_MS)
    await collector.start()
    while not collector.counters.accepted:  # noqa: ASYNC110 nothing tells of it
        await asyncio.sleep(0.002)
    sys.stderr.write("listening\n")
    await collector.watch()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
