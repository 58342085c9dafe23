"""The codec seen from the client: what a broker may send, however it is cut."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.broker_settings import Broker
from ingest.mqtt_client import Arrivals, connect, disconnect, subscribe, unsubscribe
from ingest.mqtt_events import (
    V3,
    V5,
    Answer,
    BadTopic,
    Code,
    Event,
    Failure,
    Farewell,
    Limits,
    Oversize,
    Pong,
    Publishes,
    Welcome,
)
from ingest.mqtt_topics import TopicNames
from tests.ingest.ingest_builders import packet, publish, text

CONNACK_5 = packet(0x20, b"\x01\x00\x06\x22\x00\x0a\x21\x00\x14")
CONNACK_3 = b"\x20\x02\x01\x00"
LIMITS = Limits(packet_bytes=2000, receive=65_535)


def arrivals(version: int) -> Arrivals:
    """A connection before its CONNACK."""
    return Arrivals(LIMITS, TopicNames(), version)


def received(version: int, *chunks: bytes) -> list[Event]:
    """What the chunks make, runs of messages joined and empty lists left out."""
    machine = arrivals(version)
    events: list[Event] = []
    for chunk in chunks:
        for event in machine.receive(chunk):
            last = events[-1] if events else None
            if isinstance(event, Publishes) and isinstance(last, Publishes):
                last.topics.extend(event.topics)
                last.payloads.extend(event.payloads)
                last.ids.extend(event.ids)
            else:
                events.append(event)
    return events


def stream(version: int) -> bytes:
    """Everything that a broker may send to a subscriber."""
    five = version == V5
    parts = [
        CONNACK_5 if five else CONNACK_3,
        packet(0x90, b"\x00\x01" + b"\x00" * five + b"\x01\x80"),
        publish("a", b"one", 1, version=version),
        publish("b/c", b"", version=version, qos=0),
        publish("a", b"x" * 1000, 2, version=version, flags=9),
        b"\xd0\x00",
        publish("a+", b"bad", 3, version=version),
        publish("big", b"x" * 3000, 4, version=version),
        publish(b"\xff", b"bad", 5, version=version),
        publish("a", b"last", 6, version=version),
        packet(0xB0, b"\x00\x02" + (b"\x00\x00" if five else b"")),
    ]
    return b"".join(parts) + (packet(0xE0, b"\x8b\x00") if five else b"")


@pytest.mark.parametrize("version", [V3, V5])
def test_poison_does_not_end_the_connection(version: int) -> None:
    """A bad topic and an oversize message are events with a packet id, and what follows still comes."""
    events = received(version, stream(version))
    kinds = [type(event) for event in events]
    assert kinds[:7] == [Welcome, Answer, Publishes, Pong, BadTopic, Oversize, BadTopic]
    assert kinds[7:] == [Publishes, Answer] + [Farewell] * (version == V5)
    assert [e.packet_id for e in events if isinstance(e, BadTopic | Oversize)] == [b"\0\3", b"\0\4", b"\0\5"]
    runs = [e for e in events if isinstance(e, Publishes)]
    assert [run.ids for run in runs] == [[b"\0\1", b"", b"\0\2"], [b"\0\6"]]


@pytest.mark.parametrize("version", [V3, V5])
@given(cuts=st.lists(st.integers(0, 6000), max_size=8))
def test_any_cut_gives_the_same_events(version: int, cuts: list[int]) -> None:
    """One chunk equals many."""
    data = stream(version)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(edges)]
    assert received(version, *chunks) == received(version, data)


@pytest.mark.parametrize("version", [V3, V5])
def test_byte_by_byte_gives_the_same_events(version: int) -> None:
    """The finest cut of all."""
    data = stream(version)
    assert received(version, *(data[i : i + 1] for i in range(len(data)))) == received(version, data)


@given(junk=st.binary(max_size=300), version=st.sampled_from([V3, V5]))
def test_no_bytes_raise(junk: bytes, version: int) -> None:
    """A broken broker ends in one Failure at most, and then in silence."""
    machine = arrivals(version)
    events = machine.receive((CONNACK_5 if version == V5 else CONNACK_3) + junk)
    failures = [event for event in events if isinstance(event, Failure)]
    assert len(failures) <= 1
    if failures:
        assert events[-1] is failures[0]
        assert machine.receive(b"\xd0\x00") == []


def test_properties_of_a_publisher_are_passed_over() -> None:
    """Even senseless ones: they are not the broker's, and must not end its connection."""
    rng = random.Random(7)
    for _ in range(200):
        properties = rng.randbytes(rng.randrange(1, 60))
        data = CONNACK_5 + publish("a", b"p", 1, version=V5, properties=properties)
        run = received(V5, data)[1]
        assert isinstance(run, Publishes)
        assert run.payloads == [b"p"]


def test_old_return_codes_are_given_as_those_of_mqtt_5() -> None:
    """Whoever tells a person knows one list only."""
    for old, code in ((4, Code.BAD_USER_OR_PASSWORD), (5, Code.NOT_AUTHORIZED), (99, Code.UNSPECIFIED)):
        assert received(V3, bytes((0x20, 2, 0, old))) == [Welcome(False, code)]


def test_nothing_comes_before_the_connack_and_no_second_one() -> None:
    """Both end in a Failure."""
    assert isinstance(received(V5, publish(version=V5))[0], Failure)
    assert isinstance(received(V5, CONNACK_5 + CONNACK_5)[-1], Failure)


def test_what_is_sent_is_as_the_standard_has_it() -> None:
    """CONNECT without a clean start, SUBSCRIBE at QoS 1, byte by byte."""
    five = Broker(
        "mqtt://h", "c", ("a/#",), "u", "p", session_expiry_s=60, receive_maximum=20, packet_bytes=4096
    )
    asked = b"\x11\x00\x00\x00\x3c\x21\x00\x14\x27\x00\x00\x10\x00"
    head = text("MQTT") + b"\x05\xc0\x00\x1e" + bytes((len(asked),)) + asked
    assert connect(five) == packet(0x10, head + text("c") + text("u") + text("p"))
    three = Broker("mqtt://h", "c", protocol=V3)
    assert connect(three) == packet(0x10, text("MQTT") + b"\x04\x00\x00\x1e" + text("c"))
    assert subscribe(V5, b"\0\1", ["a/#", "b"]) == packet(
        0x82, b"\0\1\0" + text("a/#") + b"\x11" + text("b") + b"\x11"
    )
    assert subscribe(V3, b"\0\1", ["a"]) == packet(0x82, b"\0\1" + text("a") + b"\x01")
    assert unsubscribe(V5, b"\0\2", ["a"]) == packet(0xA2, b"\0\2\0" + text("a"))
    assert (disconnect(V3, 4), disconnect(V5), disconnect(V5, 0x82)) == (b"\xe0\0", b"\xe0\0", b"\xe0\1\x82")
