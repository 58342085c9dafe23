"""A connection to the broker over our own codec, in the event loop: no thread, no object a message."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

from ingest import mqtt_client
from ingest.broker_settings import Broker
from ingest.collector_link import (
    ANSWER_S,
    CONNECT_S,
    HANG_UP_S,
    Refused,
    Taker,
    check_welcome,
    no_connection,
    refusal,
    unanswered,
    words,
)
from ingest.mqtt_encode import pubacks
from ingest.mqtt_events import (
    Answer,
    BadTopic,
    Code,
    Event,
    Failure,
    Farewell,
    Limits,
    Oversize,
    Publishes,
    Welcome,
)
from ingest.mqtt_fields import SERVER_KEEP_ALIVE
from ingest.mqtt_topics import TopicNames
from ingest.reasons import Reason
from metering.errors import Unavailable

_SILENCE = 1.5
"""Keep-alives without a byte from the broker, after which it is taken to be gone."""
_ID_MAX = 65_535
_Waited = TypeVar("_Waited")


class NativeLink(asyncio.Protocol):
    """``ingest.collector_link.Link``; belongs to the running loop."""

    def __init__(self, broker: Broker, tls: ssl.SSLContext | None, taker: Taker, names: TopicNames) -> None:
        self._broker, self._tls, self._taker = broker, tls, taker
        self._loop = asyncio.get_running_loop()
        limits = Limits(packet_bytes=broker.packet_bytes, receive=_ID_MAX)
        self._arrivals = mqtt_client.Arrivals(limits, names, broker.protocol)
        self._transport: asyncio.Transport | None = None
        self._welcome: asyncio.Future[Welcome] = self._loop.create_future()
        self._over: asyncio.Future[Unavailable] = self._loop.create_future()
        self._answers: dict[bytes, asyncio.Future[Answer]] = {}
        self._last_id = 0
        self._held = False
        self._unread: list[bytes] = []
        self._heard_s = self._loop.time()
        self._beat: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    # -- what the collector calls ----------------------------------------------------------------

    async def connect(self) -> Welcome:
        broker = self._broker
        name = broker.host if self._tls is not None else None
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(
                    lambda: self, broker.host, broker.port, ssl=self._tls, server_hostname=name
                )
                self._write(mqtt_client.connect(broker))
                welcome = await self._or_end(self._welcome)
        except OSError as error:  # TimeoutError and ssl.SSLError are among them
            raise no_connection(broker, error) from error
        check_welcome(broker, welcome)
        keep_alive_s = welcome.given.get(SERVER_KEEP_ALIVE) or broker.keep_alive_s
        self._beat = self._loop.create_task(self._keep_alive(keep_alive_s))
        return welcome

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        return await self._ask(mqtt_client.subscribe, filters)

    async def unsubscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        return await self._ask(mqtt_client.unsubscribe, filters)

    def acknowledge(self, ids: Sequence[bytes]) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self._arrivals.released(len(ids))
        self._transport.write(pubacks(ids))
        return True

    def hold(self, held: bool) -> None:
        if held == self._held:
            return
        self._held = held
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if held:
            transport.pause_reading()
            return
        self._heard_s = self._loop.time()  # the broker could not be heard meanwhile
        transport.resume_reading()
        unread, self._unread = b"".join(self._unread), []
        if unread:
            self.data_received(unread)

    async def ended(self) -> Unavailable:
        return await asyncio.shield(self._over)

    async def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self._write(mqtt_client.disconnect(self._broker.protocol))
        self._settle(Unavailable("the connection was closed", where=self._broker.url))
        if self._transport is None:
            return
        self.hold(False)  # what still comes is thrown away
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._lost.wait()
        except TimeoutError:
            self._transport.close()

    # -- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._heard_s = self._loop.time()

    def data_received(self, data: bytes) -> None:
        if self._held:  # a loop may deliver what it had
            self._unread.append(data)
            return
        if self._over.done():
            return
        self._heard_s = self._loop.time()
        for event in self._arrivals.receive(data):
            if type(event) is Publishes:
                self._taker.published(self, event)
            else:
                self._react(event)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._lost.set()
        why = str(error) if error is not None else "the broker closed it"
        self._end(Unavailable(f"the connection to the broker was lost: {why}", where=self._broker.url))

    # -- inside ----------------------------------------------------------------------------------

    def _react(self, event: Event) -> None:
        match event:
            case Welcome():
                if not self._welcome.done():
                    self._welcome.set_result(event)
            case Answer():
                waiting = self._answers.pop(event.packet_id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(event)
            case Oversize(topic, packet_id, size, head):
                detail = f"{size} bytes, at most {self._broker.packet_bytes} are taken"
                self._taker.refused(self, topic, head, packet_id, Reason.TOO_LARGE, detail)
            case BadTopic(topic, payload, packet_id):
                detail = "empty" if not topic else "wildcards, NUL or bytes that are not UTF-8"
                self._taker.refused(self, topic, payload, packet_id, Reason.TOPIC_INVALID, detail)
            case Farewell(code, reason):
                self._end(self._sent_away(code, reason))
            case Failure(code, detail, reply):
                self._write(reply)
                what = f"the broker broke the protocol: {detail} ({code.name.lower()})"
                self._end(Refused(what, where=self._broker.url))

    def _sent_away(self, code: int, reason: str) -> Unavailable:
        if code in (Code.SESSION_TAKEN_OVER, Code.NOT_AUTHORIZED, Code.BANNED):
            return refusal(self._broker, code, reason)
        return Unavailable(f"the broker ends the connection: {words(code, reason)}", where=self._broker.url)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _end(self, why: Unavailable) -> None:
        if not self._over.done():
            self._settle(why)
            if self._transport is not None:
                self._transport.close()

    def _settle(self, why: Unavailable) -> None:
        """Nobody waits for anything on this connection any more."""
        if self._over.done():
            return
        self._over.set_result(why)
        self._welcome.cancel()
        for waiting in self._answers.values():
            waiting.cancel()

    async def _ask(
        self, packet: Callable[[int, bytes, Sequence[str]], bytes], filters: Sequence[str]
    ) -> tuple[int, ...]:
        self._last_id = self._last_id % _ID_MAX + 1
        packet_id = self._last_id.to_bytes(2, "big")
        answer = self._answers[packet_id] = self._loop.create_future()
        self._write(packet(self._broker.protocol, packet_id, filters))
        asked_s = self._loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    found: Answer = await self._or_end(answer)
                    return found.codes
            if not self._held and unanswered(self._loop.time(), asked_s, self._heard_s):
                raise Unavailable("the broker does not answer a subscription", where=self._broker.url)

    async def _or_end(self, waited: asyncio.Future[_Waited]) -> _Waited:
        """What is waited for; raises why the connection ended when it does so before."""
        await asyncio.wait((waited, self._over), return_when=asyncio.FIRST_COMPLETED)
        if waited.done() and not waited.cancelled():
            return waited.result()
        raise self._over.result()

    async def _keep_alive(self, keep_alive_s: int) -> None:
        """Pings twice a keep-alive, whatever else is sent; a broker that stays silent is gone."""
        while True:
            await asyncio.sleep(keep_alive_s / 2)
            self._write(mqtt_client.PINGREQ)
            silent_s = self._loop.time() - self._heard_s
            if not self._held and silent_s > _SILENCE * keep_alive_s and self._transport is not None:
                why = f"nothing was heard from the broker for {silent_s:.0f} s"
                self._end(Unavailable(why, where=self._broker.url))
                self._transport.abort()
