"""Reads the archive: readings, evidence and decisions as they were on the log, in its order.

While it is read the archive may be merged: what was in a file that has gone is in another one, so the
manifests are looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.civil import DAY_MS
from metering.decisions import Decision
from metering.errors import MeterflowError
from metering.readings import DIGEST_BYTES, NO_CODE, NO_SEQ, NO_TIME, Dictionary, Evidence, Readings
from sinks.archive_columns import SCHEMAS, decoded
from sinks.archive_manifest import DECISIONS, EVIDENCE, READINGS, File, Manifest
from sinks.archive_place import Place
from sinks.archive_writer import newest

ROWS_MAX = 1 << 18
"""Of readings in memory at a time, as far as files can be told apart by their offsets."""
_AGAIN_MAX = 20
_WITHOUT_EVIDENCE = [name for name in SCHEMAS[READINGS].names if name != "message"]
_WIDEST = 1 << 62

Ints = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one plant in the order of the log: of which record each is, and its place in it.

    ``evidence``: a row for each of their messages; ``message``: which of them each reading is of, -1 where no
    evidence was kept. ``readings`` themselves are without it.
    """

    offset: Ints
    row: NDArray[np.int32]
    message: Ints
    readings: Readings
    evidence: pa.Table

    def records(self) -> Iterator[tuple[int, Readings]]:
        """Offset and readings of each record, with their evidence, as far as they are in here."""
        edges = np.flatnonzero(np.diff(self.offset, prepend=-1)).tolist()
        for first, until in zip(edges, [*edges[1:], len(self.offset)], strict=True):
            part = self.readings.part(slice(first, until))
            yield int(self.offset[first]), replace(part, evidence=self._evidence(first, until))

    def _evidence(self, first: int, until: int) -> Evidence | None:
        if self.message[first] < 0:
            return None
        kept, message = np.unique(self.message[first:until], return_inverse=True)
        rows = self.evidence.take(pa.array(kept))
        texts = [_text(rows.column(name)) for name in ("topic", "user")]
        topic, user = (Dictionary(text.words, text.codes[message]) for text in texts)
        digests = b"".join(rows.column("sha256").to_pylist())
        digest = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
        return Evidence(topic, user, digest, message.astype(np.int32), rows.column("site")[0].as_py())


class Archive:
    """What is in an archive, whether a service writes to it or not. All methods block.

    They raise MeterflowError where a manifest or a file is missing or damaged, Unavailable where the place
    cannot be read now.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def plants(self) -> list[str]:
        """Those that have readings or decisions."""
        return sorted({file.plant for manifest in self._manifests() for file in manifest.files})

    def days(self, plant: str) -> dict[str, int]:
        """How many readings each day has; of days that were too many at once, each month, or year."""
        found: dict[str, int] = {}
        for manifest in self._manifests():
            for file in manifest.files:
                if file.set == READINGS and file.plant == plant:
                    found[file.day] = found.get(file.day, 0) + file.rows
        return dict(sorted(found.items()))

    def readings(
        self,
        plant: str,
        days: Collection[str] | None = None,
        *,
        first: int = 0,
        rows_max: int = ROWS_MAX,
        evidence: bool = True,
    ) -> Iterator[Batch]:
        """In the order of the log, from offset ``first`` on, of the event days asked for.

        ``days``: UTC, as ``2026-11-22``; None: all. ``rows_max``: of a batch, as far as files tell it.
        ``evidence``: whether it is read, too.
        """
        wanted = None if days is None else frozenset(days)
        at = first
        while (found := self._again(partial(self._next, plant, wanted, at, rows_max, evidence))) is not None:
            batch, at = found
            if len(batch.offset):
                yield batch

    def evidence(self, plant: str, days: Collection[str] | None = None) -> pa.Table:
        """The messages that have a reading of these days, each once; docs/formats.md has the columns."""
        tables = self._again(lambda: [self._table(file) for file in self._files(EVIDENCE, plant, days)])
        return _once(tables)

    def decisions(self, plant: str) -> list[tuple[int, list[Decision]]]:
        """All that people decided, record by record, each with its offset."""
        tables = self._again(lambda: [self._table(file) for file in self._files(DECISIONS, plant, None)])
        table = pa.concat_tables([SCHEMAS[DECISIONS].empty_table(), *tables])
        found: dict[int, list[Decision]] = {}
        for row in _as_ms(table.sort_by([("offset", "ascending"), ("row", "ascending")])).to_pylist():
            offset, _ = row.pop("offset"), row.pop("row")
            times = {f"{name}_ms": row.pop(name) for name in ("from", "to", "received")}
            found.setdefault(offset, []).append(Decision(**row, **times))
        return list(found.items())

    def _manifests(self) -> list[Manifest]:
        return self._again(lambda: [one for of in newest(self._place).values() for one in of])

    def _files(self, set_: str, plant: str, days: Collection[str] | None) -> list[File]:
        found = [
            file for m in self._manifests() for file in m.files if file.set == set_ and file.plant == plant
        ]
        if days is None:
            return found
        return [file for file in found if any(day.startswith(file.day) for day in days)]

    def _next(
        self, plant: str, days: frozenset[str] | None, at: int, rows_max: int, with_evidence: bool
    ) -> tuple[Batch, int] | None:
        """Readings of the records from ``at`` on, and where those behind them begin; None: there are none.

        A plant's records are all on one partition, so that offsets order them.
        """
        files = [file for file in self._files(READINGS, plant, days) if file.until > at]
        if not files:
            return None
        at = max(at, min(file.first for file in files))
        until = _until(files, at, rows_max)
        names = None if with_evidence else _WITHOUT_EVIDENCE
        parts = [(file, self._table(file, names, coded=True)) for file in files if file.first < until]
        tables = [
            table
            if days is None and at <= file.first and file.until <= until
            else _within(table, at, until, days)
            for file, table in parts
        ]
        evidence = self._evidence_of(plant, days, at, until) if with_evidence else _once([])
        return _batch(plant, pa.concat_tables(tables), evidence), until

    def _evidence_of(self, plant: str, days: frozenset[str] | None, at: int, until: int) -> pa.Table:
        files = [f for f in self._files(EVIDENCE, plant, days) if f.first < until and f.until > at]
        tables = [_within(self._table(file), at, until, None) for file in files]
        return _once(tables)

    def _table(self, file: File, columns: list[str] | None = None, *, coded: bool = False) -> pa.Table:
        data = self._place.read(file.path)
        try:
            return decoded(data, file.set, columns, coded=coded)
        except (pa.ArrowException, OSError, KeyError) as error:
            where = f"{self._place.where}/{file.path}"
            raise MeterflowError(
                f"a file of the archive cannot be read: {error}",
                where=where,
                hint="Run: meterflow archive check",
            ) from error

    def _again(self, look: Callable[[], T]) -> T:
        """What it finds, from the beginning where a file has been merged into another one meanwhile."""
        for tried in range(_AGAIN_MAX):
            try:
                return look()
            except FileNotFoundError as error:
                if tried == _AGAIN_MAX - 1:
                    what = f"a file of the archive is missing: {error.filename or error}"
                    hint = "Run: meterflow archive check"
                    raise MeterflowError(what, where=self._place.where, hint=hint) from error
        raise AssertionError


def event_days(first_ms: int, last_ms: int) -> list[str]:
    """The event days, as files have them, from one instant to another."""
    numbers = range(first_ms // DAY_MS, last_ms // DAY_MS + 1)
    return [datetime.fromtimestamp(number * 86_400, UTC).date().isoformat() for number in numbers]


def _until(files: Sequence[File], at: int, rows_max: int) -> int:
    """Up to which offset there are so many rows at most, were each file's spread evenly."""
    edges = sorted({edge for file in files for edge in (file.first, file.until) if edge > at})
    rows, before = 0.0, at
    for edge in edges:
        density = sum(f.rows / (f.until - f.first) for f in files if f.first <= before and f.until >= edge)
        if rows + density * (edge - before) > rows_max:
            return max(before + int((rows_max - rows) / density), at + 1)
        rows, before = rows + density * (edge - before), edge
    return edges[-1]


def _within(table: pa.Table, first: int, until: int, days: frozenset[str] | None) -> pa.Table:
    offset = table.column("offset")
    keep = pc.and_(pc.greater_equal(offset, first), pc.less(offset, until))
    if days is not None:
        day = pc.strftime(table.column("time"), format="%Y-%m-%d")
        keep = pc.and_(keep, pc.is_in(day, pa.array(sorted(days))))
    return table.filter(keep)


def _as_ms(table: pa.Table) -> pa.Table:
    for number, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(number, column.name, table.column(number).cast(pa.int64()))
    return table


def _once(tables: Sequence[pa.Table]) -> pa.Table:
    """A row for each message, in their order: one with readings of several days is in several files."""
    table = pa.concat_tables([SCHEMAS[EVIDENCE].empty_table(), *tables])
    names = table.schema.names
    once = table.group_by(names, use_threads=False).aggregate([]).select(names)
    return once.sort_by([("offset", "ascending"), ("message", "ascending")])


def _rows_of(evidence: pa.Table, offset: Ints, message: Ints) -> Ints:
    """The row of each reading's message; -1 of those that have none."""
    width = int(max(message.max(), 0)) + 1
    keys = evidence.column("offset").to_numpy() * width + evidence.column("message").to_numpy()
    rows = np.searchsorted(keys, offset * width + message)
    return np.where(message < 0, -1, rows)


def _order(offset: Ints, row: Ints) -> Ints:
    """That of the log. A file has its points one after the other, so that there are long runs to merge."""
    if not len(offset):
        return np.empty(0, np.int64)
    first, width = offset.min(), int(row.max()) + 1
    if (int(offset.max()) - int(first) + 1) * width >= _WIDEST:
        return np.lexsort([row, offset])
    return np.argsort((offset - first) * width + row, kind="stable")


def _batch(plant: str, table: pa.Table, evidence: pa.Table) -> Batch:
    """``table``: its texts are numbers of words."""
    table = _as_ms(table)
    order = _order(*(table.column(name).to_numpy().astype(np.int64) for name in ("offset", "row")))

    def number(name: str, absent: int | None = None) -> NDArray[np.int64]:
        column = table.column(name)
        found: NDArray[np.int64] = (column if absent is None else column.fill_null(absent)).to_numpy()
        return found[order]

    def text(name: str) -> Dictionary:
        whole = _text(table.column(name))
        return Dictionary(whole.words, whole.codes[order])

    offset = number("offset")
    message = np.full(len(offset), -1)
    if len(evidence):
        message = _rows_of(evidence, offset, number("message", -1).astype(np.int64))
    readings = Readings(
        plant=plant,
        point=text("point"),
        time=number("time"),
        start=number("start", NO_TIME),
        mantissa=number("mantissa"),
        exponent=number("exponent").astype(np.int8),
        unit=text("unit"),
        serial=text("serial"),
        product=text("product"),
        revision=number("revision").astype(np.int32),
        seq=number("seq", NO_SEQ),
        quality=number("quality").astype(np.uint8),
        flags=number("flags").astype(np.uint8),
        received=number("received"),
    )
    return Batch(offset, number("row").astype(np.int32), message, readings, evidence)


def _text(column: pa.ChunkedArray) -> Dictionary:
    coded = column.combine_chunks()
    coded = coded if pa.types.is_dictionary(coded.type) else coded.dictionary_encode()
    codes = coded.indices.fill_null(NO_CODE).to_numpy().astype(np.int32)
    return Dictionary(tuple(coded.dictionary.to_pylist()), codes)
