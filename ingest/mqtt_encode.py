"""Packets from the endpoint to its clients, and their parts, as bytes (MQTT 3.1.1 and 5, chapter 3)."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.mqtt_events import V5, Code, Connect, Limits, V3Code

PINGRESP = b"\xd0\x00"
PUBACK_HEAD = b"\x40\x02"

_V3_CODES = {
    Code.SUCCESS: V3Code.ACCEPTED,
    Code.UNSUPPORTED_VERSION: V3Code.UNSUPPORTED_VERSION,
    Code.CLIENT_ID_NOT_VALID: V3Code.CLIENT_ID_REJECTED,
    Code.SERVER_UNAVAILABLE: V3Code.SERVER_UNAVAILABLE,
    Code.BAD_USER_OR_PASSWORD: V3Code.BAD_USER_OR_PASSWORD,
    Code.NOT_AUTHORIZED: V3Code.NOT_AUTHORIZED,
}


def pubacks(ids: Iterable[bytes]) -> bytes:
    """The PUBACKs (success, the short form both versions share) of packet ids, in their order."""
    joined = PUBACK_HEAD.join(ids)
    return PUBACK_HEAD + joined if joined else b""


def connack(connect: Connect, limits: Limits, assigned_id: str = "") -> bytes:
    """Accepts a client, and tells an MQTT 5 one what the endpoint does not do.

    No session is kept: session present is 0, and an MQTT 5 client that asked for one is told so.
    """
    if connect.version != V5:
        return b"\x20\x02\x00\x00"
    properties = b"".join(
        (
            b"\x11\x00\x00\x00\x00" if connect.session_expiry_s else b"",
            b"\x21" + limits.receive.to_bytes(2, "big"),
            b"\x24\x01",  # maximum QoS
            b"\x27" + limits.packet_bytes.to_bytes(4, "big"),
            b"\x12" + text(assigned_id) if assigned_id else b"",
            b"\x28\x00\x29\x00\x2a\x00",  # no wildcards, subscription identifiers, shared subscriptions
        )
    )
    return packet(0x20, b"\x00\x00" + varint(len(properties)) + properties)


def refusal(version: int, code: Code, detail: str = "", packet_bytes_max: int = 0) -> bytes:
    """The CONNACK that refuses a client; nothing where 3.1.1 has no code for the reason."""
    if version == V5:
        return _with_reason(0x20, bytes((0, code)), detail, packet_bytes_max)
    return bytes((0x20, 2, 0, _V3_CODES[code])) if code in _V3_CODES else b""


def disconnect(version: int, code: Code, detail: str = "", packet_bytes_max: int = 0) -> bytes:
    """The DISCONNECT with its reason; nothing in 3.1.1, where a server can only close."""
    return _with_reason(0xE0, bytes((code,)), detail, packet_bytes_max) if version == V5 else b""


def suback(version: int, packet_id: bytes, filters: Iterable[str]) -> bytes:
    """Refuses each subscription with the code that fits it."""
    if version == V5:
        return packet(0x90, packet_id + b"\x00" + bytes(_filter_code(f) for f in filters))
    return packet(0x90, packet_id + bytes(Code.UNSPECIFIED for _ in filters))


def unsuback(version: int, packet_id: bytes, filters: Iterable[str]) -> bytes:
    """Says that there was no such subscription."""
    if version != V5:
        return packet(0xB0, packet_id)
    return packet(0xB0, packet_id + b"\x00" + bytes(Code.NO_SUBSCRIPTION_EXISTED for _ in filters))


def _filter_code(topic_filter: str) -> Code:
    if topic_filter.startswith("$share/"):
        return Code.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if "+" in topic_filter or "#" in topic_filter:
        return Code.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    return Code.NOT_ACCEPTED


def _with_reason(first: int, head: bytes, detail: str, packet_bytes_max: int) -> bytes:
    """With a reason string, unless the packet would then be more than the client takes."""
    properties = b"\x1f" + text(detail[:200]) if detail else b""
    whole = packet(first, head + varint(len(properties)) + properties)
    if packet_bytes_max and len(whole) > packet_bytes_max:
        return packet(first, head + b"\x00")
    return whole


def packet(first: int, body: bytes) -> bytes:
    """A packet of its first byte and what follows the remaining length."""
    return bytes((first,)) + varint(len(body)) + body


def text(value: str) -> bytes:
    """A UTF-8 string with its length (1.5.4)."""
    raw = value.encode("utf-8", "replace")
    return len(raw).to_bytes(2, "big") + raw


def varint(value: int) -> bytes:
    """A variable byte integer (MQTT 5, 1.5.5)."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)
