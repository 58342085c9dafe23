"""What doctor says of a topic that others write."""

from __future__ import annotations

from dataclasses import replace

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bus.kafka_others import check
from tests.bus.kafka_tools import settings_at


async def test_a_topic_that_is_well_is_said_to_be(kafka: str) -> None:
    """How many partitions, what is kept, how far its group is; the group's position stays where it is."""
    settings = settings_at(kafka)
    topic, group = f"{settings.prefix}-others", f"{settings.prefix}-readers"
    await _made(kafka, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for _ in range(5):
            await producer.send_and_wait(topic, b"{}", partition=1)
    place = TopicPartition(topic, 1)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False) as reader:
        reader.assign([place])
        await reader.commit({place: 3})
        found = await check(settings, topic, group)
        assert await reader.committed(place) == 3
    assert {finding.verdict for finding in found} == {"good"}
    assert [finding.detail for finding in found] == [
        "3 partition(s)",
        "about 5 records are kept",
        f"{group} has begun 1 of 3 partitions",
    ]


async def test_a_topic_that_is_not_there_is_said_not_to_be(kafka: str) -> None:
    """It is not made by looking for it."""
    settings = settings_at(kafka)
    for _ in range(2):
        (finding,) = await check(settings, f"{settings.prefix}-nowhere", "readers")
        assert (finding.verdict, finding.detail) == ("bad", "is not there")
        assert "json_topic.topic" in finding.hint


async def test_a_kafka_that_is_away_is_one_finding(kafka: str) -> None:
    """With what to do."""
    settings = replace(settings_at(kafka), bootstrap="127.0.0.1:9", patience_ms=500)
    (finding,) = await check(settings, "topic", "readers")
    assert finding.verdict == "bad"
    assert finding.hint


async def _made(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 3, 1)])
    await admin.close()
