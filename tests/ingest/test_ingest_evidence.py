"""Where readings came from: of each the topic, the user and the SHA-256 of the bytes of its message."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest

from bus.frames import decode_readings, encode_readings
from ingest.decode import Decoder, Delivery
from ingest.kafka_decode import TopicDecoder
from ingest.kafka_fields import JsonFields
from ingest.kafka_plain import COMPILED
from metering.readings import Readings
from tests.ingest.ingest_builders import NOW_MS, TOPIC, reading, roster, rows, sources

PAPER, STEEL = "meterflow/v1/paper/main", "meterflow/v1/steel"


def digests(readings: Readings) -> list[bytes]:
    """Those of its messages."""
    assert readings.evidence is not None
    return [bytes(one) for one in readings.evidence.digest]


def test_readings_know_their_messages() -> None:
    """Of clients that had logged in and of others, in arrays, from gateways, between refused ones."""
    gateway = json.dumps({"time": NOW_MS, "values": {"main": 1, "intake": 2}}).encode()
    many = b"[" + reading(1, NOW_MS) + b"," + reading(2, NOW_MS + 1, quality="good") + b"]"
    first = Delivery([TOPIC, "a/b", PAPER], [reading(1), b"{}", reading(2)], NOW_MS, login="hall-3")
    second = Delivery([STEEL, TOPIC, TOPIC], [gateway, b"no JSON", many], NOW_MS)
    decoded = Decoder(roster()).decode([first, second])
    assert len(decoded.rejected) == 2
    steel, paper = decoded.readings
    assert sources([paper]) == [(PAPER, "hall-3", sha256(reading(2)).digest(), "1")]
    assert sources([steel]) == [
        (TOPIC, "hall-3", sha256(reading(1)).digest(), "1"),
        *[(STEEL, None, sha256(gateway).digest(), "1")] * 2,
        *[(TOPIC, None, sha256(many).digest(), "1")] * 2,
    ]
    assert len(digests(steel)) == 3
    assert digests(paper) == [sha256(reading(2)).digest()]


def test_the_same_message_twice_is_two_messages() -> None:
    """With equal digests: nothing says that it was one."""
    decoded = Decoder(roster()).decode([Delivery([TOPIC] * 2, [reading()] * 2, NOW_MS)])
    assert digests(decoded.readings[0]) == [sha256(reading()).digest()] * 2


def test_a_message_of_which_a_part_is_refused_is_known_by_all_of_its_bytes() -> None:
    """The digest is of what came, not of what was taken."""
    payload = b"[" + reading(1) + b', {"value": "x"}]'
    decoded = Decoder(roster()).decode([Delivery([TOPIC], [payload], NOW_MS)])
    assert (len(decoded.readings[0]), len(decoded.rejected)) == (1, 1)
    assert digests(decoded.readings[0]) == [sha256(payload).digest()]


def test_evidence_can_be_left_out() -> None:
    """What only computes needs none; the readings are the same."""
    delivery = Delivery([TOPIC, PAPER], [reading(1), reading(2, unit="MWh")], NOW_MS)
    without = Decoder(roster(), evidence=False).decode([delivery])
    assert [one.evidence for one in without.readings] == [None, None]
    assert rows(without) == rows(Decoder(roster()).decode([delivery]))


@pytest.mark.parametrize("by_loop", [False, *([True] if COMPILED else [])])
def test_readings_of_a_kafka_topic_know_their_records(by_loop: bool) -> None:
    """The topic's name, and the digest of the record's value; no user: Kafka does not tell."""
    texts = [
        f'{{"plant":"steel","point":"main","time":{NOW_MS},"value":1.5}}',
        "not JSON",
        f'[{{"plant":"steel","point":"main","time":{NOW_MS},"value":1,"serial":"A"}},'
        f'{{"plant":"paper","point":"main","time":{NOW_MS},"value":2}}]',
        f'{{"plant":"steel","point":"intake","time":{NOW_MS},"value":"7"}}',
    ]
    values = [text.encode() for text in texts]
    decoder = TopicDecoder(roster(), JsonFields(), by_loop=by_loop)
    steel, paper = decoder.decode([Delivery(["plant-data"], values, NOW_MS)]).readings
    known = [("plant-data", None, sha256(value).digest(), "1") for value in values]
    assert sources([steel]) == [known[0], known[2], known[3]]
    assert sources([paper]) == [known[2]]


def test_a_record_of_many_readings_has_only_the_digests_of_its_own() -> None:
    """A Kafka fetch of 45,000 readings makes three records of the log."""
    values = [b'{"plant":"steel","point":"main","time":%d,"value":%d}' % (NOW_MS, i) for i in range(45_000)]
    decoded = TopicDecoder(roster(), JsonFields()).decode([Delivery(["t"], values, NOW_MS)])
    assert [len(digests(part)) for part in decoded.readings] == [20_000, 20_000, 5_000]
    back = [decode_readings(encode_readings(part)) for part in decoded.readings]
    assert [one[2] for one in sources(back)] == [sha256(value).digest() for value in values]
    assert np.concatenate([part.mantissa for part in back]).tolist() == list(range(45_000))
