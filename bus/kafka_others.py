"""What ``meterflow doctor`` says of a topic that others write: there, readable, and by which group."""

from __future__ import annotations

from typing import Any

from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from bus.kafka_connection import GROUP, Connection, Refused, check_code
from bus.kafka_reader import EARLIEST, LATEST, Reader, offset_of
from bus.kafka_settings import KafkaSettings
from metering.errors import MeterflowError, UsageError
from metering.findings import Finding

_OF = "json_topic"


async def check(settings: KafkaSettings, topic: str, group: str) -> list[Finding]:
    """Up to the first that is not as it should be; makes and moves nothing."""
    try:
        connection = Connection(settings, "meterflow-doctor")
    except UsageError as error:
        return [Finding(_OF, "certificate", "bad", error.what, error.hint)]
    found: list[Finding] = []
    try:
        partitions = await _partitions(connection, topic)
        if partitions == 0:
            hint = "Correct json_topic.topic, or let the one who writes it make it first."
            return [Finding(_OF, topic, "bad", "is not there", hint)]
        found.append(Finding(_OF, topic, detail=f"{partitions} partition(s)"))
        found.append(await _readable(connection, topic, partitions))
        found.append(await _group(connection, topic, group, partitions))
    except MeterflowError as error:
        hint = error.hint
        if isinstance(error.__cause__, Refused):
            hint = f"Give the user the rights to describe and read {topic}, and to read in group {group}."
        found.append(Finding(_OF, topic, "bad", error.what, hint))
    finally:
        await connection.close()
    return found


async def _partitions(connection: Connection, topic: str) -> int:
    """How many it has; 0: there is no such topic."""

    async def attempt() -> int:
        answer = await connection.send(await connection.any_node(), MetadataRequest([topic], False))
        code, _, _, partitions, *_ = answer.topics[0]
        if code == UnknownTopicOrPartitionError.errno:
            return 0
        check_code(code, topic)
        return len(partitions)

    return await connection.patiently("name a topic", attempt)


async def _readable(connection: Connection, topic: str, partitions: int) -> Finding:
    """Whether it may be read, and what lies first in it can be."""
    kept, reader = 0, Reader(connection)
    try:
        for partition in range(partitions):
            first = await offset_of(connection, (topic, partition), EARLIEST)
            kept += await offset_of(connection, (topic, partition), LATEST) - first
            await reader.wait((topic, partition), first, 0)
    finally:
        reader.close()
    return Finding(_OF, "readable", detail=f"about {kept} records are kept")


async def _group(connection: Connection, topic: str, group: str, partitions: int) -> Finding:
    """Whether the group may be used, and how much of the topic it has read."""

    async def attempt() -> Any:
        node = await connection.coordinator(GROUP, group)
        request = OffsetFetchRequest(group, [(topic, list(range(partitions)))])
        answer = await connection.send(node, request)
        check_code(answer.error_code, group)
        return answer

    answer = await connection.patiently("say how far a group is", attempt)
    begun = sum(offset >= 0 for _, offset, *_ in answer.topics[0][1])
    return Finding(_OF, "group", detail=f"{group} has begun {begun} of {partitions} partitions")
