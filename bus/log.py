"""The log's port: what ingest, processors and sinks know of Kafka, SQLite or memory.

A topic is an ordered, durable list of records with ascending offsets from 0 in each partition; they
are dense except where Kafka puts a mark of its own between two transactions.
One contract test (tests/bus/) runs on every implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

READINGS = "readings"
"""Key: plant; value: a frame of readings (bus.frames), or empty for a tick."""
REJECTED = "rejected"
"""Key: plant or empty; value: a frame of rows of the table ``rejected``."""
RESULTS = "results"
"""Key: table name; value: a frame of result rows."""

PAYLOADS = "payloads"
"""Raw bytes of messages that readings were taken from, where they are to be kept. Key: plant; value: a frame
(bus.payload_frames)."""

SITES = "sites"
"""Which site file is in force: embedded, from which record of ``readings`` on (meterflow.site_force); on
Kafka, what the roles tell each other of it (meterflow.site_board), on partition 0."""

PORTIONS = "portions"
"""What the plants of each partition are of their groups (processors.portions); all of it on partition 0,
whatever partition it came of. Key: the number of that partition."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to be appended. ``stamp_ms``: when it was received, UTC milliseconds."""

    key: str
    value: bytes
    stamp_ms: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read back."""

    offset: int
    key: str
    value: bytes
    stamp_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consumer's saved state: everything before ``offset`` of its input topic is in it.

    ``done``: what came out of everything before it is on the log (``commit``); never before ``offset``.
    """

    offset: int
    chunks: Mapping[str, bytes]
    done: int = 0


class Log(Protocol):
    """Durable topics, snapshots and consumer positions.

    ``partitions``: how many every topic has; fixed when the topics are made. All methods are
    coroutines; they raise ``metering.errors.Unavailable`` when the storage cannot take or give
    anything now (disk full, locked, I/O error, no connection) and the call may be tried again: a
    caller that repeats an append must bear the same records twice.
    """

    @property
    def partitions(self) -> int: ...

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        """Appends to one or several topics; durable when it returns.

        One that raised has happened wholly, not at all, or (Kafka) for some first records of each topic.
        """

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        """Appends a consumer's results and moves its ``done`` forward, durable, all or nothing.

        One that does not move it forward is a repetition, and appends nothing: after Unavailable it is
        unknown whether it happened, and the same may be tried again. Raises NotOwner when somebody else
        works on the consumer's partition now; nothing was appended then.
        """

    async def commit_part(
        self, consumer: str, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        """Appends some of a consumer's results, all or nothing; its ``done`` moves with the ``commit`` that
        ends them.

        For more than one commit can take. After Unavailable it is unknown whether it happened: repeated, it
        may be there twice, and so it may after a kill before that commit. Raises NotOwner as ``commit`` does.
        """

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        records_max: int = 1000,
        bytes_max: int = 8 << 20,
    ) -> list[Record]:
        """Records from ``offset`` on, at least one if there is one, within both limits. Never waits."""

    async def first(self, topic: str, partition: int = 0) -> int:
        """Up to which offset the log has let go of the topic; 0: it still has all that it ever had."""

    async def end(self, topic: str, partition: int = 0) -> int:
        """The offset the next record will get."""

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        """Waits until a record at ``offset`` or behind it exists; false after ``timeout_s``."""

    async def trim(self, topic: str, offset: int, partition: int = 0) -> None:
        """Lets go of records before ``offset``; reading there starts at the first kept one."""

    async def confirm(self, consumer: str, partition: int = 0) -> None:
        """Raises NotOwner when somebody else works on the consumer's partition now.

        For what cannot be part of a commit: writes to other storage, which a copy that was frozen for a
        while must not do late.
        """

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        """Saves changed chunks of a consumer's state, drops others, and moves its offset, all or nothing.

        Moves ``done`` to the offset, too, where it was before it. Raises NotOwner as ``commit`` does.
        """

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        """The consumer's saved state; offset 0 and no chunks when there is none.

        A chunk may be read only when it is asked for, in any thread: ask before the next ``save``. That may
        raise Unavailable.

        On Kafka this takes the consumer's partition over: whoever had it gets NotOwner from now on.
        """

    async def forget(self, consumer: str, partition: int = 0) -> None:
        """Removes a consumer's saved state, so that it starts again from the first record."""

    async def close(self) -> None:
        """Finishes what was appended and lets go of the storage."""
