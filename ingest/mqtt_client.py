"""One MQTT connection to a broker, seen from the client, as a machine without I/O.

    NEW ──CONNACK──> OPEN ──DISCONNECT or a violation──> CLOSED

What comes in becomes events (``Arrivals``), what goes out is made by the functions below (MQTT
3.1.1 and 5, chapter 3). A broker passes on what devices made up, so a PUBLISH with a topic that
none may have, or beyond the limit, is an event to be acknowledged, not the end of the connection:
it would be delivered again for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from ingest.broker_settings import Broker
from ingest.mqtt_encode import packet, text, varint
from ingest.mqtt_events import (
    V5,
    Answer,
    BadTopic,
    Code,
    Event,
    Farewell,
    Limits,
    Pong,
    Welcome,
)
from ingest.mqtt_fields import (
    ACK_PROPERTIES,
    BROKER_DISCONNECT_PROPERTIES,
    CONNACK_PROPERTIES,
    PACKET_BYTES_MAX,
    REASON,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY,
    Fields,
    Violation,
    malformed,
    properties,
    protocol_error,
)
from ingest.mqtt_packets import PUBLISH, Packets, check_publish_flags
from ingest.mqtt_topics import TopicNames

CONNACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 0x2, 0x9, 0xB, 0xD, 0xE
_EXPECTED = frozenset((CONNACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT))
_USER, _PASSWORD, _CLEAN = 0x80, 0x40, 0x02
_QOS1, _RETAINED_ONCE, _RETAINED_NEVER = 0x01, 0x10, 0x20
PINGREQ = b"\xc0\x00"
BAD_CODES = 0x80
"""Reason codes from here on are refusals (MQTT 5, 2.4)."""
V3_REFUSALS = {
    1: Code.UNSUPPORTED_VERSION,
    2: Code.CLIENT_ID_NOT_VALID,
    3: Code.SERVER_UNAVAILABLE,
    4: Code.BAD_USER_OR_PASSWORD,
    5: Code.NOT_AUTHORIZED,
}
"""CONNACK return codes of MQTT 3.1.1 (3.2.2.3)."""


class Arrivals(Packets):
    """What came in from the broker."""

    _ends_when_too_large = False

    def __init__(self, limits: Limits, names: TopicNames, version: int) -> None:
        super().__init__(limits, names, version)
        self._welcomed = False

    def _size_max(self) -> int:
        return self._limits.packet_bytes

    def _kind(self, first: int) -> int:
        kind = first >> 4
        if self._welcomed == (kind == CONNACK):
            raise protocol_error("a second CONNACK" if self._welcomed else "the first packet is no CONNACK")
        if kind == PUBLISH:
            check_publish_flags(first)
        elif kind not in _EXPECTED:
            raise protocol_error(f"packet type {kind} is not for a client that only subscribes")
        elif first & 0xF:
            raise malformed(f"flags {first & 0xF:04b} of packet type {kind}")
        return kind

    def _control(self, kind: int, fields: Fields, events: list[Event]) -> None:
        if kind == CONNACK:
            events.append(self._welcome(fields))
        elif kind == PINGRESP:
            events.append(Pong())
        elif kind == DISCONNECT:
            code = fields.number(1) if fields.left else 0
            given = properties(fields, BROKER_DISCONNECT_PROPERTIES) if fields.left else {}
            events.append(Farewell(code, given.get(REASON, "")))
            self._closed = True
        else:
            packet_id = fields.take(2)
            given = properties(fields, ACK_PROPERTIES) if self._version == V5 else {}
            events.append(Answer(packet_id, tuple(fields.take(fields.left)), given.get(REASON, "")))

    def _welcome(self, fields: Fields) -> Welcome:
        flags, code = fields.number(1), fields.number(1)
        given = properties(fields, CONNACK_PROPERTIES) if self._version == V5 and fields.left else {}
        if self._version != V5:
            code = V3_REFUSALS.get(code, Code.UNSPECIFIED) if code else 0
        self._welcomed = True
        self._open = code < BAD_CODES
        self._closed = not self._open
        return Welcome(bool(flags & 1), code, given)

    def _refuse_topic(self, found: BadTopic, events: list[Event]) -> None:
        events.append(found)

    def _pass_properties(self, fields: Fields) -> None:
        """They are a publisher's: nothing is asked of them. Topic aliases we have not allowed."""
        fields.take(fields.varint())

    def _reply(self, violation: Violation) -> bytes:
        return disconnect(self._version, violation.code)


def connect(broker: Broker, *, once_as: str = "") -> bytes:
    """The CONNECT that takes up the session, or begins one.

    ``once_as``: a client id for a session that is new and ends with the connection.
    """
    flags = (_USER if broker.user else 0) | (_PASSWORD if broker.password else 0)
    flags |= _CLEAN if once_as else 0
    head = text("MQTT") + bytes((broker.protocol, flags)) + broker.keep_alive_s.to_bytes(2, "big")
    fields = [text(once_as or broker.client_id)]
    if broker.user:
        fields.append(text(broker.user))
    if broker.password:
        raw = broker.password.encode()
        fields.append(len(raw).to_bytes(2, "big") + raw)
    asked = _asked(broker, 0 if once_as else broker.session_expiry_s)
    return packet(0x10, head + asked + b"".join(fields))


def _asked(broker: Broker, session_expiry_s: int) -> bytes:
    if broker.protocol != V5:
        return b""
    asked = b"".join(
        (
            bytes((SESSION_EXPIRY,)) + session_expiry_s.to_bytes(4, "big"),
            bytes((RECEIVE_MAXIMUM,)) + broker.receive_maximum.to_bytes(2, "big"),
            bytes((PACKET_BYTES_MAX,)) + broker.packet_bytes.to_bytes(4, "big"),
        )
    )
    return varint(len(asked)) + asked


def subscribe(version: int, packet_id: bytes, filters: Iterable[str]) -> bytes:
    """At QoS 1; MQTT 5 sends retained messages only for a subscription that is new (3.8.3.1).

    What the broker tells about itself is wanted again each time, and at QoS 0.
    """
    head = packet_id + (b"\x00" if version == V5 else b"")
    readings = _QOS1 | (_RETAINED_ONCE if version == V5 else 0)
    asked = (text(f) + bytes((0 if f.startswith("$SYS/") else readings,)) for f in filters)
    return packet(0x82, head + b"".join(asked))


def look_at(version: int, packet_id: bytes, filters: Iterable[str]) -> bytes:
    """Subscribes at QoS 0 and without retained messages where that can be said: to see whether one may."""
    head = packet_id + (b"\x00" if version == V5 else b"")
    flags = bytes((_RETAINED_NEVER if version == V5 else 0,))
    return packet(0x82, head + b"".join(text(topic_filter) + flags for topic_filter in filters))


def unsubscribe(version: int, packet_id: bytes, filters: Iterable[str]) -> bytes:
    """Ends subscriptions that the session still has."""
    head = packet_id + (b"\x00" if version == V5 else b"")
    return packet(0xA2, head + b"".join(text(topic_filter) for topic_filter in filters))


def disconnect(version: int, code: int = 0) -> bytes:
    """Leaves; the session stays for its expiry."""
    return bytes((0xE0, 1, code)) if version == V5 and code else b"\xe0\x00"
