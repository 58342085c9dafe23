"""Appends of many callers share requests: while one group is on its way to the brokers the next gathers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from bus.kafka_batches import Raw
from bus.kafka_connection import Connection
from bus.kafka_producer import Place, Producer
from metering.errors import MeterflowError

GROUP_BYTES_MAX = 8 << 20

_Job = tuple[Mapping[Place, Sequence[Raw]], asyncio.Future[None]]


class Appender:
    """Records without transactions: each once as long as its producer lives, in the callers' order.

    After an error the producer is given up, as it is unknown which of its batches came to be; a caller
    that repeats its append may so append twice.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: Producer | None = None
        self._jobs: list[_Job] = []
        self._working: asyncio.Task[None] | None = None

    async def append(self, parts: Mapping[Place, Sequence[Raw]]) -> None:
        """Durable when it returns."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.append((parts, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        await done

    async def close(self) -> None:
        """Finishes what was appended."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def _work(self) -> None:
        while self._jobs:
            group = self._group()
            error = await self._written(group)
            if error is not None and not isinstance(error, MeterflowError) and len(group) > 1:
                for job in group:  # bad code of one caller is not to fail the others
                    _tell([job], await self._written([job]))
            else:
                _tell(group, error)

    def _group(self) -> list[_Job]:
        group: list[_Job] = []
        size = 0
        while self._jobs and (not group or size < GROUP_BYTES_MAX):
            group.append(self._jobs.pop(0))
            size += sum(len(value or b"") for records in group[-1][0].values() for _, value, _ in records)
        return group

    async def _written(self, group: Sequence[_Job]) -> Exception | None:
        together: dict[Place, list[Raw]] = {}
        for parts, _ in group:
            for place, records in parts.items():
                together.setdefault(place, []).extend(records)
        try:
            if self._producer is None:
                producer = Producer(self._connection)
                await producer.start()
                self._producer = producer
            await self._producer.produce(together)
        except Exception as error:  # noqa: BLE001 - it is raised in the callers
            self._producer = None
            return error
        return None


def _tell(group: Sequence[_Job], error: Exception | None) -> None:
    for _, done in group:
        if done.done():  # its caller was cancelled
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
