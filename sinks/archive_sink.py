"""From the log into the archive: readings and decisions, none skipped, however long a store stays away.

It reads the topic ``readings`` by itself, so that a slow store holds up no result. Records are gathered until
there is enough of them, or the first is old enough, or the stop comes; what is not written yet is still on
the log. The commit is in sinks.archive_writer; after it the position on the log moves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from uuid import uuid4

from bus.log import READINGS, Log, Record
from metering.errors import MeterflowError, NotOwner, Unavailable, UsageError
from sinks.archive_gathered import Gathered
from sinks.archive_gone import day_before, let_go
from sinks.archive_merge import Merger
from sinks.archive_place import Place
from sinks.archive_sites import SiteFiles, keep
from sinks.archive_writer import Gathering, Writer
from sinks.waits import rest, until_a_record

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

CONSUMER = "archive"
COST_MAX = 500_000
"""Of what is gathered (archive_gathered.Gathered.cost): some 50 MB, and 150 while it is written."""
AGE_S = 900.0
READ_BYTES_MAX = 2 << 20
RETRY_S = (0.5, 30.0)
REST_S_MAX = 5.0
LET_GO_EVERY_S = 3600.0
_NUMBER, _SHAPE = "number", re.compile("[0-9a-f]{32}")
"""What the log keeps of the archive: the number that tells it from another log's; what it looks like."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is archived: the records of a topic, by a consumer. ``gather``: from partition, first and until.

    ``once``: the log lets go of what is archived, as nobody else reads it.
    """

    consumer: str
    topic: str
    gather: Callable[[int, int, int], Gathering]
    once: bool = False


OF_READINGS = Kind(CONSUMER, READINGS, Gathered)


class ArchiveSink:
    """Archives one partition. ``run`` until ``stop``; plain attributes for metrics.

    ``offset``: the next record to be archived, ``end``: of the topic; ``error``: why nothing can be archived
    now; ``moved_s``: when it last came forward (monotonic clock); ``waiting_stamp_ms``: when the oldest
    gathered record was received, 0 where there is none. ``readings``: archived since the start.
    ``site``: what readings are taken in by, to be kept beside them. ``keep_days``: of raw payloads, None: for
    ever; ``let_go``: how many of them have gone since the start.
    """

    def __init__(
        self,
        source: Log,
        place: Place,
        partition: int = 0,
        *,
        kind: Kind = OF_READINGS,
        site: SiteFiles | None = None,
        cost_max: int = COST_MAX,
        age_s: float = AGE_S,
        keep_days: int | None = None,
    ) -> None:
        self.offset = self.end = 0
        self.error = ""
        self.running = False
        self.moved_s = time.monotonic()
        self.waiting_stamp_ms = 0
        self.readings = self.let_go = 0
        self._log = source
        self._partition = partition
        self._site, self._kind = site, kind
        self._writer = Writer(place, partition)
        self._merger: Merger | None = Merger(self._writer)
        self._cost_max, self._age_s = cost_max, age_s
        self._gathered = kind.gather(partition, 0, 0)
        self._until: int | None = None
        """Records from there on are archived already."""
        self._told_of_hole = False
        self._begun_s = 0.0
        self._keep_days, self._let_go_s = keep_days, 0.0
        self._retry_s = RETRY_S[0]
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def lag(self) -> int:
        """How many records wait: ticks only as long as they are not read."""
        return self._gathered.records + max(0, self.end - self._gathered.until)

    @property
    def keeps_for_a_while(self) -> bool:
        """Whether it lets go of anything."""
        return self._keep_days is not None

    async def run(self) -> None:
        """Archives until ``stop``; what cannot be written now is tried again, for ever.

        Raises NotOwner when somebody else has taken over the partition, MeterflowError for a record that
        cannot be read.
        """
        self._stopped.clear()
        self.running = True
        try:
            await self._patiently(self._start)
            while not self._stopping.is_set():
                await self._patiently(self._step)
            await self._last()
        finally:
            self.running = False
            self._stopped.set()

    async def stop(self) -> None:
        """Ends ``run`` when what was gathered is archived; what cannot be now waits on the log."""
        self._stopping.set()
        await self._stopped.wait()

    async def keep_site(self, site: SiteFiles) -> None:
        """Keeps another site file, by which readings are taken in soon. Raises Unavailable."""
        await self._keep(site)

    async def read_up_to(self, offset: int) -> None:
        """Waits until all records before ``offset`` are gathered, or archived."""
        while self._gathered.until < offset and not self._stopping.is_set():
            await rest(0.01, self._stopping)

    async def _start(self) -> None:
        """Takes the partition over, clears up after a kill, and sees how far the archive is."""
        done = await self._claim()
        if self._site is not None:
            await self._keep(self._site)
        first = await self._log.first(self._kind.topic, self._partition)
        await _apart(self._writer.open, done, first)
        await self._go_on()
        self.end = await self._log.end(self._kind.topic, self._partition)
        if self.offset > self.end:
            raise UsageError(
                f"the archive is ahead of the log (offset {self.offset}, the log ends at {self.end})",
                where=self._writer.place.where,
                hint="The log was lost, or is an old copy: put back a newer one, or archive elsewhere.",
            )

    async def _keep(self, site: SiteFiles) -> None:
        """A site file that cannot be read any more keeps no reading from the archive."""
        try:
            await _apart(keep, self._writer.place, site)
        except Unavailable:
            raise
        except (MeterflowError, OSError) as error:
            log.error("the site file is not kept in the archive: %s", error)

    async def _claim(self) -> int:
        """Takes the partition over; the archive's position on the log.

        The log has the archive's number before the archive has.
        """
        saved = await self._log.load(self._kind.consumer, self._partition)
        kept = saved.chunks.get(_NUMBER)
        known = "" if kept is None else kept.decode(errors="replace")
        damaged = kept is not None and not _SHAPE.fullmatch(known)
        if damaged:  # there was one: that of this archive, as nobody else writes to it
            known = await _apart(self._writer.marked)
            log.warning("what the log keeps of the archive is damaged: the archive's own number counts")
        found = await _apart(self._writer.number, known)
        if damaged or not known:
            known = known or uuid4().hex
            chunks = {_NUMBER: known.encode()}
            await self._log.save(self._kind.consumer, saved.offset, chunks, partition=self._partition)
        if not found:
            await _apart(self._writer.mark, known)
        return max(saved.done, saved.offset)

    async def _go_on(self) -> None:
        """Begins to gather anew. What the log has let go of stays a hole, which ``archive check`` tells."""
        first = await self._log.first(self._kind.topic, self._partition)
        at, self._until = self._writer.position(first)
        if self._writer.position(0)[0] < first and not self._told_of_hole:
            what = "the log has let go of %s that are not archived, before offset %s"
            log.error(what, self._kind.topic, first)
            self._told_of_hole = True
        self.offset = at
        self._gathered = self._kind.gather(self._partition, at, at)
        self.waiting_stamp_ms = 0

    async def _step(self) -> None:
        """Gathers some records; writes them when they are enough, or old enough."""
        self.end = await self._log.end(self._kind.topic, self._partition)
        if self._keep_days is not None and time.monotonic() >= self._let_go_s:
            await self._let_go(self._keep_days)
        if self._due():
            await self._commit()
            return
        records = await self._log.read(
            self._kind.topic, self._gathered.until, partition=self._partition, bytes_max=READ_BYTES_MAX
        )
        if records:
            await _apart(self._take, records)
            return
        if self._gathered.empty:
            self.moved_s = time.monotonic()
        due_s = None if self._gathered.empty else max(self._begun_s + self._age_s - time.monotonic(), 0.0)
        offsets = {self._kind.topic: self._gathered.until}
        await until_a_record(self._log, offsets, self._partition, self._stopping, due_s)

    def _due(self) -> bool:
        gathered = self._gathered
        if self._until is not None and gathered.until >= self._until:
            return True
        if gathered.empty:
            return False
        return gathered.cost >= self._cost_max or time.monotonic() - self._begun_s >= self._age_s

    def _take(self, records: list[Record]) -> None:
        """As many as may be together, and none that is archived already."""
        for record in records:
            if self._until is not None and record.offset >= self._until:
                self._gathered.until = self._until
                return
            was_empty = self._gathered.empty
            self._gathered.take(record)
            if was_empty and not self._gathered.empty:
                self._begun_s, self.waiting_stamp_ms = time.monotonic(), record.stamp_ms
            if self._gathered.cost >= self._cost_max:
                return

    async def _last(self) -> None:
        """What is gathered when the stop comes. It is not waited for a store that takes nothing now."""
        with suppress(Unavailable):
            if not self._gathered.empty:
                await self._commit()

    async def _commit(self) -> None:
        started_s = time.monotonic()
        await self._log.confirm(self._kind.consumer, self._partition)
        files = await _apart(self._writer.put, self._gathered)
        await self._log.confirm(self._kind.consumer, self._partition)
        manifest = await _apart(self._writer.commit, self._gathered.span, files, 0)
        self.readings += manifest.readings
        span = manifest.span
        await self._go_on()
        self.moved_s = time.monotonic()
        await self._patiently(lambda: self._log.commit(self._kind.consumer, span.until, {}, self._partition))
        if self._kind.once:
            await self._patiently(lambda: self._log.trim(self._kind.topic, span.until, self._partition))
        await self._patiently(lambda: _apart(self._writer.finish, span))
        await self._merge()
        await rest(min(time.monotonic() - started_s, REST_S_MAX), self._stopping)

    async def _merge(self) -> None:
        """Merges what is small, as long as there is anything. What is damaged is left as it is."""
        try:
            while self._merger is not None and not self._stopping.is_set():
                await self._log.confirm(self._kind.consumer, self._partition)
                if not await _apart(self._merger.step, self._stopping.is_set):
                    return
        except (NotOwner, Unavailable):
            raise
        except MeterflowError as error:
            log.error("small files of the archive are not merged until the next start: %s", error)
            self._merger = None

    async def _let_go(self, keep_days: int) -> None:
        """Lets go of what is too old, and says so."""
        await self._log.confirm(self._kind.consumer, self._partition)
        before = day_before(time.time(), keep_days)
        try:
            told, rows = await _apart(let_go, self._writer, before, int(time.time() * 1000))
        except (NotOwner, Unavailable):
            raise
        except MeterflowError as error:
            log.error("raw payloads that are too old are kept for now: %s", error)
        else:
            self.let_go += rows
            if rows:
                what = "the archive has let go of %d raw payloads that came before %s (partition %d)"
                log.warning(what, rows, told.before, self._partition)
        self._let_go_s = time.monotonic() + LET_GO_EVERY_S

    async def _patiently(self, call: Callable[[], object]) -> None:
        """Does it, however often that takes; at the stop it is tried once."""
        while True:
            try:
                await call()  # type: ignore[misc]
            except Unavailable as error:
                if not self.error:
                    log.error("readings cannot be archived now; they wait on the log: %s", error)
                self.error = error.what
                if self._stopping.is_set():
                    return
                await rest(self._retry_s, self._stopping)
                self._retry_s = min(self._retry_s * 2, RETRY_S[1])
            else:
                if self.error:
                    log.warning("readings are archived again")
                self.error, self._retry_s = "", RETRY_S[0]
                return


async def _apart(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """In a thread, which ends before this does, even when it is cancelled: two must not write at once."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise
