"""The log on Kafka: topics of several partitions, shared by any number of processes.

Offsets of topics that transactions write to have gaps, where Kafka puts its marks. A commit is a
transaction under a name of its partition's own (bus.kafka_owner), so that of two processes that
both take a partition for theirs only the later one gets anything done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiokafka.protocol.admin import DeleteRecordsRequest

from bus.kafka_appender import Appender
from bus.kafka_batches import Block, Raw, blocks_of_values
from bus.kafka_connection import Connection, check_code
from bus.kafka_owner import Owner
from bus.kafka_producer import Place, Records
from bus.kafka_reader import EARLIEST, LATEST, Reader, offset_of
from bus.kafka_settings import RECORD_BYTES_MAX, KafkaSettings
from bus.kafka_topics import make_topics
from bus.log import PORTIONS, RESULTS, Entry, Record, Snapshot
from metering.errors import MeterflowError


class AsJson(Protocol):
    """How result rows become JSON objects, such as ``bus.rows_json.JsonRows``."""

    def wanted(self, table: str) -> bool:
        """Whether a table's rows are written as JSON."""

    def objects(self, frame: bytes) -> Any:
        """The objects of a frame's rows, as an Arrow array of texts."""


_OVERHEAD_BYTES = 4096
"""Of a batch and a record, besides key and value."""


async def open_kafka(settings: KafkaSettings, *, as_json: AsJson | None = None) -> KafkaLog:
    """Opens the log, its topics made or checked; it belongs to the running loop.

    ``as_json``: what is written to the topic of JSON objects beside results. Raises Unavailable when no
    broker answers, UsageError when the topics are not what the settings say.
    """
    connection = Connection(settings, "meterflow")
    try:
        await make_topics(connection)
    except BaseException:
        await connection.close()
        raise
    return KafkaLog(connection, as_json)


class KafkaLog:
    """``bus.log.Log`` on Kafka; made by ``open_kafka``."""

    def __init__(self, connection: Connection, as_json: AsJson | None = None) -> None:
        self.settings = connection.settings
        self._connection = connection
        self._as_json = as_json
        self._reader = Reader(connection)
        self._appender = Appender(connection)
        self._owners: dict[tuple[str, int], Owner] = {}

    @property
    def partitions(self) -> int:
        return self.settings.partitions

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        self._check_open()
        parts = self._parts(topics, partition)
        if any(parts.values()):
            await self._appender.append(parts)

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        self._check_open()
        await self._owner(consumer, partition).commit(done, self._results(topics, partition))

    async def commit_part(
        self, consumer: str, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        self._check_open()
        await self._owner(consumer, partition).commit_part(self._results(topics, partition))

    def _results(self, topics: Mapping[str, Sequence[Entry]], partition: int) -> dict[Place, Records]:
        """A consumer's results by place, those that are wanted as JSON once more as such."""
        parts: dict[Place, Records] = {**self._parts(topics, partition)}
        if self._as_json is not None:
            wanted = [entry for entry in topics.get(RESULTS, ()) if self._as_json.wanted(entry.key)]
            if wanted:
                parts[self.settings.json_topic, partition] = _JsonRecords(self._as_json, wanted)
        return parts

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        records_max: int = 1000,
        bytes_max: int = 8 << 20,
    ) -> list[Record]:
        self._check_open()
        return await self._reader.read(self._place(topic, partition), offset, records_max, bytes_max)

    async def first(self, topic: str, partition: int = 0) -> int:
        self._check_open()
        return await offset_of(self._connection, self._place(topic, partition), EARLIEST)

    async def end(self, topic: str, partition: int = 0) -> int:
        self._check_open()
        return await self._reader.end(self._place(topic, partition))

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        self._check_open()
        try:
            return await self._reader.wait(self._place(topic, partition), offset, timeout_s)
        except MeterflowError:
            if self._connection.closed:
                return False
            raise

    async def trim(self, topic: str, offset: int, partition: int = 0) -> None:
        self._check_open()
        place = self._place(topic, partition)
        goal = min(offset, await offset_of(self._connection, place, LATEST))
        if goal > 0:
            await self._connection.patiently("let records go", lambda: self._delete(place, goal))
            self._reader.forget(place)

    async def confirm(self, consumer: str, partition: int = 0) -> None:
        self._check_open()
        await self._owner(consumer, partition).confirm()

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        self._check_open()
        await self._owner(consumer, partition).save(offset, chunks, dropped)

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        """Takes the consumer's partition over, too: whoever had it gets NotOwner from now on."""
        self._check_open()
        return await self._owner(consumer, partition).load()

    async def forget(self, consumer: str, partition: int = 0) -> None:
        self._check_open()
        await self._owner(consumer, partition).forget()

    async def close(self) -> None:
        await self._appender.close()
        self._reader.close()
        await self._connection.close()

    def _owner(self, consumer: str, partition: int) -> Owner:
        key = consumer, partition
        if key not in self._owners:
            self._owners[key] = Owner(self._connection, self._reader, consumer, partition)
        return self._owners[key]

    def _place(self, topic: str, partition: int) -> Place:
        return self.settings.topic(topic), partition

    def _parts(self, topics: Mapping[str, Sequence[Entry]], partition: int) -> dict[Place, Sequence[Raw]]:
        """Records by where they go: those of the portions all meet on one partition."""
        return {
            self._place(name, 0 if name == PORTIONS else partition): [_raw(entry) for entry in entries]
            for name, entries in topics.items()
        }

    async def _delete(self, place: Place, offset: int) -> None:
        topic, partition = place
        node = await self._connection.leader(topic, partition)
        request = DeleteRecordsRequest([(topic, [(partition, offset)])], self.settings.request_ms)
        answer = await self._connection.send(node, request)
        check_code(answer.topics[0][1][0][2], f"{topic} {partition}")

    def _check_open(self) -> None:
        if self._connection.closed:
            raise MeterflowError("the log is closed", where=self.settings.bootstrap)


def _raw(entry: Entry) -> Raw:
    key = entry.key.encode()
    size = len(key) + len(entry.value) + _OVERHEAD_BYTES
    if size > RECORD_BYTES_MAX:
        what = f"a record of {size} bytes does not fit into the log, {RECORD_BYTES_MAX} is the most"
        raise MeterflowError(what, hint="Cut it into several records.")
    return key, entry.value, entry.stamp_ms


class _JsonRecords:
    """The JSON objects of frames of results as blocks, made one frame at a time as they are asked for."""

    def __init__(self, as_json: AsJson, entries: Sequence[Entry]) -> None:
        self._as_json, self._entries = as_json, entries

    def __iter__(self) -> Iterator[Block]:
        for entry in self._entries:
            objects = self._as_json.objects(entry.value)
            yield from blocks_of_values(entry.key.encode(), objects, entry.stamp_ms)
