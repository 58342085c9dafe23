"""The collector: subscribes to a broker that a plant has already. A message is acknowledged when the
log has it.

    broker ── link ──> intake ──> log
      <── PUBACKs, in order of receipt ──┘

The session is the broker's: fixed client id, never a clean start, so that it queues while the
collector is away. One connection at a time, remade for ever; each is a generation of its own, and
acknowledgements of an older one are discarded, because their packet ids may belong to other
messages by then. What was not acknowledged is delivered again and is a duplicate on the log, which
the processors count once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from bus.log import Log
from ingest.broker_settings import Broker, tls_context
from ingest.clock import wall_clock_ms
from ingest.collector_codec import NativeLink
from ingest.collector_drops import DROPPED, Drops
from ingest.collector_link import Link, Refused, words
from ingest.collector_memory import Session, SessionMemory
from ingest.collector_paho import PahoLink
from ingest.collector_window import Window
from ingest.decode import Decoder, Delivery, Rejected
from ingest.decode_exact import Refusal
from ingest.intake import Parcel
from ingest.mqtt_client import BAD_CODES
from ingest.mqtt_events import V5, Publishes, Welcome
from ingest.mqtt_fields import SESSION_EXPIRY
from ingest.mqtt_topics import TopicNames
from ingest.reasons import Reason
from ingest.way import Way
from metering.errors import MeterflowError, Unavailable
from metering.roster import Roster

_log = structlog.get_logger(__name__)
_GATHERED_BYTES = 4 << 20
_MESSAGE_BYTES = 250
"""What a message occupies beside its payload: objects in lists."""
_FINISH_S, _FAREWELL_S = 2.0, 0.5
_STEADY_PAUSES = 2
"""A connection that lasts as many of the longest pauses is steady: the next one is tried at once."""
_BRIEF_MAX = 3
"""Connections in a row that are lost at once before a second client with our id is suspected."""
CONNECTING, LISTENING, PARTLY, AWAY, REFUSED, STOPPED = (
    "connecting", "listening", "partly listening", "away", "refused", "stopped"
)  # fmt: skip


@dataclass(slots=True)
class BrokerStatus:
    """How a collector and its broker stand. Counts are since the collector was made.

    ``state``: connecting, listening, partly listening (a subscription is refused), away (no connection),
    refused (the broker does not take us), stopped; ``error``: why, empty while all is well;
    ``since_ms``: since when; ``sessions_lost``: how often the broker had lost our session and what it
    had queued, last at ``session_lost_ms``; ``dropped_by_broker``: messages that it says it has dropped
    for want of room in its queues, ours or another client's; ``discarded``: acknowledgements that came
    too late for their connection; ``waiting``: messages not acknowledged yet, at most ``waiting_peak``;
    ``inflight_limit``: what the broker has under way at most, where that is less than our receive
    maximum, else 0; ``retried``: connections that failed or ended.
    """

    state: str = CONNECTING
    error: str = ""
    since_ms: int = 0
    sessions_lost: int = 0
    dropped_by_broker: int = 0
    session_lost_ms: int = 0
    discarded: int = 0
    waiting: int = 0
    waiting_peak: int = 0
    inflight_limit: int = 0
    retried: int = 0


class _Generation:
    """One connection as a source of parcels: whoever waits for acknowledgements waits for it."""

    def __init__(self, collector: Collector) -> None:
        self.link = collector.make_link()
        self.window = Window()
        self._collector = collector

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """Sends the PUBACKs, if the connection is still the one on which the messages came."""
        del parcels
        self._collector.acknowledged(self, [packet_id for packet_id in ids if packet_id])


class Collector(Way):
    """Runs in one event loop. ``roster`` may be assigned at any time: the next batch sees it."""

    title = "the collector"

    def __init__(
        self,
        log: Log,
        roster: Roster,
        settings: Broker,
        *,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        super().__init__(log, Decoder(roster), clock_ms, _GATHERED_BYTES, self._hold)
        self.settings = settings
        self.status = BrokerStatus()
        self._clock_ms = clock_ms
        self._memory = SessionMemory(log, settings.client_id, settings.url)
        self._tls = tls_context(settings)
        self._names = TopicNames()
        self._drops = Drops(settings)
        self._generation: _Generation | None = None
        self._pause_s = settings.retry_s
        self._turned_s = 0.0
        self._brief = 0
        """Connections in a row that listened for a short time only."""
        self._stopping = False

    @property
    def listening(self) -> bool:
        """Whether a reading published now would come: connected, subscribed to everything, log well."""
        return self.status.state == LISTENING and not self.intake.held

    async def start(self) -> None:
        """Begins to connect; a broker that is away, or refuses, is for ``status`` to tell."""
        self.status.since_ms = self._clock_ms()
        self._begin(self._run())

    async def stop(self) -> None:
        """Takes nothing more, finishes and acknowledges what it has, leaves; 3 s at most."""
        self._stopping = True
        self._hold(True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.intake.idle(), _FINISH_S)
        with suppress(MeterflowError, TimeoutError):
            await asyncio.wait_for(self._remember(), _FAREWELL_S)
        await self._end()
        self._turn(STOPPED, "")

    async def _remember(self) -> None:
        session = await self._memory.load()
        if session is not None and self._drops.count is not None:
            await self._memory.save(Session(session.filters, self._drops.count))

    # -- connection after connection --------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.intake.idle()  # what an older connection gave is not held twice in memory
                await self._connection()
            except MeterflowError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 a mistake of ours: seen, and the meters are still heard
                _log.exception("the collector's connection has failed")
                self._failed(Unavailable(f"the connection failed: {error!r}", where=self.settings.url))
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, self.settings.retry_s_max)

    async def _connection(self) -> None:
        """One connection, until it ends; raises why."""
        generation = self._generation = _Generation(self)
        link = generation.link
        try:
            had = await self._memory.load()
            welcome = await link.connect()
            self.counters.connections, self.counters.connected = 1, self.counters.connected + 1
            self._check_session(welcome, had)
            self._drops.known(had.dropped if had is not None else None)
            filters = had.filters if had is not None and welcome.session_present else frozenset[str]()
            refused = await self._subscribe(link, filters)
            await self._until_end(link, refused)
        finally:
            self._generation = None
            self.counters.connections = 0
            self.status.waiting = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await link.close()

    async def _until_end(self, link: Link, refused: bool) -> None:
        ended = asyncio.ensure_future(link.ended())
        try:
            while refused:  # somebody may allow it meanwhile
                await asyncio.wait((ended,), timeout=self.settings.retry_s_max)
                if ended.done():
                    break
                refused = await self._subscribe(link, frozenset())
            raise await ended
        finally:
            ended.cancel()

    def _check_session(self, welcome: Welcome, had: Session | None) -> None:
        settings, status = self.settings, self.status
        if not welcome.session_present and had is not None:
            status.sessions_lost += 1
            status.session_lost_ms = self._clock_ms()
            _log.error(
                "the broker has lost the collector's session, and with it every reading that it had queued",
                broker=settings.url,
                client_id=settings.client_id,
                away_since_ms=status.since_ms if status.retried else 0,
                hint="Was it restarted without persistence, or the session away for longer than its expiry?",
            )
        kept_s = welcome.given.get(SESSION_EXPIRY, settings.session_expiry_s)
        if settings.protocol == V5 and kept_s < settings.session_expiry_s:
            _log.warning("the broker keeps the session for less than was asked", kept_s=kept_s)

    async def _subscribe(self, link: Link, had: frozenset[str]) -> bool:
        """Subscribes to what is wanted and to nothing else; whether anything was refused.

        The memory holds at every instant at least what the broker has: a kill leaves nothing behind.
        """
        filters = self.settings.filters
        wanted = frozenset(filters) | ({DROPPED} if self._drops.watched else frozenset())
        gone = had - wanted
        await self._memory.save(Session(wanted | gone, self._drops.count))
        codes = await link.subscribe(filters)
        if self._drops.watched:
            await self._drops.subscribe(link)
        if gone:
            await link.unsubscribe(sorted(gone))
            _log.info("the session no longer has filters of older settings", filters=sorted(gone))
        await self._memory.save(Session(wanted, self._drops.count))
        refused = {f: code for f, code in zip(filters, codes, strict=False) if code >= BAD_CODES}
        weak = [f for f, code in zip(filters, codes, strict=False) if code == 0]
        self._subscribed(refused, weak)
        return bool(refused)

    def _subscribed(self, refused: dict[str, int], weak: Sequence[str]) -> None:
        if refused:
            every = ", ".join(f"{f}: {words(code)}" for f, code in refused.items())
            hint = "Allow the collector's user to read them, or correct filters in section mqtt."
            what = f"the broker refuses subscriptions: {every}"
            error = str(Refused(what, where=self.settings.url, hint=hint))
            if error != self.status.error:
                _log.error(what, broker=self.settings.url, hint=hint)
            self._turn(PARTLY if len(refused) < len(self.settings.filters) else REFUSED, error)
            return
        if weak:
            _log.error("the broker grants QoS 0 only: readings may be lost", filters=weak)
        if self.status.state != LISTENING:
            _log.info("the collector listens", broker=self.settings.url, client_id=self.settings.client_id)
        self._turn(LISTENING, f"the broker grants QoS 0 only: {', '.join(weak)}" if weak else "")

    def _failed(self, error: MeterflowError) -> None:
        """Told once for each cause; tried again soon, or slowly where a person must do something."""
        self.status.retried += 1
        error = self._weighed(error)
        refused = isinstance(error, Refused)
        if refused:
            self._pause_s = self.settings.retry_s_max
            self.counters.refusals["broker"] += 1
        if str(error) != self.status.error and not self._stopping:
            _log.error(error.what, where=error.where, hint=error.hint)
        self._turn(REFUSED if refused else AWAY, str(error))

    def _weighed(self, error: MeterflowError) -> MeterflowError:
        """Adjusts the pause to how long the connection lasted. A broker need not say who took it over."""
        if self.status.state == LISTENING:
            lasted_s = asyncio.get_running_loop().time() - self._turned_s
            steady = lasted_s > _STEADY_PAUSES * self.settings.retry_s_max
            self._brief = 0 if steady else self._brief + 1
            if steady or self._brief == 1:
                self._pause_s = self.settings.retry_s
        if self._brief < _BRIEF_MAX or error.hint:
            return error
        hint = f"Does another collector have the client_id {self.settings.client_id!r}? Each needs its own."
        return Unavailable(error.what, where=error.where, hint=hint)

    def _turn(self, state: str, error: str) -> None:
        if state != self.status.state:
            self.status.since_ms = self._clock_ms()
            self._turned_s = asyncio.get_running_loop().time()
        self.status.state, self.status.error = state, error

    def _hold(self, held: bool) -> None:
        if self._generation is not None and (held or not self._stopping):
            self._generation.link.hold(held)

    # -- what links and generations call ----------------------------------------------------------

    def make_link(self) -> Link:
        """A connection that is not opened yet."""
        kind = PahoLink if self.settings.client == "paho" else NativeLink
        return kind(self.settings, self._tls, self, self._names)

    def published(self, link: Link, run: Publishes) -> None:
        """Takes messages of the present connection."""
        if DROPPED in run.topics:
            run = self._drops.taken_out(run)
            self.status.dropped_by_broker = self._drops.dropped
        size = sum(map(len, run.payloads)) + _MESSAGE_BYTES * len(run.payloads)
        decides = self.settings.decisions
        delivery = Delivery(run.topics, run.payloads, self.intake.now_ms(), decides=decides)
        self._gather(link, delivery, run.ids, size, None)

    def refused(
        self, link: Link, topic: str, payload: bytes, packet_id: bytes, reason: Reason, detail: str
    ) -> None:
        """Takes a message that cannot be read: its row is written before it is acknowledged."""
        now_ms = self.intake.now_ms()
        row = self.decoder.rejected(topic, payload, now_ms, Refusal(None, None, reason, detail, None))
        self._gather(link, Delivery((), (), now_ms), (packet_id,), len(payload) + _MESSAGE_BYTES, row)

    def _gather(
        self, link: Link, delivery: Delivery, ids: Sequence[bytes], size_bytes: int, refused: Rejected | None
    ) -> None:
        generation = self._generation
        if not ids or generation is None or generation.link is not link or self._stopping:
            return  # of a connection that has ended, or ends: the broker delivers it again
        self.counters.messages += len(ids)
        self.counters.bytes += size_bytes - _MESSAGE_BYTES * len(ids)
        generation.window.came(len(ids) - ids.count(b""), asyncio.get_running_loop().time())
        self._tell_window(generation.window)
        self.intake.gather(Parcel(generation, delivery, ids, refused), size_bytes)

    def acknowledged(self, generation: _Generation, ids: Sequence[bytes]) -> None:
        """Everything before and up to these messages is durable."""
        if not ids:
            return
        if generation is not self._generation or not generation.link.acknowledge(ids):
            self.status.discarded += len(ids)
            return
        self.counters.acknowledged += len(ids)
        generation.window.acknowledged(len(ids), asyncio.get_running_loop().time())
        self._tell_window(generation.window)

    def _tell_window(self, window: Window) -> None:
        status = self.status
        status.waiting = window.waiting
        status.waiting_peak = max(status.waiting_peak, window.peak)
        limit = window.limit if window.limit < self.settings.receive_maximum else 0
        if limit and limit != status.inflight_limit:
            _log.warning(
                "the broker has fewer messages under way than the collector would take",
                inflight=limit,
                receive_maximum=self.settings.receive_maximum,
                hint="Raise the broker's limit (Mosquitto: max_inflight_messages) for more speed.",
            )
        status.inflight_limit = limit or status.inflight_limit
