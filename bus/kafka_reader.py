"""Reading from Kafka at given offsets, what is committed only.

A cursor stands in one partition: it keeps what was fetched and not yet given, and fetches the next
part while this one is worked on. Who reads on where the last read stopped gets a cursor's own; who
reads elsewhere gets a new one. A fetch gives whole batches, so a record may be longer than a fetch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import chain, count
from typing import Any, NamedTuple

from aiokafka.errors import OffsetOutOfRangeError, UnsupportedCodecError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from bus.kafka_connection import Connection, check_code
from bus.kafka_producer import Place
from bus.kafka_settings import TRANSACTION_MS
from bus.log import Record
from metering.errors import MeterflowError, Unavailable, UsageError

READ_COMMITTED, READ_UNCOMMITTED = 1, 0
FETCH_BYTES = 4 << 20
"""Of a fetch at most; who reads less at a time has less fetched at a time."""
POLL_MS_MAX = 1000
"""How long the broker may hold a fetch back: a wait that is given up occupies its connection so long."""
CURSORS_MAX = 3
"""In each partition, besides those at work; each keeps two fetches at most."""
LATEST, EARLIEST = -1, -2
_REPLICA_NONE = -1
_ENDED_S = 3 * TRANSACTION_MS / 1000
"""After so long Kafka has ended any transaction of ours: it looks every ten seconds."""
_ANSWERED_S = 2 * POLL_MS_MAX / 1000
"""After so long the answer to somebody who is gone has come."""


class _Fetched(NamedTuple):
    """Batches with records that count, the offset behind all that came, and how far it could be read."""

    batches: list[Any]
    position: int
    stable: int


class Lanes:
    """Names of connections: each is kept for a minute and known for ever, so they are used again."""

    def __init__(self) -> None:
        self._new = count()
        self._resting: deque[tuple[float, int]] = deque()

    def take(self) -> int:
        """One on which nobody waits for anything."""
        if self._resting and self._resting[0][0] <= time.monotonic():
            return self._resting.popleft()[1]
        return next(self._new)

    def give(self, lane: int) -> None:
        """Takes one back, on which an answer may still be under way."""
        self._resting.append((time.monotonic() + _ANSWERED_S, lane))


class Cursor:
    """One reader's place. ``low`` to ``position``: offsets at which it can be read on."""

    def __init__(self, connection: Connection, place: Place, offset: int, lanes: Lanes) -> None:
        self.low = self.position = offset
        self.busy = False
        self.fetch_bytes = FETCH_BYTES
        self.records_end = offset
        """Behind the last record; up to ``position`` only marks of Kafka's follow."""
        self._connection = connection
        self._place = place
        self._batches: deque[Any] = deque()
        self._records: Iterator[Any] = iter(())
        self._held: Any = None
        self._ahead: asyncio.Task[_Fetched] | None = None
        self._lanes = lanes
        self._lane = lanes.take()
        self._stable = 0
        self._first = 0
        """The first kept record's offset, as far as known: its batch may begin before it."""

    @contextmanager
    def work(self) -> Iterator[Cursor]:
        """Nobody else takes it meanwhile."""
        self.busy = True
        try:
            yield self
        except BaseException:
            self._lanes.give(self._lane)
            self._lane = self._lanes.take()
            raise
        finally:
            self.busy = False

    async def fill(self, offset: int, wait_ms: int = 0) -> bool:
        """Whether there is a record at ``offset`` or behind it; fetches where needed."""
        while not self._skip(max(offset, self._first)):
            before = self.position
            await self._fetch(wait_ms)
            if self.position == before:
                return False
        if self._ahead is None and self.position < self._stable:
            self._ahead = asyncio.create_task(self._fetched(self.position, 0))
            self._ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        return True

    def take(self, records_max: int, bytes_max: int) -> Iterator[Any]:
        """The records in hand within both limits, at least one if there is one."""
        size = 0
        for taken in range(records_max):
            record, self._held = self._held or self._next(), None
            if record is None:
                return
            size += len(record.value or b"")
            if taken and size > bytes_max:
                self._held = record
                return
            self.low = record.offset + 1
            yield record

    def drop(self) -> None:
        """Forgets what was fetched; it is not used again, but for whoever is at work with it."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None
        if not self.busy:
            self._lanes.give(self._lane)

    def _skip(self, offset: int) -> bool:
        """Lets go of records before ``offset``; whether one is left."""
        while self._held is None or self._held.offset < offset:
            if self._held is not None:
                self.low = self._held.offset + 1
            self._held = self._next()
            if self._held is None:
                return False
        return True

    def _next(self) -> Any:
        """The next record in hand."""
        while (record := next(self._records, None)) is None:
            if not self._batches:
                return None
            batch = self._batches[0]  # in hand until it can be read: whoever asks again hears it again
            if not batch.validate_crc():
                what = f"a batch of records is damaged (offset {batch.base_offset})"
                hint = "A disk or memory of a broker is at fault: have Kafka take another replica."
                raise MeterflowError(what, where=f"{self._place[0]} {self._place[1]}", hint=hint)
            self._records = chain(self._unpacked(batch))  # a batch asked again after its end begins anew
            self._batches.popleft()
        return record

    def _unpacked(self, batch: Any) -> Iterator[Any]:
        try:
            return iter(batch)
        except UnsupportedCodecError as error:
            what, hint = (
                f"records are compressed: {error}",
                "Install cramjam beside meterflow (pip install cramjam).",
            )
            raise UsageError(what, where=f"{self._place[0]} {self._place[1]}", hint=hint) from error

    async def _fetch(self, wait_ms: int) -> None:
        ahead, self._ahead = self._ahead, None
        got = await (ahead or self._fetched(self.position, wait_ms))
        self._batches.extend(got.batches)
        if got.batches:
            last = got.batches[-1]
            self.records_end = last.base_offset + last.last_offset_delta + 1
        elif got.position != self.position:
            self._first = got.position
        self.position, self._stable = got.position, got.stable
        self.low = min(self.low, self.position)  # who asks behind the end waits at the end

    async def _fetched(self, offset: int, wait_ms: int) -> _Fetched:
        topic, partition = self._place

        async def attempt() -> _Fetched:
            node = await self._connection.leader(topic, partition)
            parts = [(topic, [(partition, offset, self.fetch_bytes)])]
            request = FetchRequest(wait_ms, 1, self.fetch_bytes, READ_COMMITTED, parts)
            answer = await self._connection.send(node, request, self._lane)
            check_code(getattr(answer, "error_code", 0), topic)
            _, code, _, stable, _, aborted, *_, content = answer.topics[0][1][0]
            check_code(code, f"{topic} {partition}")
            return _counting(content or b"", aborted or [], offset, stable)

        try:
            return await self._connection.patiently("be read", attempt)
        except MeterflowError as error:
            if getattr(error.__cause__, "code", 0) != OffsetOutOfRangeError.errno:
                raise
        first = await offset_of(self._connection, self._place, EARLIEST)
        end = await offset_of(self._connection, self._place, LATEST)
        return _Fetched([], max(first, min(offset, end)), end)


def _counting(content: bytes, aborted: list[tuple[int, int]], position: int, stable: int) -> _Fetched:
    """The batches that count: not those of aborted transactions, not Kafka's own marks."""
    batches: list[Any] = []
    waiting = deque(sorted(aborted, key=lambda entry: entry[1]))
    gone: set[int] = set()
    records = MemoryRecords(content)
    while records.has_next():
        batch = records.next_batch()
        while waiting and waiting[0][1] <= batch.base_offset:
            gone.add(waiting.popleft()[0])
        if batch.is_control_batch:
            if batch.producer_id in gone and ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                gone.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in gone) and batch.next_offset > position:
            batches.append(batch)
        position = max(position, batch.next_offset)
    return _Fetched(batches, position, stable)


async def offset_of(connection: Connection, place: Place, time: int, committed: int = READ_COMMITTED) -> int:
    """The offset behind the last record that may be read, or the first kept one."""
    topic, partition = place

    async def attempt() -> int:
        node = await connection.leader(topic, partition)
        request = OffsetRequest(_REPLICA_NONE, committed, [(topic, [(partition, time)])])
        answer = await connection.send(node, request)
        _, code, _, offset = answer.topics[0][1][0]
        check_code(code, f"{topic} {partition}")
        return int(offset)

    return await connection.patiently("say where a topic ends", attempt)


class Reader:
    """All cursors of a process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursors: dict[Place, list[Cursor]] = {}
        self._lanes = Lanes()

    async def read(self, place: Place, offset: int, records_max: int, bytes_max: int) -> list[Record]:
        with self._cursor(place, offset).work() as cursor:
            cursor.fetch_bytes = min(bytes_max, FETCH_BYTES)
            await cursor.fill(offset)
            found: list[Record] = []
            try:
                for got in cursor.take(records_max, bytes_max):
                    key, value = (got.key or b"").decode(), got.value or b""
                    found.append(Record(got.offset, key, value, got.timestamp))
            except MeterflowError:  # told the next time: what is before it first
                if not found:
                    raise
            return found

    async def wait(self, place: Place, offset: int, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        with self._cursor(place, offset).work() as cursor:
            while True:
                left_ms = max(int((until - loop.time()) * 1000), 0)
                if await cursor.fill(offset, min(left_ms, POLL_MS_MAX)):
                    return True
                if left_ms == 0:
                    return False

    async def end(self, place: Place) -> int:
        """Behind the last record; marks of Kafka's behind it, as far as they have been seen, do not count."""
        stable = await offset_of(self._connection, place, LATEST)
        ends = (cursor.records_end for cursor in self._cursors.get(place, ()) if cursor.position == stable)
        return min(ends, default=stable)

    async def all(self, place: Place) -> AsyncIterator[Any]:
        """Every record of a partition that was there at the call, as aiokafka gives them.

        Waits for transactions of others that were open then: what stands behind them was said before the
        call, too. Raises Unavailable when one of them stays open for longer than Kafka allows.
        """
        until = time.monotonic() + _ENDED_S
        end = await offset_of(self._connection, place, LATEST, READ_UNCOMMITTED)
        cursor = Cursor(self._connection, place, 0, self._lanes)
        try:
            with cursor.work():
                while True:
                    more = await cursor.fill(0, POLL_MS_MAX if cursor.position < end else 0)
                    for record in cursor.take(1 << 30, 1 << 60):
                        yield record
                    if cursor.position >= end:
                        return
                    if not more and time.monotonic() > until:
                        raise Unavailable("a transaction does not end", where=f"{place[0]} {place[1]}")
        finally:
            cursor.drop()

    def forget(self, place: Place) -> None:
        """Begins anew where records were let go."""
        for cursor in self._cursors.pop(place, ()):
            cursor.drop()

    def _cursor(self, place: Place, offset: int) -> Cursor:
        cursors = self._cursors.setdefault(place, [])
        idle = [cursor for cursor in cursors if not cursor.busy]
        for cursor in reversed(idle):
            if cursor.low <= offset <= cursor.position:
                cursors.remove(cursor)
                cursors.append(cursor)  # the one that was used last
                return cursor
        for cursor in idle[: max(len(idle) + 1 - CURSORS_MAX, 0)]:
            cursor.drop()
            cursors.remove(cursor)
        cursors.append(Cursor(self._connection, place, offset, self._lanes))
        return cursors[-1]

    def close(self) -> None:
        for place in list(self._cursors):
            self.forget(place)
