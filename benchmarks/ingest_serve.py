"""The endpoint over the SQLite log in a process of its own, for the ingest benchmark."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

import uvloop

from benchmarks.ingest_site import roster
from bus.log_sqlite import open_log
from ingest.endpoint import Endpoint
from ingest.mqtt_events import Limits


async def serve(folder: Path) -> None:
    """Prints the port, serves until a line comes in, and prints what it took."""
    log = await open_log(folder)
    endpoint = Endpoint(log, roster(), port=0, limits=Limits())
    await endpoint.start()
    before = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"port": endpoint.port}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    after = resource.getrusage(resource.RUSAGE_SELF)
    counters = endpoint.counters
    found = {
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "accepted": counters.accepted,
        "batches": counters.batches,
        "peak_memory_mb": after.ru_maxrss // 1024,
    }
    print(json.dumps(found), flush=True)
    await endpoint.stop()
    await log.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
