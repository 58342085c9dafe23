"""Accepted readings as columns while they are gathered, and their cut into plants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.directory import Directory
from ingest.judge import Reading
from metering.readings import NO_CODE, NO_SEQ, NO_TIME, Dictionary, Evidence, Readings, absent, dictionary

Texts = Dictionary | None
"""A text column; None when every text is absent, which is the usual case."""


@dataclass(frozen=True, slots=True)
class Columns:
    """n readings. ``order``: the number of each one's message in the batch; ``point``: roster index."""

    order: NDArray[np.int64]
    point: NDArray[np.int64]
    time: NDArray[np.int64]
    start: NDArray[np.int64]
    mantissa: NDArray[np.int64]
    exponent: NDArray[np.int8]
    flags: NDArray[np.uint8]
    revision: NDArray[np.int32]
    seq: NDArray[np.int64]
    quality: NDArray[np.uint8]
    unit: Texts
    serial: Texts
    product: Texts

    def __len__(self) -> int:
        return len(self.time)

    def pick(self, rows: NDArray[np.int64]) -> Columns:
        """The rows of these indices, in their order."""
        arrays: Any = (getattr(self, name)[rows] for name in _ARRAYS)
        texts = (_pick(getattr(self, name), rows) for name in _TEXTS)
        return Columns(*arrays, *texts)


_CLOSE = 8
"""Points are close together when a place for each between them is not more than so many for each reading."""
_ARRAYS = tuple(Columns.__dataclass_fields__)[:-3]
_TEXTS = ("unit", "serial", "product")


def _pick(texts: Texts, rows: NDArray[np.int64]) -> Texts:
    return None if texts is None else Dictionary(texts.words, texts.codes[rows])


def from_readings(readings: Sequence[Reading], order: Sequence[int]) -> Columns:
    """Columns of readings that were judged one by one."""
    rows = readings
    return Columns(
        order=np.array(order, np.int64),
        point=np.array([r.point for r in rows], np.int64),
        time=np.array([r.time for r in rows], np.int64),
        start=np.array([r.start for r in rows], np.int64),
        mantissa=np.array([r.value.mantissa for r in rows], np.int64),
        exponent=np.array([r.value.exponent for r in rows], np.int8),
        flags=np.array([r.value.flags for r in rows], np.uint8),
        revision=np.array([r.revision for r in rows], np.int32),
        seq=np.array([r.seq for r in rows], np.int64),
        quality=np.array([r.quality for r in rows], np.uint8),
        unit=dictionary([r.unit for r in rows]),
        serial=dictionary([r.serial for r in rows]),
        product=dictionary([r.product for r in rows]),
    )


def plain_columns(
    point: NDArray[np.int64],
    time: NDArray[np.int64],
    mantissa: NDArray[np.int64],
    exponent: NDArray[np.int8],
    unit: Texts,
) -> Columns:
    """Readings, in their order, that say nothing but what was measured when."""
    n = len(time)
    return Columns(
        order=np.arange(n),
        point=point,
        time=time,
        start=np.full(n, NO_TIME, np.int64),
        mantissa=mantissa,
        exponent=exponent,
        flags=np.zeros(n, np.uint8),
        revision=np.zeros(n, np.int32),
        seq=np.full(n, NO_SEQ, np.int64),
        quality=np.zeros(n, np.uint8),
        unit=unit,
        serial=None,
        product=None,
    )


def joined(one: Columns, other: Columns) -> Columns:
    """The rows of both, by message."""
    if not len(one) or not len(other):
        return one if len(one) else other
    arrays: Any = (np.concatenate((getattr(one, n), getattr(other, n))) for n in _ARRAYS)
    texts = (_joined(getattr(one, n), len(one), getattr(other, n), len(other)) for n in _TEXTS)
    both = Columns(*arrays, *texts)
    return both.pick(np.argsort(both.order, kind="stable"))


def _joined(one: Texts, n_one: int, other: Texts, n_other: int) -> Texts:
    if one is None and other is None:
        return None
    one, other = one or absent(n_one), other or absent(n_other)
    words = tuple(dict.fromkeys((*one.words, *other.words)))
    place = np.array([*(words.index(word) for word in other.words), NO_CODE], np.int32)
    return Dictionary(words, np.concatenate([one.codes, place[other.codes]]))


class From(Protocol):
    """Who knows where readings came from."""

    def of(self, order: NDArray[np.int64]) -> Evidence:
        """That of readings of these messages of the batch."""


def by_plant(
    directory: Directory, columns: Columns, received: NDArray[np.int64], origin: From | None = None
) -> list[Readings]:
    """One ``Readings`` for each plant, in the roster's order; within a plant in order of receipt.

    ``received``: UTC milliseconds of each message of the batch. ``origin``: None: nobody wants to know.
    """
    if not len(columns):
        return []
    plants = directory.plant_of[columns.point]
    if plants.min() == plants.max():
        return [_readings(directory, columns, received, origin)]
    few = len(directory.plant_ids) <= np.iinfo(np.int16).max
    rows = np.argsort(plants.astype(np.int16) if few else plants, kind="stable")  # counted, not compared
    cuts = np.flatnonzero(np.diff(plants[rows])) + 1
    return [_readings(directory, columns.pick(part), received, origin) for part in np.split(rows, cuts)]


def _readings(
    directory: Directory, columns: Columns, received: NDArray[np.int64], origin: From | None
) -> Readings:
    n = len(columns)
    points, codes = numbered(columns.point)
    words = tuple(directory.points[i].id for i in points.tolist())
    return Readings(
        plant=directory.plant_ids[directory.points[int(points[0])].plant],
        point=Dictionary(words, codes.astype(np.int32)),
        time=columns.time,
        start=columns.start,
        mantissa=columns.mantissa,
        exponent=columns.exponent,
        unit=used(columns.unit, n),
        serial=used(columns.serial, n),
        product=used(columns.product, n),
        revision=columns.revision,
        seq=columns.seq,
        quality=columns.quality,
        flags=columns.flags,
        received=received[columns.order],
        evidence=None if origin is None else origin.of(columns.order),
    )


def numbered(points: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different ones in order, and of each which it is: a plant's points lie close together."""
    first, last = int(points.min()), int(points.max())
    if last - first > _CLOSE * len(points):
        return np.unique(points, return_inverse=True)
    there = np.zeros(last - first + 1, np.bool_)
    there[points - first] = True
    return np.flatnonzero(there) + first, (np.cumsum(there) - 1)[points - first]


def used(texts: Texts, n: int) -> Dictionary:
    """Only the words that are used."""
    if texts is None:
        return absent(n)
    used = np.flatnonzero(np.bincount(texts.codes + 1, minlength=len(texts.words) + 1)[1:])
    if len(used) == len(texts.words):
        return texts
    place = np.full(len(texts.words) + 1, NO_CODE, np.int32)
    place[used] = np.arange(len(used))
    return Dictionary(tuple(texts.words[i] for i in used.tolist()), place[texts.codes])
