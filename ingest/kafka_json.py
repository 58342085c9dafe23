"""Readings from a Kafka topic of JSON that others write: one reading a record, or an array of them.

    topic ── fetch ── values, thousands at once ──> intake ──> log
                 group's positions <── when the log has them ──┘

A position is kept only when everything before it is on the log, so that a kill at any moment loses
nothing; what is read again then is a duplicate on the log, which the processors count once. Several
copies share the topic's partitions by their consumer group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from bus.kafka_connection import Connection
from bus.kafka_reader import Lanes
from bus.log_kafka import KafkaLog
from ingest.clock import wall_clock_ms
from ingest.decode import Delivery
from ingest.intake import Parcel
from ingest.kafka_decode import TopicDecoder
from ingest.kafka_fetch import Fetcher, Part
from ingest.kafka_fields import JsonFields
from ingest.kafka_member import SESSION_MS, Member, joined
from ingest.way import Way
from metering.errors import MeterflowError, Unavailable
from metering.roster import Roster

_log = structlog.get_logger(__name__)
RETRY_S, COMMIT_S, KEEP_S, FINISH_S, LEAVE_S = 0.5, 1.0, 10.0, 2.0, 2.0
_GATHERED_BYTES = 64 << 20
"""Never reached: each partition has one parcel under way, and all of them come of one fetch."""


@dataclass(frozen=True, slots=True)
class JsonTopic:
    """Whose readings are taken: a topic's name on Kafka, our consumer group on it, its fields' names."""

    topic: str
    group: str = "meterflow"
    fields: JsonFields = field(default_factory=JsonFields)


class _Flow:
    """One partition of ours: a source of parcels, one at a time."""

    def __init__(self, position: int) -> None:
        self.position = self.kept = position
        """Everything before ``position`` is on the log; before ``kept``, in the group's memory, too."""
        self.caught_up = False
        self.error = ""
        self.durable = asyncio.Event()
        self.durable.set()

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """The parcel is durable."""
        del ids, parcels
        self.durable.set()


class KafkaJson(Way):
    """Runs in one event loop. ``roster`` may be assigned at any time: the next batch sees it.

    What is wrong with Kafka is told by ``error`` and tried again for ever; a mistake of ours ends the source
    (``watch`` raises it).
    """

    title = "the JSON topic"

    def __init__(
        self,
        log: KafkaLog,
        roster: Roster,
        topic: JsonTopic,
        *,
        clock_ms: Callable[[], int] = wall_clock_ms,
        session_ms: int = SESSION_MS,
    ) -> None:
        super().__init__(log, TopicDecoder(roster, topic.fields), clock_ms, _GATHERED_BYTES, lambda _: None)
        self.topic = topic
        self._session_ms = session_ms
        self._error = ""
        self._log = log
        self._flows: dict[int, _Flow] = {}
        self._pump: asyncio.Task[None] | None = None
        self._member: Member | None = None
        self._stopping = asyncio.Event()

    @property
    def error(self) -> str:
        """Why readings cannot be taken now, or not all of them; empty while all is well."""
        return self._error or next((flow.error for flow in self._flows.values() if flow.error), "")

    @property
    def listening(self) -> bool:
        """Whether a reading written now would come at once: partitions are ours, and read to their ends."""
        flows = self._flows.values()
        return bool(flows) and all(flow.caught_up for flow in flows) and not (self.error or self.intake.held)

    async def start(self) -> None:
        """Begins to join the group; a Kafka that is away is for ``error`` to tell."""
        self._connection, self._lanes = Connection(self._log.settings, "meterflow-ingest"), Lanes()
        self._running = self._begin(self._run())

    async def stop(self) -> None:
        """Takes nothing more, finishes what it has, keeps its positions and leaves the group."""
        self._stopping.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wait([self._running]), FINISH_S + LEAVE_S)
        await self._end()
        await self._connection.close()

    # -- membership -------------------------------------------------------------------------------

    async def _run(self) -> None:
        """A member of the group, until stopped; joins again for ever."""
        settings, topic, group = self._log.settings, self.topic.topic, self.topic.group
        try:
            while not self._stopping.is_set():
                try:
                    async with joined(settings, topic, group, self._shared, self._session_ms) as member:
                        self._member, self._error = member, ""
                        await self._keep_positions(member)
                except MeterflowError as error:
                    self._error = self._told(error, self._error)
                    await self._rest(RETRY_S)
        except Exception as error:
            self._error = f"reading has failed: {str(error) or type(error).__name__}"
            raise
        finally:
            if self._pump is not None:
                self._pump.cancel()

    async def _keep_positions(self, member: Member) -> None:
        """Until stopped; raises what has ended the reading, or the sharing of partitions."""
        while not self._stopping.is_set():
            await self._rest(COMMIT_S)
            if member.failed is not None:
                raise member.failed
            if self._pump is not None and self._pump.done():
                self._pump.result()
            with suppress(Unavailable, TimeoutError):  # the next time, then
                async with asyncio.timeout(KEEP_S):
                    await self._keep(member)
        await self._shared({})

    async def _shared(self, positions: Mapping[int, int]) -> None:
        """Our share is these partitions now: what is under way is finished first."""
        await self._finish()
        if self._stopping.is_set() or not positions:
            return
        self._flows = {partition: _Flow(position) for partition, position in positions.items()}
        fetcher = Fetcher(self._connection, self._lanes, self.topic.topic, positions)
        self._pump = asyncio.get_running_loop().create_task(self._read(fetcher))
        _log.info("readings are taken", topic=self.topic.topic, partitions=sorted(positions))

    async def _finish(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])
        with suppress(TimeoutError):
            await asyncio.wait_for(self.intake.idle(), FINISH_S)
        if self._member is not None and not self.intake.busy:
            with suppress(Unavailable):
                await self._keep(self._member)
        self._flows = {}
        if pump is not None and not pump.cancelled():
            pump.result()

    async def _keep(self, member: Member) -> None:
        """What the log has need not be read again."""
        moved = {p: flow.position for p, flow in self._flows.items() if flow.position != flow.kept}
        if moved:
            await member.commit(moved)
            for partition, position in moved.items():
                self._flows[partition].kept = position

    # -- reading ----------------------------------------------------------------------------------

    async def _read(self, fetcher: Fetcher) -> None:
        """Reads our partitions on and on; what comes next is taken only when the log has this."""
        try:
            while True:
                parts = await fetcher.next()
                await self._take(parts)
                if any(part.error is not None for part in parts.values()):
                    await asyncio.sleep(RETRY_S)
        finally:
            await fetcher.close()

    async def _take(self, parts: Mapping[int, Part]) -> None:
        """Returns when the log has all of them. Cut short, it waits for those under way."""
        for partition, part in parts.items():
            self._gather(self._flows[partition], part)
        flows = {self._flows[partition]: part for partition, part in parts.items()}
        try:
            for flow in flows:
                await flow.durable.wait()
        except asyncio.CancelledError:  # what is under way may still get there: the position then counts it
            with suppress(TimeoutError):
                await asyncio.wait_for(self.intake.idle(), FINISH_S)
            raise
        finally:
            for flow, part in flows.items():
                if flow.durable.is_set():
                    flow.position, flow.caught_up = part.next_offset, part.at_end

    def _gather(self, flow: _Flow, part: Part) -> None:
        flow.error = "" if part.error is None else self._told(part.error, flow.error)
        count = len(part.values)
        if not count:
            return
        flow.caught_up = False
        flow.durable.clear()
        size = part.values.size_bytes
        self.counters.messages += count
        self.counters.bytes += size
        delivery = Delivery((self.topic.topic,), part.values, self.intake.now_ms())
        self.intake.gather(Parcel(flow, delivery, ()), size)

    # -- small things -----------------------------------------------------------------------------

    def _told(self, error: MeterflowError, before: str) -> str:
        """The error's text, logged once for each cause."""
        if str(error) != before:
            _log.error("readings cannot be taken from Kafka now", cause=str(error), topic=self.topic.topic)
        return str(error)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
