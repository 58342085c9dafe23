"""What the tests on a real Kafka share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from bus.kafka_connection import Connection
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS, RESULTS, Entry
from bus.log_kafka import KafkaLog, open_kafka

_prefixes = count()


def settings_at(address: str, **changes: Any) -> KafkaSettings:
    """Topics nobody else has."""
    return KafkaSettings(address, prefix=f"test-{os.getpid()}-{next(_prefixes)}", **changes)


@asynccontextmanager
async def opened(settings: KafkaSettings, *, logs: int = 1) -> AsyncIterator[list[KafkaLog]]:
    """Several logs on the same topics, as of several processes."""
    found: list[KafkaLog] = []
    try:
        for _ in range(logs):
            found.append(await open_kafka(settings))  # noqa: PERF401 - what was opened is closed
        yield found
    finally:
        for log in found:
            await log.close()


def entry(value: object) -> Entry:
    """A record of results."""
    return Entry("energy", str(value).encode(), 0)


async def all_values(log: KafkaLog, topic: str = RESULTS, partition: int = 0) -> list[str]:
    """Every committed value."""
    found: list[str] = []
    offset = 0
    while records := await log.read(topic, offset, partition=partition):
        found += [record.value.decode() for record in records]
        offset = records[-1].offset + 1
    return found


async def numbers(log: KafkaLog, count_: int, partition: int = 0) -> list[int]:
    """The committed results, when there are so many."""
    assert await log.wait(RESULTS, 0, 10, partition)
    while len(found := await all_values(log, partition=partition)) < count_:
        await log.wait(RESULTS, 1 << 40, 0.05, partition)
    return [int(value) for value in found]


def requests_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that go out from now on."""
    sent: list[Any] = []
    send = Connection.send

    async def recorded(self: Connection, node: int, request: Any, lane: object = "ask") -> Any:
        sent.append(request)
        return await send(self, node, request, lane)

    monkeypatch.setattr(Connection, "send", recorded)
    return sent


__all__ = ["READINGS", "RESULTS", "all_values", "entry", "numbers", "opened", "requests_of", "settings_at"]
