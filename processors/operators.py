"""What a worker runs: records in, records out, and a state that can be dumped and taken up.

Plants: readings become results and, where a group's plants may lie on several partitions, portions.
Groups: portions become results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from bus.frames import decode_readings, encode_table
from bus.log import PORTIONS, READINGS, RESULTS, Entry, Record
from metering.roster import Roster
from metering.roster_share import GROUP, share_of
from processors import state
from processors.batch import LogRecord
from processors.engine import Engine
from processors.groups import Groups, PortionRecord
from processors.portions import Portioner, decode
from processors.rows import Rows

FRAME_ROWS_MAX = 5000
"""Of a record of results: some 200 bytes a row before compression, below what Kafka takes by default."""


class Operators(Protocol):
    """``consumer`` and ``topic``: under which name they work on what. Calls come from other threads."""

    consumer: str
    topic: str

    def take(self, records: Sequence[Record]) -> dict[str, list[Entry]]:
        """Takes records of the topic in their order; what comes of them, by topic."""

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        """Chunks that changed since the last dump, by name, and names of chunks that are no more."""

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        """Whether a dump is of this version and of this very site file (no dump at all fits any)."""

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Brings a fresh state to a dump that fits."""


class Plants:
    """The operators of one partition's plants. With ``plants``, those of a roster that are on it."""

    consumer = "process"
    topic = READINGS

    def __init__(self, roster: Roster, *, plants: Sequence[str] | None = None, partition: int = 0) -> None:
        self.engine = Engine(roster if plants is None else share_of(roster, plants))
        self.rows = Rows(self.engine)
        self._portioner = None if plants is None else Portioner(self.engine)
        self._partition = partition

    def take(self, records: Sequence[Record]) -> dict[str, list[Entry]]:
        batch = [
            LogRecord(record.offset, record.stamp_ms, decode_readings(record.value) if record.value else None)
            for record in records
        ]
        stamp_ms = records[-1].stamp_ms
        frames = _Frames(stamp_ms)
        for step in self.engine.step(batch):
            for name, rows in self.rows.emit(step):
                frames.add(name, rows if self._portioner is None else _of_plants(name, rows))
            if self._portioner is not None:
                self._portioner.add(step)
        out = {RESULTS: frames.entries()}
        portions = None if self._portioner is None else self._portioner.take()
        if portions is not None:
            out[PORTIONS] = [Entry(str(self._partition), portions, stamp_ms)]
        return out

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        return state.dump(self.engine)

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        return state.fits(self.engine, chunks)

    def load(self, chunks: Mapping[str, bytes]) -> None:
        state.load(self.engine, chunks)


class GroupsOfPlants:
    """The second stage. ``partition_of_plant``: of each plant of the roster, in its order."""

    consumer = "groups"
    topic = PORTIONS

    def __init__(self, roster: Roster, partition_of_plant: Sequence[int]) -> None:
        self.groups = Groups(roster, partition_of_plant)

    def take(self, records: Sequence[Record]) -> dict[str, list[Entry]]:
        frames = _Frames(records[-1].stamp_ms)
        taken = [PortionRecord(r.offset, r.stamp_ms, int(r.key), decode(r.value)) for r in records]
        for name, rows in self.groups.step(taken):
            frames.add(name, rows)
        return {RESULTS: frames.entries()}

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        return self.groups.dump()

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        return self.groups.fits(chunks)

    def load(self, chunks: Mapping[str, bytes]) -> None:
        self.groups.load(chunks)


def _of_plants(name: str, rows: pa.Table) -> pa.Table:
    """Rows without those of groups: what a partition has of them are only portions."""
    if name != "rollup":
        return rows
    scope = rows.column("scope")
    return rows.filter(pc.invert(pc.starts_with(scope.cast(pa.utf8()), GROUP)))


class _Frames:
    """Rows become records of results as they come, so that many of them are never held uncoded."""

    def __init__(self, stamp_ms: int) -> None:
        self._stamp_ms = stamp_ms
        self._parts: dict[str, list[pa.Table]] = {}
        self._rows: Counter[str] = Counter()
        self._entries: list[Entry] = []

    def add(self, name: str, rows: pa.Table) -> None:
        if len(rows) == 0:
            return
        self._parts.setdefault(name, []).append(rows)
        self._rows[name] += len(rows)
        if self._rows[name] >= FRAME_ROWS_MAX:
            self._encode(name)

    def entries(self) -> list[Entry]:
        """All of them, tables in the order in which they came first."""
        for name in list(self._parts):
            self._encode(name)
        return self._entries

    def _encode(self, name: str) -> None:
        rows = _together(self._parts.pop(name))
        del self._rows[name]
        for first in range(0, len(rows), FRAME_ROWS_MAX):
            frame = encode_table(name, rows.slice(first, FRAME_ROWS_MAX))
            self._entries.append(Entry(name, frame, self._stamp_ms))


def _together(parts: list[pa.Table]) -> pa.Table:
    return (
        parts[0]
        if len(parts) == 1
        else pa.concat_tables(parts, promote_options="default").unify_dictionaries()
    )
