"""From a real Mosquitto into a real Kafka of several partitions."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from bus.frames import decode_readings
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS
from bus.log_kafka import open_kafka
from bus.partition import partition_of
from ingest.collector import Collector
from tests.ingest.collector_builders import broker, publish_payloads, publish_readings
from tests.ingest.ingest_builders import NOW_MS, reading, roster, until
from tests.real.mosquitto import Mosquitto


async def test_readings_reach_their_partitions_and_the_session_is_remembered(
    kafka: str, mosquitto_server: Callable[..., Mosquitto]
) -> None:
    """Each plant on its own; a second collector with other filters ends the first one's, a loss is seen."""
    server = mosquitto_server()
    settings = KafkaSettings(kafka, prefix=f"t{uuid4().hex[:12]}", partitions=3)
    for filters in (("meterflow/v1/#", "other/#"), ("meterflow/v1/#",)):
        log = await open_kafka(settings)
        collector = Collector(log, roster(), broker(server.port, filters=filters), clock_ms=lambda: NOW_MS)
        await collector.start()
        await until(lambda c=collector: c.listening, 20)  # type: ignore[misc]
        await publish_readings(server.port, range(100))
        await publish_payloads(server.port, [reading(1)] * 50, topic="meterflow/v1/paper/main")
        await publish_payloads(server.port, [b"x"], topic="other/thing")
        wanted = 150 + ("other/#" in filters)
        await until(lambda c=collector, n=wanted: c.counters.acknowledged == n, 20)  # type: ignore[misc]
        assert collector.status.sessions_lost == 0
        await collector.stop()
        await log.close()
    server.stop()
    server.start()
    log = await open_kafka(settings)
    collector = Collector(log, roster(), broker(server.port), clock_ms=lambda: NOW_MS)
    await collector.start()
    await until(lambda: collector.listening, 20)
    assert collector.status.sessions_lost == 1
    for plant, count in (("steel", 200), ("paper", 100)):
        records = await log.read(READINGS, 0, partition=partition_of(plant, 3))
        assert sum(len(decode_readings(r.value)) for r in records if r.key == plant) == count
    await collector.stop()
    await log.close()
