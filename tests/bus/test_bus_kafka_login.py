"""Kafka with users: who may not is told what to do, and no password is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bus import kafka_others
from bus.kafka_settings import KafkaSettings
from bus.kafka_topics import check
from bus.log import READINGS
from bus.log_kafka import open_kafka
from metering.errors import UsageError
from tests.bus.kafka_tools import entry, settings_at
from tests.real.kafka import KafkaServer

_JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required username=admin password=admin-1"
    " user_admin=admin-1 user_plant=plant-1 user_guest=guest-1;"
)
_LOGIN = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": _JAAS,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:ANONYMOUS;User:plant",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A Kafka that wants a user and a password, and gives rights to ``plant`` only."""
    with KafkaServer(tmp_path_factory.mktemp("kafka"), settings=_LOGIN) as server:
        yield replace(settings_at(server.address), mechanism="PLAIN", user="plant", password="plant-1")


async def test_a_user_with_rights_works(guarded: KafkaSettings) -> None:
    """With user and password from the settings, in every part of the log."""
    log = await open_kafka(guarded)
    await log.append({READINGS: [entry(1)]})
    assert [r.value for r in await log.read(READINGS, 0)] == [b"1"]
    await log.commit("process", 1, {})
    await log.close()
    assert {f.verdict for f in await check(guarded)} == {"good"}


async def test_a_user_without_rights_is_told_which(guarded: KafkaSettings) -> None:
    """At once, as trying again does not help."""
    guest = replace(guarded, user="guest", password="guest-1", prefix="nobodys")
    with pytest.raises(UsageError, match="AUTHORIZATION") as refused:
        await open_kafka(guest)
    assert "guest" in refused.value.hint
    assert "guest-1" not in str(refused.value)
    assert "bad" in {f.verdict for f in await check(guest)}


async def test_a_wrong_password_is_told_of(guarded: KafkaSettings) -> None:
    """Without saying it."""
    wrong = replace(guarded, password="wrong-1")
    with pytest.raises(UsageError, match="Authentication") as refused:
        await open_kafka(wrong)
    assert "its password" in refused.value.hint
    assert "wrong-1" not in str(refused.value)


async def test_a_topic_of_others_that_may_not_be_read_is_told_of(guarded: KafkaSettings) -> None:
    """With the rights that are missing: to see that a topic is there is not enough."""
    log = await open_kafka(guarded)
    await log.close()
    topic = guarded.topic(READINGS)
    assert {f.verdict for f in await kafka_others.check(guarded, topic, "readers")} == {"good"}
    guest = replace(guarded, user="guest", password="guest-1")
    (finding,) = await kafka_others.check(guest, topic, "readers")
    assert finding.verdict == "bad"
    assert f"read {topic}" in finding.hint
