"""A sink process that goes on until SIGTERM or its death, and says how it is, in JSON objects, one a line.

Arguments: LOG, url, org, bucket, token, and where it is to commit often: the bytes that it takes at once.
LOG is the folder of an SQLite log, or ``kafka BOOTSTRAP PREFIX``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from bus.kafka_settings import KafkaSettings
from bus.log import Log
from bus.log_kafka import open_kafka
from bus.log_sqlite import open_log
from sinks import influx_sink
from sinks.influx_client import InfluxSettings
from sinks.influx_sink import InfluxSink

PAUSE_S = 0.5
"""So often it says something even when its position has not moved."""
_LOOK_S = 0.005
_LINES = 200
"""Of a request, of a sink that commits often."""


async def opened(place: str) -> Log:
    """The log at LOG."""
    if place.startswith("kafka "):
        _, bootstrap, prefix = place.split(" ")
        return await open_kafka(KafkaSettings(bootstrap, prefix, partitions=1))
    return await open_log(Path(place))


def position(sink: InfluxSink) -> tuple[int, int]:
    """On results and on rejected."""
    return sink.position(), sink.rejected_position()


async def say(sink: InfluxSink) -> None:
    """For ever, how it is; ``position`` on results, ``rejected`` on rejected."""
    told, told_s = (-1, -1), 0.0
    while True:
        if position(sink) != told or time.monotonic() - told_s > PAUSE_S:
            told, told_s = position(sink), time.monotonic()
            said = {name: getattr(sink, name) for name in ("lag", "failures", "stalled", "person", "refused")}
            sys.stdout.write(json.dumps({"position": told[0], "rejected": told[1], **said}) + "\n")
            sys.stdout.flush()
        await asyncio.sleep(_LOOK_S)


async def main() -> None:
    place, url, org, bucket, token, *often = sys.argv[1:]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    log = await opened(place)
    settings = InfluxSettings(url, org, bucket, token)
    if often:
        influx_sink.BATCH_BYTES_MAX = int(often[0])
        settings = InfluxSettings(url, org, bucket, token, batch_lines=_LINES)
    sink = InfluxSink(log, settings)
    tasks = [asyncio.create_task(each) for each in (sink.run(), say(sink), stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await sink.stop()
    await tasks[0]
    tasks[1].cancel()
    await sink.close()
    await log.close()


if __name__ == "__main__":
    asyncio.run(main())
