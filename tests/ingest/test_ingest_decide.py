"""People's decisions come in as readings do: judged by form, durable before the PUBACK, and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.counters import Counters, Hop
from ingest.decode import Decoder, Delivery
from ingest.users import User, Users, hash_password
from metering.decisions import WORDS, Decision
from tests.ingest.ingest_builders import (
    NOW_MS,
    connect,
    decision,
    decode,
    puback,
    publish,
    raw,
    reading,
    reasons,
    roster,
    serving,
    text,
    until,
)

TOPIC = "meterflow/v1/steel/main/decision"
HOUR_MS = 3_600_000
USERS = Users(
    [
        User("meter", frozenset({"steel"}), hash_password("secret")),
        User("desk", None, hash_password("other"), decides=True),
    ]
)


def test_a_decision_is_taken_as_it_was_said() -> None:
    """Times of either form, with the installation's serial number, and when it was received."""
    payload = {
        "from": "2026-11-22T15:00:00+08:00", "to": NOW_MS, "verdict": "reset", "by": " Li Wei ",
        "revision": 3, "serial": "A-17",
    }  # fmt: skip
    decoded = decode(TOPIC, payload)
    wanted = Decision("main", "A-17", NOW_MS - HOUR_MS, NOW_MS, "reset", "Li Wei", 3, "", NOW_MS)
    assert decoded.decisions == {"steel": [wanted]}
    assert (decoded.received, decoded.rejected, decoded.readings) == (1, [], [])


@pytest.mark.parametrize("word", [word for word in WORDS if word != "conflict"])
def test_every_word_can_be_said(word: str) -> None:
    """All but the conflict's, which is of one instant and has a value."""
    assert decode(TOPIC, decision(word)).decisions["steel"][0].verdict == word


def test_a_conflict_is_decided_by_its_value() -> None:
    """Kept to the digit, whether it comes as a number or a text; and by its start, where one is named."""
    for value in ('"12.50"', "12.50"):
        for from_ms in (NOW_MS, NOW_MS - 60_000):
            said = f'"to": {NOW_MS}, "verdict": "conflict", "value": {value}, "by": "li"'
            (found,) = decode(TOPIC, f'{{"from": {from_ms}, {said}}}').decisions["steel"]
            assert (found.from_ms, found.to_ms, found.value) == (from_ms, NOW_MS, "12.50")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"from": None}, "time_missing"),
        ({"to": None}, "time_missing"),
        ({"from": "2026-11-22T08:00:00"}, "time_without_zone"),
        ({"from": "yesterday"}, "time_invalid"),
        ({"from": 1.5}, "time_invalid"),
        ({"from": 0}, "time_before_2000"),
        ({"to": NOW_MS + 600_001}, "time_in_future"),
        ({"from": NOW_MS, "to": NOW_MS - 1}, "decision_invalid"),
        ({"from": NOW_MS}, "decision_invalid"),
        ({"verdict": None}, "decision_invalid"),
        ({"verdict": "replacement"}, "decision_invalid"),
        ({"verdict": 1}, "decision_invalid"),
        ({"verdict": ["reset"]}, "decision_invalid"),
        ({"value": 1}, "decision_invalid"),
        ({"from": NOW_MS, "verdict": "conflict"}, "decision_invalid"),
        ({"from": NOW_MS, "verdict": "conflict", "value": "much"}, "value_not_number"),
        ({"by": None}, "decision_invalid"),
        ({"by": "  "}, "decision_invalid"),
        ({"by": 7}, "wrong_shape"),
        ({"by": "x" * 201}, "wrong_shape"),
        ({"revision": -1}, "revision_invalid"),
        ({"revision": 1.0}, "revision_invalid"),
        ({"serial": 5}, "wrong_shape"),
        ({"point": "intake"}, "wrong_shape"),
    ],
)
def test_what_cannot_be_a_decision_is_refused_with_its_reason(change: dict[str, Any], reason: str) -> None:
    """With the point, and the whole message."""
    payload = decision(**change)
    decoded = decode(TOPIC, payload)
    assert (reasons(decoded), decoded.decisions, decoded.received) == ([reason], {}, 1)
    row = decoded.rejected[0].row
    assert (row["point"], row["topic"], row["payload"]) == ("main", TOPIC, payload.decode())


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"[]", "empty"),
        (b"\xff", "not_utf8"),
        (b"{", "not_json"),
        (b"5", "wrong_shape"),
        (b'{"by": "li", "by": "wei"}', "duplicate_key"),
        (b"[" * 200_000, "too_deep"),
    ],
)
def test_a_message_that_holds_no_decision_is_refused(payload: bytes, reason: str) -> None:
    """As one row."""
    decoded = decode(TOPIC, payload)
    assert (reasons(decoded), decoded.received) == ([reason], 1)


def test_a_decision_on_nothing_known_is_refused() -> None:
    """A plant's own topic takes none."""
    assert reasons(decode("meterflow/v1/steel/decision", decision())) == ["unknown_point"]
    assert reasons(decode("meterflow/v1/steel/rolls/decision", decision())) == ["point_of_other_plant"]
    assert reasons(decode("meterflow/v1/nobody/main/decision", decision())) == ["unknown_plant"]


def test_of_an_array_each_wrong_one_is_refused_and_the_rest_is_taken() -> None:
    """The row of a wrong one holds what could be sent again."""
    payload = b"[" + b" , ".join([decision(), decision("nonsense"), decision("plain", revision=1)]) + b"]"
    decoded = decode(TOPIC, payload)
    assert [one.verdict for one in decoded.decisions["steel"]] == ["reset", "plain"]
    assert (reasons(decoded), decoded.received) == (["decision_invalid"], 3)
    assert json.loads(str(decoded.rejected[0].row["payload"]))["verdict"] == "nonsense"


def test_the_books_count_decisions_with_readings() -> None:
    """Received = accepted + rejected, of every plant."""
    counters = Counters()
    topics = [TOPIC, TOPIC, "meterflow/v1/steel/main", "meterflow/v1/paper/main/decision"]
    payloads = [decision(), decision("nonsense"), reading(), decision("glitch")]
    counters.add(Decoder(roster()).decode([Delivery(topics, payloads, NOW_MS)]))
    assert (counters.received, counters.accepted) == (4, 3)
    assert counters.by_plant == {"steel": Hop(3, 2, 1), "paper": Hop(1, 1, 0)}


def _greeting(user: str, password: str) -> bytes:
    return connect(flags=0xC2, rest=text(user) + text(password))


async def test_a_decision_is_acknowledged_when_the_log_has_it() -> None:
    """On the topic of readings, under its plant's key; not before."""
    async with serving() as (endpoint, log), raw(endpoint) as client:
        log.free.clear()
        await client.send(publish(payload=reading()) + publish(TOPIC, decision(), 2))
        assert await client.silence(0.1)
        assert await log.decisions() == []
        log.free.set()
        await client.expect(puback(1) + puback(2))
        ((plant, found),) = await log.decisions()
        assert (plant, found.point, found.verdict, found.by) == ("steel", "main", "reset", "li.wei")
        assert len(await log.readings()) == 1
        assert endpoint.counters.by_plant == {"steel": Hop(2, 2, 0)}


async def test_a_meters_credential_may_not_decide() -> None:
    """Only a user that is allowed to; the others' decisions are rows of rejected."""
    async with serving(users=USERS) as (endpoint, log):
        async with raw(endpoint, _greeting("meter", "secret")) as client:
            await client.expect(b"\x20\x02\x00\x00")
            await client.send(publish(TOPIC, decision(by="meter")) + publish(payload=reading(), packet_id=2))
            await client.expect(puback(1) + puback(2))
        (row,) = await log.rejected()
        assert (row["reason"], row["topic"]) == ("not_permitted", TOPIC)
        assert "decide: true" in row["detail"]
        assert await log.decisions() == []
        assert len(await log.readings()) == 1


async def test_the_login_stands_beside_another_name() -> None:
    """Who says to be somebody else is seen; a will is no way around it."""
    will = text("meterflow/v1/steel/main/decision") + text(decision("glitch", by="wang"))
    greeting = connect(flags=0xC6, rest=will + text("desk") + text("other"))
    async with serving(users=USERS) as (endpoint, log):
        async with raw(endpoint, greeting) as client:
            await client.expect(b"\x20\x02\x00\x00")
            await client.send(publish(TOPIC, decision(by="desk")) + publish(TOPIC, decision(by="Li"), 2))
            await client.expect(puback(1) + puback(2))
        await until(lambda: endpoint.counters.received == 3)
        assert [one.by for _, one in await log.decisions()] == ["desk", "Li (desk)", "wang (desk)"]
