"""Writing to Kafka: records in batches that count once, and transactions, request by request.

The commit of a transaction, in this order:

1. tell the coordinator which partitions it will touch, and which group's offset;
2. append the records, and the offset, hidden from whoever reads what is committed;
3. end it: from here on all of it counts.

Until 3 everything may be repeated, as a batch carries its producer's id, epoch and number. 3 is never
repeated: when nothing is heard of it, starting the producer again finishes the transaction one way
or the other, and the group's offset tells which.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import DuplicateSequenceNumber, OperationNotAttempted
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, Schema, TaggedFields

from bus.kafka_batches import SEQUENCES, Block, Numbers, Raw, batch, blocks
from bus.kafka_connection import GROUP, TRANSACTION, Connection, Refused, check_code
from bus.kafka_settings import TRANSACTION_MS

ACKS_ALL = -1
_COORDINATION = "coordination"
_NOBODY = -1

Place = tuple[str, int]
"""A topic by its name on Kafka, and a partition."""
Records = Sequence[Raw] | Iterable[Block]
"""What goes to one place: records, or blocks that are made as they are asked for, in another thread."""

_coding = ThreadPoolExecutor(1, "coding")
"""One for all: several at a time would only hinder each other, and hold as many blocks in memory."""


class _InitProducerIdResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 22, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _InitProducerIdStruct(RequestStruct):  # type: ignore[misc]
    """Version 3 (KIP-360) takes the present id and epoch: then nobody else's producer is shut out."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 22, 3, True
    RESPONSE_TYPE = _InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _InitProducerId(Request[_InitProducerIdStruct]):  # type: ignore[misc]
    API_KEY = 22

    def __init__(self, transactional_id: str, producer_id: int, epoch: int) -> None:
        self._values: tuple[Any, ...] = (transactional_id or None, TRANSACTION_MS, producer_id, epoch, {})

    def build(self, request_struct_class: type[_InitProducerIdStruct]) -> _InitProducerIdStruct:
        return request_struct_class(*self._values)


class _ProduceStruct(ProduceRequest_v7):  # type: ignore[misc]
    """Coded in one go: aiokafka's own way copies every batch four times."""

    API_KEY, API_VERSION, RESPONSE_TYPE = 0, 7, ProduceRequest_v7.RESPONSE_TYPE
    SCHEMA = ProduceRequest_v7.SCHEMA

    def encode(self) -> bytes:
        pieces = [_text(self.transactional_id), _HEAD.pack(self.required_acks, self.timeout)]
        pieces.append(_COUNT.pack(len(self.topics)))
        for topic, parts in self.topics:
            pieces += (_text(topic), _COUNT.pack(len(parts)))
            for partition, content in parts:
                pieces += (_PART.pack(partition, len(content)), content)
        return b"".join(pieces)


_HEAD, _COUNT, _PART, _SHORT = (struct.Struct(form) for form in (">hi", ">i", ">ii", ">h"))


def _text(text: str | None) -> bytes:
    content = (text or "").encode()
    return _SHORT.pack(-1 if text is None else len(content)) + content


class _Produce(Request[_ProduceStruct]):  # type: ignore[misc]
    API_KEY = 0

    def __init__(self, name: str, timeout_ms: int, topics: list[Any]) -> None:
        self._values: tuple[Any, ...] = (name or None, ACKS_ALL, timeout_ms, topics)

    def build(self, request_struct_class: type[_ProduceStruct]) -> _ProduceStruct:
        return request_struct_class(*self._values)


@dataclass(slots=True)
class Offset:
    """A group's offset on a place, moved within a transaction."""

    group: str
    place: Place
    offset: int


@dataclass(slots=True)
class Producer:
    """One producer, used by one task at a time; without a ``transactional_id`` it has no transactions."""

    connection: Connection
    transactional_id: str = ""
    id: int = _NOBODY
    epoch: int = _NOBODY
    sequences: dict[Place, int] = field(default_factory=dict)
    coding: Executor | None = None
    """Where batches of blocks are made, if not where all others are."""

    async def start(self, *, over: bool = True) -> None:
        """Gets an id and epoch, the transaction before finished. ``over``: shuts out any other of that name.

        Without ``over`` it only goes on where it was, and raises NotOwner when another one has taken over.
        """
        if over:
            self.id = self.epoch = _NOBODY

        async def attempt() -> Any:
            request = _InitProducerId(self.transactional_id, self.id, self.epoch)
            node = await self._coordinator() if self.transactional_id else await self.connection.any_node()
            answer = await self.connection.send(node, request, _COORDINATION)
            check_code(answer.error_code, "producer")
            return answer

        answer = await self.connection.patiently("start a producer", attempt)
        self.id, self.epoch = answer.producer_id, answer.producer_epoch
        self.sequences = {}  # a new one: batches that were given up may still be coded

    async def transact(self, parts: Mapping[Place, Records], offset: Offset | None = None) -> None:
        """Appends to several places and moves an offset, all or nothing."""
        places = [place for place, records in parts.items() if not isinstance(records, Sequence) or records]
        if places:
            await self.connection.patiently("begin a transaction", lambda: self._add_partitions(places))
        if offset is not None:
            group = offset.group
            await self.connection.patiently("begin a transaction", lambda: self._add_group(group))
        work = [self.produce(parts)] + ([self._move(offset)] if offset is not None else [])
        for outcome in await asyncio.gather(*work, return_exceptions=True):  # none goes on behind our back
            if outcome is not None:
                raise outcome
        if places or offset is not None:
            await self.connection.once("commit", self._end)

    async def produce(self, parts: Mapping[Place, Records]) -> None:
        """Appends records, durable when it returns; batches of one place one after the other.

        A batch is made when the one before it has gone, so that only one of each place is in memory.
        """
        waiting = {place: self._batches(place, records, self.sequences) for place, records in parts.items()}
        ready = all(isinstance(records, Sequence) for records in parts.values())
        while first := await self._first(waiting, ready):
            await self.connection.patiently("append", lambda first=first: self._send(first))  # type: ignore[misc]

    async def _first(self, waiting: Mapping[Place, Iterator[bytes]], ready: bool) -> dict[Place, bytes]:
        """The next batch for each place that has one."""

        def taken() -> dict[Place, bytes]:
            found = ((place, next(batches, None)) for place, batches in waiting.items())
            return {place: content for place, content in found if content is not None}

        if ready:
            return taken()
        return await asyncio.get_running_loop().run_in_executor(self.coding or _coding, taken)

    def _batches(self, place: Place, records: Records, sequences: dict[Place, int]) -> Iterator[bytes]:
        """Batches in their bytes, numbered on."""
        for block in blocks(records) if isinstance(records, Sequence) else records:
            sequence = sequences.get(place, 0)
            sequences[place] = (sequence + block.rows) % SEQUENCES
            yield batch(block, Numbers(bool(self.transactional_id), self.id, self.epoch, sequence))

    async def _send(self, batches: dict[Place, bytes]) -> None:
        """Sends one batch for each place to its leader; takes out of ``batches`` those that are appended."""
        leaders: dict[int, dict[str, list[tuple[int, bytes]]]] = {}
        for (topic, partition), content in batches.items():
            node = await self.connection.leader(topic, partition)
            leaders.setdefault(node, {}).setdefault(topic, []).append((partition, content))
        sends = [self._send_to(node, topics) for node, topics in leaders.items()]
        refused: list[BaseException] = []
        for outcome in await asyncio.gather(*sends, return_exceptions=True):
            if isinstance(outcome, BaseException):
                refused.append(outcome)
                continue
            for place, code in outcome:
                if code in (0, DuplicateSequenceNumber.errno):
                    del batches[place]
                else:
                    refused.append(Refused(code, f"{place[0]} {place[1]}"))
        if refused:
            raise refused[0]

    async def _send_to(
        self, node: int, topics: dict[str, list[tuple[int, bytes]]]
    ) -> list[tuple[Place, int]]:
        timeout_ms = self.connection.settings.request_ms
        request = _Produce(self.transactional_id, timeout_ms, list(topics.items()))
        lane = self.transactional_id or "append"
        answer = await self.connection.send(node, request, lane)
        return [((topic, part[0]), part[1]) for topic, parts in answer.topics for part in parts]

    async def _add_partitions(self, places: Sequence[Place]) -> None:
        topics: dict[str, list[int]] = {}
        for topic, partition in places:
            topics.setdefault(topic, []).append(partition)
        request = AddPartitionsToTxnRequest(*self._self(), list(topics.items()))
        answer = await self.connection.send(await self._coordinator(), request, _COORDINATION)
        codes = [code for _, parts in answer.errors for _, code in parts]
        for code in sorted(codes, key=lambda code: code == OperationNotAttempted.errno):
            check_code(code, "partitions of a transaction")

    async def _add_group(self, group: str) -> None:
        request = AddOffsetsToTxnRequest(*self._self(), group)
        answer = await self.connection.send(await self._coordinator(), request, _COORDINATION)
        check_code(answer.error_code, group)

    async def _move(self, offset: Offset) -> None:
        topic, partition = offset.place
        topics = [(topic, [(partition, offset.offset, "")])]
        request = TxnOffsetCommitRequest(self.transactional_id, offset.group, self.id, self.epoch, topics)

        async def attempt() -> None:
            node = await self.connection.coordinator(GROUP, offset.group)
            answer = await self.connection.send(node, request, _COORDINATION)
            for _, parts in answer.errors:
                for _, code in parts:
                    check_code(code, offset.group)

        await self.connection.patiently("move a group's offset", attempt)

    async def _end(self) -> None:
        request = EndTxnRequest(*self._self(), True)
        answer = await self.connection.send(await self._coordinator(), request, _COORDINATION)
        check_code(answer.error_code, "end of a transaction")

    async def _coordinator(self) -> int:
        return await self.connection.coordinator(TRANSACTION, self.transactional_id)

    def _self(self) -> tuple[str, int, int]:
        return self.transactional_id, self.id, self.epoch
