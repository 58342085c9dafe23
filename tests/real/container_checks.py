"""The way to the services through testcontainers: for ``make containers-test``; no part of ``make test``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import paho.mqtt.publish as publishing
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.real.containers import mosquitto_container
from tests.real.influxd import Influx


def test_kafka_in_a_container_keeps_records(kafka: str) -> None:
    """At the address that it advertises to this machine."""

    async def there_and_back() -> bytes:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_topics([NewTopic("checked", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
            await producer.send_and_wait("checked", b"one")
        consumer = AIOKafkaConsumer("checked", bootstrap_servers=kafka, auto_offset_reset="earliest")
        async with consumer:
            return bytes((await consumer.getone()).value)

    assert asyncio.run(asyncio.wait_for(there_and_back(), 60)) == b"one"


def test_influxdb_in_a_container_gives_tokens(influxdb: Influx) -> None:
    """It is set up, and its administrator's token works."""
    bucket = influxdb.bucket()
    little = Influx(influxdb.url, influxdb.org, influxdb.token_for(bucket, "read"))
    assert bucket in {found["name"] for found in little.call("GET", "/api/v2/buckets")["buckets"]}


def test_mosquitto_in_a_container_acknowledges(tmp_path: Path) -> None:
    """A message of QoS 1."""
    with mosquitto_container(tmp_path) as port:
        publishing.single("meterflow/v1/p/q", "1", qos=1, hostname="127.0.0.1", port=port)
