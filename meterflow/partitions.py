"""One part of work for each partition that this copy owns, as partitions come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import structlog

from metering.errors import NotOwner

_log = structlog.get_logger(__name__)


class Part(Protocol):
    """Works on one partition. ``run`` until ``stop``, which returns when ``run`` has ended."""

    async def run(self) -> None: ...

    async def stop(self) -> None: ...


P = TypeVar("P", bound=Part)


class Partitions(Generic[P]):
    """The parts by partition. ``make`` prepares one; ``failed`` is told what ends one before its time.

    A part that is told that it does not own its partition any more ends quietly: somebody else works
    on it. ``lost`` is told, to take it again should it stay here all the same.
    """

    def __init__(self, make: Callable[[int], Awaitable[P]], failed: Callable[[BaseException], None]) -> None:
        self.parts: dict[int, P] = {}
        self.lost: Callable[[int], None] = lambda _: None
        self._make, self._failed = make, failed
        self._runs: dict[int, asyncio.Task[None]] = {}

    async def take(self, partition: int) -> None:
        """Begins to work on a partition; returns when it has begun. Raises what keeps it from that."""
        try:
            part = await self._make(partition)
        except NotOwner:
            self._gone(partition)
            return
        self.parts[partition] = part
        self._runs[partition] = asyncio.create_task(self._run(partition, part))
        _log.info("works on a partition", partition=partition)

    async def give_up(self, partition: int) -> None:
        """Ends the work on a partition, what is in hand finished; returns when it has ended."""
        part, run = self.parts.get(partition), self._runs.get(partition)
        if part is None or run is None:
            return
        await part.stop()
        await asyncio.gather(run, return_exceptions=True)
        self.parts.pop(partition, None)
        self._runs.pop(partition, None)
        _log.info("has handed over a partition", partition=partition)

    async def _run(self, partition: int, part: P) -> None:
        try:
            await part.run()
        except NotOwner:
            self._gone(partition)
        except Exception as error:  # noqa: BLE001 whatever it is, the role tells and ends
            self._failed(error)

    def _gone(self, partition: int) -> None:
        _log.info("another copy has taken over a partition", partition=partition)
        self.parts.pop(partition, None)
        self._runs.pop(partition, None)
        self.lost(partition)
