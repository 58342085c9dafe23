"""One MQTT connection that listens at any QoS: every message with its QoS, retain and properties.

The caller's thread owns it and reads it. Nothing is acknowledged before ``acknowledge`` is called:
what was not, the broker sends again, as long as it keeps the session.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ingest.mqtt_encode import packet, text
from ingest.mqtt_events import V5
from metering.errors import MeterflowError, Unavailable
from simulators import mqtt_wire as wire
from simulators.mqtt_address import Address

CONNECT_S = 5.0
SEND_S = 20.0
KEEP_ALIVE_S = 20
SILENCE_S = 1.5 * KEEP_ALIVE_S
SESSION_S = 600
"""How long the broker keeps what is due to a recorder that is away."""
READ_BYTES = 1 << 18
PUBACK, PUBREC, PUBCOMP = b"\x40\x02", b"\x50\x02", b"\x70\x02"
_NO_VERSION = {5: 0x84, 4: 0x01}
_NO_ACCESS = {5: (0x86, 0x87, 0x8A, 0x8C), 4: (4, 5)}
_RETAIN_AS_PUBLISHED, _RETAINED_IF_NEW, _RETAINED_NEVER = 0x08, 0x10, 0x20


class Publish(NamedTuple):
    """A PUBLISH as it came. ``identifier``: empty at QoS 0."""

    topic: bytes
    qos: int
    payload: bytes
    retain: bool
    properties: bytes
    identifier: bytes
    again: bool


class Lost(Unavailable):
    """The connection has ended."""


class WrongVersion(Lost):
    """Somebody answers, but not to this version of MQTT."""


class Listening:
    """An open connection; the constructor connects. ``heard_s``: when the broker was last heard."""

    def __init__(self, address: Address, client_id: str, version: int, *, clean: bool) -> None:
        """Raises Lost when nobody answers, WrongVersion, MeterflowError when access is refused."""
        self.address, self.version = address, version
        self.session_present = False
        self._greeted = False
        self._rest = b""
        self._early: list[tuple[int, bytes]] = []
        self._pinged_s = self.heard_s = time.monotonic()
        self._socket = self._connected()
        try:
            self._send(self._hello(client_id, clean))
            self._welcome(self._answer(wire.CONNACK))
        except BaseException:
            self._socket.close()
            raise

    def subscribe(self, filters: Sequence[str], qos: int, *, retained: bool) -> bytes:
        """A code for each filter: the QoS it is given, or why not. Retained ones come only if it is new."""
        flags = qos
        if self.version == V5:
            flags |= _RETAIN_AS_PUBLISHED | (_RETAINED_IF_NEW if retained else _RETAINED_NEVER)
        head = b"\x00\x01" + (b"\x00" if self.version == V5 else b"")
        self._send(packet(0x82, head + b"".join(text(one) + bytes((flags,)) for one in filters)))
        return self._answer(wire.SUBACK)[-len(filters) :]

    def read(self, wait_s: float) -> tuple[list[Publish], bytes]:
        """Messages, and what is due to the broker once they are kept; nothing after ``wait_s``."""
        came: list[Publish] = []
        released = bytearray()
        for first, body in self._packets(wait_s):
            kind = first >> 4
            if kind == wire.PUBLISH:
                came.append(self._publish(first, body))
            elif kind == wire.PUBREL:
                released += body[:2]
            elif kind == wire.END:
                raise self._lost(f"it ends the connection, reason 0x{body[0] if body else 0:02x}")
        return came, bytes(released)

    def acknowledge(self, came: Sequence[Publish], released: bytes) -> None:
        """Says that messages are kept, and that identifiers are free again."""
        answers = [(PUBACK if one.qos == 1 else PUBREC) + one.identifier for one in came if one.qos]
        answers += [PUBCOMP + released[i : i + 2] for i in range(0, len(released), 2)]
        if answers:
            self._send(b"".join(answers))

    def close(self, *, politely: bool) -> None:
        if politely:  # an expiry of 0: the broker is to forget the session
            with suppress(MeterflowError):
                bye = b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00" if self.version == V5 else wire.DISCONNECT
                self._send(bye)
                self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()

    # -- inside ----------------------------------------------------------------------------------

    def _connected(self) -> socket.socket:
        try:
            return wire.open_socket(self.address, CONNECT_S)
        except Unavailable as error:
            raise self._lost(error.what) from error

    def _hello(self, client_id: str, clean: bool) -> bytes:
        asked = b"\x11" + SESSION_S.to_bytes(4, "big") + b"\x21\xff\xff"
        return wire.hello(
            self.address,
            client_id,
            self.version,
            clean=clean or self.version != V5,
            keep_alive_s=KEEP_ALIVE_S,
            asked=asked,
        )

    def _welcome(self, body: bytes) -> None:
        code = body[1]
        self._greeted = True
        self.session_present = bool(body[0] & 1)
        if code == 0:
            return
        if code == _NO_VERSION[self.version]:
            raise WrongVersion("another version of MQTT is spoken there", where=str(self.address))
        if code in _NO_ACCESS[self.version]:
            hint = "check user and password"
            raise MeterflowError("connection refused: not authorized", where=str(self.address), hint=hint)
        raise self._lost(f"connection refused, code 0x{code:02x}")

    def _answer(self, wanted: int) -> bytes:
        """The packet of a kind that is waited for; what else comes is kept for ``read``."""
        until_s = time.monotonic() + CONNECT_S
        others: list[tuple[int, bytes]] = []
        found = b""
        while not found and time.monotonic() < until_s:
            for first, body in self._packets(0.1):
                if first >> 4 == wanted and not found:
                    found = body
                else:
                    others.append((first, body))
        self._early = others
        if not found:
            raise self._lost("it does not answer")
        return found

    def _packets(self, wait_s: float) -> list[tuple[int, bytes]]:
        """Whole packets: their first byte and what is behind their length."""
        found, self._early = self._early, []
        data = self._rest + self._received(0.0 if found else wait_s)
        position = 0
        while (size := _length(data, position)) is not None:
            start, length = size
            if start + length > len(data):
                break
            found.append((data[position], data[start : start + length]))
            position = start + length
        self._rest = data[position:]
        return found

    def _received(self, wait_s: float) -> bytes:
        now_s = time.monotonic()
        if now_s - self._pinged_s > KEEP_ALIVE_S / 2:
            self._pinged_s = now_s
            self._send(wire.PINGREQ)
        if now_s - self.heard_s > SILENCE_S:
            raise self._lost(f"nothing was heard for {now_s - self.heard_s:.0f} s")
        parts, size = [], 0
        try:
            self._socket.settimeout(max(wait_s, 0.001))
            missing = _missing(self._rest)
            while True:
                part = self._socket.recv(READ_BYTES)
                if not part:
                    kind = Lost if self._greeted else WrongVersion
                    raise kind("it closed the connection", where=str(self.address), hint=wire.HINT)
                parts.append(part)
                size += len(part)
                if size >= missing:
                    break
        except TimeoutError:
            pass
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from error
        if parts:
            self.heard_s = time.monotonic()
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(SEND_S)
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from error

    def _publish(self, first: int, body: bytes) -> Publish:
        qos = first >> 1 & 3
        split = 2 + (body[0] << 8 | body[1])
        at = split + 2 if qos else split
        identifier, properties = body[split:at], b""
        if self.version == V5:
            if body[at]:
                size = _length(body, at - 1)
                assert size is not None, "a broker sends whole packets"
                at, length = size
                properties = body[at : at + length]
                at += length
            else:
                at += 1
        return Publish(
            body[2:split], qos, body[at:], bool(first & 1), properties, identifier, bool(first & 8)
        )

    def _lost(self, why: str) -> Lost:
        return Lost(why, where=str(self.address), hint=wire.HINT)


def _length(data: bytes, position: int) -> tuple[int, int] | None:
    try:
        return wire.body_of(data, position)
    except ValueError as error:
        raise Lost(str(error)) from error


def _missing(rest: bytes) -> int:
    """How many bytes at least a packet of which this is the beginning still needs."""
    size = _length(rest, 0) if rest else None
    return 1 if size is None else size[0] + size[1] - len(rest)
