"""Group commit: what all connections send is gathered while the batch before it becomes durable.

    gather ──> decode ──> one append to each partition ──> every PUBACK of the batch

One batch is under way at a time; its appends to different partitions run side by side. Nothing is
acknowledged before all have returned; one that raises is repeated, it alone, every half second
until it works, and the sockets are not read meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from bus.decision_frames import encode_decisions
from bus.frames import encode_readings, encode_rows
from bus.log import PAYLOADS, READINGS, REJECTED, Entry, Log
from bus.partition import partition_of
from bus.payload_frames import encode_payloads
from ingest.counters import Counters
from ingest.decode import Decoded, Decoder, Delivery, Rejected
from metering.errors import Unavailable

_log = structlog.get_logger(__name__)
RETRY_S = 0.5
_Records = Mapping[str, Sequence[Entry]]
_ROWS_MAX, _ROWS_BYTES_MAX = 1_000, 1 << 20
"""What one record of rejected rows holds at most (one row may be larger)."""


class Source(Protocol):
    """Who sent a parcel and waits for its acknowledgement."""

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """Everything in ``parcels`` parcels is durable; ``ids`` want a PUBACK, in this order."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one connection sent at one time: messages, or one that is refused unread.

    ``ids``: packet ids to be acknowledged, in order of receipt; ``source`` None: nobody waits.
    """

    source: Source | None
    delivery: Delivery
    ids: Sequence[bytes]
    refused: Rejected | None = None


class Intake:
    """The way from the connections into the log. ``hold``: told to stop reading, or to go on."""

    def __init__(
        self,
        log: Log,
        decoder: Decoder,
        counters: Counters,
        clock_ms: Callable[[], int],
        gathered_bytes_max: int,
        hold: Callable[[bool], None],
    ) -> None:
        self._log = log
        self._decoder = decoder
        self._counters = counters
        self._clock_ms = clock_ms
        self._gathered_bytes_max = gathered_bytes_max
        self._hold = hold
        self._held = False
        self._parcels: list[Parcel] = []
        self._bytes = 0
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stamp_ms = 0
        self._turn = asyncio.Lock()
        self._failing: dict[int, str] = {}
        """Partitions whose append has failed and is being repeated, with the reason."""

    def now_ms(self) -> int:
        """The clock, but never backwards: records are stamped with it."""
        self._stamp_ms = max(self._stamp_ms, self._clock_ms())
        return self._stamp_ms

    @property
    def held(self) -> bool:
        return self._held

    def gather(self, parcel: Parcel, size_bytes: int) -> None:
        """Takes a parcel into the next batch. ``size_bytes``: what it occupies."""
        self._parcels.append(parcel)
        self._bytes += size_bytes
        self._filled.set()
        self._idle.clear()
        if self._bytes > self._gathered_bytes_max:
            self._set_held(True)

    @property
    def busy(self) -> bool:
        """Whether anything gathered is not durable yet."""
        return not self._idle.is_set()

    async def idle(self) -> None:
        """Waits until everything gathered is durable and acknowledged."""
        await self._idle.wait()

    def between_batches(self) -> asyncio.Lock:
        """Held by somebody, nothing decoded is on its way to the log; what comes is gathered meanwhile."""
        return self._turn

    async def run(self) -> None:
        """Commits batch after batch, until cancelled."""
        while True:
            await self._filled.wait()
            batch, self._parcels, self._bytes = self._parcels, [], 0
            self._filled.clear()
            self._set_held(False)
            async with self._turn:
                await self._commit(batch)
            if not self._parcels:
                self._idle.set()

    async def _commit(self, batch: list[Parcel]) -> None:
        decoded = self._decoded(batch)
        await self._append(_records(decoded, batch[-1].delivery.received_ms))
        self._counters.add(decoded)
        self._acknowledge(batch)

    def _decoded(self, batch: list[Parcel]) -> Decoded:
        decoded = self._decoder.decode([parcel.delivery for parcel in batch])
        refused = [parcel.refused for parcel in batch if parcel.refused is not None]
        return replace(decoded, rejected=decoded.rejected + refused, received=decoded.received + len(refused))

    async def _append(self, records: _Records) -> None:
        """Returns when the records are durable on all their partitions, however long that takes."""
        partitions = self._log.partitions
        if partitions == 1:
            await self._append_to(0, records)
            return
        shares = _shares(records, partitions)
        async with asyncio.TaskGroup() as appends:
            for partition, share in shares.items():
                appends.create_task(self._append_to(partition, share))

    async def _append_to(self, partition: int, records: _Records) -> None:
        while True:
            try:
                await self._log.append(records, partition)
            except Exception as error:  # noqa: BLE001 whatever it is: unacknowledged, and tried again
                self._append_failed(error, partition)
                await asyncio.sleep(RETRY_S)
            else:
                break
        if self._failing:
            self._append_worked(partition)

    def _append_worked(self, partition: int) -> None:
        self._failing.pop(partition, None)
        self._counters.append_error = next(iter(self._failing.values()), "")
        if not self._failing:
            _log.info("the log takes readings again, acknowledging goes on")
            self._set_held(self._bytes > self._gathered_bytes_max)

    def _append_failed(self, error: Exception, partition: int) -> None:
        self._counters.append_errors += 1
        text = str(error) or type(error).__name__
        if text not in self._failing.values():
            tell = _log.error if isinstance(error, Unavailable) else _log.exception
            tell("the log does not take readings, nothing is acknowledged until it does", cause=text)
        self._failing[partition] = text
        self._counters.append_error = text
        self._set_held(True)

    def _acknowledge(self, batch: list[Parcel]) -> None:
        """One call for each connection, its packet ids in order of receipt."""
        waiting: dict[Source, tuple[list[bytes], int]] = {}
        for parcel in batch:
            if parcel.source is not None:
                ids, parcels = waiting.get(parcel.source) or ([], 0)
                ids += parcel.ids
                waiting[parcel.source] = ids, parcels + 1
        for source, (ids, parcels) in waiting.items():
            source.acknowledge(ids, parcels)

    def _set_held(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            self._hold(held)


def _shares(records: _Records, partitions: int) -> dict[int, dict[str, list[Entry]]]:
    """The records by partition: everything of a plant on its own, what is of no plant on the first."""
    shares: dict[int, dict[str, list[Entry]]] = {}
    for topic, entries in records.items():
        for entry in entries:
            share = shares.setdefault(partition_of(entry.key, partitions), {})
            share.setdefault(topic, []).append(entry)
    return shares


def _records(decoded: Decoded, stamp_ms: int) -> dict[str, list[Entry]]:
    readings = [Entry(r.plant, encode_readings(r), stamp_ms) for r in decoded.readings]
    decided = decoded.decisions.items()
    decisions = [Entry(plant, encode_decisions(plant, each), stamp_ms) for plant, each in decided]
    records = {
        READINGS: readings + decisions,
        REJECTED: [Entry(key, encode_rows(REJECTED, rows), stamp_ms) for key, rows in _portions(decoded)],
        PAYLOADS: [
            Entry(each.plant, frame, stamp_ms) for each in decoded.readings for frame in encode_payloads(each)
        ],
    }
    return {topic: entries for topic, entries in records.items() if entries}


def _portions(decoded: Decoded) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Rejected rows by plant, in records of bearable size."""
    by_plant: dict[str, list[dict[str, object]]] = {}
    for rejected in decoded.rejected:
        by_plant.setdefault(rejected.plant, []).append(rejected.row)
    for plant, rows in by_plant.items():
        portion: list[dict[str, object]] = []
        size = 0
        for row in rows:
            row_bytes = len(str(row["payload"]))
            if portion and (size + row_bytes > _ROWS_BYTES_MAX or len(portion) == _ROWS_MAX):
                yield plant, portion
                portion, size = [], 0
            portion.append(row)
            size += row_bytes
        yield plant, portion
