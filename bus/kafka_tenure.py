"""A transactional id that is ours until somebody else takes it.

A producer of that id is started, which finishes the transaction of the one before and shuts it out.
After an error ours goes on under its own id and epoch, which never shuts out a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from bus.kafka_connection import Connection
from bus.kafka_producer import Offset, Place, Producer, Records
from bus.kafka_settings import TRANSACTION_MS
from metering.errors import NotOwner, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Is(Enum):
    NEW = "not taken up yet"
    OURS = "ours"
    UNSURE = "the last transaction's outcome is not known"
    LOST = "somebody else's"


class Tenure:
    """Transactions under one id, used by one task at a time.

    ``begun`` is awaited whenever its producer was started: what is known of before may have changed.
    ``coding``: in which thread batches are made that come as blocks. ``where``: for people.
    """

    def __init__(
        self,
        connection: Connection,
        transactional_id: str,
        where: str,
        *,
        begun: Callable[[], Awaitable[None]],
        coding: Executor | None = None,
    ) -> None:
        self.producer = Producer(connection, transactional_id, coding=coding)
        self._where = where
        self._begun = begun
        self._is = _Is.NEW

    async def take(self) -> None:
        """Takes it up, whoever had it; after an unfinished attempt only if nobody has taken it since."""
        with self.watched():
            await self._start(over=self._is is not _Is.UNSURE)

    async def ready(self) -> None:
        """Takes it up where that has not happened yet; raises NotOwner where it is lost."""
        if self._is is _Is.LOST:
            hint = "Load its state to take it up again."
            raise NotOwner("somebody else works on this partition now", where=self._where, hint=hint)
        if self._is is not _Is.OURS:
            with self.watched():
                await self._start(over=self._is is _Is.NEW)

    async def confirm(self) -> None:
        """Raises NotOwner where it is lost."""
        await self.ready()
        with self.watched():
            await self.producer.start(over=False)

    async def transact(self, parts: Mapping[Place, Records], offset: Offset | None = None) -> None:
        """Appends to several places and moves an offset, all or nothing."""
        with self.watched():
            try:
                async with asyncio.timeout(TRANSACTION_MS / 1000):
                    await self.producer.transact(parts, offset)
            except (NotOwner, TimeoutError) as error:
                # Kafka shuts out those who are slow, too: then nobody has come, and this one may go on.
                await self._start(over=False)
                what = "a transaction took too long, Kafka has given it up"
                hint = "It is tried again; look whether brokers or this machine are overloaded."
                raise Unavailable(what, where=self._where, hint=hint) from error

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What it means for the tenure when this fails."""
        try:
            yield
        except NotOwner:
            self._is = _Is.LOST
            raise
        except BaseException:
            if self._is is _Is.OURS:
                self._is = _Is.UNSURE
            raise

    async def _start(self, *, over: bool) -> None:
        await self.producer.start(over=over)
        await self._begun()
        self._is = _Is.OURS
