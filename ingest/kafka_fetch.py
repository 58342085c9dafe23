"""Fetching of a topic's values from all brokers that lead partitions of ours, one fetch ahead.

One request asks a broker for all of its partitions; it may keep it back until there is something. What
one answer holds is bounded, whatever lies on the topic; whose turn it was comes last the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest

from bus.kafka_connection import Connection, check_code
from bus.kafka_reader import EARLIEST, LATEST, READ_COMMITTED, Lanes, offset_of
from ingest.kafka_records import values_of
from ingest.kafka_values import Values
from metering.errors import MeterflowError, Unavailable

_log = structlog.get_logger(__name__)

FETCH_BYTES = PARTITION_BYTES = 2 << 20
"""Of one answer, and of a partition in it: some twenty thousand readings, thousands of each plant. Two are
in memory at a time, one worked on and one on its way. A larger batch comes by itself. Of what comes
compressed so much less is asked for, but not less than ``LEAST_BYTES``.
"""
LEAST_BYTES = 64 << 10
WAIT_MS = 1000
"""How long a broker may keep a request back."""


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a partition: values, where to read on, whether that is its end; ``error``: why none."""

    values: Values
    next_offset: int
    at_end: bool
    error: MeterflowError | None = None


class _Asked(NamedTuple):
    """One partition's answer: code, what may be read (the last stable offset), aborted, content."""

    code: int
    stable: int
    aborted: Sequence[tuple[int, int]]
    content: bytes


class Fetcher:
    """Reads on at ``positions`` (partition: offset). Belongs to the running loop; ``close`` it.

    A partition that cannot be read holds up no other: it is asked for by itself until it can.
    """

    def __init__(
        self, connection: Connection, lanes: Lanes, topic: str, positions: Mapping[int, int]
    ) -> None:
        self._connection, self._lanes, self._topic = connection, lanes, topic
        self._positions = dict(positions)
        self._bytes = dict.fromkeys(positions, PARTITION_BYTES)
        self._apart: set[int] = set()
        self._asking: dict[asyncio.Task[dict[int, Part]], list[int]] = {}
        self._free: list[int] = []
        """Lanes on which nothing is under way: answers of one lane wait for each other."""

    async def next(self) -> dict[int, Part]:
        """What has come, by partition; also of partitions with nothing new, within ``WAIT_MS``."""
        await self._ask()
        done, _ = await asyncio.wait(self._asking, return_when=asyncio.FIRST_COMPLETED)
        parts: dict[int, Part] = {}
        for task in done:
            parts |= self._ended(task, self._asking.pop(task))
        for partition, part in parts.items():
            if len(part.values):
                del self._positions[partition]  # and behind the others again: its turn was now
            self._positions[partition] = part.next_offset
        failed = {partition for partition, part in parts.items() if part.error is not None}
        self._apart = self._apart - parts.keys() | failed
        await self._ask()
        return parts

    async def close(self) -> None:
        """Asks nothing more."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        self._asking = {}
        for lane in self._free:
            self._lanes.give(lane)
        self._free = []

    def _ended(self, task: asyncio.Task[dict[int, Part]], partitions: Sequence[int]) -> dict[int, Part]:
        error = task.exception()
        if isinstance(error, MeterflowError):
            return {partition: self._none(partition, error) for partition in partitions}
        return task.result()

    def _none(self, partition: int, error: MeterflowError) -> Part:
        return Part(Values.of(()), self._positions[partition], at_end=False, error=error)

    async def _ask(self) -> None:
        """Asks for every partition for which nobody is asked now."""
        asked = {partition for partitions in self._asking.values() for partition in partitions}
        groups: dict[object, list[int]] = {}
        away = False  # that would be found out for each of them again, after a while
        for partition in [partition for partition in self._positions if partition not in asked]:
            leader = None if away or partition in self._apart else await self._leader(partition)
            away = away or (leader is None and partition not in self._apart)
            groups.setdefault(("alone", partition) if leader is None else leader, []).append(partition)
        for partitions in groups.values():
            self._asking[asyncio.create_task(self._fetched(partitions))] = partitions

    async def _leader(self, partition: int) -> int | None:
        """Partitions of one broker are asked for together; None: it is for the request to have patience."""
        with suppress(KafkaError, OSError, TimeoutError):
            return await self._connection.leader(self._topic, partition)
        return None

    async def _fetched(self, partitions: Sequence[int]) -> dict[int, Part]:
        lane = self._free.pop() if self._free else self._lanes.take()
        try:
            answers = await self._connection.patiently("be read", lambda: self._attempt(partitions, lane))
        except BaseException:
            self._lanes.give(lane)
            raise
        self._free.append(lane)
        parts = {}
        for partition, asked in answers.items():
            try:
                parts[partition] = await self._part(partition, asked)
            except MeterflowError as error:
                parts[partition] = self._none(partition, error)
        return parts

    async def _attempt(self, partitions: Sequence[int], lane: int) -> dict[int, _Asked]:
        """Raises aiokafka's errors where nothing can be read."""
        node = await self._connection.leader(self._topic, partitions[0])
        wanted = [(partition, self._positions[partition], self._bytes[partition]) for partition in partitions]
        request = FetchRequest(WAIT_MS, 1, FETCH_BYTES, READ_COMMITTED, [(self._topic, wanted)])
        answer = await self._connection.send(node, request, ("values", lane))
        check_code(getattr(answer, "error_code", 0), self._topic)
        found = {
            partition: _Asked(code, stable, aborted or (), content or b"")
            for partition, code, _, stable, _, aborted, *_, content in answer.topics[0][1]
        }
        codes = [asked.code for asked in found.values() if asked.code != OffsetOutOfRangeError.errno]
        if len(codes) == len(found) and all(codes):
            check_code(codes[0], self._topic)
        return found

    async def _part(self, partition: int, asked: _Asked) -> Part:
        offset, where = self._positions[partition], f"{self._topic} {partition}"
        if asked.code == OffsetOutOfRangeError.errno:  # records were let go, or the topic was made anew
            place = self._topic, partition
            first = await offset_of(self._connection, place, EARLIEST)
            end = await offset_of(self._connection, place, LATEST)
            _log.warning(
                "the position is no more: reading goes on at the first record",
                topic=where,
                position=offset,
                first=first,
            )
            return Part(Values.of(()), first, first >= end)
        if asked.code:
            raise Unavailable(f"Kafka cannot be read: {for_code(asked.code).message}", where=where)
        values, behind = values_of(asked.content, offset, asked.aborted, where)
        times_larger = max(len(values.content) / max(len(asked.content), 1), 1)
        self._bytes[partition] = max(int(PARTITION_BYTES / times_larger), LEAST_BYTES)
        return Part(values, behind, behind >= asked.stable)
