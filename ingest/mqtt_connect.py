"""Reading a CONNECT packet (MQTT 3.1.1 and 5, 3.1)."""

from __future__ import annotations

from typing import Any

from ingest.mqtt_events import V3, V5, Code, Connect, Will
from ingest.mqtt_fields import (
    AUTH_METHOD,
    CONNECT_PROPERTIES,
    PACKET_BYTES_MAX,
    PROBLEM_INFORMATION,
    SESSION_EXPIRY,
    WILL_PROPERTIES,
    Fields,
    Violation,
    malformed,
    properties,
    protocol_error,
)
from ingest.mqtt_topics import printable_topic, valid_topic

_CLEAN, _WILL, _WILL_RETAIN, _PASSWORD, _USER = 0x02, 0x04, 0x20, 0x40, 0x80


def protocol_level(fields: Fields) -> tuple[int, bool]:
    """Reads protocol name and level: the version to answer in, and whether the endpoint speaks it.

    MQTT 3.1 (``MQIsdp``, level 3) is not spoken, nor is what may come after 5. Raises Violation.
    """
    name = fields.binary()
    if name not in (b"MQTT", b"MQIsdp"):
        raise malformed("not an MQTT CONNECT")
    level = fields.number(1)
    return (V5 if level >= V5 else V3), name == b"MQTT" and level in (V3, V5)


def read_connect(fields: Fields, version: int) -> Connect:
    """The rest of a CONNECT behind its protocol level; raises Violation."""
    flags, keep_alive_s = fields.number(1), fields.number(2)
    _check_flags(flags, version)
    asked = properties(fields, CONNECT_PROPERTIES) if version == V5 else {}
    client_id = fields.text()
    will = _will(fields, version) if flags & _WILL else None
    user = fields.text() if flags & _USER else None
    password = fields.binary() if flags & _PASSWORD else None
    if fields.left:
        raise malformed("the CONNECT is longer than its fields")
    _check_offer(version, flags, client_id, asked)
    return Connect(
        version=version,
        client_id=client_id,
        clean=bool(flags & _CLEAN),
        keep_alive_s=keep_alive_s,
        user=user,
        password=password,
        will=will,
        session_expiry_s=asked.get(SESSION_EXPIRY, 0),
        packet_bytes_max=asked.get(PACKET_BYTES_MAX, 0),
        problem_information=bool(asked.get(PROBLEM_INFORMATION, 1)),
    )


def _check_flags(flags: int, version: int) -> None:
    will_qos = flags >> 3 & 3
    if flags & 1:
        raise malformed("the reserved flag of CONNECT is set")
    if will_qos == 3 or (not flags & _WILL and (will_qos or flags & _WILL_RETAIN)):
        raise malformed("the will flags of CONNECT contradict each other")
    if version == V3 and flags & _PASSWORD and not flags & _USER:
        raise malformed("a password without a user name")
    if version == V5 and will_qos == 2:
        raise Violation(Code.QOS_NOT_SUPPORTED, "a will of QoS 2 is not supported")


def _check_offer(version: int, flags: int, client_id: str, asked: dict[int, Any]) -> None:
    if version == V3 and not client_id and not flags & _CLEAN:
        raise Violation(Code.CLIENT_ID_NOT_VALID, "an empty client id needs a clean session")
    if AUTH_METHOD in asked:
        raise Violation(Code.BAD_AUTHENTICATION_METHOD, "only user name and password are known")


def _will(fields: Fields, version: int) -> Will:
    if version == V5:
        properties(fields, WILL_PROPERTIES)
    raw, payload = fields.binary(), fields.binary()
    topic = valid_topic(raw)
    if topic is None:
        raise protocol_error(f"the will's topic {printable_topic(raw)!r} is invalid")
    return Will(topic, payload)
