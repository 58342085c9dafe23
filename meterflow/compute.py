"""``meterflow compute``: recordings through the same operators as the service's, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bus.frames import decode_table, encode_rows, schema
from ingest.decode import Decoder, Delivery
from metering.decisions import Decision
from metering.query import Format
from metering.readings import Readings
from metering.roster import Roster
from metering.tables import POSITION, TABLES
from processors.batch import build_stretches
from processors.engine import Engine
from processors.rows import Rows
from simulators.recording import Message, merged
from sinks.render import write_table

CHUNK_MESSAGES = 50_000
WRITERS = 2
Told = Callable[[int], None]


class Computation:
    """The log of a recording and what the operators make of it.

    Messages of one log time (the highest ``received`` so far) are one record of that log.
    """

    def __init__(self, roster: Roster) -> None:
        self.engine = Engine(roster)
        self._rows = Rows(self.engine)
        self._decoder = Decoder(roster, evidence=False)
        self._tables: dict[str, list[pa.Table]] = {}
        self._log_time = 0
        self._offset = 0
        self.received = 0

    def take(self, messages: Sequence[Message]) -> None:
        """Works in some messages, in the order of the recording."""
        stamps = np.maximum.accumulate(np.array([m.received_ms for m in messages], np.int64))
        stamps = np.maximum(stamps, self._log_time)
        self._log_time = int(stamps[-1])
        decoded = self._decoder.decode(list(_deliveries(messages, stamps)))
        self.received += decoded.received
        log_times = np.unique(stamps)
        stretches = [(r, np.searchsorted(log_times, r.received)) for r in decoded.readings]
        every = [(plant, one) for plant, each in decoded.decisions.items() for one in each]
        numbers = np.searchsorted(log_times, [one.received_ms for _, one in every]).tolist()
        decisions = [(n, plant, one) for n, (plant, one) in zip(numbers, every, strict=True)]
        self._step(stretches, sorted(decisions, key=lambda one: one[0]), log_times)
        if decoded.rejected:
            frame = encode_rows("rejected", [rejected.row for rejected in decoded.rejected])
            self._tables.setdefault("rejected", []).append(decode_table(frame)[1])

    def _step(
        self,
        stretches: list[tuple[Readings, NDArray[np.int64]]],
        decisions: list[tuple[int, str, Decision]],
        log_times: NDArray[np.int64],
    ) -> None:
        offsets = self._offset + np.arange(len(log_times))
        self._offset += len(log_times)
        batch = build_stretches(stretches, offsets, log_times, self.engine.index, decisions)
        for step in self.engine.take(batch):
            for name, rows in self._rows.emit(step):
                self._tables.setdefault(name, []).append(rows)

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Every result table as it stands, newest row of each key."""
        for name in TABLES:
            parts = self._tables.get(name)
            yield name, newest(name, parts) if parts else schema(TABLES[name]).empty_table()


def newest(name: str, parts: Sequence[pa.Table]) -> pa.Table:
    """The last row of each key, without those that are no more."""
    wanted = schema(TABLES[name])
    rows = pa.concat_tables([part.cast(wanted) for part in parts])
    keys = list(TABLES[name].key)
    if keys and len(parts) > 1:
        numbered = rows.append_column("_row", pa.array(np.arange(len(rows))))
        last = numbered.group_by(keys, use_threads=False).aggregate([("_row", "max")])["_row_max"]
        rows = rows.take(last)
    there = rows[POSITION].to_numpy() >= 0
    return rows if there.all() else rows.filter(pa.array(there))


def _deliveries(messages: Sequence[Message], stamps: NDArray[np.int64]) -> Iterator[Delivery]:
    edges = [0, *(np.flatnonzero(np.diff(stamps)) + 1).tolist(), len(messages)]
    for low, high in pairwise(edges):
        part = messages[low:high]
        yield Delivery([m.topic for m in part], [m.payload for m in part], int(stamps[low]))


def compute(recordings: Sequence[Path], roster: Roster, told: Told | None = None) -> Computation:
    """All of the recordings, their messages by when they were received; ``told``: how many so far."""
    computation = Computation(roster)
    messages, done = merged(recordings), 0
    while chunk := list(islice(messages, CHUNK_MESSAGES)):
        computation.take(chunk)
        done += len(chunk)
        if told is not None:
            told(done)
    return computation


def write(computation: Computation, folder: Path, format: Format) -> dict[str, int]:
    """A file for each table, each whole or not at all, two at a time; how many rows each has."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = dict(computation.tables())
    with ThreadPoolExecutor(WRITERS) as pool:
        written = [pool.submit(_write, name, rows, folder, format) for name, rows in tables.items()]
    for one in written:
        one.result()
    return {name: len(rows) for name, rows in tables.items()}


def _write(name: str, rows: pa.Table, folder: Path, format: Format) -> None:
    part = folder / f"{name}.{format}.part"
    try:
        write_table(name, rows, part, format)
        part.replace(folder / f"{name}.{format}")
    finally:
        part.unlink(missing_ok=True)
