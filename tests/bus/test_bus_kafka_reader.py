"""Cursors: what they ask of a broker, and what they do with batches that cannot be read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiokafka.errors import LeaderNotAvailableError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from bus.kafka_connection import Connection
from bus.kafka_reader import LATEST, Cursor, Lanes, Reader, offset_of
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS, REJECTED, RESULTS
from metering.errors import MeterflowError, Unavailable
from tests.bus.kafka_tools import entry, opened, settings_at

WAITS = 60
CONNECTIONS_MAX = 40
"""Waits given up within two seconds have one each; it were WAITS and more."""


async def test_waits_given_up_again_and_again_leave_no_connections(kafka: str) -> None:
    """Who waits on two topics gives one wait up each time: the connections are used again."""
    async with opened(settings_at(kafka)) as (log,):
        await log.append({RESULTS: [entry(0)], REJECTED: [entry(0)]})
        for _ in range(WAITS):
            wait = asyncio.ensure_future(log.wait(REJECTED, 1, 5))
            await asyncio.sleep(0.06)
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)
        client = log._connection._client
        assert client is not None
        assert len(client._conns) < CONNECTIONS_MAX


def batch_of(offset: int, *values: bytes) -> bytearray:
    """A batch as it lies on a broker's disk."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for i, value in enumerate(values):
        builder.append(i, 0, b"", value, [])
    built = builder.build()
    built[:8] = offset.to_bytes(8, "big")
    return bytearray(built)


def cursor_with(*batches: bytearray) -> Cursor:
    """A cursor that has fetched these batches."""
    cursor = Cursor(Connection(KafkaSettings("127.0.0.1:1"), "test"), ("readings", 0), 0, Lanes())
    for batch in batches:
        cursor._batches.append(MemoryRecords(bytes(batch)).next_batch())
    cursor.position = 3
    return cursor


async def test_a_damaged_batch_is_told_again_and_never_skipped() -> None:
    """What was before it is given first; whoever asks again does not get what is behind it."""
    damaged = batch_of(1, b"two")
    damaged[-2] ^= 1
    cursor = cursor_with(batch_of(0, b"one"), damaged, batch_of(2, b"three"))
    reader = Reader(cursor._connection)
    reader._cursors[cursor._place] = [cursor]
    got = await reader.read(cursor._place, 0, 10, 1 << 20)
    assert [record.value for record in got] == [b"one"]
    for _ in range(2):
        with pytest.raises(MeterflowError, match="damaged"):
            await reader.read(cursor._place, 1, 10, 1 << 20)


async def test_who_gives_up_cuts_off_nobody_who_is_answered(kafka: str) -> None:
    """Or two that wait long, each longer than the other's patience is left, cut each other off for ever."""
    async with opened(settings_at(kafka)) as (log,):
        place = log.settings.topic(READINGS), 0
        await offset_of(log._connection, place, LATEST)
        connection = Connection(replace(log.settings, patience_ms=1500), "test")
        node = await connection.leader(*place)
        request = FetchRequest(2500, 1, 1 << 20, 1, [(place[0], [(place[1], 0, 1 << 20)])])
        long = asyncio.create_task(connection.send(node, request, "long"))

        async def refused() -> None:
            await offset_of(connection, place, LATEST)
            raise LeaderNotAvailableError

        with pytest.raises(Unavailable):
            await connection.patiently("do it", refused)
        assert (await long).topics[0][1][0][1] == 0
        await connection.close()
