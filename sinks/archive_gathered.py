"""What was read off the log and is not archived yet, and the files it becomes.

Each plant's readings are cut by event day (UTC). Where they are of more than 64 days, as when a plant's
history is brought in meter by meter, they are cut by months instead, or by years: so a batch makes no more
files than a store can take, whatever days its readings are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bus.decision_frames import DECISIONS_FORMAT, decode_decisions
from bus.frames import OtherFormat, decode_readings
from bus.log import Record
from metering.decisions import Decision
from metering.readings import NO_CODE, NO_SEQ, NO_TIME, Dictionary, Readings
from sinks.archive_columns import SCHEMAS, encoded, folder
from sinks.archive_manifest import DECISIONS, EVIDENCE, READINGS, File, Span

DAYS_MAX = 64
"""Of a plant in one batch; above it, months, and then years."""
_RECORD_COST = 50
"""As many readings as a record by itself takes memory for."""

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Gathered:
    """Records of a partition from ``first`` up to ``until``; ``records``: those that are no ticks.

    ``rows``: readings; ``cost``: their memory.
    """

    partition: int
    first: int
    until: int = 0
    records: int = 0
    rows: int = 0
    cost: int = 0
    readings: dict[str, list[tuple[int, Readings]]] = field(default_factory=dict)
    decisions: dict[str, list[tuple[int, list[Decision]]]] = field(default_factory=dict)
    _days: dict[str, tuple[NDArray[Any], Ints]] = field(default_factory=dict)

    @property
    def span(self) -> Span:
        return Span(self.partition, self.first, self.until)

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it to be archived: ticks only, or no record at all."""
        return not self.readings and not self.decisions

    def take(self, record: Record) -> None:
        """Adds the next record. Raises MeterflowError for one that cannot be read."""
        self.until = record.offset + 1
        if not record.value:  # a tick
            return
        self.records += 1
        self.cost += _RECORD_COST
        try:
            readings = decode_readings(record.value)
        except OtherFormat as error:
            if error.found != DECISIONS_FORMAT:
                raise
            plant, decisions = decode_decisions(record.value)
            if decisions:
                self.decisions.setdefault(plant, []).append((record.offset, decisions))
            return
        self.add(record.offset, readings)

    def add(self, offset: int, readings: Readings) -> None:
        """Adds those of the record at this offset."""
        self.until = offset + 1
        if len(readings):
            self.readings.setdefault(readings.plant, []).append((offset, readings))
            self._days.pop(readings.plant, None)
            self.rows += len(readings)
            self.cost += len(readings)

    def paths(self) -> list[str]:
        """Where its files will be."""
        name = f"{self.span}.parquet"
        found = [f"{folder(DECISIONS, plant)}/{name}" for plant in self.decisions]
        for plant, parts in self.readings.items():
            labels, _ = self._days_of(plant)
            sets = (READINGS, EVIDENCE) if _has_evidence(parts) else (READINGS,)
            found += [f"{folder(set_, plant, str(day))}/{name}" for set_ in sets for day in labels]
        return found

    def files(self) -> Iterator[tuple[File, bytes]]:
        """All of them, one plant after the other, each in memory only as long as it is asked for."""
        for plant, decided in self.decisions.items():
            yield encoded(_decision_rows(decided), folder(DECISIONS, plant), plant, self.span)
        for plant, parts in self.readings.items():
            yield from _files(plant, parts, self.span, *self._days_of(plant))

    def _days_of(self, plant: str) -> tuple[NDArray[Any], Ints]:
        """The days that a plant's readings are of, and which of them each reading is of."""
        if plant not in self._days:
            time = np.concatenate([readings.time for _, readings in self.readings[plant]])
            self._days[plant] = np.unique(_labels(time), return_inverse=True)
        return self._days[plant]


def _files(
    plant: str, parts: Sequence[tuple[int, Readings]], span: Span, labels: NDArray[Any], day: Ints
) -> Iterator[tuple[File, bytes]]:
    columns, points = _columns(parts)
    order = np.lexsort((columns["time"], points, day))
    table = _table(parts, {name: column[order] for name, column in columns.items()}, order)
    edges = np.searchsorted(day[order], np.arange(len(labels) + 1))
    evidence = _evidence_rows(parts, day) if _has_evidence(parts) else {}
    for number, label in enumerate(labels):
        rows = table.slice(edges[number], edges[number + 1] - edges[number])
        yield encoded(rows, folder(READINGS, plant, str(label)), plant, span)
        if number in evidence:
            yield encoded(evidence[number], folder(EVIDENCE, plant, str(label)), plant, span)


def _labels(time: Ints) -> NDArray[Any]:
    """The day of each reading, as numpy has days; or its month, or its year, where days are too many."""
    instants = time.astype("datetime64[ms]")
    units = ("D", "M")
    for unit in units:
        labels = instants.astype(f"datetime64[{unit}]")
        if len(np.unique(labels)) <= DAYS_MAX:
            return labels
    return instants.astype("datetime64[Y]")


def _has_evidence(parts: Sequence[tuple[int, Readings]]) -> bool:
    return any(readings.evidence is not None for _, readings in parts)


_NUMBERS = ("time", "start", "mantissa", "exponent", "revision", "seq", "quality", "flags", "received")


def _columns(parts: Sequence[tuple[int, Readings]]) -> tuple[dict[str, NDArray[Any]], Ints]:
    """Numbers of all readings in the order of the log, and the place of each one's point among the names."""
    lengths = np.array([len(readings) for _, readings in parts], np.int64)
    columns = {name: np.concatenate([getattr(readings, name) for _, readings in parts]) for name in _NUMBERS}
    columns["offset"] = np.repeat(np.array([offset for offset, _ in parts], np.int64), lengths)
    firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    columns["row"] = (np.arange(len(firsts)) - firsts).astype(np.int32)
    columns["message"] = np.concatenate([_messages(readings) for _, readings in parts])
    words, codes = joined([readings.point for _, readings in parts])
    rank = np.empty(len(words) + 1, np.int64)
    rank[np.argsort(np.array([*words], object), kind="stable")] = np.arange(len(words))
    rank[NO_CODE] = len(words)
    return columns, rank[codes]


def _messages(readings: Readings) -> NDArray[np.int32]:
    """Of which message each reading is; -1 where that is not known."""
    if readings.evidence is None:
        return np.full(len(readings), -1, np.int32)
    return readings.evidence.message


def joined(texts: Sequence[Dictionary]) -> tuple[list[str], NDArray[np.int32]]:
    """Columns of text one after the other, as one: its words, and which of them each has."""
    known: dict[str, int] = {}
    numbers: list[int] = []
    seen: dict[tuple[str, ...], int] = {}
    bases = []
    for text in texts:
        base = seen.setdefault(text.words, len(numbers))
        bases.append(base)
        if base == len(numbers):
            numbers += [known.setdefault(word, len(known)) for word in text.words]
    lengths = [len(text.codes) for text in texts]
    codes = np.concatenate([text.codes for text in texts])
    places = np.where(codes == NO_CODE, len(numbers), codes + np.repeat(np.array(bases, np.int64), lengths))
    return list(known), np.array([*numbers, NO_CODE], np.int32)[places]


def _texts(texts: Sequence[Dictionary], order: Ints) -> pa.Array:
    words, codes = joined(texts)
    return text_array(words, codes[order])


def text_array(words: Sequence[str], codes: NDArray[np.int32]) -> pa.Array:
    """Texts as Arrow has them, plain."""
    if not words:
        return pa.nulls(len(codes), pa.utf8())
    indices = pa.array(codes, mask=codes == NO_CODE)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.utf8())).cast(pa.utf8())


_ABSENT: dict[str, int] = {"start": NO_TIME, "seq": NO_SEQ, "message": -1}


def _table(parts: Sequence[tuple[int, Readings]], numbers: dict[str, NDArray[Any]], order: Ints) -> pa.Table:
    arrays = []
    for wanted in SCHEMAS[READINGS]:
        if wanted.type == pa.utf8():
            arrays.append(_texts([getattr(readings, wanted.name) for _, readings in parts], order))
            continue
        column = numbers[wanted.name]
        mask = column == _ABSENT[wanted.name] if wanted.name in _ABSENT else None
        arrays.append(pa.array(column, mask=mask).cast(wanted.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[READINGS])


def _evidence_rows(parts: Sequence[tuple[int, Readings]], day: Ints) -> dict[int, pa.Table]:
    """By the number of the day: a row for each message that has a reading in it."""
    known = [(offset, readings, readings.evidence) for offset, readings in parts if readings.evidence]
    lengths = [len(readings) for _, readings, _ in known]
    has = np.repeat([r.evidence is not None for _, r in parts], [len(r) for _, r in parts])
    digest = np.concatenate([evidence.digest for _, _, evidence in known])
    before = np.cumsum([0, *(len(evidence.digest) for _, _, evidence in known[:-1])])
    number = np.concatenate([evidence.message for _, _, evidence in known])
    message = number + np.repeat(before, lengths)
    key, first = np.unique(day[has] * len(digest) + message, return_index=True)
    offset = np.repeat(np.array([offset for offset, _, _ in known], np.int64), lengths)
    received = np.concatenate([readings.received for _, readings, _ in known])
    site = [Dictionary((e.site,), np.zeros(len(r), np.int32)) for _, r, e in known]
    digests = pa.py_buffer(np.ascontiguousarray(digest[message[first]]))
    kind = SCHEMAS[EVIDENCE].field("sha256").type
    arrays = [
        pa.array(offset[first]),
        pa.array(number[first]),
        _texts([evidence.topic for _, _, evidence in known], first),
        _texts([evidence.user for _, _, evidence in known], first),
        pa.Array.from_buffers(kind, len(first), [None, digests]),
        pa.array(received[first]).cast(SCHEMAS[EVIDENCE].field("received").type),
        _texts(site, first),
    ]
    table = pa.Table.from_arrays(arrays, schema=SCHEMAS[EVIDENCE])
    days, edges = np.unique(key // len(digest), return_index=True)
    ends = [*edges[1:].tolist(), len(first)]
    return {
        int(each): table.slice(at, until - at)
        for each, at, until in zip(days, edges.tolist(), ends, strict=True)
    }


def _decision_rows(parts: Sequence[tuple[int, list[Decision]]]) -> pa.Table:
    rows = [(offset, row, one) for offset, decisions in parts for row, one in enumerate(decisions)]
    value: dict[str, Callable[[Decision], object]] = {
        "from": lambda one: one.from_ms,
        "to": lambda one: one.to_ms,
        "received": lambda one: one.received_ms,
    }
    arrays = []
    for wanted in SCHEMAS[DECISIONS]:
        if wanted.name in ("offset", "row"):
            column: list[Any] = [each[wanted.name == "row"] for each in rows]
        else:
            get = value.get(wanted.name)
            column = [get(one) if get else getattr(one, wanted.name) for _, _, one in rows]
        arrays.append(pa.array(column, wanted.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[DECISIONS])
