"""A log that another one is behind: what a subclass does not do itself goes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bus.log import Entry, Log, Record


class LogThrough:
    """The part of ``bus.log.Log`` that has nothing to do with consumers' states and positions."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @property
    def partitions(self) -> int:
        return self._log.partitions

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        await self._log.append(topics, partition)

    async def read(self, topic: str, offset: int, *, partition: int = 0, **most: int) -> list[Record]:
        return await self._log.read(topic, offset, partition=partition, **most)

    async def first(self, topic: str, partition: int = 0) -> int:
        return await self._log.first(topic, partition)

    async def end(self, topic: str, partition: int = 0) -> int:
        return await self._log.end(topic, partition)

    async def wait(self, topic: str, offset: int, timeout_s: float, partition: int = 0) -> bool:
        return await self._log.wait(topic, offset, timeout_s, partition)

    async def trim(self, topic: str, offset: int, partition: int = 0) -> None:
        await self._log.trim(topic, offset, partition)

    async def close(self) -> None:
        """The log behind is somebody else's."""
