"""Result rows into InfluxDB: newest rows, history, and what InfluxDB refuses. Everything blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_layout import Measurement, measurement
from sinks.influx_lines import lines
from sinks.influx_merge import Change, Memory, change
from sinks.influx_outbox import Outbox
from sinks.influx_points import Points, points
from sinks.influx_stored import Found, Lookup
from sinks.influx_writer import InfluxWriter, Refused

Frame = tuple[str, pa.Table]

RESULTS_LOG, REJECTED_LOG = "results", "rejected"
"""Which topic of the log rows came from: the tag ``log`` of ``rejected``."""
ROWS_MAX = 20_000
"""So many rows are worked on at once: some 20 MB."""
PAYLOAD_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Turned:
    """A row that InfluxDB does not take: which table it is of, and what a row of ``rejected`` says of it."""

    table: str
    point: str
    time_ms: int | None
    reason: str
    detail: str
    payload: str

    def row(self, received_ms: int) -> dict[str, object]:
        """What is said of it on the topic rejected."""
        return {
            "received": received_ms,
            "topic": "",
            "point": self.point,
            "time": self.time_ms,
            "reason": self.reason,
            "detail": f"{self.table}: {self.detail}",
            "payload": self.payload,
        }


class InfluxStore:
    """The result tables in one bucket. One thread at a time. ``guard``: see InfluxWriter.

    After an exception the rows in hand may be stored in part; storing them again is right.
    """

    def __init__(
        self, settings: InfluxSettings, *, partition: int = 0, guard: Callable[[], None] = lambda: None
    ) -> None:
        client = InfluxClient(settings)
        self.writer = InfluxWriter(client, guard)
        self._client, self._lookup = client, Lookup(settings)
        self._partition = partition
        self._memories: dict[str, Memory] = {}
        self._outbox = Outbox(self.writer, settings.batch_lines)
        self._turned: list[Turned] = []

    def store(self, frames: Iterable[Frame], log: str = RESULTS_LOG) -> list[Turned]:
        """Stores rows in the order of the log; durable when it returns. Gives what was refused.

        ``log`` is the topic that the frames were read from. Raises influx_writer.Stopped.
        """
        self._turned = []
        try:
            for table, rows in _by_table(frames):
                for first in range(0, len(rows), ROWS_MAX):
                    self._part(measurement(table), rows.slice(first, ROWS_MAX), log)
            self._outbox.drain()
        except BaseException:
            self._outbox.forget()
            self.forget()
            raise
        return self._turned

    def forget(self) -> None:
        """Takes nothing as known of what stands in the bucket: it is looked up again."""
        self._memories.clear()

    def close(self) -> None:
        """Lets go of the connections."""
        self.writer.stop()
        self._outbox.close()
        self._client.close()
        self._lookup.close()

    def _part(self, layout: Measurement, rows: pa.Table, log: str) -> None:
        its = points(layout, rows, topic=log, partition=self._partition)
        if not its.storable.all():
            self._turned += [
                _turned(layout, rows, i, *_UNWRITABLE) for i in np.flatnonzero(~its.storable).tolist()
            ]
            rows = rows.filter(pa.array(its.storable))
            its = points(layout, rows, topic=log, partition=self._partition)
        if not layout.table.restated:
            self._write(layout, rows, its)
        elif len(rows):
            memory = self._memory(layout)
            self._apply(layout, rows, its, memory, change(layout, rows, its, memory, self._find))

    def _apply(self, layout: Measurement, rows: pa.Table, its: Points, memory: Memory, what: Change) -> None:
        """History first: what is overwritten before it stands there is lost for ever."""
        older = what.superseded
        self._write(layout, older, points(layout, older, history=True), history=True)
        if len(older):
            self._outbox.cut()
        if len(what.newest) < len(rows):
            rows = rows.take(pa.array(what.newest))
            its = Points(its.series[what.newest], its.tags, its.times[what.newest], its.storable[what.newest])
        self._write(layout, rows, its)
        for key, version in what.learnt:
            memory.remember(key, version)
        for name, time in what.last.items():
            memory.last[name] = max(time, memory.last.get(name, time))

    def _write(self, layout: Measurement, rows: pa.Table, its: Points, *, history: bool = False) -> None:
        size = self._client.settings.batch_lines
        for first in range(0, len(rows), size):
            some = slice(first, first + size)
            part = Points(its.series[some], its.tags, its.times[some], its.storable[some])
            piece = rows.slice(first, size)
            made = lines(layout, piece, part, history=history)
            self._outbox.put(made, partial(self._refused, layout, piece))

    def _refused(self, layout: Measurement, rows: pa.Table, refused: Sequence[Refused]) -> None:
        self._turned += [
            _turned(layout, rows, each.index, each.reason, each.detail, each.line.decode(errors="replace"))
            for each in refused
        ]
        self._memories.pop(layout.name, None)  # what stands there is not what was meant to

    def _memory(self, layout: Measurement) -> Memory:
        if layout.name not in self._memories:
            self._outbox.drain()
            last = self.writer.until_done(partial(self._lookup.last_times, layout))
            self._memories[layout.name] = Memory(last)
        return self._memories[layout.name]

    def _find(self, layout: Measurement, keys: Sequence[Any]) -> Found:
        self._outbox.drain()
        return self.writer.until_done(partial(self._lookup.find, layout, keys))


_UNWRITABLE = ("store_not_writable", "line protocol cannot write the row's tags or time")


def _by_table(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames of one table together: the order between tables says nothing."""
    for table, its in groupby(sorted(frames, key=lambda frame: frame[0]), key=lambda frame: frame[0]):
        yield table, pa.concat_tables([rows for _, rows in its])


def _turned(
    layout: Measurement, rows: pa.Table, i: int, reason: str, detail: str, payload: str = ""
) -> Turned:
    row = rows.slice(i, 1).to_pylist()[0]
    point = f"{row['plant']}/{row['point']}" if "plant" in row and "point" in row else row.get("scope") or ""
    time = pc.cast(rows[layout.table.time].slice(i, 1), pa.int64())[0].as_py()
    text = payload.rstrip("\n") or repr(
        {name: str(value) for name, value in row.items() if value is not None}
    )
    return Turned(layout.name, point, time, reason, detail, text[:PAYLOAD_CHARACTERS_MAX])
