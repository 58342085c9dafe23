"""One MQTT connection of a publisher, as a machine without I/O: bytes in, events out.

    NEW ──CONNECT──> CONNECTED ──DISCONNECT or a violation──> CLOSED

How bytes become packets stands in mqtt_packets.py. What the endpoint does not do (QoS 2, topic
aliases) or a client may not do ends in one ``Failure`` with the bytes that say so.
"""

from __future__ import annotations

from ingest import mqtt_encode
from ingest.mqtt_connect import protocol_level, read_connect
from ingest.mqtt_events import (
    V3,
    V5,
    Code,
    Connect,
    Disconnect,
    Event,
    Limits,
    Ping,
    Subscribe,
    Unsubscribe,
)
from ingest.mqtt_fields import (
    DISCONNECT_PROPERTIES,
    SESSION_EXPIRY,
    SUBSCRIBE_PROPERTIES,
    UNSUBSCRIBE_PROPERTIES,
    Fields,
    Violation,
    malformed,
    properties,
    protocol_error,
)
from ingest.mqtt_packets import PUBLISH, Packets, check_publish_flags
from ingest.mqtt_topics import TopicNames

CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 0x1, 0x8, 0xA, 0xC, 0xE
_FLAGS = {CONNECT: 0, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0}
_NO_ID = b"\0\0"


class Receiver(Packets):
    """What came in on one connection. ``names`` may be shared by all connections of an endpoint."""

    def __init__(self, limits: Limits | None = None, names: TopicNames | None = None) -> None:
        super().__init__(limits, names, version=0)
        self._connect: Connect | None = None

    def _size_max(self) -> int:
        return self._limits.connect_bytes if self._connect is None else self._limits.packet_bytes

    def _kind(self, first: int) -> int:
        kind = first >> 4
        if (self._connect is None) != (kind == CONNECT):
            what = "a second CONNECT" if kind == CONNECT else "the first packet is no CONNECT"
            raise protocol_error(what)
        if kind == PUBLISH:
            check_publish_flags(first)
        elif kind not in _FLAGS:
            raise protocol_error(f"packet type {kind} is not for a server of publishers")
        elif first & 0xF != _FLAGS[kind]:
            raise malformed(f"flags {first & 0xF:04b} of packet type {kind}")
        return kind

    def _control(self, kind: int, fields: Fields, events: list[Event]) -> None:
        if kind == CONNECT:
            self._version, spoken = protocol_level(fields)
            if not spoken:
                raise Violation(Code.UNSUPPORTED_VERSION, "only MQTT 3.1.1 and 5 are spoken")
            self._connect = read_connect(fields, self._version)
            self._open = True
            events.append(self._connect)
        elif kind == PINGREQ:
            if fields.left:
                raise malformed("a PINGREQ with a body")
            events.append(Ping())
        elif kind == DISCONNECT:
            events.append(Disconnect(self._leaves_with_will(fields)))
            self._closed = True
        else:
            events.append(self._subscription(kind, fields))

    def _leaves_with_will(self, fields: Fields) -> bool:
        """Only reason 0 takes the will back (MQTT 5, 3.1.2.5)."""
        if self._version == V3:
            if fields.left:
                raise malformed("a DISCONNECT with a body")
            return False
        reason = fields.number(1) if fields.left else 0
        given = properties(fields, DISCONNECT_PROPERTIES) if fields.left else {}
        assert self._connect is not None
        if given.get(SESSION_EXPIRY) and not self._connect.session_expiry_s:
            raise protocol_error("a session expiry in DISCONNECT, none in CONNECT")
        return reason != 0

    def _subscription(self, kind: int, fields: Fields) -> Subscribe | Unsubscribe:
        packet_id = fields.take(2)
        if packet_id == _NO_ID:
            raise malformed("packet id 0")
        if self._version == V5:
            properties(fields, SUBSCRIBE_PROPERTIES if kind == SUBSCRIBE else UNSUBSCRIBE_PROPERTIES)
        filters: list[str] = []
        while fields.left:
            filters.append(fields.text())
            if kind == SUBSCRIBE and fields.number(1) & 3 == 3:
                raise malformed("a subscription of QoS 3")
        if not filters:
            raise protocol_error("a subscription to nothing")
        make = Subscribe if kind == SUBSCRIBE else Unsubscribe
        return make(packet_id, tuple(filters))

    def _reply(self, violation: Violation) -> bytes:
        code, detail = violation.code, violation.detail
        if self._connect is None:
            return mqtt_encode.refusal(self._version, code, detail)
        return mqtt_encode.disconnect(self._version, code, detail, self._connect.packet_bytes_max)
