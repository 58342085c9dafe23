"""A sink process to be killed: stores what an SQLite log holds, until the log is stored or it dies.

Arguments: the log's folder, url, org, bucket, token, and how many lines a request has (200).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bus.log_sqlite import open_log
from sinks.influx_client import InfluxSettings
from sinks.influx_sink import InfluxSink


async def main() -> None:
    folder, url, org, bucket, token, *lines = sys.argv[1:]
    batch_lines = int(lines[0]) if lines else 200
    log = await open_log(Path(folder))
    sink = InfluxSink(log, InfluxSettings(url, org, bucket, token, batch_lines=batch_lines))
    task = asyncio.create_task(sink.run())
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await sink.caught_up()
    await sink.stop()
    await task
    await sink.close()
    await log.close()
    sys.stdout.write("stored\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
