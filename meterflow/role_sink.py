"""``meterflow sink``: results and rejected messages on the log are stored in InfluxDB.

Copies share the partitions; each partition that a copy owns has a sink of its own.
"""

from __future__ import annotations

import time

from bus.log import RESULTS, Log
from meterflow import settings_made as made
from meterflow.partitions import Partitions
from meterflow.role import Role
from meterflow.settings import Settings
from sinks.influx_sink import CONSUMER, InfluxSink
from web.status import Progress, Status, together


class SinkWork:
    """One partition's sink, its connections closed when it ends."""

    def __init__(self, sink: InfluxSink) -> None:
        self.sink = sink

    async def run(self) -> None:
        try:
            await self.sink.run()
        finally:
            await self.sink.close()

    async def stop(self) -> None:
        await self.sink.stop()

    def progress(self) -> Progress:
        sink = self.sink
        idle_ms = int((time.monotonic() - sink.moved_s) * 1000) if sink.lag else 0
        offset = sink.position() + sink.rejected_position()
        return Progress(offset, offset + sink.lag, idle_ms, 0, True, sink.reason)


class SinkRole(Role):
    """Sinks of the partitions that this copy owns."""

    name = "sink"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.partitions = Partitions(self._work, self.fail)

    async def begin(self) -> None:
        await self.own_bucket()
        self.log: Log = await self.open_log()
        await self.share(CONSUMER, RESULTS, self.partitions)

    def figures(self) -> Status:
        parts = dict(self.partitions.parts)
        each = {partition: part.progress() for partition, part in parts.items()}
        sinks = [part.sink for part in parts.values()]
        return Status(
            worker=None,
            sink=together(each.values()),
            partitions={"sink": each},
            log_ends={RESULTS: sum(sink.position() for sink in sinks)},
            events={
                "influxdb_failures": sum(sink.failures for sink in sinks),
                "influxdb_rows_refused": sum(sink.refused for sink in sinks),
            },
        )

    async def _work(self, partition: int) -> SinkWork:
        return SinkWork(InfluxSink(self.log, made.influx(self.settings), partition))
