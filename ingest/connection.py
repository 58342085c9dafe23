"""One client's socket: feeds the codec, answers, and hands messages to the intake."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Protocol, cast

import structlog

from ingest import mqtt_encode
from ingest.counters import Counters
from ingest.decode import Decoder, Delivery, Rejected
from ingest.decode_exact import Refusal
from ingest.intake import Intake, Parcel
from ingest.mqtt_codec import Receiver
from ingest.mqtt_events import (
    BadTopic,
    Code,
    Connect,
    Disconnect,
    Event,
    Failure,
    Limits,
    Oversize,
    Ping,
    Publishes,
    Subscribe,
    Unsubscribe,
    Will,
)
from ingest.mqtt_topics import TopicNames
from ingest.reasons import Reason
from ingest.users import User, Users

_log = structlog.get_logger(__name__)
_PARCEL_BYTES = 500
_MESSAGE_BYTES = 250
"""What a message occupies beside its payload: objects in lists."""
_CLOSING_S = 5.0
_LOG, _AUTHENTICATION, _WRITING, _ENDING = "log", "authentication", "writing", "ending"


class Host(Protocol):
    """What a connection needs of its endpoint."""

    limits: Limits
    counters: Counters
    names: TopicNames
    intake: Intake
    decoder: Decoder
    users: Users | None

    def admit(self, connection: Connection) -> bool:
        """Takes a new connection in; false when there are too many."""

    def enter(self, connection: Connection) -> None:
        """The connection has its client id now; another one with the same id is ended."""

    def leave(self, connection: Connection) -> None:
        """The connection is gone."""

    async def authenticate(self, user: str, password: bytes) -> User:
        """Who that is, and so what they may. Raises PermissionError."""


class Connection(asyncio.Protocol):
    """A client. Whoever wants it to wait or to end says so here; it closes itself when it may."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver(host.limits, host.names)
        self._transport: asyncio.Transport | None = None
        self._connect: Connect | None = None
        self._login: User | None = None
        self._will: Will | None = None
        self._backlog: list[Event] = []
        self._unread: list[bytes] = []
        self._holds: set[str] = set()
        self._pending = 0
        self._reply: bytes | None = None
        self._draining = False
        self._ended_s = 0.0
        self._heard_s = self._made_s = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self.client_id = ""

    @property
    def user(self) -> str | None:
        return self._connect.user if self._connect is not None else None

    # -- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._host.admit(self):
            self._transport.abort()
        elif self._host.intake.held:
            self.hold(_LOG)

    def data_received(self, data: bytes) -> None:
        if self._draining:
            return
        if self._holds:  # a loop may deliver what it had, or (uvloop) begin reading after a first pause
            self._unread.append(data)
            self._pause(True)
            return
        self._heard_s = self._loop.time()
        self._host.counters.bytes += len(data)
        self._handle(self._receiver.receive(data))

    def eof_received(self) -> bool:
        """A client that only listens any more still gets its acknowledgements."""
        if self._draining:
            return False
        self.end(b"")
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self.hold(_WRITING)

    def resume_writing(self) -> None:
        self.release(_WRITING)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        self._host.leave(self)
        self._publish_will()

    # -- what the endpoint and the intake call ---------------------------------------------------

    def hold(self, why: str = _LOG) -> None:
        """Stops reading, for one reason of possibly several."""
        if not self._holds:
            self._pause(True)
        self._holds.add(why)

    def release(self, why: str = _LOG) -> None:
        """Reads on when no reason is left. The client could not be heard meanwhile."""
        if why not in self._holds:
            return
        self._holds.discard(why)
        self._heard_s = self._loop.time()
        if self._holds:
            return
        self._pause(False)
        backlog, self._backlog = self._backlog, []
        self._handle(backlog)
        unread, self._unread = b"".join(self._unread), []
        if unread:
            self.data_received(unread)

    def _pause(self, paused: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._draining:
            return
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """Answers QoS 1 messages that are durable, in one write."""
        self._pending -= parcels
        wanted = [packet_id for packet_id in ids if packet_id]
        self._receiver.released(len(wanted))
        if self._transport is None:
            return
        if wanted:
            self._transport.write(mqtt_encode.pubacks(wanted))
            self._host.counters.acknowledged += len(wanted)
        if self._reply is not None and not self._pending:
            self._close()

    def end(self, reply: bytes, *, with_will: bool = True) -> None:
        """Ends the connection with a last packet, once what it sent is durable and acknowledged."""
        if self._reply is not None or self._transport is None:
            return
        self._reply = reply
        self._ended_s = self._loop.time()
        if not with_will:
            self._will = None
        self.hold(_ENDING)
        if not self._pending:
            self._close()

    def end_for(self, code: Code, detail: str, *, with_will: bool = True) -> None:
        """Ends the connection from the server's side, with the reason where the version has one."""
        reply = b""
        if self._connect is not None:
            limit = self._connect.packet_bytes_max
            reply = mqtt_encode.disconnect(self._connect.version, code, detail, limit)
        self.end(reply, with_will=with_will)

    def abort(self) -> None:
        """Closes at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now_s: float) -> None:
        """Ends a client that has gone silent (3.1.2.10), never connected, or does not let go."""
        if self._reply is not None:
            if not self._pending and now_s - self._ended_s > _CLOSING_S:
                self.abort()
        elif self._holds & {_LOG, _AUTHENTICATION}:
            return
        elif self._connect is None:
            if now_s - self._made_s > self._host.limits.connect_timeout_s:
                self.end(b"")
        elif self._connect.keep_alive_s and now_s - self._heard_s > 1.5 * self._connect.keep_alive_s:
            self.end_for(Code.KEEP_ALIVE_TIMEOUT, "nothing was heard for one and a half keep-alives")

    # -- events ----------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        for i, event in enumerate(events):
            if self._reply is not None:
                return
            if type(event) is Publishes:
                self._published(event)
            elif isinstance(event, Connect) and self._host.users is not None:
                self._backlog = events[i + 1 :]
                self.hold(_AUTHENTICATION)
                self._task = self._loop.create_task(self._authenticate(event))
                return
            else:
                self._react(event)

    def _react(self, event: Event) -> None:
        assert self._transport is not None
        version = self._connect.version if self._connect is not None else 0
        match event:
            case Ping():
                self._transport.write(mqtt_encode.PINGRESP)
            case Connect():
                self._accept(event, None)
            case Disconnect(with_will):
                self._will = self._will if with_will else None
                self._reply = b""
                self._close()
            case Oversize():
                self._oversize(event)
            case BadTopic(topic, payload):
                detail = "empty" if not topic else "wildcards, NUL or bytes that are not UTF-8"
                self._refuse(topic, payload, b"", Reason.TOPIC_INVALID, detail)
            case Subscribe(packet_id, filters):
                self._transport.write(mqtt_encode.suback(version, packet_id, filters))
            case Unsubscribe(packet_id, filters):
                self._transport.write(mqtt_encode.unsuback(version, packet_id, filters))
            case Failure(code, detail, reply):
                self._host.counters.violations[code.name.lower()] += 1
                _log.info("a client broke the protocol", client=self.client_id, code=code.name, detail=detail)
                self.end(reply)
            case _:
                raise AssertionError(event)

    def _published(self, run: Publishes) -> None:
        delivery = self._delivery(run.topics, run.payloads)
        self._host.counters.messages += len(run.topics)
        self._pending += 1
        size = sum(map(len, run.payloads)) + _MESSAGE_BYTES * len(run.payloads)
        self._host.intake.gather(Parcel(self, delivery, run.ids), size)

    def _delivery(self, topics: Sequence[str], payloads: Sequence[bytes]) -> Delivery:
        """Messages of this client, with its rights; without a file of users everybody has all of them."""
        now_ms, login = self._host.intake.now_ms(), self._login
        if login is None:
            return Delivery(topics, payloads, now_ms)
        return Delivery(topics, payloads, now_ms, login.plants, login.decides, login.name)

    def _oversize(self, event: Oversize) -> None:
        """Its row is written before it is acknowledged: else it would be sent again for ever."""
        detail = f"{event.size} bytes, at most {self._host.limits.packet_bytes} are taken"
        self._refuse(event.topic, event.head, event.packet_id, Reason.TOO_LARGE, detail)

    def _refuse(self, topic: str, payload: bytes, packet_id: bytes, reason: Reason, detail: str) -> None:
        now_ms = self._host.intake.now_ms()
        refusal = Refusal(None, None, reason, detail, None)
        rejected: Rejected = self._host.decoder.rejected(topic, payload, now_ms, refusal)
        self._host.counters.messages += 1
        self._pending += 1
        parcel = Parcel(self, Delivery((), (), now_ms), (packet_id,), rejected)
        self._host.intake.gather(parcel, len(payload) + _PARCEL_BYTES)

    def _publish_will(self) -> None:
        """At once: a will delay (MQTT 5, 3.1.3.2.2) is for sessions that outlive a connection."""
        will, self._will = self._will, None
        if will is not None:
            self._host.counters.messages += 1
            delivery = self._delivery((will.topic,), (will.payload,))
            self._host.intake.gather(Parcel(None, delivery, ()), len(will.payload) + _PARCEL_BYTES)

    # -- coming and going ------------------------------------------------------------------------

    def _accept(self, connect: Connect, login: User | None) -> None:
        assert self._transport is not None
        assigned = "" if connect.client_id else f"meterflow-{secrets.token_hex(8)}"
        self._connect, self._login, self._will = connect, login, connect.will
        self.client_id = connect.client_id or assigned
        self._host.enter(self)
        self._transport.write(mqtt_encode.connack(connect, self._host.limits, assigned))

    async def _authenticate(self, connect: Connect) -> None:
        try:
            if connect.user is None:
                return self._refuse_client(connect, Code.NOT_AUTHORIZED, "a user name is needed")
            login = await self._host.authenticate(connect.user, connect.password or b"")
        except PermissionError:
            return self._refuse_client(connect, Code.BAD_USER_OR_PASSWORD, "wrong user name or password")
        except Exception:  # noqa: BLE001 a mistake of ours must not leave the client waiting
            _log.exception("a user could not be checked", user=connect.user)
            return self._refuse_client(connect, Code.SERVER_UNAVAILABLE, "users cannot be checked now")
        if self._transport is None or self._reply is not None:
            return None
        self._accept(connect, login)
        self.release(_AUTHENTICATION)
        return None

    def _refuse_client(self, connect: Connect, code: Code, detail: str) -> None:
        self._host.counters.refusals[code.name.lower()] += 1
        _log.warning("a client was refused", client=connect.client_id, user=connect.user, why=detail)
        self.end(mqtt_encode.refusal(connect.version, code, detail, connect.packet_bytes_max))

    def _close(self) -> None:
        """Says the last word and hangs up.

        A client may still be sending. Closing on unread bytes would reset the connection, and the
        last word would be lost on its way: so they are read and dropped until the client hangs
        up, too, or its time is up (``check``).
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._draining:
            return
        transport.write(self._reply or b"")
        if not self._reply or not transport.can_write_eof():
            transport.close()
            return
        self._draining = True
        try:
            transport.write_eof()
            transport.resume_reading()
        except OSError:  # the client was quicker
            transport.abort()


def taken_over(connection: Connection) -> None:
    """Another connection came with the same client id (MQTT 5, 3.1.4)."""
    connection.end_for(Code.SESSION_TAKEN_OVER, "another connection has this client id now")
