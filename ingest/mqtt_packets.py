"""Packets out of a stream of bytes: what both sides of an MQTT connection share, without I/O.

However the bytes are cut, the same events come out (runs of PUBLISH packets joined). Incomplete
packets are kept in pieces until they are whole, so that a slow sender costs no more than a quick
one; PUBLISH packets beyond the limit are skipped, never kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from ingest.mqtt_events import V5, BadTopic, Code, Event, Failure, Limits, Oversize, Publishes
from ingest.mqtt_fields import (
    PUBLISH_PROPERTIES,
    TOPIC_ALIAS,
    Fields,
    Violation,
    malformed,
    properties,
)
from ingest.mqtt_topics import TopicNames, printable_topic

PUBLISH = 0x3
_QOS1, _QOS2, _QOS_MASK, _DUP = 0x02, 0x04, 0x06, 0x08
_NO_ID = b"\0\0"
_HEAD_BYTES = 1_000
"""How much of an oversize payload is shown."""
_TOPIC_BYTES = 2 + 65_535
_UNLIMITED = 1 << 62


@dataclass(slots=True)
class _Skip:
    """An oversize PUBLISH on its way: ``left`` bytes to come, ``head`` collected up to ``head_max``."""

    first: int
    size: int
    left: int
    head_max: int
    head: bytearray = field(default_factory=bytearray)


class Packets(ABC):
    """What came in on one connection, in protocol ``version`` (0: not known yet).

    ``names`` may be shared by connections.
    """

    _ends_when_too_large = True
    """Whether an MQTT 5 sender of a packet beyond the limit is told so by the end of the connection."""

    def __init__(self, limits: Limits | None, names: TopicNames | None, version: int) -> None:
        self._limits = limits or Limits()
        self._names = TopicNames() if names is None else names
        self._version = version
        self._open = False
        """Whether PUBLISH packets may come."""
        self._closed = False
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        self._skip: _Skip | None = None
        self._unacknowledged = 0

    @abstractmethod
    def _kind(self, first: int) -> int:
        """The type of the packet that begins with this byte; raises Violation if it may not come."""

    @abstractmethod
    def _control(self, kind: int, fields: Fields, events: list[Event]) -> None:
        """Takes a whole packet that is no PUBLISH."""

    @abstractmethod
    def _reply(self, violation: Violation) -> bytes:
        """What the other side is told of its breach of the protocol."""

    @abstractmethod
    def _size_max(self) -> int:
        """How large the next packet may be."""

    def released(self, count: int) -> None:
        """``count`` QoS 1 messages were answered: as many more may come (MQTT 5, 4.9)."""
        self._unacknowledged -= count

    def receive(self, data: bytes) -> list[Event]:
        """Everything that ``data`` completes. After a Failure or Disconnect nothing comes any more."""
        events: list[Event] = []
        if self._parts and not self._closed:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return events
            data = b"".join(self._parts)
            self._parts = []
        position = 0
        try:
            while not self._closed and position < len(data):
                position = self._step(data, position, events)
        except Violation as violation:
            events.append(self._failure(violation))
        return events

    def _step(self, data: bytes, position: int, events: list[Event]) -> int:
        if self._skip is not None:
            return self._skip_on(self._skip, data, position, events)
        if self._open and data[position] >> 4 == PUBLISH:
            done = self._publishes(data, position, events)
            if done > position:
                return done
        return self._packet(data, position, events)

    def _packet(self, data: bytes, position: int, events: list[Event]) -> int:
        """One packet of any kind, or keeps what there is of it; returns where the next begins."""
        kind = self._kind(data[position])
        start, length = _remaining_length(data, position + 1)
        if length < 0:
            return self._keep(data, position, len(data) - position + 1)
        size = start - position + length
        limit = self._size_max()
        if size > limit:
            if kind != PUBLISH:
                raise Violation(Code.PACKET_TOO_LARGE, f"a packet of {size} bytes, at most {limit} are taken")
            self._skip = self._start_skip(data[position], size, length)
            return start
        if start + length > len(data):
            return self._keep(data, position, size)
        if kind == PUBLISH:  # whole, and yet not taken by the run: only a bad topic is left
            return self._bad_topic(data, position, start, start + length, events)
        self._control(kind, Fields(data, start, start + length), events)
        return start + length

    def _keep(self, data: bytes, position: int, need: int) -> int:
        self._parts = [data[position:]]
        self._have = len(data) - position
        self._need = need
        return len(data)

    # -- PUBLISH ---------------------------------------------------------------------------------

    def _publishes(self, data: bytes, position: int, events: list[Event]) -> int:
        """All whole, well-formed PUBLISH packets from ``position`` on, as one event."""
        run = Publishes()
        try:
            position, acknowledgeable = self._run(data, position, run)
            self._unacknowledged += acknowledgeable
            return position
        finally:
            if run.topics:
                events.append(run)

    def _run(self, data: bytes, position: int, run: Publishes) -> tuple[int, int]:  # noqa: C901 a call costs
        """The tight loop: some ten bytecodes for each thing checked, no call for a plain packet.

        Stops in front of what it does not take: another packet, an incomplete or oversize one, a
        bad topic. Returns where, and how many of the messages want a PUBACK.
        """
        add_topic, add_payload, add_id = run.topics.append, run.payloads.append, run.ids.append
        known, learn = self._names.get, self._names.learn
        five, size_max, end = self._version == V5, self._limits.packet_bytes, len(data)
        room = all_room = self._limits.receive - self._unacknowledged if five else _UNLIMITED
        while position + 1 < end:
            first, length, start = data[position], data[position + 1], position + 2
            if first & 0xF0 != 0x30:
                break
            qos = first & _QOS_MASK
            if qos != _QOS1:
                check_publish_flags(first)
            if length > 127:
                start, length = _remaining_length(data, position + 1)
            stop = start + length
            if length < 0 or stop > end or stop - position > size_max:
                break
            if length < 2:
                raise malformed("a PUBLISH without a topic")
            split = start + 2 + (data[start] << 8 | data[start + 1])
            at = split + qos
            if at > stop:
                raise malformed("a PUBLISH ends inside its topic or packet id")
            packet_id = data[split:at]
            if packet_id == _NO_ID:
                raise malformed("packet id 0")
            if five:
                at = at + 1 if at < stop and not data[at] else self._behind_properties(data, at, stop)
            raw = data[start + 2 : split]
            topic = known(raw) or learn(raw)
            if topic is None:
                break
            if qos:
                room -= 1
                if room < 0:
                    raise Violation(Code.RECEIVE_MAXIMUM_EXCEEDED, "more unacknowledged messages than agreed")
            add_topic(topic)
            add_payload(data[at:stop])
            add_id(packet_id)
            position = stop
        return position, all_room - room

    def _bad_topic(self, data: bytes, position: int, start: int, stop: int, events: list[Event]) -> int:
        topic, packet_id, payload = self._read_publish(data[position], Fields(data, start, stop))
        self._refuse_topic(BadTopic(printable_topic(topic), payload, packet_id), events)
        return stop

    def _refuse_topic(self, found: BadTopic, events: list[Event]) -> None:
        events.append(found)
        raise Violation(Code.TOPIC_NAME_INVALID, f"topic {found.topic[:100]!r}")

    def _read_publish(self, first: int, fields: Fields) -> tuple[bytes, bytes, bytes]:
        """Topic, packet id and what there is of the payload, unhurried."""
        topic = fields.binary()
        packet_id = fields.take(first & _QOS_MASK)
        if packet_id == _NO_ID:
            raise malformed("packet id 0")
        if self._version == V5:
            self._pass_properties(fields)
        return topic, packet_id, fields.take(fields.left)

    def _behind_properties(self, data: bytes, at: int, stop: int) -> int:
        fields = Fields(data, at, stop)
        self._pass_properties(fields)
        return fields.position

    def _pass_properties(self, fields: Fields) -> None:
        """Passes a PUBLISH's properties; they are checked, and none of them is used."""
        if TOPIC_ALIAS in properties(fields, PUBLISH_PROPERTIES):
            raise Violation(Code.TOPIC_ALIAS_INVALID, "topic aliases are not supported")

    # -- oversize PUBLISH ------------------------------------------------------------------------

    def _start_skip(self, first: int, size: int, length: int) -> _Skip:
        return _Skip(first, size, length, min(length, _TOPIC_BYTES + 2 + _HEAD_BYTES))

    def _skip_on(self, skip: _Skip, data: bytes, position: int, events: list[Event]) -> int:
        """Passes over oversize bytes. MQTT 5 is told at once; 3.1.1 gets its PUBACK at the end."""
        size = min(skip.left, len(data) - position)
        skip.head += data[position : position + min(size, skip.head_max - len(skip.head))]
        skip.left -= size
        at_once = self._ends_when_too_large and self._version == V5
        done = len(skip.head) == skip.head_max if at_once else not skip.left
        if done:
            self._skip = None
            self._oversize(skip, events)
        return position + size

    def _oversize(self, skip: _Skip, events: list[Event]) -> None:
        topic, packet_id, head = self._read_head(skip)
        text = self._names.get(topic) or self._names.learn(topic)
        if text is None:
            self._refuse_topic(BadTopic(printable_topic(topic), head, packet_id), events)
            return
        self._too_large(Oversize(text, packet_id, skip.size, head), events)

    def _too_large(self, found: Oversize, events: list[Event]) -> None:
        events.append(found)
        if self._ends_when_too_large and self._version == V5:
            limit = self._limits.packet_bytes
            raise Violation(
                Code.PACKET_TOO_LARGE, f"a packet of {found.size} bytes, at most {limit} are taken"
            )

    def _read_head(self, skip: _Skip) -> tuple[bytes, bytes, bytes]:
        """As ``_read_publish``; properties longer than the head leave no payload to show."""
        head = bytes(skip.head)
        fields = Fields(head, 0, len(head))
        topic, packet_id = fields.binary(), fields.take(skip.first & _QOS_MASK)
        if packet_id == _NO_ID:
            raise malformed("packet id 0")
        if self._version == V5:
            length = fields.varint()
            fields.take(min(length, fields.left))
        return topic, packet_id, fields.take(fields.left)[:_HEAD_BYTES]

    def _failure(self, violation: Violation) -> Failure:
        self._closed = True
        self._parts, self._skip = [], None
        return Failure(violation.code, violation.detail, self._reply(violation))


def check_publish_flags(first: int) -> None:
    """Raises Violation for a QoS and flags that no PUBLISH taken here has."""
    qos = first & _QOS_MASK
    if qos == _QOS2:
        raise Violation(Code.QOS_NOT_SUPPORTED, "QoS 2 is not supported")
    if qos == _QOS_MASK or (qos == 0 and first & _DUP):
        raise malformed(f"PUBLISH flags {first & 0xF:04b}")


def _remaining_length(data: bytes, position: int) -> tuple[int, int]:
    """Where the body begins and its length; length -1 when the field is not complete yet (2.1.4)."""
    value = 0
    for i in range(4):
        if position + i >= len(data):
            return position, -1
        byte = data[position + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return position + i + 1, value
    raise malformed("a remaining length of more than four bytes")
