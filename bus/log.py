"""The log's port: what ingest, processors and sinks know of Kafka, SQLite or memory.

A topic is an ordered, durable list of records with ascending offsets from 0 in each partition.
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
    """A consumer's saved state: everything before ``offset`` of its input topic is in it."""

    offset: int
    chunks: Mapping[str, bytes]


class Log(Protocol):
    """Durable topics, snapshots and consumer positions.

    All methods are coroutines; they raise ``metering.errors.Unavailable`` when the storage cannot
    take or give anything now (disk full, locked, I/O error) and the call may be tried again: an
    append that raised has either happened wholly or not at all, and a caller that repeats it must
    bear the same records twice.
    """

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        """Appends to one or several topics at once; durable, all or nothing, when it returns."""

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

    async def end(self, topic: str, partition: int = 0) -> int:
        """The offset the next record will get."""

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        """Waits until a record at ``offset`` or behind it exists; false after ``timeout_s``."""

    async def trim(self, topic: str, offset: int, partition: int = 0) -> None:
        """Lets go of records before ``offset``; reading there starts at the first kept one."""

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        """Saves changed chunks of a consumer's state, drops others, and moves its offset, all or nothing."""

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        """The consumer's saved state; offset 0 and no chunks when there is none."""

    async def forget(self, consumer: str, partition: int = 0) -> None:
        """Removes a consumer's saved state, so that it starts again from the first record."""

    async def close(self) -> None:
        """Finishes what was appended and lets go of the storage."""
