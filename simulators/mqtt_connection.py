"""One MQTT connection for publishing, driven by the thread that owns it.

Packets gather and go out together in ``exchange``, which also takes in what the other side answered.
A lost connection is never mended: whoever owns it makes a new one and publishes again what was not
acknowledged, in order. Of messages at QoS 0 a PINGRESP says that they have arrived.
"""

from __future__ import annotations

import secrets
import select
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt_encode import varint
from ingest.mqtt_events import V5
from ingest.mqtt_fields import (
    CONNACK_PROPERTIES,
    PACKET_BYTES_MAX,
    QOS_MAX,
    RECEIVE_MAXIMUM,
    SERVER_KEEP_ALIVE,
    Fields,
    Violation,
    properties,
)
from metering.errors import MeterflowError, Unavailable
from simulators import mqtt_wire as wire
from simulators.mqtt_address import Address

CONNECT_TIMEOUT_S = 3.0
KEEP_ALIVE_S = 60
READ_BYTES = 1 << 18
WRITE_BYTES = 1 << 18
PING_MESSAGES = 100
"""So many messages at QoS 0 have a ping behind them at the latest."""
PACKET_OVERHEAD_BYTES = 12
"""At most this much of a PUBLISH packet is neither topic nor payload, without properties."""
_RETAIN_AVAILABLE = 0x25
_ID_MAX = 65_535
_TOPICS_MAX = 100_000
_PAYLOAD_MAX = 268_435_455 - 65_600
_NO_VERSION = {5: (0x84,), 4: (1,)}
_RETRY_LATER = {5: (0x88, 0x89, 0x97, 0x9F), 4: (3,)}
_V4_CODES = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}


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
    """An open connection. ``done`` collects (number, refusal or empty) to be taken away.

    ``lost`` is empty while the connection stands, else it says why it does not. ``waiting``: messages
    at QoS 1 and 2 that are not done. ``unanswered``: how many at QoS 0.
    """

    def __init__(self, address: Address, version: int, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connects; raises Unavailable when nobody answers, MeterflowError when access is refused."""
        self.address = address
        self.version = version
        self.lost = ""
        self.limits = Limits()
        self.done: list[tuple[int, str]] = []
        self.waiting: set[int] = set()
        self._topics: dict[str, bytes] = {}
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._rest = b""
        self._last_id = 0
        self._last_unanswered = 0  # of messages at QoS 0: their numbers go down from 0
        self.unanswered = 0
        self._unanswered: list[int] = []
        self._asked: deque[list[int]] = deque()  # of these, those before each PINGREQ on its way
        self._keep_alive_s = KEEP_ALIVE_S
        self._heard_s = self._said_s = time.monotonic()
        self._socket = wire.open_socket(address, timeout_s)
        try:
            self._greet(timeout_s)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._events = select.poll()
        self._events.register(self._socket, select.POLLIN)

    def _greet(self, timeout_s: float) -> None:
        name = f"meterflow-{secrets.token_hex(6)}"
        greeting = wire.hello(self.address, name, self.version, clean=True, keep_alive_s=KEEP_ALIVE_S)
        until = time.monotonic() + timeout_s
        try:
            self._socket.sendall(greeting)
            while (size := wire.body_of(self._rest, 0)) is None or sum(size) > len(self._rest):
                self._socket.settimeout(max(0.001, until - time.monotonic()))
                data = self._socket.recv(4_096)
                if not data:
                    raise ConnectionResetError("the connection was closed")
                self._rest += data
        except (OSError, ValueError) as error:
            raise self._unavailable(f"no answer to CONNECT: {error}", NotGreeted) from error
        start, length = size
        body, self._rest = self._rest[start : start + length], self._rest[start + length :]
        if len(body) < 2:
            raise self._unavailable("no answer to CONNECT that is MQTT", NotGreeted)
        if body[1]:
            raise self._refused(body[1])
        if self.version == V5:
            self._take_limits(body)

    def _take_limits(self, body: bytes) -> None:
        usual = Limits()
        try:
            given = properties(Fields(body, 2, len(body)), CONNACK_PROPERTIES)
        except Violation:
            return  # what is limited there will show
        self.limits = Limits(
            receive_max=given.get(RECEIVE_MAXIMUM, usual.receive_max),
            packet_bytes_max=given.get(PACKET_BYTES_MAX, usual.packet_bytes_max),
            qos_max=given.get(QOS_MAX, usual.qos_max),
            retain=bool(given.get(_RETAIN_AVAILABLE, 1)),
        )
        self._keep_alive_s = given.get(SERVER_KEEP_ALIVE) or KEEP_ALIVE_S

    def _unavailable(self, what: str, kind: type[Unavailable] = Unavailable) -> Unavailable:
        return kind(what, where=str(self.address), hint=wire.HINT)

    def _refused(self, code: int) -> MeterflowError:
        reason = f"connection refused: {_words(code if self.version == V5 else _V4_CODES.get(code, 0x80))}"
        if code in _NO_VERSION[self.version]:
            return self._unavailable(reason, NotGreeted)
        if code in _RETRY_LATER[self.version]:
            return self._unavailable(reason)
        return MeterflowError(reason, where=str(self.address), hint="check user and password")

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, given: bytes = b"") -> int:
        """Queues a message and gives its number; raises Refused when it cannot be sent.

        ``given``: properties, which only MQTT 5 takes.
        """
        name = self._topics.get(topic) or self._named(topic)
        size = len(name) + len(payload) + len(given)
        if size + PACKET_OVERHEAD_BYTES > self.limits.packet_bytes_max or len(payload) > _PAYLOAD_MAX:
            raise Refused(f"larger than the {self.limits.packet_bytes_max} bytes that are taken there")
        if qos:
            number = self._free_id()
            name += number.to_bytes(2, "big")
            self.waiting.add(number)
        else:
            number = self._last_unanswered = self._last_unanswered - 1
            self._unanswered.append(number)
            self.unanswered += 1
        if self.version == V5:
            name += (varint(len(given)) + given) if given else b"\x00"
        length = len(name) + len(payload)
        first = 0x30 | qos << 1 | retain
        size_field = bytes((first, length)) if length < 128 else bytes((first,)) + varint(length)
        self._queue(size_field + name + payload)
        if len(self._unanswered) >= PING_MESSAGES:
            self._ping()
        return number

    def _named(self, topic: str) -> bytes:
        raw = topic.encode("utf-8", "surrogatepass")
        if not raw or len(raw) > 65_535 or "\0" in topic:
            raise Refused("a topic has from 1 to 65,535 bytes, and no NUL")
        if "+" in topic or "#" in topic:
            raise Refused("a topic cannot contain wildcards")
        if len(self._topics) >= _TOPICS_MAX:
            self._topics.clear()
        named = self._topics[topic] = len(raw).to_bytes(2, "big") + raw
        return named

    def _free_id(self) -> int:
        number = self._last_id % _ID_MAX + 1
        while number in self.waiting:
            number = number % _ID_MAX + 1
        self._last_id = number
        return number

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)

    def exchange(self, wait_s: float) -> None:
        """Writes what is queued, waits up to ``wait_s`` for something to read, and reads it."""
        if self.lost:
            return
        self._ask()
        try:
            self._write()
            pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
            self._events.modify(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
            events = self._events.poll(0 if pending else wait_s * 1_000)
            if pending or any(event & ~select.POLLOUT for _, event in events):
                self._read()
        except (OSError, ValueError) as error:
            self.lost = getattr(error, "strerror", None) or str(error)

    def _ask(self) -> None:
        """Pings where an answer is wanted: for messages at QoS 0, and to keep the line alive."""
        now = time.monotonic()
        silent = now - max(self._said_s, self._heard_s) > self._keep_alive_s / 2
        if not self._asked and (self._unanswered or silent or now - self._said_s > self._keep_alive_s / 2):
            self._said_s = now
            self._ping()
        elif now - self._heard_s > 1.5 * self._keep_alive_s:
            self.lost = f"nothing was heard for {now - self._heard_s:.0f} s"

    def _ping(self) -> None:
        self._asked.append(self._unanswered)
        self._unanswered = []
        self._queue(wire.PINGREQ)

    def _write(self) -> None:
        while self._out:
            data = self._out.popleft()
            if len(data) < WRITE_BYTES and self._out:
                parts, size = [data], len(data)
                while self._out and size < WRITE_BYTES:
                    parts.append(self._out.popleft())
                    size += len(parts[-1])
                data = b"".join(parts)
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                sent = 0
            self._out_bytes -= sent
            if sent:
                self._said_s = time.monotonic()
            if sent < len(data):
                self._out.appendleft(data[sent:])
                if sent == 0:
                    return

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            self.lost = self.lost or "the connection was closed"
            return
        self._heard_s = time.monotonic()
        data = self._rest + data
        position, end = 0, len(data)
        while position + 1 < end:
            if data[position] == 0x40 and data[position + 1] == 2:  # a PUBACK without a reason: the most
                if position + 4 > end:
                    break
                self._finish(data[position + 2] << 8 | data[position + 3], 0)
                position += 4
                continue
            size = wire.body_of(data, position)
            if size is None or sum(size) > end:
                break
            self._take(data[position] >> 4, data[size[0] : sum(size)])
            position = sum(size)
        self._rest = data[position:]

    def _take(self, kind: int, body: bytes) -> None:
        if kind == wire.PINGRESP:
            if self._asked:
                answered = self._asked.popleft()
                self.unanswered -= len(answered)
                self.done += [(number, "") for number in answered]
        elif kind == wire.END:
            self.lost = _words(body[0] if body else 0, PacketTypes.DISCONNECT)
        elif kind in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP) and len(body) >= 2:
            code = body[2] if len(body) > 2 else 0
            if kind == wire.PUBREC and code < wire.BAD_CODES:
                self._queue(b"\x62\x02" + body[:2])
            else:
                self._finish(body[0] << 8 | body[1], code)

    def _finish(self, number: int, code: int) -> None:
        if number in self.waiting:
            self.waiting.discard(number)
            self.done.append((number, _words(code) if code >= wire.BAD_CODES else ""))

    def close(self) -> None:
        """Says DISCONNECT and closes."""
        if not self.lost:
            with suppress(OSError):
                self._queue(wire.DISCONNECT)
                self._write()
                self._socket.shutdown(socket.SHUT_WR)
        self.abandon()

    def abandon(self) -> None:
        """Closes without a word; what was not acknowledged stays so."""
        self.lost = self.lost or "closed"
        self._socket.close()


def _words(code: int, kind: int = PacketTypes.PUBACK) -> str:
    """A reason code in MQTT's own words."""
    for packet in (kind, PacketTypes.CONNACK, PacketTypes.PUBREC):
        with suppress(KeyError, AssertionError):
            return str(ReasonCode(packet, identifier=code))
    return f"reason 0x{code:02x}"
