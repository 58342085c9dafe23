"""Fields inside MQTT packets: numbers, texts, and the properties of MQTT 5 (2.2.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingest.mqtt_events import Code

SESSION_EXPIRY, RECEIVE_MAXIMUM, PACKET_BYTES_MAX = 0x11, 0x21, 0x27
PROBLEM_INFORMATION, RESPONSE_INFORMATION = 0x17, 0x19
AUTH_METHOD, AUTH_DATA, TOPIC_ALIAS, TOPIC_ALIAS_MAX = 0x15, 0x16, 0x23, 0x22
USER_PROPERTY, REASON, SUBSCRIPTION_ID = 0x26, 0x1F, 0x0B
ASSIGNED_ID, SERVER_KEEP_ALIVE, QOS_MAX = 0x12, 0x13, 0x24

CONNECT_PROPERTIES = frozenset(
    (
        *(SESSION_EXPIRY, RECEIVE_MAXIMUM, PACKET_BYTES_MAX, TOPIC_ALIAS_MAX, RESPONSE_INFORMATION),
        *(PROBLEM_INFORMATION, USER_PROPERTY, AUTH_METHOD, AUTH_DATA),
    )
)
WILL_PROPERTIES = frozenset((0x18, 0x01, 0x02, 0x03, 0x08, 0x09, USER_PROPERTY))
PUBLISH_PROPERTIES = frozenset((0x01, 0x02, TOPIC_ALIAS, 0x08, 0x09, USER_PROPERTY, 0x03))
SUBSCRIBE_PROPERTIES = frozenset((SUBSCRIPTION_ID, USER_PROPERTY))
UNSUBSCRIBE_PROPERTIES = frozenset((USER_PROPERTY,))
DISCONNECT_PROPERTIES = frozenset((SESSION_EXPIRY, REASON, USER_PROPERTY))
CONNACK_PROPERTIES = frozenset(
    (
        *(SESSION_EXPIRY, RECEIVE_MAXIMUM, QOS_MAX, 0x25, PACKET_BYTES_MAX, ASSIGNED_ID, TOPIC_ALIAS_MAX),
        *(REASON, USER_PROPERTY, 0x28, 0x29, 0x2A, SERVER_KEEP_ALIVE, 0x1A, 0x1C, AUTH_METHOD, AUTH_DATA),
    )
)
ACK_PROPERTIES = frozenset((REASON, USER_PROPERTY))
BROKER_DISCONNECT_PROPERTIES = frozenset((SESSION_EXPIRY, REASON, USER_PROPERTY, 0x1C))

_NOT_ZERO = frozenset((RECEIVE_MAXIMUM, PACKET_BYTES_MAX, SUBSCRIPTION_ID))
_AT_MOST_ONE = frozenset((0x01, PROBLEM_INFORMATION, RESPONSE_INFORMATION))


class Violation(Exception):
    """The bytes break the protocol; caught where events are made, never seen outside the codec."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def malformed(detail: str) -> Violation:
    return Violation(Code.MALFORMED_PACKET, detail)


def protocol_error(detail: str) -> Violation:
    return Violation(Code.PROTOCOL_ERROR, detail)


class Fields:
    """A cursor over ``data[position:stop]``; every reader raises Violation when bytes are missing."""

    __slots__ = ("data", "position", "stop")

    def __init__(self, data: bytes, position: int, stop: int) -> None:
        self.data = data
        self.position = position
        self.stop = stop

    @property
    def left(self) -> int:
        return self.stop - self.position

    def take(self, size: int) -> bytes:
        start = self.position
        if start + size > self.stop:
            raise malformed("the packet ends inside a field")
        self.position = start + size
        return self.data[start : start + size]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        """A UTF-8 string without U+0000 (1.5.4)."""
        raw = self.binary()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise malformed("a text is not UTF-8") from None
        if "\0" in text:
            raise malformed("a text contains U+0000")
        return text

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise malformed("a variable byte integer has more than four bytes")


_READERS: dict[int, Callable[[Fields], Any]] = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), lambda fields: fields.number(1)),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), lambda fields: fields.number(2)),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), lambda fields: fields.number(4)),
    **dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), Fields.text),
    **dict.fromkeys((0x09, 0x16), Fields.binary),
    SUBSCRIPTION_ID: Fields.varint,
    USER_PROPERTY: lambda fields: (fields.text(), fields.text()),
}


def properties(fields: Fields, allowed: frozenset[int]) -> dict[int, Any]:
    """The properties at the cursor, by identifier; user properties are checked and dropped."""
    length = fields.varint()
    inside = Fields(fields.data, fields.position, fields.position + length)
    fields.take(length)
    found: dict[int, Any] = {}
    while inside.left:
        key = inside.varint()
        if key not in allowed:
            raise protocol_error(f"property 0x{key:02x} does not belong here")
        value = _READERS[key](inside)
        if key == USER_PROPERTY:
            continue
        if key in found:
            raise protocol_error(f"property 0x{key:02x} is given twice")
        if (key in _NOT_ZERO and value == 0) or (key in _AT_MOST_ONE and value > 1):
            raise protocol_error(f"property 0x{key:02x} may not be {value}")
        found[key] = value
    return found
