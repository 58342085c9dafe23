"""What the broker says it has dropped: a queue that is full loses messages without a word to anybody.

Mosquitto counts them on a topic of its own, for all clients together, from its start on. Brokers
that have no such topic, or do not let us read it, tell nothing.
"""

from __future__ import annotations

import structlog

from ingest.broker_settings import Broker
from ingest.collector_link import Link
from ingest.mqtt_events import Publishes
from metering.errors import Unavailable

_log = structlog.get_logger(__name__)
DROPPED = "$SYS/broker/publish/messages/dropped"


class Drops:
    """``count``: the broker's own, None before it is known; ``dropped``: how many we have seen it grow by."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.watched = broker.watch_drops
        self.count: int | None = None
        self.dropped = 0

    def known(self, count: int | None) -> None:
        """What it was when the collector last listened."""
        if self.count is None:
            self.count = count

    async def subscribe(self, link: Link) -> None:
        """Asks to be told; a broker that ends the connection for it is not asked again."""
        try:
            await link.subscribe((DROPPED,))
        except Unavailable:
            self.watched = False
            _log.warning("the broker does not let the collector see what it drops", topic=DROPPED)
            raise

    def taken_out(self, run: Publishes) -> Publishes:
        """The other messages of a run; a new count is compared with the one before."""
        others = Publishes()
        for topic, payload, packet_id in zip(run.topics, run.payloads, run.ids, strict=True):
            if topic != DROPPED:
                others.topics.append(topic)
                others.payloads.append(payload)
                others.ids.append(packet_id)
            elif payload.isdigit() and len(payload) < 19:
                self._counted(int(payload))
        return others

    def _counted(self, count: int) -> None:
        before, self.count = self.count, count
        if before is None:
            return
        grown = count - before if count >= before else count  # it was restarted, and counts from 0
        if grown:
            self.dropped += grown
            _log.error(
                "the broker has dropped messages because a client's queue was full: readings may be lost",
                broker=self._broker.url,
                dropped=grown,
                hint="Raise what it queues (Mosquitto: max_queued_messages 0), then send the span again.",
            )
