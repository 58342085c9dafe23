"""A connection to the broker by paho-mqtt, in a thread of its own.

Only that thread touches the client. What it receives goes to the event loop as one call for all
that could be read at once; acknowledgements and questions go the other way through a queue and a
bell. A client is never used for a second connection, so nothing of an older one can leak into it.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.broker_settings import Broker
from ingest.collector_link import (
    ANSWER_S,
    CONNECT_S,
    HANG_UP_S,
    Taker,
    check_welcome,
    no_connection,
    refusal,
    unanswered,
    words,
)
from ingest.mqtt_events import V5, BadTopic, Code, Publishes, Welcome
from ingest.mqtt_fields import QOS_MAX, SESSION_EXPIRY
from ingest.mqtt_topics import TopicNames, printable_topic, valid_topic
from ingest.reasons import Reason
from metering.errors import Unavailable

_log = structlog.get_logger(__name__)
_POLL_MS = 500
_RUN_MAX = 1_000
"""Messages handed over at once at most."""
_AHEAD_BYTES = 1 << 20
"""Payloads that the event loop has not taken yet: from there on the thread does not read."""
_NO_ID = b""


class PahoLink:
    """``ingest.collector_link.Link``; made in the event loop that it belongs to."""

    def __init__(self, broker: Broker, tls: ssl.SSLContext | None, taker: Taker, names: TopicNames) -> None:
        del names  # of raw bytes; paho gives texts
        self._broker, self._tls, self._taker = broker, tls, taker
        self._loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[Welcome] = self._loop.create_future()
        self._over: asyncio.Future[Unavailable] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._orders: deque[Callable[[mqtt.Client], object]] = deque()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._held = self._leaving = False
        self._given_bytes = self._taken_bytes = 0
        """Payloads since the connection: counted by the thread, and by the event loop behind it."""
        self._line: socket.socket | None = None
        """The connection beside paho's handle of it, from the goodbye on: paho hangs up at once."""
        self._heard_s = self._loop.time()
        self._why: Unavailable | None = None
        self._known: set[str] = set()
        self._run = Publishes()
        self._bad: list[BadTopic] = []
        self._thread = threading.Thread(target=self._work, name="collector-paho", daemon=True)

    # -- what the collector calls, in the event loop -----------------------------------------------

    async def connect(self) -> Welcome:
        self._thread.start()
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                welcome: Welcome = await self._or_end(self._welcome)
        except TimeoutError as error:
            raise no_connection(self._broker, error) from error
        check_welcome(self._broker, welcome)
        return welcome

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        wanted: Any = [(f, _options(f) if self._broker.protocol == V5 else _qos(f)) for f in filters]
        return await self._ask(lambda client: client.subscribe(wanted))

    async def unsubscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        return await self._ask(lambda client: client.unsubscribe(list(filters)))

    def acknowledge(self, ids: Sequence[bytes]) -> bool:
        if self._over.done():
            return False
        numbers = [int.from_bytes(packet_id, "big") for packet_id in ids]

        def send(client: mqtt.Client) -> None:
            for number in numbers:
                client.ack(number, 1)

        self._order(send)
        return True

    def hold(self, held: bool) -> None:
        self._held = held
        self._ring()

    async def ended(self) -> Unavailable:
        return await asyncio.shield(self._over)

    async def close(self) -> None:
        if self._thread.ident is not None:
            self._order(self._leave)
            await asyncio.shield(self._over)
        self._button.close()

    async def _ask(self, question: Callable[[mqtt.Client], tuple[Any, int | None]]) -> tuple[int, ...]:
        answer: asyncio.Future[tuple[int, ...]] = self._loop.create_future()

        def ask(client: mqtt.Client) -> None:
            number = question(client)[1]
            if number is not None:
                self._answers[number] = answer

        self._order(ask)
        asked_s = self._loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    found: tuple[int, ...] = await self._or_end(answer)
                    return found
            if not self._held and unanswered(self._loop.time(), asked_s, self._heard_s):
                raise Unavailable("the broker does not answer a subscription", where=self._broker.url)

    async def _or_end(self, waited: asyncio.Future[Any]) -> Any:
        await asyncio.wait((waited, self._over), return_when=asyncio.FIRST_COMPLETED)
        if waited.done() and not waited.cancelled():
            return waited.result()
        raise self._over.result()

    def _order(self, order: Callable[[mqtt.Client], object]) -> None:
        self._orders.append(order)
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):  # full: it rings already; closed: nobody is there any more
            self._button.send(b"\0")

    # -- the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        """An exception of any kind ends the connection, is told, and the collector makes another."""
        try:
            self._serve()
            why = self._why or Unavailable("the connection to the broker was lost", where=self._broker.url)
        except OSError as error:
            why = no_connection(self._broker, error)
        except Exception as error:  # noqa: BLE001
            why = Unavailable(f"the client's thread has failed: {error!r}", where=self._broker.url)
            self._tell(self._end, why)  # before the log line: to write a traceback takes its time
            _log.exception("the client's thread has failed")
        self._bell.close()
        self._tell(self._end, why)

    def _end(self, why: Unavailable) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _tell(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _serve(self) -> None:
        client = self._client()
        broker = self._broker
        clean: Any = {"clean_start": False, "properties": _asked(broker)} if broker.protocol == V5 else {}
        client.connect(broker.host, broker.port, broker.keep_alive_s, **clean)
        try:
            self._loop_on(client)
        finally:
            if (sock := client.socket()) is not None:
                sock.close()
            if self._line is not None:
                _hang_up(self._line)

    def _loop_on(self, client: mqtt.Client) -> None:
        """Reads, obeys and writes until the connection ends."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        while (sock := client.socket()) is not None:
            if reads := self._may_read():
                poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
            elif client.want_write():
                poll.register(sock, select.POLLOUT)
            else:  # nor for its end: that is seen when reading goes on
                with suppress(KeyError):
                    poll.unregister(sock)
            ready = dict(poll.poll(0 if reads and self._pending(sock) else _POLL_MS))
            if self._bell.fileno() in ready:
                self._obey(client)
            if self._may_read() and (ready.get(sock.fileno()) or self._pending(sock)):
                self._read(client, sock)
            if client.want_write():
                client.loop_write()
            if self._may_read():
                client.loop_misc()

    def _client(self) -> mqtt.Client:
        broker = self._broker
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=None if broker.protocol == V5 else False,
            protocol=MQTTProtocolVersion(broker.protocol),
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_S
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        client.on_socket_register_write = lambda *_: None  # so that each PUBACK does not write by itself
        return client

    def _obey(self, client: mqtt.Client) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(4096)
        while self._orders:
            self._orders.popleft()(client)

    def _leave(self, client: mqtt.Client) -> None:
        self._leaving = True
        if (sock := client.socket()) is not None:
            self._line = socket.socket(fileno=os.dup(sock.fileno()))
        client.disconnect()

    def _pending(self, sock: Any) -> int:
        """Bytes that TLS has decrypted already: no poll tells of them."""
        return int(sock.pending()) if self._tls is not None else 0

    def _may_read(self) -> bool:
        """Not while the collector holds, nor further ahead of a busy event loop than it may."""
        return not self._held and self._given_bytes - self._taken_bytes < _AHEAD_BYTES

    def _read(self, client: mqtt.Client, sock: Any) -> None:
        """Reads until nothing more is there, and hands it over in one call."""
        self._heard_s = self._loop.time()
        before = -1
        while before < len(self._run.ids) < _RUN_MAX and self._may_read() and client.socket() is sock:
            before = len(self._run.ids)
            client.loop_read()
        self._hand_over()

    def _hand_over(self) -> None:
        if self._run.ids:
            run, self._run = self._run, Publishes()
            size_bytes = sum(map(len, run.payloads))
            self._tell(self._take, size_bytes, self._taker.published, self, run)

    def _take(self, size_bytes: int, take: Callable[..., object], *arguments: object) -> None:
        """In the event loop. The thread is woken if it may have waited for just this."""
        waited = not self._may_read()
        self._taken_bytes += size_bytes
        take(*arguments)
        if waited:
            self._ring()

    # -- what paho calls, in the thread -------------------------------------------------------------

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        del client, data
        self._given_bytes += len(message.payload)
        packet_id = message.mid.to_bytes(2, "big") if message.qos else _NO_ID
        try:
            topic = message.topic
        except UnicodeDecodeError as error:
            return self._bad_topic(bytes(error.object), bytes(message.payload), packet_id)
        if topic not in self._known and not self._learn(topic):
            return self._bad_topic(topic.encode(), bytes(message.payload), packet_id)
        run = self._run
        run.topics.append(topic)
        run.payloads.append(bytes(message.payload))
        run.ids.append(packet_id)
        return None

    def _learn(self, topic: str) -> bool:
        if valid_topic(topic.encode("utf-8", "surrogatepass")) is None:
            return False
        if len(self._known) >= 20_000:
            self._known.clear()
        self._known.add(topic)
        return True

    def _bad_topic(self, raw: bytes, payload: bytes, packet_id: bytes) -> None:
        """What came before it goes before it: acknowledgements keep their order."""
        self._hand_over()
        topic, detail = printable_topic(raw), "empty, wildcards, NUL or bytes that are not UTF-8"
        refused = self, topic, payload, packet_id, Reason.TOPIC_INVALID, detail
        self._tell(self._take, len(payload), self._taker.refused, *refused)

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, code: Any, found: Any) -> None:
        del client, data
        names = {"SessionExpiryInterval": SESSION_EXPIRY, "MaximumQoS": QOS_MAX}
        given = {key: getattr(found, name) for name, key in names.items() if hasattr(found, name)}
        self._tell(self._welcomed, Welcome(bool(flags.session_present), int(code.value), given))

    def _welcomed(self, welcome: Welcome) -> None:
        if not self._welcome.done():
            self._welcome.set_result(welcome)

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, code: Any, found: Any) -> None:
        del client, data
        url, number = self._broker.url, int(code.value)
        if self._leaving:
            self._why = Unavailable("the connection was closed", where=url)
        elif not flags.is_disconnect_packet_from_server:
            self._why = Unavailable(f"the connection to the broker was lost: {code}", where=url)
        elif number in (Code.SESSION_TAKEN_OVER, Code.NOT_AUTHORIZED, Code.BANNED):
            self._why = refusal(self._broker, number, getattr(found, "ReasonString", ""))
        else:
            self._why = Unavailable(f"the broker ends the connection: {words(number)}", where=url)

    def _on_answer(self, client: mqtt.Client, data: Any, number: int, codes: Any, found: Any) -> None:
        del client, data, found
        answer = self._answers.pop(number, None)
        if answer is not None:
            self._tell(self._answered, answer, tuple(int(code.value) for code in codes))

    def _answered(self, answer: asyncio.Future[tuple[int, ...]], codes: tuple[int, ...]) -> None:
        if not answer.done():
            answer.set_result(codes)


def _hang_up(line: socket.socket) -> None:
    """Throws away what still comes until the broker has hung up, for a moment at most."""
    until_s = time.monotonic() + HANG_UP_S
    with line, suppress(OSError):
        line.shutdown(socket.SHUT_WR)
        while (left_s := until_s - time.monotonic()) > 0:
            line.settimeout(left_s)
            if not line.recv(1 << 16):
                return


def _qos(topic_filter: str) -> int:
    return 0 if topic_filter.startswith("$SYS/") else 1


def _options(topic_filter: str) -> SubscribeOptions:
    """As ``mqtt_client.subscribe`` asks."""
    qos = _qos(topic_filter)
    again, once = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE, SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
    return SubscribeOptions(qos=qos, retainHandling=once if qos else again)


def _asked(broker: Broker) -> Any:
    asked: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    asked.SessionExpiryInterval = broker.session_expiry_s
    asked.ReceiveMaximum = broker.receive_maximum
    asked.MaximumPacketSize = broker.packet_bytes
    return asked
