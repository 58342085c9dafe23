"""One partition of one consumer on Kafka: who owns it, how far it is done, and its saved state.

Owning is Kafka's (bus.kafka_tenure). There are two transactional ids: one for what is committed, one for
the saved state, so that a long save holds up no commit. Whoever takes the partition up takes the first
one first; only then is the group's offset asked for, as an open transaction might still move it, and
only when it has the second one the saved state, which is never ahead of that offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aiokafka.protocol.commit import OffsetFetchRequest

from bus import kafka_state
from bus.kafka_batches import blocks
from bus.kafka_connection import GROUP, Connection, check_code
from bus.kafka_producer import Offset, Place, Records
from bus.kafka_settings import INPUTS
from bus.kafka_state import Head
from bus.kafka_tenure import Tenure
from bus.log import READINGS, Snapshot

if TYPE_CHECKING:
    from bus.kafka_reader import Reader

_coding = ThreadPoolExecutor(1, "coding-states")
"""Compresses states, beside the coding of what is committed."""


class Owner:
    """``commit``, ``save``, ``load`` and ``forget`` of one consumer's partition; commits beside a save."""

    def __init__(self, connection: Connection, reader: Reader, consumer: str, partition: int) -> None:
        settings = connection.settings
        self._connection = connection
        self._reader = reader
        self._consumer = consumer
        self._group = settings.group(consumer)
        self._input: Place = (settings.topic(INPUTS.get(consumer, READINGS)), partition)
        self._state: Place = (settings.state(consumer), partition)
        name = settings.transactional_id(consumer, partition)
        self._results = Tenure(connection, name, self._group, begun=self._look_done)
        self._states = Tenure(connection, f"{name}-state", self._group, begun=self._unread, coding=_coding)
        self._turn = asyncio.Lock()
        """Whose is the first of them."""
        self._saving = asyncio.Lock()
        """Whose is the second one; who needs both takes it first."""
        self._done = 0
        self._head: Head | None = None
        """Of the saved state, as far as it is known."""

    async def load(self) -> Snapshot:
        """Takes the partition up, whoever had it, and gives its saved state."""
        async with self._saving, self._turn:
            with self._results.watched(), self._states.watched():
                await self._results.take()
                await self._states.take()
                chunks = await self._restored()
            assert self._head is not None
            return Snapshot(self._head.offset, chunks, max(self._done, self._head.offset))

    async def commit(self, done: int, parts: Mapping[Place, Records]) -> None:
        """Appends and moves ``done`` forward; one that would not is a repetition."""
        async with self._turn:
            await self._results.ready()
            if done > self._done:
                await self._transact(parts, done)

    async def commit_part(self, parts: Mapping[Place, Records]) -> None:
        """Appends; ``done`` stays where it is."""
        async with self._turn:
            await self._results.ready()
            await self._transact(parts, self._done)

    async def confirm(self) -> None:
        """Raises NotOwner where the partition is lost."""
        async with self._turn:
            await self._results.confirm()

    async def save(self, offset: int, chunks: Mapping[str, bytes], dropped: Sequence[str]) -> None:
        """Brings the saved state forward, compressed as it goes; then ``done``, where it is behind it."""
        async with self._saving:
            async with self._turn:
                await self._results.ready()
            await self._states.ready()
            head, self._head = await self._read(), None
            records, after = kafka_state.saving(self._consumer, head, offset, chunks, dropped)
            await self._states.transact({self._state: blocks(records)})
            self._head = after
        if offset > self._done:  # ``load`` knows it without this, too
            await self.commit(offset, {})

    async def forget(self) -> None:
        """Takes the saved state away and ``done`` back to the first record."""
        async with self._saving, self._turn:
            await self._results.ready()
            await self._states.ready()
            head, self._head = await self._read(), None
            await self._transact({self._state: kafka_state.forgetting(self._consumer, head)}, 0)

    async def _transact(self, parts: Mapping[Place, Records], done: int) -> None:
        offset = Offset(self._group, self._input, done) if done != self._done else None
        await self._results.transact(parts, offset)
        self._done = done

    async def _look_done(self) -> None:
        self._done = await self._committed()

    async def _unread(self) -> None:
        self._head = None

    async def _committed(self) -> int:
        topic, partition = self._input
        request = OffsetFetchRequest(self._group, [(topic, [partition])])

        async def attempt() -> int:
            node = await self._connection.coordinator(GROUP, self._group)
            answer: Any = await self._connection.send(node, request)
            check_code(answer.error_code, self._group)
            _, offset, _, code = answer.topics[0][1][0]
            check_code(code, self._group)
            return max(int(offset), 0)

        return await self._connection.patiently("say how far a group is", attempt)

    async def _read(self) -> Head:
        if self._head is None:
            with self._states.watched():
                await self._restored()
        assert self._head is not None
        return self._head

    async def _restored(self) -> dict[str, bytes]:
        records: dict[bytes, bytes] = {}
        async for record in self._reader.all(self._state):
            if kafka_state.owner(record.key) != self._consumer:
                continue
            if record.value is None:
                records.pop(record.key, None)
            else:
                records[record.key] = record.value
        self._head, chunks = kafka_state.restored(self._consumer, records)
        return chunks
