"""What ``meterflow doctor`` says of the broker: whether it lets the collector in, and lets it read.

It asks under a client id of its own and with a session that ends with the connection, so that the
collector's session and what waits in it stay as they are. It asks for messages at QoS 0 and looks at none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from typing import TypeVar

from ingest.broker_settings import Broker, tls_context
from ingest.collector_link import ANSWER_S, CONNECT_S, check_welcome, no_connection, refusal, words
from ingest.mqtt_client import BAD_CODES, Arrivals, connect, disconnect, look_at
from ingest.mqtt_events import V5, Answer, Failure, Farewell, Limits, Welcome
from ingest.mqtt_topics import TopicNames
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.findings import Finding

_READ_BYTES = 1 << 16
_ID_MAX = 65_535
_PACKET_ID = b"\x00\x01"
_Wanted = TypeVar("_Wanted", Welcome, Answer)


async def check(broker: Broker) -> list[Finding]:
    """Reachable, login, rights; up to the first that is not as it should be."""
    found: list[Finding] = []
    try:
        tls = tls_context(broker)
    except UsageError as error:
        return [Finding("mqtt", "certificates", "bad", f"{error.where}: {error.what}", error.hint)]
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=tls)
    except OSError as error:  # a TimeoutError and an SSLError are such, too
        away = no_connection(broker, error)
        return [Finding("mqtt", "reachable", "bad", f"{broker.url}: {away.what}", away.hint)]
    found.append(Finding("mqtt", "reachable", detail=broker.url))
    try:
        await _let_in(broker, _Talk(broker, reader, writer), found)
    except MeterflowError as error:
        found.append(Finding("mqtt", "login", "bad", f"{broker.url}: {error.what}", error.hint))
    finally:
        writer.close()
    return found


async def _let_in(broker: Broker, talk: _Talk, found: list[Finding]) -> None:
    """Logs in and subscribes. Raises MeterflowError when the broker does not want that."""
    as_doctor = f"{broker.client_id}-doctor-{token_hex(4)}"
    welcome = await talk.ask(connect(broker, once_as=as_doctor), Welcome)
    check_welcome(broker, welcome)
    who = f"as {broker.user}" if broker.user else "without a user"
    found.append(Finding("mqtt", "login", detail=f"MQTT {'5' if broker.protocol == V5 else '3.1.1'}, {who}"))
    answer = await talk.ask(look_at(broker.protocol, _PACKET_ID, broker.filters), Answer)
    found += _rights(broker.filters, answer)
    talk.say(disconnect(broker.protocol))


def _rights(filters: Sequence[str], answer: Answer) -> list[Finding]:
    """What the broker says of each filter; in MQTT 3.1.1 only that it refuses, not why."""
    found = []
    for topic_filter, code in zip(filters, answer.codes, strict=False):
        if code >= BAD_CODES:
            hint = "Allow the collector's user to read them, or correct filters in section mqtt."
            what = f"{topic_filter}: the broker refuses the subscription: {words(code, answer.reason)}"
            found.append(Finding("mqtt", "subscription", "bad", what, hint))
        else:
            found.append(Finding("mqtt", "subscription", detail=topic_filter))
    return found


class _Talk:
    """A connection on which one question is asked after the other."""

    def __init__(self, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._broker, self._reader, self._writer = broker, reader, writer
        limits = Limits(packet_bytes=broker.packet_bytes, receive=_ID_MAX)
        self._arrivals = Arrivals(limits, TopicNames(), broker.protocol)

    def say(self, packet: bytes) -> None:
        self._writer.write(packet)

    async def ask(self, packet: bytes, wanted: type[_Wanted]) -> _Wanted:
        """The answer of the wanted kind. Raises Unavailable when there is none."""
        self.say(packet)
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    for event in self._arrivals.receive(await self._more()):
                        if isinstance(event, wanted):
                            return event
                        self._check(event)
        except OSError as error:
            raise no_connection(self._broker, error) from error

    async def _more(self) -> bytes:
        data = await self._reader.read(_READ_BYTES)
        if not data:
            what, hint = "the broker hangs up without a word", "Is it an MQTT port? Its own log says more."
            raise Unavailable(what, where=self._broker.url, hint=hint)
        return data

    def _check(self, event: object) -> None:
        if isinstance(event, Farewell):
            raise refusal(self._broker, event.code, event.reason)
        if isinstance(event, Failure):
            what = f"what answers there does not speak MQTT: {event.detail}"
            raise Unavailable(what, where=self._broker.url, hint="Look at url in section mqtt.")
