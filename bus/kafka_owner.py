"""One partition of one consumer on Kafka: who owns it, how far it is done, and its saved state.

Owning is Kafka's: a producer with this partition's transactional id is started, which finishes the
transaction of the owner before and shuts that one out; only then is the group's offset asked for,
as an open transaction might still move it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiokafka.protocol.commit import OffsetFetchRequest

from bus import kafka_state
from bus.kafka_connection import GROUP, Connection, check_code
from bus.kafka_producer import Offset, Place, Producer, Records
from bus.kafka_settings import INPUTS, STATE, TRANSACTION_MS
from bus.kafka_state import Head
from bus.log import READINGS, Snapshot
from metering.errors import NotOwner, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bus.kafka_reader import Reader


class _Is(Enum):
    NEW = "not taken up yet"
    OURS = "ours"
    UNSURE = "the last transaction's outcome is not known"
    LOST = "somebody else's"


class Owner:
    """``commit``, ``save``, ``load`` and ``forget`` of one consumer's partition, one at a time."""

    def __init__(self, connection: Connection, reader: Reader, consumer: str, partition: int) -> None:
        settings = connection.settings
        self._connection = connection
        self._reader = reader
        self._consumer = consumer
        self._group = settings.group(consumer)
        self._input: Place = (settings.topic(INPUTS.get(consumer, READINGS)), partition)
        self._state: Place = (settings.topic(STATE), partition)
        self._producer = Producer(connection, settings.transactional_id(consumer, partition))
        self._turn = asyncio.Lock()
        self._is = _Is.NEW
        self._done = 0
        self._head: Head | None = None

    async def load(self) -> Snapshot:
        """Takes the partition up, whoever had it, and gives its saved state."""
        async with self._turn:
            with self._watched():
                await self._start(over=self._is is not _Is.UNSURE)
                chunks = await self._restored()
                assert self._head is not None
                return Snapshot(self._head.offset, chunks, max(self._done, self._head.offset))

    async def commit(self, done: int, parts: Mapping[Place, Records]) -> None:
        """Appends and moves ``done`` forward; one that would not is a repetition."""
        async with self._turn:
            await self._ready()
            if done > self._done:
                await self._transact(parts, done)

    async def commit_part(self, parts: Mapping[Place, Records]) -> None:
        """Appends; ``done`` stays where it is."""
        async with self._turn:
            await self._ready()
            await self._transact(parts, self._done)

    async def confirm(self) -> None:
        """Raises NotOwner where the partition is lost."""
        async with self._turn:
            await self._ready()
            with self._watched():
                await self._producer.start(over=False)

    async def save(self, offset: int, chunks: Mapping[str, bytes], dropped: Sequence[str]) -> None:
        """Brings the saved state forward."""
        async with self._turn:
            await self._ready()
            if self._head is None:
                with self._watched():
                    await self._restored()
            assert self._head is not None
            head, self._head = self._head, None
            records, after = await asyncio.to_thread(
                kafka_state.saving, self._consumer, head, offset, chunks, dropped
            )
            await self._transact({self._state: records}, max(offset, self._done))
            self._head = after

    async def forget(self) -> None:
        """Takes the saved state away and ``done`` back to the first record."""
        async with self._turn:
            await self._ready()
            with self._watched():
                await self._restored()
            assert self._head is not None
            head, self._head = self._head, None
            await self._transact({self._state: kafka_state.forgetting(self._consumer, head)}, 0)

    async def _ready(self) -> None:
        """Takes the partition up where that has not happened yet; raises NotOwner where it is lost."""
        if self._is is _Is.LOST:
            hint = "Load its state to take it up again."
            raise NotOwner("somebody else works on this partition now", where=self._group, hint=hint)
        if self._is is not _Is.OURS:
            with self._watched():
                await self._start(over=self._is is _Is.NEW)

    async def _start(self, *, over: bool) -> None:
        self._head = None
        await self._producer.start(over=over)
        self._done = await self._committed()
        self._is = _Is.OURS

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What it means for owning the partition when this fails."""
        try:
            yield
        except NotOwner:
            self._is = _Is.LOST
            raise
        except BaseException:
            if self._is is _Is.OURS:
                self._is = _Is.UNSURE
            raise

    async def _transact(self, parts: Mapping[Place, Records], done: int) -> None:
        offset = Offset(self._group, self._input, done) if done != self._done else None
        with self._watched():
            try:
                async with asyncio.timeout(TRANSACTION_MS / 1000):
                    await self._producer.transact(parts, offset)
            except (NotOwner, TimeoutError) as error:
                # Kafka shuts out those who are slow, too: then nobody has come, and this one may go on.
                await self._start(over=False)
                what = "a transaction took too long, Kafka has given it up"
                hint = "It is tried again; look whether brokers or this machine are overloaded."
                raise Unavailable(what, where=self._group, hint=hint) from error
        self._done = done

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
