"""Which partitions this copy of a role works on: membership of a consumer group.

Kafka shares a topic's partitions among the copies that say they are alive, and shares them anew when
one comes, leaves or is silent for the session's time. A partition that stays with its copy is not
disturbed. That two copies hold the same partition for a moment is harmless: the transactions of
the earlier one are refused (bus.kafka_owner).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from bus.kafka_settings import KafkaSettings, client_options
from metering.errors import MeterflowError, Unavailable, UsageError

SESSION_MS = 6_000
"""The shortest that a Kafka allows unless it is told otherwise: a copy that died is missed for so long."""
REBALANCE_MS = 10_000
"""How long the others wait for a copy that finishes what it has in hand."""
_AGAIN_S = 1.0
_POLL_MS = 500

Change = Callable[[int], Awaitable[None]]


class Shares:
    """A member of a group, while the context lasts.

    ``consumer`` and ``topic``: names of the log's, as ``commit`` and ``read`` take them. ``taken`` is
    awaited for each partition that comes to this copy, ``given_up`` for each that leaves it after that;
    both are called one at a time, ``given_up`` first, and for all that is left when the context ends,
    before the others hear of it. An error of either ends the membership and is raised by ``wait``. A
    copy that dies is replaced after ``session_ms``.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        consumer: str,
        topic: str,
        *,
        taken: Change,
        given_up: Change,
        session_ms: int = SESSION_MS,
    ) -> None:
        self.owned: frozenset[int] = frozenset()
        """What ``taken`` was called for, and ``given_up`` was not."""
        self._where = settings.bootstrap
        self._group = settings.group(consumer)
        self._topic = settings.topic(topic)
        self._taken, self._given_up = taken, given_up
        self._assigned: frozenset[int] = frozenset()
        self._again: set[int] = set()
        self._changed = asyncio.Event()
        self._options = member_options(settings, self._group, session_ms)
        self._member: AIOKafkaConsumer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._member = AIOKafkaConsumer(**self._options)
        try:
            await self._member.start()
        except (KafkaError, OSError) as error:
            await self._leave()
            hint = "Work goes on by itself when the brokers answer again."
            raise Unavailable(f"Kafka cannot be joined: {error}", where=self._where, hint=hint) from error
        self._member.subscribe([self._topic], listener=_Listener(self._assign))
        self._tasks = [asyncio.create_task(self._stay()), asyncio.create_task(self._follow())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hands everything over: what is in hand is finished first."""
        _, follow = self._tasks
        follow.cancel()
        with suppress(asyncio.CancelledError, Exception):  # ``wait`` has raised it, or it has been cancelled
            await follow
        try:
            for partition in sorted(self.owned):
                await self._drop(partition)
        finally:
            await self._leave()

    async def wait(self) -> None:
        """Waits for ever; raises what went wrong in a callback or with the membership."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def again(self, partition: int) -> None:
        """Says that work on a partition ended by NotOwner: it is taken again if it stays with this copy."""
        asyncio.get_running_loop().call_later(_AGAIN_S, self._look_again, partition)

    def _look_again(self, partition: int) -> None:
        self._again.add(partition)
        self._changed.set()

    def _assign(self, partitions: frozenset[int]) -> None:
        self._assigned = partitions
        self._changed.set()

    async def _stay(self) -> None:
        """Keeps the membership alive: who does not ask for records is taken for dead."""
        assert self._member is not None
        while True:
            if paused := self._member.assignment() - self._member.paused():
                self._member.pause(*paused)
            try:
                await self._member.getmany(timeout_ms=_POLL_MS)
            except KafkaError as error:
                if not error.retriable:
                    raise self._refused(error) from error
            await asyncio.sleep(_POLL_MS / 1000)

    async def _follow(self) -> None:
        """Does what the group decided, as often as it decides anew."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            again, self._again = self._again & self.owned & self._assigned, set()
            for partition in sorted((self.owned - self._assigned) | again):
                await self._drop(partition)
            for partition in sorted(self._assigned - self.owned):
                if partition in self._assigned:  # it may have been taken back while others were taken up
                    await self._taken(partition)
                    self.owned |= {partition}

    async def _drop(self, partition: int) -> None:
        self.owned -= {partition}
        try:
            await self._given_up(partition)
        except asyncio.CancelledError:  # the end came meanwhile: it waits for this one, too
            self.owned |= {partition}
            raise

    async def _leave(self) -> None:
        member, self._member = self._member, None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if member is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await member.stop()

    def _refused(self, error: KafkaError) -> MeterflowError:
        hint = f"Give the user its rights on the group {self._group} and the topic {self._topic}."
        return UsageError(f"Kafka refuses the group {self._group}: {error}", where=self._where, hint=hint)


def member_options(settings: KafkaSettings, group: str, session_ms: int = SESSION_MS) -> dict[str, Any]:
    """The keywords of a member that fetches nothing and commits nothing itself."""
    return client_options(settings, "meterflow") | {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": session_ms // 5,
        "rebalance_timeout_ms": max(session_ms, REBALANCE_MS),
        "partition_assignment_strategy": (type("Sticky", (StickyPartitionAssignor,), {}),),  # it keeps state
    }


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only takes note: aiokafka would log an error raised here, and go on."""

    def __init__(self, assign: Callable[[frozenset[int]], None]) -> None:
        self._assign = assign

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """All of them, at every change: which go is known when the new shares come."""

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The whole new share."""
        self._assign(frozenset(place.partition for place in assigned))
