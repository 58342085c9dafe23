"""Ordinary clients against a running endpoint: paho-mqtt and mosquitto_pub."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.endpoint import Endpoint
from ingest.mqtt_events import Limits
from ingest.users import User, Users, hash_password
from tests.ingest.ingest_builders import NOW_MS, TOPIC, reading, serving, until

VERSIONS = [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5]
USERS = Users([User("steel", frozenset({"steel"}), hash_password("secret"))])


def client_of(version: MQTTProtocolVersion, client_id: str = "paho") -> mqtt.Client:
    """A paho client that notes how it fared."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version)
    client.user_data_set({"connected": [], "disconnected": [], "subscribed": [], "up": threading.Event()})
    client.on_connect = _on_connect
    client.on_disconnect = lambda _c, data, _f, reason, _p: data["disconnected"].append(reason)
    client.on_subscribe = lambda _c, data, _m, reasons, _p: data["subscribed"].append(reasons)
    return client


def _on_connect(_client: mqtt.Client, data: Any, _flags: Any, reason: Any, properties: Any) -> None:
    data["connected"].append((reason, properties))
    data["up"].set()


def data_of(client: mqtt.Client) -> Any:
    """What the client noted."""
    return client.user_data_get()


def connected(client: mqtt.Client, endpoint: Endpoint, keepalive: int = 60) -> mqtt.Client:
    """Connects and runs the client's thread."""
    client.connect("127.0.0.1", endpoint.port, keepalive=keepalive)
    client.loop_start()
    assert data_of(client)["up"].wait(5)
    return client


async def thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a client's blocking call beside the endpoint's loop."""
    return await asyncio.to_thread(call, *arguments)


def publish_all(client: mqtt.Client, payloads: list[bytes], qos: int) -> None:
    """Publishes, waits for every acknowledgement, leaves."""
    for info in [client.publish(TOPIC, payload, qos=qos) for payload in payloads]:
        info.wait_for_publish(10)
        assert info.is_published()
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1])
async def test_paho_publishes(version: MQTTProtocolVersion, qos: int) -> None:
    """500 readings, each once."""
    async with serving() as (endpoint, log):
        client = await thread(connected, client_of(version), endpoint)
        await thread(publish_all, client, [reading(i, NOW_MS - i) for i in range(500)], qos)
        await until(lambda: endpoint.counters.accepted == 500)
        assert [row["value"][0] for row in await log.readings()] == list(range(500))
        assert endpoint.counters.acknowledged == 500 * qos


async def test_paho_5_learns_what_the_endpoint_does_not_do() -> None:
    """Maximum QoS, receive maximum, packet size, session expiry, client id, subscriptions."""
    async with serving() as (endpoint, _):
        client = client_of(MQTTProtocolVersion.MQTTv5, "")
        wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.SessionExpiryInterval = 3_600
        client.connect("127.0.0.1", endpoint.port, properties=wanted)
        client.loop_start()
        assert await thread(data_of(client)["up"].wait, 5)
        reason, told = data_of(client)["connected"][0]
        client.disconnect()
        client.loop_stop()
        assert not reason.is_failure
        assert told.json() == {
            "SessionExpiryInterval": 0,
            "ReceiveMaximum": 10_000,
            "MaximumQoS": 1,
            "MaximumPacketSize": 1 << 20,
            "AssignedClientIdentifier": told.AssignedClientIdentifier,
            "WildcardSubscriptionAvailable": 0,
            "SubscriptionIdentifierAvailable": 0,
            "SharedSubscriptionAvailable": 0,
        }
        assert told.AssignedClientIdentifier


@pytest.mark.parametrize("version", VERSIONS)
async def test_paho_is_refused_a_subscription(version: MQTTProtocolVersion) -> None:
    """It sees the failure, and publishes on."""
    async with serving() as (endpoint, _):
        client = await thread(connected, client_of(version), endpoint)
        client.subscribe("meterflow/#", qos=1)
        await until(lambda: data_of(client)["subscribed"])
        assert all(reason.is_failure for reason in data_of(client)["subscribed"][0])
        await thread(publish_all, client, [reading()], 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_pahos_will_is_published_when_it_dies(version: MQTTProtocolVersion) -> None:
    """The socket closes without a DISCONNECT."""
    async with serving() as (endpoint, log):
        client = client_of(version)
        client.will_set(TOPIC, reading(3), qos=1)
        await thread(connected, client, endpoint)
        client.loop_stop()
        client.socket().close()  # type: ignore[union-attr]
        await until(lambda: endpoint.counters.accepted == 1)
        assert [row["value"] for row in await log.readings()] == [(3, 0)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_pahos_user_and_password_are_checked(version: MQTTProtocolVersion) -> None:
    """Right ones are let in, wrong ones told so."""
    async with serving(users=USERS) as (endpoint, _):
        good, bad = client_of(version, "good"), client_of(version, "bad")
        good.username_pw_set("steel", "secret")
        bad.username_pw_set("steel", "wrong")
        for client in (good, bad):
            await thread(connected, client, endpoint)
        await thread(publish_all, good, [reading()], 1)
        bad.disconnect()
        bad.loop_stop()
        assert not data_of(good)["connected"][0][0].is_failure
        reason = data_of(bad)["connected"][0][0]
        assert reason.is_failure
        assert reason == "Bad user name or password"


@pytest.mark.parametrize("version", VERSIONS)
async def test_paho_stays_by_its_keep_alive(version: MQTTProtocolVersion) -> None:
    """It pings, is answered, and is still there after two keep-alives."""
    async with serving() as (endpoint, _):
        client = await thread(connected, client_of(version), endpoint, 1)
        await asyncio.sleep(2.2)
        assert data_of(client)["disconnected"] == []
        await thread(publish_all, client, [reading()], 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_pahos_oversize_message_does_not_come_for_ever(version: MQTTProtocolVersion) -> None:
    """It is acknowledged, leaves one row, and what is published after it is taken."""
    async with serving(limits=Limits(packet_bytes=50_000)) as (endpoint, log):
        client = client_of(version)
        client.reconnect_delay_set(1, 1)
        await thread(connected, client, endpoint)
        big = client.publish(TOPIC, b"1" * 200_000, qos=1)
        await thread(big.wait_for_publish, 5)
        assert big.is_published()
        client.publish(TOPIC, reading(), qos=1)  # MQTT 5: sent when it has connected again
        await until(lambda: endpoint.counters.acknowledged == 2)
        client.disconnect()
        client.loop_stop()
        assert [row["reason"] for row in await log.rejected()] == ["too_large"]
        assert endpoint.counters.accepted == 1


async def test_pahos_message_waits_for_the_log_and_is_acknowledged_once_it_works() -> None:
    """The disk is full for a second and a half; nothing is lost, nothing acknowledged meanwhile."""
    async with serving() as (endpoint, log):
        client = await thread(connected, client_of(MQTTProtocolVersion.MQTTv311), endpoint)
        log.broken = True
        infos = [client.publish(TOPIC, reading(i), qos=1) for i in range(50)]
        await asyncio.sleep(1.2)
        assert not any(info.is_published() for info in infos)
        log.broken = False
        await thread(infos[-1].wait_for_publish, 5)
        client.disconnect()
        client.loop_stop()
        await until(lambda: endpoint.counters.accepted == 50)
        assert [row["value"][0] for row in await log.readings()] == list(range(50))


@pytest.fixture
def mosquitto_pub() -> str:
    """The program; in CI it may not be missing."""
    found = shutil.which("mosquitto_pub")
    if found is None:
        missing = "mosquitto_pub is not installed (Debian: apt install mosquitto-clients)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def run(
    program: str, endpoint: Endpoint, *arguments: str, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Publishes with mosquitto_pub."""
    command = [program, "-h", "127.0.0.1", "-p", str(endpoint.port), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("version", ["311", "5"])
@pytest.mark.parametrize("qos", ["0", "1"])
async def test_mosquitto_pub_publishes(mosquitto_pub: str, version: str, qos: str) -> None:
    """One message, then one for each line of standard input."""
    async with serving() as (endpoint, _):
        options = ["-V", version, "-q", qos, "-t", TOPIC]
        one = await thread(run, mosquitto_pub, endpoint, *options, "-m", reading(1).decode())
        lines = "".join(f"{reading(i).decode()}\n" for i in range(20))
        many = await asyncio.to_thread(run, mosquitto_pub, endpoint, *options, "-l", text=lines)
        assert (one.returncode, one.stderr, many.returncode, many.stderr) == (0, "", 0, "")
        await until(lambda: endpoint.counters.accepted == 21)


async def test_mosquitto_pub_is_told_of_qos_2_and_of_a_wrong_password(mosquitto_pub: str) -> None:
    """By the protocol's own means: MQTT 5 knows it from the CONNACK, 3.1.1 loses its connection."""
    async with serving(users=USERS) as (endpoint, log):
        wrong = await thread(run, mosquitto_pub, endpoint, "-u", "steel", "-P", "x", "-t", TOPIC, "-m", "1")
        assert wrong.returncode != 0
        assert "Connection Refused" in wrong.stderr
        options = ["-u", "steel", "-P", "secret", "-q", "2", "-t", TOPIC, "-m", reading().decode()]
        three = await thread(run, mosquitto_pub, endpoint, "-V", "311", *options)
        five = await thread(run, mosquitto_pub, endpoint, "-V", "5", *options)
        assert three.returncode != 0
        assert "QoS not supported" in five.stderr
        assert await log.readings() == []


async def test_mosquitto_pub_with_nonsense_leaves_a_row(mosquitto_pub: str) -> None:
    """And is not kept waiting for it."""
    async with serving() as (endpoint, log):
        done = await thread(run, mosquitto_pub, endpoint, "-q", "1", "-t", TOPIC, "-m", "hello")
        assert done.returncode == 0
        assert [(row["reason"], row["payload"]) for row in await log.rejected()] == [("not_json", "hello")]
