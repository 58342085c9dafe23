"""The log's topics on Kafka, and what doctor says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.protocol.admin import DescribeConfigsRequest

from bus.kafka_connection import Connection
from bus.kafka_settings import RECORD_BYTES_MAX, STATE, KafkaSettings
from bus.kafka_topics import check, make, wanted
from bus.log import PORTIONS, READINGS, REJECTED, RESULTS
from bus.log_kafka import open_kafka
from metering.errors import UsageError
from tests.bus.kafka_tools import opened, settings_at


async def configurations(settings: KafkaSettings) -> dict[str, dict[str, str]]:
    """What the broker says of every topic."""
    connection = Connection(settings, "test")
    request = DescribeConfigsRequest([(2, name, None) for name in settings.topics])

    async def attempt() -> Any:
        return await connection.send(await connection.any_node(), request)

    answer = await connection.patiently("describe", attempt)
    await connection.close()
    return {name: {e[0]: e[1] for e in entries} for _, _, _, name, entries in answer.resources}


async def make_one(
    settings: KafkaSettings, topic: str, changes: Mapping[str, str], partitions: int = 4
) -> None:
    """Makes a topic as somebody else might have."""
    connection = Connection(replace(settings, partitions=partitions), "test")
    name = settings.topic(topic)
    its = {name: {**wanted(settings)[name], **changes}}
    await connection.patiently("make a topic", lambda: make(connection, its))
    await connection.close()


async def test_topics_are_made_as_they_must_be(kafka: str) -> None:
    """Readings stay for ever with the time they were received, states are compacted, large records pass."""
    settings = settings_at(kafka, partitions=3)
    async with opened(settings) as (log,):
        assert log.partitions == 3
        found = await configurations(settings)
    assert all(
        found[name][key] == value for name, its in wanted(settings).items() for key, value in its.items()
    )
    assert found[settings.topic(READINGS)]["retention.ms"] == "-1"
    assert found[settings.topic(READINGS)]["message.timestamp.type"] == "CreateTime"
    assert found[settings.topic(STATE)]["cleanup.policy"] == "compact"
    assert int(found[settings.topic(RESULTS)]["retention.ms"]) > 0
    assert {its["max.message.bytes"] for its in found.values()} == {str(RECORD_BYTES_MAX)}
    assert {f.verdict for f in await check(settings)} == {"good"}


async def test_another_number_of_partitions_is_refused(kafka: str) -> None:
    """Plants would move away from their own readings: what to do is said."""
    settings = settings_at(kafka, partitions=2)
    async with opened(settings):
        pass
    other = replace(settings, partitions=5)
    with pytest.raises(UsageError, match="has 2 partitions, the settings say 5") as refused:
        await open_kafka(other)
    assert "kafka.partitions to 2" in refused.value.hint
    bad = [f for f in await check(other) if f.verdict == "bad"]
    assert {f.what for f in bad} == set(other.topics)


@pytest.mark.parametrize(
    ("topic", "policy"), [(STATE, "delete"), (READINGS, "compact"), (PORTIONS, "compact")]
)
async def test_a_topic_that_would_lose_records_is_refused(kafka: str, topic: str, policy: str) -> None:
    """With the command that puts it right."""
    settings = settings_at(kafka)
    await make_one(settings, topic, {"cleanup.policy": policy})
    with pytest.raises(UsageError, match=f"cleanup.policy is {policy}") as refused:
        await open_kafka(settings)
    assert "kafka-configs.sh --alter" in refused.value.hint


async def test_people_may_keep_things_for_as_long_as_they_like(kafka: str) -> None:
    """A warning of doctor's, no more."""
    settings = settings_at(kafka)
    await make_one(settings, REJECTED, {"retention.ms": "1000000"})
    async with opened(settings):
        pass
    (warning,) = [f for f in await check(settings) if f.verdict != "good"]
    assert warning.verdict == "warning"
    assert "retention.ms is 1000000" in warning.detail


async def test_doctor_makes_nothing(kafka: str) -> None:
    """It says what is not there yet."""
    settings = settings_at(kafka)
    for _ in range(2):
        findings = await check(settings)
        assert {f.what for f in findings if f.verdict == "warning"} == set(settings.topics)


async def test_doctor_says_when_nobody_answers() -> None:
    """One finding, with what to look at."""
    (finding,) = await check(KafkaSettings("127.0.0.1:1", patience_ms=300, request_ms=200))
    assert finding.verdict == "bad"
    assert "address" in finding.hint


async def test_a_certificate_file_that_is_none_is_wrong_usage() -> None:
    """Named with what it should be."""
    with pytest.raises(UsageError, match="certificate"):
        Connection(KafkaSettings("127.0.0.1:1", tls=True, ca_file=__file__), "test")  # type: ignore[arg-type]


def test_a_password_is_in_no_text() -> None:
    """Settings may be logged."""
    assert "secret" not in repr(KafkaSettings("127.0.0.1:1", user="a", password="secret"))
