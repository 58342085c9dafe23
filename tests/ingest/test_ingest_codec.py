"""The codec's laws, and what it answers to every kind of packet."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest import mqtt_encode
from ingest.mqtt_codec import Receiver
from ingest.mqtt_events import (
    V3,
    V5,
    BadTopic,
    Code,
    Connect,
    Disconnect,
    Event,
    Failure,
    Limits,
    Oversize,
    Ping,
    Publishes,
    Subscribe,
    Unsubscribe,
    Will,
)
from tests.ingest.ingest_builders import TOPIC, connect, packet, publish, text

SMALL = Limits(packet_bytes=300, connect_bytes=200, receive=5)


def joined(events: list[Event]) -> list[Event]:
    """The events with runs of PUBLISH packets put together."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Publishes) and isinstance(last, Publishes):
            out[-1] = Publishes(
                last.topics + event.topics, last.payloads + event.payloads, last.ids + event.ids
            )
        else:
            out.append(event)
    return out


def received(*chunks: bytes, limits: Limits = SMALL) -> list[Event]:
    """The events of bytes that come in these pieces."""
    receiver = Receiver(limits)
    return joined([event for chunk in chunks for event in receiver.receive(chunk)])


def failure(*packets: bytes, version: int = V3, limits: Limits = SMALL) -> Failure:
    """The failure that packets behind a CONNECT end in."""
    last = received(connect(version), *packets, limits=limits)[-1]
    assert isinstance(last, Failure)
    return last


TOPICS = st.sampled_from([TOPIC, "a", "", "a/+", "a#", "a\0b", "é/漢", "x" * 150, b"\xff", b"\xed\xa0\x80"])
PROPERTIES = st.sampled_from(
    [
        b"",
        b"",
        b"\x01\x01",
        b"\x23\x00\x01",
        b"\x26\x00\x01a\x00\x01b",
        b"\x0b\x01",
        b"\x01\x01\x01\x01",
        b"\x03",
    ]
)
PUBLISHES = st.builds(
    publish,
    TOPICS | st.just(TOPIC),
    st.binary(max_size=200) | st.just(b"1" * 400),
    st.integers(0, 9),
    version=st.sampled_from([V3, V5]),
    qos=st.sampled_from([0, 1, 1, 1, 1, 2, 3]),
    flags=st.sampled_from([0, 0, 1, 8]),
    properties=PROPERTIES,
)
PACKETS = st.one_of(
    PUBLISHES,
    PUBLISHES,
    st.builds(connect, st.sampled_from([3, V3, V5, 6]), st.sampled_from("c"), flags=st.integers(0, 255)),
    st.builds(packet, st.integers(0, 255), st.binary(max_size=250)),
    st.sampled_from(
        [
            packet(0xC0, b""), packet(0xE0, b""), packet(0xE0, b"\x04"),
            packet(0xE0, b"\x00\x05\x11\x00\x00\x00\x09"),
            packet(0x82, b"\x00\x01" + text("a/#") + b"\x01"),
            packet(0x82, b"\x00\x01\x00" + text("a") + b"\x01"),
            packet(0xA2, b"\x00\x01" + text("a")), b"\x30\xff\xff\xff\xff\x01", b"\x34\xff\xff\xff\xff\x01",
        ]
    ),
    st.binary(max_size=40),
)  # fmt: skip
STREAMS = st.builds(
    lambda version, packets: connect(version) + b"".join(packets),
    st.sampled_from([V3, V3, V5]),
    st.lists(PACKETS, max_size=8),
) | st.lists(PACKETS, max_size=4).map(b"".join)


@settings(deadline=None)
@given(STREAMS, st.lists(st.integers(0, 2_000), max_size=8))
@example(connect() + b"\x34\xff\xff\xff\xff\x01", [])
@example(connect(V5) + publish(payload=b"2" * 70_000, version=V5), [100])
@example(connect() + publish(payload=b"2" * 70_000) + publish(payload=b"x"), [66_000, 70_500])
def test_any_cut_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    """One chunk, byte by byte, and cut anywhere: the same events."""
    whole = received(stream)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert received(*(stream[a:b] for a, b in pairwise(edges))) == whole
    assert received(*(stream[i : i + 1] for i in range(len(stream)))) == whole


@settings(deadline=None)
@given(STREAMS)
def test_no_bytes_crash_the_codec_and_a_failure_is_the_last_event(stream: bytes) -> None:
    """Whatever comes, events come out, and nothing after the connection's end."""
    events = received(stream)
    ends = [i for i, event in enumerate(events) if isinstance(event, (Failure, Disconnect))]
    assert ends in ([], [len(events) - 1])


def test_a_full_connect_is_understood() -> None:
    """User, password, will with its properties, and the properties of MQTT 5."""
    properties = b"\x11\x00\x00\x00\x3c" + b"\x21\x00\x0a" + b"\x27\x00\x00\x02\x00" + b"\x17\x00"
    will = b"\x05\x18\x00\x00\x00\x05" + text("last/words") + text(b"\x00bye")
    stream = connect(V5, "me", flags=0xCE, properties=properties, rest=will + text("u") + text(b"\xffp"))
    assert received(stream) == [
        Connect(
            V5, "me", clean=True, keep_alive_s=60,
            user="u", password=b"\xffp", will=Will("last/words", b"\x00bye"),
            session_expiry_s=60, packet_bytes_max=512, problem_information=False,
        )
    ]  # fmt: skip


def test_a_buffer_full_of_publishes_is_one_run() -> None:
    """Topics, payloads and packet ids of QoS 0 and 1, in their order."""
    stream = publish("a", b"1", 7) + publish("b", b"2", qos=0) + publish("a", b"", 9, flags=9)
    assert received(connect(), stream)[1:] == [
        Publishes(["a", "b", "a"], [b"1", b"2", b""], [b"\0\7", b"", b"\0\t"])
    ]


@pytest.mark.parametrize(
    ("packets", "code"),
    [
        (publish(qos=2, version=V5), Code.QOS_NOT_SUPPORTED),
        (publish(version=V5, properties=b"\x23\x00\x01"), Code.TOPIC_ALIAS_INVALID),
        (publish("", version=V5, properties=b"\x23\x00\x01"), Code.TOPIC_ALIAS_INVALID),
        (b"".join(publish(packet_id=i, version=V5) for i in range(1, 7)), Code.RECEIVE_MAXIMUM_EXCEEDED),
        (publish(payload=b"1" * 400, version=V5), Code.PACKET_TOO_LARGE),
        (packet(0x82, b"1" * 400), Code.PACKET_TOO_LARGE),
        (publish("a/#", version=V5), Code.TOPIC_NAME_INVALID),
        (publish(packet_id=0, version=V5), Code.MALFORMED_PACKET),
        (publish(qos=3, version=V5), Code.MALFORMED_PACKET),
        (publish(qos=0, flags=8, version=V5), Code.MALFORMED_PACKET),
        (b"\x32\x01\x00", Code.MALFORMED_PACKET),
        (b"\x32\x04\x00\x09ab", Code.MALFORMED_PACKET),
        (b"\x30\xff\xff\xff\xff\x01", Code.MALFORMED_PACKET),
        (publish(version=V5, properties=b"\x0b\x01"), Code.PROTOCOL_ERROR),
        (publish(version=V5, properties=b"\x01\x01\x01\x01"), Code.PROTOCOL_ERROR),
        (publish(version=V5, properties=b"\x01\x02"), Code.PROTOCOL_ERROR),
        (connect(V5), Code.PROTOCOL_ERROR),
        (packet(0x62, b"\x00\x01"), Code.PROTOCOL_ERROR),
        (packet(0xF0, b""), Code.PROTOCOL_ERROR),
        (packet(0xC1, b""), Code.MALFORMED_PACKET),
        (packet(0xE0, b"\x00\x05\x11\x00\x00\x00\x09"), Code.PROTOCOL_ERROR),
        (packet(0x82, b"\x00\x01\x00"), Code.PROTOCOL_ERROR),
    ],
)
def test_every_breach_has_its_reason(packets: bytes, code: Code) -> None:
    """MQTT 5 is told why in a DISCONNECT."""
    found = failure(packets, version=V5)
    assert found.code == code
    assert found.reply[:1] == b"\xe0"
    assert found.reply[2] == code


def test_mqtt_3_is_closed_without_a_word() -> None:
    """3.1.1 has no DISCONNECT from the server."""
    assert failure(publish(qos=2)) == Failure(Code.QOS_NOT_SUPPORTED, "QoS 2 is not supported", b"")


@pytest.mark.parametrize(
    ("hello", "reply"),
    [
        (packet(0x10, text("MQIsdp") + b"\x03\x02\x00\x3c" + text("c")), b"\x20\x02\x00\x01"),
        (connect(3), b"\x20\x02\x00\x01"),
        (connect(V3, "", flags=0), b"\x20\x02\x00\x02"),
        (connect(V3, flags=3), b""),
        (connect(V3, flags=0x42), b""),
        (packet(0x10, text("HTTP") + b"\x04\x02\x00\x3c" + text("c")), b""),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (publish(), b""),
        (connect(V3, rest=b"1" * 400), b""),
    ],
)
def test_a_wrong_connect_is_answered_as_its_version_has_it(hello: bytes, reply: bytes) -> None:
    """Return codes of 3.1.1 where there is one; otherwise the connection just ends."""
    events = received(hello)
    assert len(events) == 1
    assert isinstance(events[0], Failure)
    assert events[0].reply[: len(reply) or None] == reply


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (connect(6), Code.UNSUPPORTED_VERSION),
        (connect(V5, flags=0x16, rest=b"\x00" + text("t") + text("p")), Code.QOS_NOT_SUPPORTED),
        (connect(V5, properties=b"\x15\x00\x01x"), Code.BAD_AUTHENTICATION_METHOD),
        (connect(V5, properties=b"\x21\x00\x00"), Code.PROTOCOL_ERROR),
        (connect(V5, properties=b"\x21\x00\x01\x21\x00\x01"), Code.PROTOCOL_ERROR),
        (connect(V5, flags=3), Code.MALFORMED_PACKET),
        (connect(V5, flags=6, rest=b"\x00" + text("a/+") + text("")), Code.PROTOCOL_ERROR),
    ],
)
def test_mqtt_5_is_refused_with_a_reason_code(hello: bytes, code: Code) -> None:
    """In a CONNACK, since there is no connection yet to be ended."""
    found = received(hello)[-1]
    assert isinstance(found, Failure)
    assert (found.reply[0], found.reply[2], found.reply[3]) == (0x20, 0, code)


def test_an_oversize_message_is_skipped_and_the_next_taken() -> None:
    """3.1.1: the head of its payload is kept, the rest never; the connection goes on."""
    events = received(connect(), publish(payload=b"7" * 400_000, packet_id=3), publish("a", b"x", 4))
    assert events[1:] == [
        Oversize(TOPIC, b"\0\3", 400_031, b"7" * 1_000),
        Publishes(["a"], [b"x"], [b"\0\4"]),
    ]


def test_an_announced_256_megabytes_are_not_waited_for_in_mqtt_5() -> None:
    """The refusal comes as soon as the head is there."""
    claim = b"\x32\xff\xff\xff\x7f" + text(TOPIC) + b"\0\1\0" + b"1" * 67_000
    oversize, end = received(connect(V5), claim)[1:]
    assert isinstance(oversize, Oversize)
    assert (oversize.size, len(oversize.head)) == (268_435_460, 1_000)
    assert isinstance(end, Failure)
    assert end.code == Code.PACKET_TOO_LARGE


def test_a_slow_sender_of_a_large_packet_costs_no_more_than_a_quick_one() -> None:
    """A packet in 100,000 pieces is put together once, not 100,000 times."""
    stream = publish(payload=b"1" * 100_000)
    receiver = Receiver(Limits())
    receiver.receive(connect())
    events = [event for i in range(len(stream)) for event in receiver.receive(stream[i : i + 1])]
    assert events == [Publishes([TOPIC], [b"1" * 100_000], [b"\0\1"])]


def test_acknowledged_messages_make_room_for_more() -> None:
    """The receive maximum counts what is unanswered."""
    receiver = Receiver(SMALL)
    receiver.receive(connect(V5))
    five = b"".join(publish(packet_id=i, version=V5) for i in range(1, 6))
    assert [type(e) for e in receiver.receive(five)] == [Publishes]
    receiver.released(5)
    assert [type(e) for e in receiver.receive(five)] == [Publishes]
    assert [type(e) for e in receiver.receive(five)] == [Failure]


@pytest.mark.parametrize("topic", ["", "a/+/b", "#", "a\0b", b"\xff\xfe"])
def test_an_invalid_topic_is_shown_before_the_connection_ends(topic: str | bytes) -> None:
    """So that a row can tell of it."""
    bad, end = received(connect(), publish(topic, b"payload"))[1:]
    assert isinstance(bad, BadTopic)
    assert bad.payload == b"payload"
    assert bad.topic.isprintable()
    assert isinstance(end, Failure)
    assert end.code == Code.TOPIC_NAME_INVALID


def test_subscriptions_and_farewells_are_understood() -> None:
    """SUBSCRIBE and UNSUBSCRIBE with their filters; only reason 0 takes the will back."""
    subscribe = packet(0x82, b"\0\1\0" + text("a/#") + b"\1" + text("$share/g/a") + b"\0")
    unsubscribe = packet(0xA2, b"\0\2\0" + text("a"))
    assert received(connect(V5), subscribe, unsubscribe, packet(0xC0, b""), packet(0xE0, b"\x04"))[1:] == [
        Subscribe(b"\0\1", ("a/#", "$share/g/a")),
        Unsubscribe(b"\0\2", ("a",)),
        Ping(),
        Disconnect(with_will=True),
    ]
    assert received(connect(), packet(0xE0, b""), publish())[1:] == [Disconnect(with_will=False)]


def test_answers_have_the_bytes_of_the_specification() -> None:
    """Encoders, byte by byte."""
    three = Connect(V3, "c", clean=True, keep_alive_s=0)
    five = replace(three, version=V5, session_expiry_s=9)
    limits = Limits(packet_bytes=1 << 20, receive=1_000)
    assert mqtt_encode.connack(three, limits) == bytes.fromhex("20020000")
    assert mqtt_encode.connack(five, limits, "id") == bytes.fromhex(
        "201d00001a11000000002103e824012700100000120002696428002900 2a00".replace(" ", "")
    )
    assert mqtt_encode.pubacks([b"\0\1", b"\1\0"]) == bytes.fromhex("4002000140020100")
    assert mqtt_encode.pubacks([]) == b""
    assert mqtt_encode.suback(V3, b"\0\1", ["a", "b"]) == bytes.fromhex("900400018080")
    filters = ["a", "a/#", "$share/g/a"]
    assert mqtt_encode.suback(V5, b"\0\1", filters) == bytes.fromhex("9006000100 83a29e".replace(" ", ""))
    assert mqtt_encode.unsuback(V3, b"\0\1", ["a"]) == bytes.fromhex("b0020001")
    assert mqtt_encode.unsuback(V5, b"\0\1", ["a"]) == bytes.fromhex("b00400010011")
    assert mqtt_encode.disconnect(V3, Code.SERVER_SHUTTING_DOWN) == b""
    assert mqtt_encode.disconnect(V5, Code.SERVER_SHUTTING_DOWN) == bytes.fromhex("e0028b00")
    assert (
        mqtt_encode.disconnect(V5, Code.SERVER_SHUTTING_DOWN, "x" * 9, packet_bytes_max=8)
        == b"\xe0\x02\x8b\x00"
    )
    assert mqtt_encode.refusal(V3, Code.NOT_AUTHORIZED) == bytes.fromhex("20020005")
    assert mqtt_encode.refusal(V5, Code.NOT_AUTHORIZED) == bytes.fromhex("2003008700")
