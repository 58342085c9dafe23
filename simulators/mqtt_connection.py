"""One MQTT connection for publishing, driven by the thread that owns it; by paho-mqtt.

paho's own thread is not used: packets gather in its queue and go out together in ``exchange``,
which also takes in what the other side answered. A lost connection is never mended: whoever owns
it makes a new one and publishes again what was not acknowledged, in order.
"""

from __future__ import annotations

import secrets
import select
import ssl
import time
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from metering.errors import MeterflowError, Unavailable
from simulators.mqtt_address import Address

CONNECT_TIMEOUT_S = 3.0
KEEP_ALIVE_S = 60
POLL_S = 0.1
PACKET_OVERHEAD_BYTES = 12
"""At most this much of a PUBLISH packet is neither topic nor payload, without properties."""
_RETRY_LATER = ("Server unavailable", "Server busy", "Quota exceeded", "Connection rate exceeded")
_MISC_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the other side announced in CONNACK; the defaults are MQTT's."""

    receive_max: int = 65_535
    packet_bytes_max: int = 268_435_455
    qos_max: int = 2
    retain: bool = True


class Refused(Exception):
    """A message that cannot be published here at all."""


class NotGreeted(Unavailable):
    """Someone answers there, but not to this version of MQTT: worth trying the other one."""


class Connection:
    """An open connection. ``done`` collects (packet identifier, refusal or empty) to be taken away.

    ``lost`` is empty while the connection stands, else it says why it does not.
    """

    def __init__(self, address: Address, version: int, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connects; raises Unavailable when nobody answers, MeterflowError when access is refused."""
        self.address = address
        self.version = version
        self.lost = ""
        self.greeted = False
        """Whether a CONNACK came."""
        self.limits = Limits()
        self.done: list[tuple[int, str]] = []
        self._refusal: ReasonCode | None = None
        self._misc_at = time.monotonic()
        self._events = select.poll()
        self._timeout_s = timeout_s
        self._client = self._new_client()
        self._connect()

    def _new_client(self) -> mqtt.Client:
        name = f"meterflow-{secrets.token_hex(6)}"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion(self.version))
        client.username_pw_set(self.address.user, self.address.password)
        if self.address.tls:
            client.tls_set_context(ssl.create_default_context())
        client.max_inflight_messages_set(0)  # the window is ours
        client.connect_timeout = self._timeout_s
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_register_write = _leave_queued
        return client

    def _connect(self) -> None:
        try:
            self._client.connect(self.address.host, self.address.port, KEEP_ALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise MeterflowError(
                f"its certificate is not trusted: {error.verify_message}",
                where=str(self.address),
                hint="add its issuer to the system's certificates, or name it in SSL_CERT_FILE",
            ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._unavailable(f"no connection: {reason}") from error
        self._events.register(_number(self._client), select.POLLIN)
        patience_until = time.monotonic() + self._timeout_s
        while not self.greeted and not self.lost and time.monotonic() < patience_until:
            self.exchange(POLL_S)
        if self._refusal is not None:
            raise self._refused(str(self._refusal))
        if not self.greeted or self.lost:
            self.abandon()
            raise self._unavailable(f"no answer to CONNECT: {self.lost}", NotGreeted)

    def _unavailable(self, what: str, kind: type[Unavailable] = Unavailable) -> Unavailable:
        return kind(what, where=str(self.address), hint="check that the service or broker is running")

    def _refused(self, reason: str) -> MeterflowError:
        self.abandon()
        if reason == "Unsupported protocol version":
            return self._unavailable(f"connection refused: {reason}", NotGreeted)
        if reason in _RETRY_LATER:
            return self._unavailable(f"connection refused: {reason}")
        return MeterflowError(
            f"connection refused: {reason}", where=str(self.address), hint="check user and password"
        )

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> int:
        """Queues a message and gives its packet identifier; raises Refused when it cannot be sent."""
        if len(topic) + len(payload) + PACKET_OVERHEAD_BYTES > self.limits.packet_bytes_max:
            raise Refused(f"larger than the {self.limits.packet_bytes_max} bytes that are taken there")
        try:
            return self._client.publish(topic, payload, qos, retain).mid
        except ValueError as error:
            raise Refused(str(error).rstrip(".")) from error

    def exchange(self, wait_s: float) -> None:
        """Writes what is queued, waits up to ``wait_s`` for something to read, and reads it."""
        client = self._client
        if client.want_write():
            self._note(client.loop_write())
        sock = client.socket()
        if sock is None:
            self.lost = self.lost or "the connection was closed"
            return
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        self._events.modify(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        events = self._events.poll(0 if pending else wait_s * 1_000)
        if pending or any(event & ~select.POLLOUT for _, event in events):
            self._note(client.loop_read())
        now = time.monotonic()
        if now - self._misc_at > _MISC_EVERY_S and not self.lost:
            self._misc_at = now
            self._note(client.loop_misc())

    def close(self) -> None:
        """Says DISCONNECT and closes."""
        self._client.disconnect()
        if self._client.want_write():
            self._client.loop_write()
        self.abandon()

    def abandon(self) -> None:
        """Closes without a word; what was not acknowledged stays so."""
        self.lost = self.lost or "closed"
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _note(self, outcome: MQTTErrorCode) -> None:
        if outcome != MQTTErrorCode.MQTT_ERR_SUCCESS and not self.lost:
            self.lost = mqtt.error_string(outcome).rstrip(".").lower()

    def _on_connect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.greeted = True
        if reason.is_failure:
            self._refusal = reason
        elif properties is not None:
            self.limits = _limits(properties)

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        self.lost = str(reason)

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self.done.append((mid, str(reason) if reason.is_failure else ""))


def _number(client: mqtt.Client) -> int:
    sock = client.socket()
    assert sock is not None, "a connected client has a socket"
    return sock.fileno()


def _leave_queued(_client: mqtt.Client, _data: Any, _socket: Any) -> None:
    """With this callback set, paho leaves packets in its queue until ``loop_write``."""


def _limits(properties: Properties) -> Limits:
    usual = Limits()
    return Limits(
        receive_max=int(getattr(properties, "ReceiveMaximum", usual.receive_max)),
        packet_bytes_max=int(getattr(properties, "MaximumPacketSize", usual.packet_bytes_max)),
        qos_max=int(getattr(properties, "MaximumQoS", usual.qos_max)),
        retain=bool(getattr(properties, "RetainAvailable", 1)),
    )
