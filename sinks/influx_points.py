"""Which point of InfluxDB each row is: its series (the tags) and its time in nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.instants import rfc3339
from metering.tables import POSITION
from sinks.influx_layout import (
    GONE,
    LENGTH,
    MS_NS,
    PARTITION,
    REVISION_THOUSANDS,
    ROW_THOUSANDS,
    STANDING_MS,
    TIME_MAX_NS,
    TIME_MIN_NS,
    TOPIC,
    WITHOUT,
    Measurement,
)
from sinks.store_layout import YEAR_1_MS, YEAR_9999_MS

Ints = NDArray[np.int64]
_CODES_MAX = 1 << 40
_SERIES_KEPT = 1 << 14
"""What is worked out of a series is kept, some 600 bytes: rows that are still open come with every batch."""
_SECOND_MS, _THOUSAND = 1000, 1000
_ESCAPED = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Points:
    """``series``: for each row an index into ``tags``; ``times``: UTC nanoseconds; ``storable``: false where
    InfluxDB has no way to hold the row's tags or time.
    """

    series: Ints
    tags: tuple[Tags, ...]
    times: Ints
    storable: NDArray[np.bool_]


def points(
    layout: Measurement, rows: pa.Table, *, history: bool = False, topic: str = "", partition: int = 0
) -> Points:
    """The points of rows with the columns of ``bus.frames.schema``.

    ``topic`` and ``partition`` say where on the log rows of ``rejected`` were read.
    """
    if len(rows) == 0:
        return Points(np.zeros(0, np.int64), (), np.zeros(0, np.int64), np.zeros(0, bool))
    milliseconds, known = _instants(layout, rows)
    tagged = [(n, *(_stamps if n in layout.instants else _words)(rows[n])) for n in layout.tags]
    beneath = np.zeros(len(rows), np.int64)
    if layout.begins is not None:
        seconds, beneath = np.divmod(milliseconds - _integers(rows[layout.begins]), _SECOND_MS)
        tagged.append((LENGTH, *_numbers(seconds, blank=None)))
    if not layout.table.restated:
        marks, beneath = _places(rows, topic, partition)
        tagged += marks
    if history:
        marks, beneath = _versions(rows, beneath)
        tagged += marks
    numbers, tags = _combined(len(rows), tagged)
    fit = np.array([_fit(its) for its in tags], bool)
    inside = known & (milliseconds > TIME_MIN_NS // MS_NS + 1) & (milliseconds < TIME_MAX_NS // MS_NS - 1)
    times = np.where(inside, milliseconds, 0) * MS_NS + beneath
    return Points(numbers, tags, times, inside & fit[numbers])


def prefix(name: str, tags: Tags) -> str:
    """Measurement and tags as a line begins."""
    return name.translate(_ESCAPED) + series(tags)


@lru_cache(maxsize=_SERIES_KEPT)
def series(tags: Tags) -> str:
    """Tags as they stand in a line."""
    return "".join([f",{key}={value.translate(_ESCAPED)}" for key, value in tags])


def _instants(layout: Measurement, rows: pa.Table) -> tuple[Ints, NDArray[np.bool_]]:
    if layout.time is None:
        return np.full(len(rows), STANDING_MS, np.int64), np.ones(len(rows), bool)
    column = rows[layout.time]
    return _integers(column), np.asarray(column.is_valid())


def _integers(column: Any) -> Ints:
    """Unknown as 0; times as milliseconds."""
    whole: Ints = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    return whole


def _words(column: Any) -> tuple[Ints, Sequence[str]]:
    """Codes and distinct texts; an unknown one is empty."""
    encoded = pc.fill_null(column.combine_chunks(), "").dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _stamps(column: Any) -> tuple[Ints, Sequence[str]]:
    """The same for instants, as RFC 3339; those that it cannot write are unknown."""
    encoded = column.cast(pa.int64()).combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), [*map(_rfc3339, encoded.dictionary.to_pylist())]


def _rfc3339(instant_ms: int | None) -> str:
    if instant_ms is None or not YEAR_1_MS <= instant_ms <= YEAR_9999_MS:
        return ""
    return rfc3339(instant_ms)


def _numbers(values: Ints, *, blank: int | None) -> tuple[Ints, Sequence[str]]:
    """The same for integers; ``blank`` is no tag."""
    distinct, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), ["" if value == blank else str(value) for value in distinct.tolist()]


def _constant(rows: pa.Table, text: str) -> tuple[Ints, Sequence[str]]:
    return np.zeros(len(rows), np.int64), [text]


def _places(rows: pa.Table, topic: str, partition: int) -> tuple[list[tuple[str, Ints, Sequence[str]]], Ints]:
    """Marks and nanoseconds of rows without a key, by record and row in it."""
    positions = _integers(rows[POSITION])
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    numbers = np.empty(len(rows), np.int64)
    numbers[order] = np.arange(len(rows)) - np.repeat(firsts, np.diff([*firsts, len(rows)]))
    thousands, rest = np.divmod(numbers, _THOUSAND)
    marks = [
        (TOPIC, *_constant(rows, topic)),
        (PARTITION, *_constant(rows, str(partition))),
        (ROW_THOUSANDS, *_numbers(thousands, blank=0)),
    ]
    return marks, positions % _THOUSAND * _THOUSAND + rest


def _versions(rows: pa.Table, beneath: Ints) -> tuple[list[tuple[str, Ints, Sequence[str]]], Ints]:
    """Marks and nanoseconds of superseded rows, by revision."""
    thousands, rest = np.divmod(np.maximum(_integers(rows["revision"]), 0), _THOUSAND)
    gone = (_integers(rows[POSITION]) < 0).astype(np.int64)
    marks = [
        (REVISION_THOUSANDS, *_numbers(thousands, blank=0)),
        (GONE, gone, ["", "true"]),
    ]
    return marks, beneath * _THOUSAND + rest


def _combined(rows: int, tagged: Sequence[tuple[str, Ints, Sequence[str]]]) -> tuple[Ints, tuple[Tags, ...]]:
    """One code for each combination of tags that there is, and its tags."""
    code, size = np.zeros(rows, np.int64), 1
    for _, codes, words in tagged:
        if size * len(words) > _CODES_MAX:
            distinct, code = np.unique(code, return_inverse=True)
            size = len(distinct)
        code, size = code * len(words) + codes, size * len(words)
    _, firsts, numbers = np.unique(code, return_index=True, return_inverse=True)
    names = tuple(name for name, _, _ in tagged)
    texts = [[words[i] for i in codes[firsts].tolist()] for _, codes, words in tagged]
    values = zip(*texts, strict=True) if texts else [()] * len(firsts)
    return numbers.astype(np.int64), tuple(_tags(names, its) for its in values)


_MARKS = frozenset((LENGTH, TOPIC, PARTITION, ROW_THOUSANDS, REVISION_THOUSANDS, GONE))


@lru_cache(maxsize=_SERIES_KEPT)
def _tags(names: tuple[str, ...], values: tuple[str, ...]) -> Tags:
    pairs = list(zip(names, values, strict=True))
    missing = "+".join(name for name, value in pairs if not value and name not in _MARKS)
    there = [(name, value) for name, value in pairs if value]
    return tuple(sorted([*there, (WITHOUT, missing)] if missing else there))


@lru_cache(maxsize=_SERIES_KEPT)
def _fit(tags: Tags) -> bool:
    return all(_fits(value) for _, value in tags)


def _fits(value: str) -> bool:
    """Line protocol cannot write a line feed in a tag or a backslash at its end; its CSV has no return."""
    return not value.endswith("\\") and "\n" not in value and "\r" not in value
