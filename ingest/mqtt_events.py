"""What an MQTT connection tells endpoint or collector, and the reason codes of MQTT 5 (2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

V3, V5 = 4, 5
"""Protocol levels of MQTT 3.1.1 and MQTT 5, as CONNECT carries them."""


class Code(IntEnum):
    """MQTT 5 reason codes that the endpoint sends, or that tell the collector something."""

    SUCCESS = 0x00
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    NOT_ACCEPTED = 0x83
    UNSUPPORTED_VERSION = 0x84
    CLIENT_ID_NOT_VALID = 0x85
    BAD_USER_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_SHUTTING_DOWN = 0x8B
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_NAME_INVALID = 0x90
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QOS_NOT_SUPPORTED = 0x9B
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class V3Code(IntEnum):
    """CONNACK return codes of MQTT 3.1.1 (3.2.2.3) that the endpoint sends."""

    ACCEPTED = 0
    UNSUPPORTED_VERSION = 1
    CLIENT_ID_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USER_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What the endpoint takes. Byte counts are of whole MQTT packets, fixed header included.

    ``connect_bytes``: of a CONNECT; ``receive``: QoS 1 messages of one MQTT 5 client that may wait
    for their PUBACK at a time; ``gathered_bytes``: of topics and payloads waiting to be appended,
    beyond which no socket is read; ``connect_timeout_s``: from the TCP connection to the CONNECT.
    """

    packet_bytes: int = 1 << 20
    connect_bytes: int = 1 << 17
    receive: int = 10_000
    connections: int = 10_000
    gathered_bytes: int = 4 << 20
    connect_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Will:
    """What is to be published when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """A well-formed CONNECT. ``packet_bytes_max``: the largest packet the client takes, 0: any."""

    version: int
    client_id: str
    clean: bool
    keep_alive_s: int
    user: str | None = None
    password: bytes | None = None
    will: Will | None = None
    session_expiry_s: int = 0
    packet_bytes_max: int = 0
    problem_information: bool = True


@dataclass(frozen=True, slots=True)
class Publishes:
    """A run of PUBLISH packets, three lists of one length. ``ids``: two bytes, none at QoS 0.

    How a run is cut depends on how the bytes came; runs that follow each other are one.
    """

    topics: list[str] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Oversize:
    """A PUBLISH beyond the packet limit, skipped. ``head``: the first bytes of its payload."""

    topic: str
    packet_id: bytes
    size: int
    head: bytes


@dataclass(frozen=True, slots=True)
class BadTopic:
    """A PUBLISH whose topic no PUBLISH may have; ``topic``: made printable.

    From a client, a Failure follows; from a broker it is one more message to be acknowledged.
    """

    topic: str
    payload: bytes
    packet_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Ping:
    """A PINGREQ."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A SUBSCRIBE, to be refused filter by filter."""

    packet_id: bytes
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """An UNSUBSCRIBE, of filters that nobody had."""

    packet_id: bytes
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client leaves; ``with_will``: its will is to be published all the same."""

    with_will: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The client broke the protocol: ``reply`` is to be written, then the connection closed."""

    code: Code
    detail: str
    reply: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """A broker's CONNACK. ``code``: 0 or why it refuses (3.1.1's codes are given as those of MQTT 5).

    ``given``: properties by identifier, none in 3.1.1.
    """

    session_present: bool
    code: int
    given: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A broker's SUBACK or UNSUBACK; ``codes``: one for each filter, none for UNSUBACK in 3.1.1."""

    packet_id: bytes
    codes: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pong:
    """A broker's PINGRESP."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """A broker's DISCONNECT (MQTT 5 only)."""

    code: int
    reason: str


Event = (
    Connect | Publishes | Oversize | BadTopic | Ping | Subscribe | Unsubscribe | Disconnect | Failure
    | Welcome | Answer | Pong | Farewell
)  # fmt: skip
