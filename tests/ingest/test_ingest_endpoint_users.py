"""Who is let in, and what for."""

from __future__ import annotations

import pytest

from ingest.mqtt_encode import PINGRESP
from ingest.mqtt_events import Code
from ingest.users import User, Users, hash_password
from tests.ingest.ingest_builders import connect, packet, puback, publish, raw, reading, serving, text, until

USERS = Users(
    [
        User("steel", frozenset({"steel"}), hash_password("secret")),
        User("all", None, hash_password("other")),
    ]
)


@pytest.mark.parametrize(
    ("version", "user", "password", "answer"),
    [
        (4, None, b"", b"\x20\x02\x00\x05"),
        (4, "steel", b"wrong", b"\x20\x02\x00\x04"),
        (4, "nobody", b"secret", b"\x20\x02\x00\x04"),
        (5, None, b"", bytes((Code.NOT_AUTHORIZED,))),
        (5, "steel", b"wrong", bytes((Code.BAD_USER_OR_PASSWORD,))),
    ],
)
async def test_who_is_no_user_is_not_let_in(
    version: int, user: str | None, password: bytes, answer: bytes
) -> None:
    """Nor is anything taken that it sent behind its CONNECT."""
    rest = b"" if user is None else text(user) + text(password)
    greeting = connect(version, flags=2 if user is None else 0xC2, rest=rest)
    async with serving(users=USERS) as (endpoint, _), raw(endpoint, greeting) as client:
        await client.send(publish(payload=reading(), version=version))
        found = await client.rest()
        assert found == answer if version == 4 else found[3:4] == answer
        assert endpoint.counters.messages == 0
        assert sum(endpoint.counters.refusals.values()) == 1


async def test_a_user_publishes_for_its_plants_only() -> None:
    """Also what came in the same bytes as the CONNECT, and its will."""
    will = text("meterflow/v1/paper/rolls") + text(reading())
    greeting = connect(flags=0xC6, rest=will + text("steel") + text("secret"))
    async with serving(users=USERS) as (endpoint, log):
        sent = greeting + publish(payload=reading()) + publish("meterflow/v1/paper/main", reading(), 2)
        async with raw(endpoint, sent) as client:
            await client.expect(b"\x20\x02\x00\x00" + puback(1) + puback(2))
        await until(lambda: endpoint.counters.received == 3)
        assert len(await log.readings()) == 1
        assert endpoint.counters.rejected == {"not_permitted": 2}


async def test_users_do_not_end_each_others_connections() -> None:
    """Client ids are a user's own."""
    async with serving(users=USERS) as (endpoint, _):
        first = connect(client_id="same", flags=0xC2, rest=text("steel") + text("secret"))
        second = connect(client_id="same", flags=0xC2, rest=text("all") + text("other"))
        async with raw(endpoint, first) as one, raw(endpoint, second) as two:
            for client in (one, two):
                await client.expect(b"\x20\x02\x00\x00")
            await one.send(packet(0xC0, b""))
            await one.expect(PINGRESP)
