"""From the log into InfluxDB: the results and rejected messages of one partition, in order, none skipped.

The position on the log moves only when InfluxDB has said 204 to everything before it, together with the
rows of ``rejected`` for what it refused; while open rollup rows wait (``influx_waiting.py``) it stays
behind what was read. A process that is killed in between stores the same rows again, as the same points:
``influx_merge.py`` sees to it that no older row stays as the last word. What the bucket itself says of how
far it is filled (``influx_runs.py``) goes before the position: it may have been emptied.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from bus.frames import decode_table, encode_rows
from bus.log import REJECTED, RESULTS, Entry, Log, Record
from metering.errors import NotOwner, Unavailable
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import measurement
from sinks.influx_runs import Offsets, Runs
from sinks.influx_store import REJECTED_LOG, RESULTS_LOG, Frame, InfluxStore, Turned
from sinks.influx_waiting import WaitingRoom
from sinks.influx_writer import Stopped
from sinks.waits import placed, rest, until_a_record

log = logging.getLogger(__name__)

CONSUMER, REJECTED_CONSUMER = "sink", "sink-rejected"
"""Names of the sink's positions on the topics ``results`` and ``rejected``."""
BATCH_BYTES_MAX = 512 << 10
"""Of encoded records at once; a quarter of the embedded store's, so that an outage costs no memory."""
REST_RATIO, REST_S_MAX = 1, 0.1
"""Having caught up, it rests as long as it has computed: a trickle costs half a core at most. Waiting for
InfluxDB is rest enough.
"""
RETRY_S = 0.5
CONFIRM_S = 1.0
"""How long a sink may write to InfluxDB, which cannot refuse it, on the word that the partition is its own.
A copy is taken for dead after ten seconds; one that was frozen so long asks again before it goes on."""
CHECK_S = 5.0
"""How often the bucket is asked whether it still has what was stored."""
STOP_S = 2.0
"""How long a stop lets InfluxDB, where it answers, take what is in hand and what waits."""
_MEASURE_S = 1.0
_GAP = 1
"""Between two records that follow each other Kafka may have put a mark of its own."""


class InfluxSink:
    """Stores one partition's results. One ``run`` at a time; counters are plain, read them any time.

    ``rows``: stored by table; ``flushes``; ``flush_s``: how long the last took; ``lag``: records not
    yet stored; ``refused``: rows that InfluxDB would not take, which are on ``rejected`` now;
    ``unshown``: those of them that were rows of ``rejected`` themselves, and are nowhere but on the
    log; ``moved_s``: when it last stored something, or had nothing to store (monotonic clock).
    """

    def __init__(self, source: Log, settings: InfluxSettings, partition: int = 0) -> None:
        self.rows: Counter[str] = Counter()
        self.flushes = 0
        self.flush_s = 0.0
        self.lag = 0
        self.refused = 0
        self.unshown = 0
        self.moved_s = time.monotonic()
        self.partition = partition
        self._log = source
        self._loop = asyncio.get_running_loop()
        self._store = InfluxStore(settings, partition=partition, guard=self._guard)
        self._runs = Runs(settings, partition, self._store.writer)
        self._confirmed_s = -CONFIRM_S
        self._checked_s = 0.0
        self._positions = {CONSUMER: 0, REJECTED_CONSUMER: 0}
        self._room = WaitingRoom()
        self._unread = 0
        self._had = 0
        self._stamp_ms = 0
        self._computed_s = 0.0
        self._log_error = ""
        self._said: set[str] = set()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stored = asyncio.Event()
        self._stopped.set()

    @property
    def stalled(self) -> bool:
        """Whether nothing can be stored now. It is tried again, without a restart."""
        return self._store.writer.stalled or bool(self._log_error)

    @property
    def reason(self) -> str:
        """Why it is stalled, or the bucket not whole, and what to do about it; else empty."""
        return self._store.writer.reason or self._log_error or self._lacking()

    @property
    def person(self) -> bool:
        """Whether it is stalled until a person does something (token, bucket, right)."""
        return self._store.writer.person

    @property
    def failures(self) -> int:
        """Attempts that InfluxDB did not answer, or refused."""
        return self._store.writer.failures

    def position(self) -> int:
        """The offset of ``results`` up to which everything is stored."""
        return self._positions[CONSUMER]

    def rejected_position(self) -> int:
        """The same of ``rejected``."""
        return self._positions[REJECTED_CONSUMER]

    async def run(self) -> None:
        """Stores until ``stop``; waits for InfluxDB and the log as long as it takes.

        Raises NotOwner when the partition has gone to another copy, and MeterflowError for a record
        that cannot be read: nothing is skipped. Either way nothing is lost.
        """
        self._stopped.clear()
        self._store.writer.start()
        try:
            while not self._stopping.is_set() and not await self._persist(self._load):
                pass
            while not self._stopping.is_set():
                await self._persist(self._step)
            await self._persist(self._clear)
            await asyncio.to_thread(self._runs.end, self._offsets())
        except NotOwner:
            await asyncio.to_thread(self._runs.confess)
            raise
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Ends ``run``; waits for what is in hand to be stored, not for InfluxDB to come back."""
        self._stopping.set()
        if not self.stalled:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), STOP_S)
        self._store.writer.stop()
        await self._stopped.wait()

    async def close(self) -> None:
        """Lets go of the connections; ``run`` must have ended."""
        await asyncio.to_thread(self._store.close)
        await asyncio.to_thread(self._runs.close)

    async def caught_up(self) -> None:
        """Waits until everything that is on the log now is stored."""
        ends = await self._ends()
        while any(self._positions[name] < end for name, end in ends.items()):
            stored = self._stored
            await stored.wait()

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> bool:
        """One step, true; what the log cannot give or take now is tried again later."""
        try:
            await step()
        except Stopped:
            self._room.restart(self.position())  # what was in hand is not stored
            return False
        except Unavailable as error:
            if not self._log_error:
                log.error("the log does not answer; what is to be stored waits there: %s", error)
            self._log_error = str(error)
            await self._sleep(RETRY_S)
            return False
        self._log_error = ""
        return True

    async def _load(self) -> None:
        snapshots = [await self._log.load(name, self.partition) for name in self._positions]
        said = Offsets(*(max(snapshot.done, snapshot.offset) for snapshot in snapshots))
        ends = Offsets(*(await self._ends()).values())
        there = await asyncio.to_thread(self._runs.begin, said, ends)
        self._had = max(self._had, said.results)
        self._go_back(there)

    async def _check(self) -> None:
        """Goes back where the bucket has less, or older, rows than were stored."""
        if time.monotonic() - self._checked_s > CHECK_S or self._runs.unsure:
            back = await asyncio.to_thread(self._runs.check, self._offsets())
            if back is None:
                self._checked_s = time.monotonic()
            else:
                self._go_back(back)

    def _go_back(self, offsets: Offsets) -> None:
        """To these offsets, also where they are the positions: rows behind them may have been stored."""
        self._checked_s = time.monotonic()
        self._store.forget()
        self._had = max(self._had, self.position())
        self._positions[CONSUMER], self._positions[REJECTED_CONSUMER] = offsets
        self._room.restart(offsets.results)

    def _offsets(self) -> Offsets:
        return Offsets(self.position(), self.rejected_position())

    def _lacking(self) -> str:
        """What the bucket has not that it should have."""
        if self._runs.lost:
            return (
                f"InfluxDB lacks {self._runs.lost} records of results of partition {self.partition} that the "
                "log has let go of\n  Give kafka.results another name and influxdb.bucket an empty bucket: "
                "the processors work everything out again from the readings."
            )
        if self.position() < self._had:
            return (
                f"InfluxDB lacks results that it had (a bucket emptied or restored, a copy that was killed): "
                f"they are stored again from the log, {self._had - self.position()} records to go"
            )
        return ""

    async def _step(self) -> None:
        await self._check()
        started, self._computed_s = time.perf_counter(), 0.0
        moved = await self._results()
        moved |= await self._rejected()
        await self._measure()
        if moved:
            self._taken(time.perf_counter() - started)
            await self._sleep(0.0 if self._unread else min(self._computed_s * REST_RATIO, REST_S_MAX))
        elif not self._stopping.is_set():
            if self._unread:  # the log has let go of it, or has not fetched it yet
                await self._sleep(REST_S_MAX)
            else:
                self.moved_s = time.monotonic()
            await self._wait()

    async def _results(self) -> bool:
        """Stores the next records of results, or what has waited long enough. False: there is neither."""
        room = self._room
        records = await self._log.read(
            RESULTS, room.read, partition=self.partition, bytes_max=BATCH_BYTES_MAX
        )
        if not records and room.rest_s(time.monotonic()) != 0:
            return False
        if records and records[0].offset > room.read + _GAP:
            if not room.empty:
                await self._clear()
                return True
            await self._passed_over(room.read, records[0].offset)
        await self._take(records)
        return True

    async def _clear(self) -> None:
        """Stores everything that waits."""
        if not self._room.empty:
            await self._take((), whole=True)

    async def _take(self, records: Sequence[Record], *, whole: bool = False) -> None:
        """Stores what of the records is urgent and what is to leave the waiting room, and moves the position.

        Rows that are refused are said together with the position, so that everything goes with them.
        """
        turned = await self._watched(asyncio.to_thread(self._write_results, records, whole))
        self._stamp_ms = records[-1].stamp_ms if records else self._stamp_ms
        if self._room.stored > self.position():
            entries = self._rejections(turned, RESULTS_LOG, self._stamp_ms)
            await self._commit(CONSUMER, self._room.stored, entries)

    async def _rejected(self) -> bool:
        """Stores the next records of rejected, and moves the position behind them."""
        position = self._positions[REJECTED_CONSUMER]
        records = await self._log.read(
            REJECTED, position, partition=self.partition, bytes_max=BATCH_BYTES_MAX
        )
        if not records:
            return False
        turned = await self._watched(asyncio.to_thread(self._write_rejected, records))
        self._rejections(turned, REJECTED_LOG, records[-1].stamp_ms)
        await self._commit(REJECTED_CONSUMER, records[-1].offset + 1, [])
        return True

    async def _passed_over(self, position: int, offset: int) -> None:
        """Notes what the log had let go of between these two, before the position moves behind it."""
        first = await self._log.first(RESULTS, self.partition)
        lost = min(first, offset) - position
        if lost > _GAP:
            self._runs.lost = max(self._runs.lost, lost)  # the position may pass the same gap again
            log.error("%s", self._lacking())
            await asyncio.to_thread(self._runs.note, self._offsets())

    def _guard(self) -> None:
        """Before each request, in the writer's thread: raises NotOwner when the partition is another's."""
        if time.monotonic() - self._confirmed_s > CONFIRM_S:
            asyncio.run_coroutine_threadsafe(self._confirm(), self._loop).result()

    async def _confirm(self) -> None:
        asked_s = time.monotonic()
        await self._log.confirm(CONSUMER, self.partition)
        self._confirmed_s = asked_s

    async def _watched(self, writing: Coroutine[Any, Any, list[Turned]]) -> list[Turned]:
        """The same, with ``lag`` kept up while InfluxDB is away."""
        task = asyncio.ensure_future(writing)
        while not (await asyncio.wait({task}, timeout=_MEASURE_S))[0]:
            with suppress(Unavailable):
                await self._measure()
        return task.result()

    def _write_results(self, records: Sequence[Record], whole: bool) -> list[Turned]:
        room, now_s = self._room, time.monotonic()
        done = records[-1].offset + 1 if records else room.read
        turned = self._write(room.sift([decode_table(record.value) for record in records], done, now_s))
        turned += self._write(room.next(now_s, whole=whole))
        if turned:
            turned += self._write(room.next(now_s, whole=True))
        return turned

    def _write_rejected(self, records: Sequence[Record]) -> list[Turned]:
        return self._write([placed(record) for record in records], REJECTED_LOG)

    def _write(self, frames: Sequence[Frame], name: str = RESULTS_LOG) -> list[Turned]:
        if not frames:
            return []
        started_s = time.thread_time()
        self._runs.carry(self.position())
        turned = self._store.store(frames, name)
        for table, rows in frames:
            self.rows[table] += len(rows)
        for each in turned:
            self.rows[each.table] -= 1
        self._computed_s += time.thread_time() - started_s
        return turned

    def _rejections(self, turned: Sequence[Turned], name: str, stamp_ms: int) -> list[Entry]:
        """What was refused, as a record of ``rejected``. Refused rows of that topic itself stay there only:
        said again, they would be refused again, for ever.
        """
        self.refused += len(turned)
        if not turned:
            return []
        log.warning(
            "InfluxDB refused %d rows, first: %s: %s", len(turned), turned[0].reason, turned[0].detail
        )
        if name == REJECTED_LOG:
            self.unshown += len(turned)
            return []
        rows = [each.row(stamp_ms) for each in turned if not self._is_said(each)]
        return [Entry("", encode_rows("rejected", rows), stamp_ms)] if rows else []

    def _is_said(self, turned: Turned) -> bool:
        """Rows that say how things stand now come with every batch. In a bucket whose retention refuses
        them, once is enough.
        """
        said = turned.table in self._said
        if measurement(turned.table).time is None:
            self._said.add(turned.table)
        return said

    async def _commit(self, consumer: str, done: int, entries: Sequence[Entry]) -> None:
        """Moves the position, for ever if need be: what it is about is stored."""
        topics = {REJECTED: entries} if entries else {}
        while True:
            try:
                await self._log.commit(consumer, done, topics, self.partition)
                break
            except Unavailable as error:
                self._log_error = str(error)
                await self._sleep(RETRY_S)
                if self._stopping.is_set():
                    raise
        self._positions[consumer] = done

    def _taken(self, seconds: float) -> None:
        self.flushes += 1
        self.flush_s = seconds
        self.moved_s = time.monotonic()
        self._stored.set()
        self._stored = asyncio.Event()

    async def _measure(self) -> None:
        ends = await self._ends()
        self.lag = sum(max(end - self._positions[name], 0) for name, end in ends.items())
        self._unread = self.lag - max(min(self._room.read, ends[CONSUMER]) - self.position(), 0)

    async def _ends(self) -> dict[str, int]:
        topics = {CONSUMER: RESULTS, REJECTED_CONSUMER: REJECTED}
        ends = await asyncio.gather(*(self._log.end(topic, self.partition) for topic in topics.values()))
        return dict(zip(topics, ends, strict=True))

    async def _wait(self) -> None:
        """Until a record comes, rows have waited for long enough, or the stop."""
        offsets = {RESULTS: self._room.read, REJECTED: self.rejected_position()}
        rest_s = self._room.rest_s(time.monotonic())
        await until_a_record(self._log, offsets, self.partition, self._stopping, rest_s)

    async def _sleep(self, seconds: float) -> None:
        await rest(seconds, self._stopping)
