"""What a worker runs: records in, records out, and a state that can be dumped and taken up.

Plants: readings become results and, where a group's plants may lie on several partitions, portions.
Groups: portions become results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa

from bus.decision_frames import DECISIONS_FORMAT, decode_decisions
from bus.frames import OtherFormat, decode_readings, encode_table
from bus.log import PORTIONS, READINGS, RESULTS, Entry, Record
from bus.reading_frames import Frames
from metering.roster import Roster
from metering.roster_share import share_of
from processors import state
from processors.batch import Batch, LogRecord, SeriesIndex, build, build_joined
from processors.engine import Engine
from processors.groups import Groups, PortionRecord
from processors.portions import Portioner, decode
from processors.room import IN_MEMORY, Room
from processors.rows import Rows

FRAME_ROWS_MAX = 5000
"""Of a record of results: some 200 bytes a row before compression, below what Kafka takes by default."""


PART_BYTES_MAX = 4 << 20
"""Of what is said at once: what a storage takes in a moment, and a process holds beside its state."""
STEP_READINGS = 60_000
"""So many are stepped at once: their columns stay near the processor, four times as many do not."""
STEP_POINTS = 4
"""At most one step for so many points: what is looked up of each point costs more than columns far away."""
BATCH_BYTES_MAX, BATCH_BYTES_A_POINT = 4 << 20, 64
"""Behind a backlog, 64 bytes a point or more: three readings of each, of some 18 bytes. What is open is said
once a batch, seven rows of each point: a batch of one reading each says more of that than of what is
new. A million points take 64 MB at once, some 20 s of work.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of what comes of records, by topic; ``last``: nothing else comes of them."""

    topics: dict[str, list[Entry]]
    last: bool


class Operators(Protocol):
    """``consumer`` and ``topic``: under which name they work on what. Calls come from other threads."""

    consumer: str
    topic: str
    batch_bytes_max: int
    """Of records that are taken at once, behind a backlog."""

    def parts(self, records: Sequence[Record]) -> Iterator[Part]:
        """Takes records of the topic in their order; what comes of them, in parts of some PART_BYTES_MAX.

        All parts must be taken before anything else is asked.
        """

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        """Chunks that changed since the last dump, by name, and names of chunks that are no more."""

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        """Whether a dump is of this version and of this very site file (no dump at all fits any)."""

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Brings a fresh state to a dump that fits."""

    def put_out(self) -> None:
        """What is old leaves memory, where there is room for it; to be called now and then."""


class Plants:
    """The operators of one partition's plants. With ``plants``, those of a roster that are on it.

    ``frame_rows_max``, ``part_bytes_max``: how much is said at once; a simulated world takes small ones.
    """

    consumer = "process"
    topic = READINGS

    def __init__(
        self,
        roster: Roster,
        *,
        plants: Sequence[str] | None = None,
        partition: int = 0,
        room: Room = IN_MEMORY,
    ) -> None:
        self.engine = Engine(roster if plants is None else share_of(roster, plants), room)
        self.rows = Rows(self.engine, of_groups=plants is None)
        """What a partition has of groups are only portions."""
        self._portioner = None if plants is None else Portioner(self.engine)
        self._partition = partition
        self.frame_rows_max, self.part_bytes_max = FRAME_ROWS_MAX, PART_BYTES_MAX
        points = len(self.engine.roster.points)
        self.batch_bytes_max = max(BATCH_BYTES_MAX, points * BATCH_BYTES_A_POINT)
        self._step_readings = max(STEP_READINGS, points // STEP_POINTS)

    def parts(self, records: Sequence[Record]) -> Iterator[Part]:
        stamp_ms = records[-1].stamp_ms
        frames = _Frames(stamp_ms, self.frame_rows_max)
        stepped = self._stepped(records, frames)
        del records  # whoever waits until the last part is said holds nothing of what it was made of
        yield from stepped
        portions = [] if self._portioner is None else self._portioner.take()
        entries = [Entry(str(self._partition), frame, stamp_ms) for frame in portions]
        for entry in entries[:-1]:
            yield Part({RESULTS: frames.taken(), PORTIONS: [entry]}, last=False)
        yield Part({RESULTS: frames.entries(), PORTIONS: entries[-1:]}, last=True)

    def _stepped(self, records: Sequence[Record], frames: _Frames) -> Iterator[Part]:
        for batch, closing in _batches(records, self._step_readings, self.engine.index):
            for step in self.engine.take(batch, closing=closing):
                for name, rows in self.rows.emit(step, rest=step.closing):
                    frames.add(name, rows)
                    if frames.bytes >= self.part_bytes_max:
                        yield Part({RESULTS: frames.taken()}, last=False)
                if self._portioner is not None:
                    self._portioner.add(step)

    def take(self, records: Sequence[Record]) -> dict[str, list[Entry]]:
        """All that comes of records, at once."""
        return together(self.parts(records))

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        return state.dump(self.engine)

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        return state.fits(self.engine, chunks)

    def load(self, chunks: Mapping[str, bytes]) -> None:
        state.load(self.engine, chunks)

    def put_out(self) -> None:
        self.engine.put_out()


class GroupsOfPlants:
    """The second stage. ``partition_of_plant``: of each plant of the roster, in its order."""

    consumer = "groups"
    topic = PORTIONS
    batch_bytes_max = BATCH_BYTES_MAX

    def __init__(self, roster: Roster, partition_of_plant: Sequence[int], room: Room = IN_MEMORY) -> None:
        self.groups = Groups(roster, partition_of_plant, room)

    def parts(self, records: Sequence[Record]) -> Iterator[Part]:
        frames = _Frames(records[-1].stamp_ms, FRAME_ROWS_MAX)
        for record in records:
            portions = PortionRecord(record.offset, record.stamp_ms, int(record.key), decode(record.value))
            for name, rows in self.groups.step([portions]):
                frames.add(name, rows)
                if frames.bytes >= PART_BYTES_MAX:
                    yield Part({RESULTS: frames.taken()}, last=False)
        yield Part({RESULTS: frames.entries()}, last=True)

    def take(self, records: Sequence[Record]) -> dict[str, list[Entry]]:
        """All that comes of records, at once."""
        return together(self.parts(records))

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        return self.groups.dump()

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        return self.groups.fits(chunks)

    def load(self, chunks: Mapping[str, bytes]) -> None:
        self.groups.load(chunks)

    def put_out(self) -> None:
        self.groups.put_out()


def together(parts: Iterable[Part]) -> dict[str, list[Entry]]:
    """All parts as one: entries by topic, in their order."""
    out: dict[str, list[Entry]] = {}
    for part in parts:
        for topic, entries in part.topics.items():
            out.setdefault(topic, []).extend(entries)
    return {topic: entries for topic, entries in out.items() if entries or topic == RESULTS}


def _batches(
    records: Sequence[Record], readings_max: int, index: SeriesIndex
) -> Iterator[tuple[Batch, bool]]:
    """Records decoded as they are stepped, so many readings at a time, and whether they are the last ones."""
    numbers = np.array([n for n, record in enumerate(records) if record.value], np.int64)  # others are ticks
    frames = Frames.of([record.value for record in records if record.value])
    if frames is None:
        yield from ((build(some, index), last) for some, last in _stretches(records, readings_max))
        return
    lengths = np.zeros(len(records), np.int64)
    lengths[numbers] = frames.lengths
    for first, until in pairwise(_edges(lengths.tolist(), readings_max)):
        some, mine = records[first:until], np.searchsorted(numbers, [first, until])
        stack = frames.read(int(mine[0]), int(mine[1]))
        if stack is None:
            batch = build([_decoded(record) for record in some], index)
        else:
            record = np.repeat(numbers[mine[0] : mine[1]] - first, stack.lengths)
            offsets, stamps = (np.array(each, np.int64) for each in zip(*map(_place, some), strict=True))
            batch = build_joined(stack, record, offsets, stamps, index)
        yield batch, until == len(records)


def _place(record: Record) -> tuple[int, int]:
    """Where and when a record came."""
    return record.offset, record.stamp_ms


def _edges(lengths: list[int], readings_max: int) -> list[int]:
    """Where records are cut, so that so many readings are together; what is left is behind the last cut."""
    edges, readings = [0], 0
    for number, length in enumerate(lengths[:-1], 1):
        readings += length
        if readings >= readings_max:
            edges.append(number)
            readings = 0
    return [*edges, len(lengths)]


def _stretches(records: Sequence[Record], readings_max: int) -> Iterator[tuple[list[LogRecord], bool]]:
    """The same by Arrow, record by record."""
    batch: list[LogRecord] = []
    readings = 0
    for record in records:
        batch.append(_decoded(record))
        decoded = batch[-1].readings
        readings += 0 if decoded is None else len(decoded)
        if readings >= readings_max and record is not records[-1]:
            yield batch, False
            batch, readings = [], 0
    yield batch, True


def _decoded(record: Record) -> LogRecord:
    """A record of readings, of decisions, or of nothing: a tick."""
    if not record.value:
        return LogRecord(record.offset, record.stamp_ms, None)
    try:
        return LogRecord(record.offset, record.stamp_ms, decode_readings(record.value))
    except OtherFormat as error:
        if error.found != DECISIONS_FORMAT:
            raise
        plant, decisions = decode_decisions(record.value)
        return LogRecord(record.offset, record.stamp_ms, None, plant, tuple(decisions))


class _Frames:
    """Rows become records of results as they come, so that many of them are never held uncoded."""

    def __init__(self, stamp_ms: int, rows_max: int) -> None:
        self._stamp_ms, self._rows_max = stamp_ms, rows_max
        self._parts: dict[str, list[pa.Table]] = {}
        self._rows: Counter[str] = Counter()
        self._entries: list[Entry] = []
        self.bytes = 0
        """Of what is encoded and not taken yet."""

    def add(self, name: str, rows: pa.Table) -> None:
        if len(rows) == 0:
            return
        self._parts.setdefault(name, []).append(rows)
        self._rows[name] += len(rows)
        if self._rows[name] >= self._rows_max:
            self._encode(name)

    def taken(self) -> list[Entry]:
        """What is encoded so far, which is the caller's from now on."""
        entries, self._entries, self.bytes = self._entries, [], 0
        return entries

    def entries(self) -> list[Entry]:
        """All of them, tables in the order in which they came first."""
        for name in list(self._parts):
            self._encode(name)
        return self.taken()

    def _encode(self, name: str) -> None:
        rows = _together(self._parts.pop(name))
        del self._rows[name]
        for first in range(0, len(rows), self._rows_max):
            frame = encode_table(name, rows.slice(first, self._rows_max))
            self._entries.append(Entry(name, frame, self._stamp_ms))
            self.bytes += len(frame)


def _together(parts: list[pa.Table]) -> pa.Table:
    return (
        parts[0]
        if len(parts) == 1
        else pa.concat_tables(parts, promote_options="default").unify_dictionaries()
    )
