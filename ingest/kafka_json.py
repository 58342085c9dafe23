"""Readings from a Kafka topic of JSON that others write: one reading a record, or an array of them.

    topic ── values, thousands at once ──> intake ──> log
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

from bus.log_kafka import KafkaLog
from ingest.counters import Counters
from ingest.decode import Delivery
from ingest.endpoint import wall_clock_ms
from ingest.intake import Intake, Parcel
from ingest.kafka_decode import TopicDecoder
from ingest.kafka_fields import JsonFields
from ingest.kafka_member import SESSION_MS, Member, joined
from metering.errors import MeterflowError, Unavailable
from metering.roster import Roster

_log = structlog.get_logger(__name__)
VALUES_MAX = 8_000
"""Of one partition in one batch."""
WAIT_S, RETRY_S, COMMIT_S, FINISH_S = 1.0, 0.5, 1.0, 2.0
_GATHERED_BYTES = 64 << 20
"""Never reached: each partition has one parcel under way."""


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
        self.durable = asyncio.Event()

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """The parcel is durable."""
        del ids, parcels
        self.durable.set()


class KafkaJson:
    """Runs in one event loop. ``roster`` may be assigned at any time: the next batch sees it.

    ``error``: why nothing can be read now, empty while all is well.
    """

    def __init__(
        self,
        log: KafkaLog,
        roster: Roster,
        topic: JsonTopic,
        *,
        clock_ms: Callable[[], int] = wall_clock_ms,
        session_ms: int = SESSION_MS,
    ) -> None:
        self.topic = topic
        self._session_ms = session_ms
        self.error = ""
        self.counters = Counters()
        self.decoder = TopicDecoder(roster, topic.fields)
        self.intake = Intake(log, self.decoder, self.counters, clock_ms, _GATHERED_BYTES, lambda _: None)
        self._log = log
        self._flows: dict[int, _Flow] = {}
        self._pumps: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._member: Member | None = None
        self._stopping = asyncio.Event()

    @property
    def roster(self) -> Roster:
        return self.decoder.roster

    @roster.setter
    def roster(self, roster: Roster) -> None:
        self.decoder.roster = roster

    @property
    def listening(self) -> bool:
        """Whether a reading written now would come at once: partitions are ours, and read to their ends."""
        flows = self._flows.values()
        return bool(flows) and all(flow.caught_up for flow in flows) and not (self.error or self.intake.held)

    async def start(self) -> None:
        """Begins to join the group; a Kafka that is away is for ``error`` to tell."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.intake.run()), loop.create_task(self._run())]

    async def stop(self) -> None:
        """Takes nothing more, finishes what it has, keeps its positions and leaves the group."""
        self._stopping.set()
        intake, member = self._tasks
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(member), FINISH_S + 2 * WAIT_S)
        for task in (member, intake):
            task.cancel()
        await asyncio.gather(member, intake, return_exceptions=True)

    async def watch(self) -> None:
        """Waits until the source is stopped; raises what ended one of its tasks before."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled():
                task.result()

    # -- membership -------------------------------------------------------------------------------

    async def _run(self) -> None:
        """A member of the group, until stopped; joins again for ever."""
        settings, topic, group = self._log.settings, self.topic.topic, self.topic.group
        while not self._stopping.is_set():
            try:
                async with joined(settings, topic, group, self._shared, self._session_ms) as member:
                    self._member = member
                    await self._keep_positions(member)
            except MeterflowError as error:
                self._failed(error)
                await self._rest(RETRY_S)

    async def _keep_positions(self, member: Member) -> None:
        while not self._stopping.is_set():
            await self._rest(COMMIT_S)
            with suppress(Unavailable):  # the next time, then
                await self._keep(member)
        await self._shared({})

    async def _shared(self, positions: Mapping[int, int]) -> None:
        """Our share is these partitions now: what is under way is finished first."""
        await self._finish()
        if self._stopping.is_set():
            return
        self._flows = {partition: _Flow(position) for partition, position in positions.items()}
        loop = asyncio.get_running_loop()
        self._pumps = [loop.create_task(self._pump(p, flow)) for p, flow in self._flows.items()]
        if positions:
            _log.info("readings are taken", topic=self.topic.topic, partitions=sorted(positions))

    async def _finish(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._pumps = []
        with suppress(TimeoutError):
            await asyncio.wait_for(self.intake.idle(), FINISH_S)
        if self._member is not None and not self.intake.busy:
            with suppress(Unavailable):
                await self._keep(self._member)
        self._flows = {}

    async def _keep(self, member: Member) -> None:
        """What the log has need not be read again."""
        moved = {p: flow.position for p, flow in self._flows.items() if flow.position != flow.kept}
        if moved:
            await member.commit(moved)
            for partition, position in moved.items():
                self._flows[partition].kept = position

    # -- reading ----------------------------------------------------------------------------------

    async def _pump(self, partition: int, flow: _Flow) -> None:
        """Reads a partition on and on; the next values only when the log has these."""
        while True:
            try:
                await self._take(partition, flow)
                self.error = ""
            except MeterflowError as error:
                self._failed(error)
                await asyncio.sleep(RETRY_S)

    async def _take(self, partition: int, flow: _Flow) -> None:
        topic = self.topic.topic
        got = await self._log.read_values(topic, flow.position, partition=partition, records_max=VALUES_MAX)
        if not got.values:
            flow.caught_up, flow.position = True, got.next_offset
            await self._log.wait_values(topic, flow.position, WAIT_S, partition)
            return
        flow.caught_up = False
        count, size = len(got.values), sum(map(len, got.values))
        self.counters.messages += count
        self.counters.bytes += size
        flow.durable.clear()
        delivery = Delivery([topic] * count, got.values, self.intake.now_ms())
        self.intake.gather(Parcel(flow, delivery, ()), size)
        try:
            await flow.durable.wait()
        except asyncio.CancelledError:  # what is under way may still get there: the position then counts it
            with suppress(TimeoutError):
                await asyncio.wait_for(flow.durable.wait(), FINISH_S)
            raise
        finally:
            if flow.durable.is_set():
                flow.position = got.next_offset

    # -- small things -----------------------------------------------------------------------------

    def _failed(self, error: MeterflowError) -> None:
        if str(error) != self.error:
            _log.error("readings cannot be taken from Kafka now", cause=str(error), topic=self.topic.topic)
        self.error = str(error)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
