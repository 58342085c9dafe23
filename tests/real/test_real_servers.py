"""The real servers themselves: they keep their data and their address through every kind of end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import paho.mqtt.publish as publishing
import paho.mqtt.subscribe as subscribing
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from paho.mqtt import MQTTException

from tests.real.influxd import Influx, InfluxServer
from tests.real.kafka import KafkaServer
from tests.real.mosquitto import Mosquitto
from tests.real.server import Server, listens, wait_until

USERS = {"steel": "secret", "collector": "other"}
ACL = "user steel\ntopic write meterflow/v1/steel/#\nuser collector\ntopic read meterflow/#\n"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Its answer, in at most 30 s."""
    return asyncio.run(asyncio.wait_for(work, 30))


async def make_topic(address: str, topic: str) -> None:
    """A topic of one partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def send(address: str, topic: str, value: bytes) -> None:
    """One record, acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def first(address: str, topic: str) -> bytes:
    """The value of a topic's first record."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return bytes((await consumer.getone()).value)
    finally:
        await consumer.stop()


def test_kafka_keeps_its_records_when_it_is_killed(kafka_server: Callable[..., KafkaServer]) -> None:
    """It comes back on the same address with what it acknowledged."""
    server = kafka_server()
    address = server.address
    run(make_topic(address, "kept"))
    run(send(address, "kept", b"one"))
    server.kill()
    assert not listens(server.port)
    server.start()
    assert run(first(address, "kept")) == b"one"


def test_kafka_makes_no_topic_by_itself(kafka: str) -> None:
    """A mistyped name is an error, not a topic with the wrong partitions."""
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(send(kafka, "never-made", b"one"), 1))


def test_kafka_sends_its_clients_to_the_advertised_address(kafka_server: Callable[..., KafkaServer]) -> None:
    """So that something can stand between a client and the broker."""
    server = kafka_server(advertised="127.0.0.1:1")

    async def where() -> list[Any]:
        client = AIOKafkaClient(bootstrap_servers=server.address)
        await client.bootstrap()
        try:
            return [broker.port for broker in client.cluster.brokers()]
        finally:
            await client.close()

    assert run(where()) == [1]


def test_influxd_keeps_its_setup_when_it_is_killed(influx_server: Callable[..., InfluxServer]) -> None:
    """A bucket made before is there afterwards, for the same token."""
    server = influx_server()
    server.influx.bucket("kept")
    server.kill()
    server.start()
    answer = server.influx.call("GET", "/api/v2/buckets?name=kept")
    assert [bucket["name"] for bucket in answer["buckets"]] == ["kept"]


def test_influxdb_gives_tokens_with_few_rights(influxdb: Influx) -> None:
    """Such a token sees its own bucket and no other."""
    mine, other = influxdb.bucket(), influxdb.bucket()
    little = Influx(influxdb.url, influxdb.org, influxdb.token_for(mine, "read"))
    for name, seen in ((mine, [mine]), (other, [])):  # asked one by one: a list of all comes in pages
        found = little.call("GET", f"/api/v2/buckets?name={name}")["buckets"]
        assert [bucket["name"] for bucket in found] == seen


def publish(port: int, password: str, topic: str) -> None:
    """As the plant ``steel``; kept by the broker."""
    auth: Any = {"username": "steel", "password": password}
    publishing.single(topic, topic, qos=1, retain=True, hostname="127.0.0.1", port=port, auth=auth)


def test_mosquitto_lets_each_user_do_only_its_own(mosquitto_server: Callable[..., Mosquitto]) -> None:
    """A plant's message on another's topic does not arrive; a wrong password is refused."""
    server = mosquitto_server(users=USERS, acl=ACL)
    for topic in ("meterflow/v1/other/p", "meterflow/v1/steel/p"):
        publish(server.port, "secret", topic)
    auth = {"username": "collector", "password": "other"}
    receive: Callable[..., Any] = subscribing.simple
    got = receive("meterflow/#", hostname="127.0.0.1", port=server.port, auth=auth)
    assert got.payload == b"meterflow/v1/steel/p"
    with pytest.raises(MQTTException, match="Not authorized"):
        publish(server.port, "wrong", "meterflow/v1/steel/p")


@pytest.fixture(params=[KafkaServer, InfluxServer, Mosquitto], scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of each kind in turn."""
    kind: type[Server] = request.param
    with kind(tmp_path_factory.mktemp("server")) as started:
        yield started


def test_a_paused_server_goes_on(server: Server) -> None:
    """And can be stopped while it is paused."""
    server.pause()
    server.resume()
    wait_until(server.answers, server.name)
    server.pause()
    server.stop()
    assert not server.running
    server.start()


def test_a_stopped_server_starts_again(server: Server) -> None:
    """As another process on the same port."""
    before = server.pid
    server.stop()
    server.start()
    assert server.pid != before
    assert server.answers()
