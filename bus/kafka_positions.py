"""How far a consumer is, asked from outside: whoever works on its partitions is not disturbed."""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.commit import OffsetFetchRequest

from bus.kafka_connection import GROUP, Connection, check_code
from bus.kafka_settings import INPUTS
from bus.log import READINGS


async def positions(connection: Connection, consumer: str) -> list[int]:
    """The consumer's ``done`` of every partition, 0 where it has not begun. Raises Unavailable."""
    settings = connection.settings
    group, topic = settings.group(consumer), settings.topic(INPUTS.get(consumer, READINGS))
    request = OffsetFetchRequest(group, [(topic, list(range(settings.partitions)))])

    async def attempt() -> list[int]:
        answer: Any = await connection.send(await connection.coordinator(GROUP, group), request)
        check_code(answer.error_code, group)
        found = [0] * settings.partitions
        for partition, offset, _, code in answer.topics[0][1]:
            check_code(code, group)
            found[partition] = max(int(offset), 0)
        return found

    return await connection.patiently("say how far a group is", attempt)
