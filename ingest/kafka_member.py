"""A copy's share of a topic's partitions, by Kafka's consumer group protocol, and the group's positions.

Only membership and positions go through the group's consumer; what the topic holds is read past it,
thousands of values at a time. So its partitions are always paused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, RebalanceInProgressError

from bus.kafka_settings import KafkaSettings, client_options
from metering.errors import Unavailable

_log = structlog.get_logger(__name__)
_IDLE_MS_MAX = 2**31 - 1
"""The consumer itself is never asked for records, and must not be thought idle for that."""
SESSION_MS = 10_000
"""A copy that is silent for so long is taken for dead, and the others share its partitions."""
_REBALANCE_MS = 15_000

Changed = Callable[[Mapping[int, int]], Awaitable[None]]
"""Told which partitions are ours now, each with the position to read on from; before it returns, nothing
of the others may be under way any more."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]
    """One copy in the group. ``joined`` gives a working one."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, changed: Changed) -> None:
        self._consumer, self._topic, self._changed = consumer, topic, changed
        self.failed: Exception | None = None
        """What has gone wrong while the group shared its partitions. aiokafka would only log it."""

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Called before the group shares anew."""
        del revoked
        with self._watched():
            await self._changed({})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Called with the new share; what nobody has read yet is read from its beginning."""
        with self._watched():
            self._consumer.pause(*assigned)
            kept = {place: await self._consumer.committed(place) for place in assigned}
            await self._changed({place.partition: position or 0 for place, position in kept.items()})

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Notes what goes wrong, for whoever has joined; errors of Kafka's become ours."""
        try:
            yield
        except KafkaError as error:
            what = f"the share of the topic's partitions cannot be learnt: {error}"
            self.failed = Unavailable(what, where=self._topic)
        except Exception as error:  # noqa: BLE001 it is raised where it is seen
            self.failed = error

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Keeps positions in the group. Raises Unavailable; a partition that is no longer ours is let go."""
        try:
            await self._consumer.commit({TopicPartition(self._topic, p): at for p, at in positions.items()})
        except (CommitFailedError, IllegalStateError, RebalanceInProgressError) as error:
            _log.info("the group shares its partitions anew, a position was not kept", cause=str(error))
        except KafkaError as error:
            raise Unavailable(f"positions cannot be kept: {error}", where=self._topic) from error


@asynccontextmanager
async def joined(
    settings: KafkaSettings, topic: str, group: str, changed: Changed, session_ms: int = SESSION_MS
) -> AsyncIterator[Member]:
    """Joins the group, and leaves it at the end. Raises Unavailable when Kafka does not answer."""
    consumer = AIOKafkaConsumer(
        **client_options(settings, "meterflow-ingest"),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 5,
        rebalance_timeout_ms=_REBALANCE_MS,
        max_poll_interval_ms=_IDLE_MS_MAX,
    )
    member = Member(consumer, topic, changed)
    consumer.subscribe([topic], listener=member)
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise Unavailable(f"the group {group} cannot be joined: {error}", where=settings.bootstrap) from error
    try:
        yield member
    finally:
        await consumer.stop()
