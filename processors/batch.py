"""A stretch of the log as the operators take it: readings in plain integers, record by record.

Here names become numbers, values become millionths of the canonical unit (rounded half to even,
flagged), and what the site file does not know becomes a refusal with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.decisions import Decision
from metering.readings import FLAG_ROUNDED, NO_CODE, NO_TIME, Dictionary, MeterQuality, Readings
from metering.roster import GAUGE, INTERVAL, Installation, Point, Roster
from metering.units import UNITS
from processors.decisions import OFF_FACE, Placed, Refused, placed
from processors.kernels.columns import EXPONENTS, Facts, Raw, columns
from processors.kernels.library import COMPILED
from processors.memory import ESTIMATED, ROUNDED, key_of
from processors.scaling import distinct, factor_of, ratio_of, scale
from processors.taken import Parts, Source, Taken

Ints = NDArray[np.int64]

AMOUNT_MAX = 2**61
"""Register values at or beyond it (2.3e12 kWh), before or after the multiplier, are refused: differences
of two stay within 64 bits."""
READ_MAX = 2**53
"""The same for one interval read (9e9 kWh): its sums of a thousand stay within 64 bits."""
STATED = 2**31 - 1
"""Revision of a reading that the site file states: above that of any other."""
GAUGE_MAX = 2**42
"""The same for a gauge (4.4e6 kW, V, A): a quarter of an hour of it in milliseconds stays within 64 bits."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of the readings topic, decoded; ``readings`` is None for a tick, and for ``decisions`` of
    people on one plant.
    """

    offset: int
    stamp_ms: int
    readings: Readings | None
    plant: str = ""
    decisions: tuple[Decision, ...] = ()


@dataclass
class Batch:
    """Readings of several records; arrays of one length, ``record`` numbers into offset and stamp.

    ``value``: millionths of the canonical unit, before the multiplier. ``flags``: memory's.
    """

    offset: Ints
    stamp: Ints
    point: Ints
    series: Ints
    time: Ints
    start: Ints
    value: Ints
    revision: Ints
    flags: NDArray[np.uint8]
    record: Ints
    refused: list[Refused] = field(default_factory=list)
    decisions: list[Placed] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def key(self) -> Ints:
        """The memory's key of each reading: series and time."""
        return key_of(self.series, self.time)

    def take(self, mask: NDArray[Any] | slice) -> Batch:
        """The readings that ``mask`` or an index selects, of the same records; views for a slice."""
        cut: dict[str, Any] = {
            name: _selected(getattr(self, name), mask) for name in _PER_READING if name != "series"
        }
        series = cut["point"] if self.series is self.point else _selected(self.series, mask)
        return Batch(self.offset, self.stamp, **cut, series=series, **self.beside)

    @property
    def beside(self) -> dict[str, Any]:
        """What comes beside the readings."""
        return {"refused": self.refused, "decisions": self.decisions}


def _selected(column: NDArray[Any], mask: NDArray[Any] | slice) -> NDArray[Any]:
    """Some of a column; one that holds the same throughout costs nothing."""
    if isinstance(mask, slice):
        return column[mask]
    if column.strides == (0,):
        return column[: np.count_nonzero(mask) if mask.dtype == np.bool_ else len(mask)]
    return column[mask] if mask.dtype == np.bool_ else column.take(mask)


_PER_READING = ("point", "series", "time", "start", "value", "revision", "flags", "record")


class SeriesIndex:
    """Numbers every installation of every point: one series each, in roster order; their facts as columns."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        points = roster.points
        every = [(point, installation) for point in points for installation in point.installations]
        self.point = np.array([point.index for point, _ in every], np.int64)
        self.from_ms = np.array([i.from_ms for _, i in every], np.int64)
        self.to_ms = np.array([i.to_ms for _, i in every], np.int64)
        self.step = np.array([i.step for _, i in every], np.int64)
        self.value_max = np.array([_value_max(point, i) for point, i in every], np.int64)
        self.width = np.array([i.width or 0 for _, i in every], np.int64)
        counts = np.array([len(point.installations) for point in points], np.int64)
        self.first = (np.cumsum(counts) - counts).astype(np.int64)
        self.single = counts == 1
        self.interval = np.array([point.reads == INTERVAL for point in points], bool)
        self.gauge = np.array([point.reads == GAUGE for point in points], bool)
        self.register = ~(self.interval | self.gauge)
        self.only_single, self.any_interval = bool(self.single.all()), bool(self.interval.any())
        self.products = sorted({point.product for point in points})
        self.product = np.array([self.products.index(point.product) for point in points], np.int64)
        kinds = [(point.unit.name, installation.step) for point, installation in every]
        numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
        self.kind = np.array([numbers[kind] for kind in kinds], np.int64)
        """Series of one unit and one register step are of one kind: their values are scaled alike."""
        self.kinds = len(numbers)
        below, has_end = np.minimum(self.value_max, AMOUNT_MAX // self.step * self.step), self.width > 0
        low = np.where(has_end, 0, 1 - below)
        below = np.where(has_end, np.minimum(self.width, below), below)
        fast = self.single & ~self.interval
        self.facts = Facts(fast, self.first, self.from_ms, self.to_ms, low, below, self.kind)
        self.factors: dict[str | None, Ints] = {}
        """By unit word, for each kind and exponent, what a mantissa is multiplied by (kernels.columns)."""

    def __len__(self) -> int:
        return len(self.point)

    def shows(self, series: Ints, value: Ints) -> NDArray[np.bool_]:
        """Whether a register can show a value: one with an end nothing below zero, nor its end or more."""
        width = self.width[series]
        return np.asarray((width == 0) | ((value >= 0) & (value < width)))

    def installation(self, series: int) -> Installation:
        """Which one a series is of."""
        point = int(self.point[series])
        return self.roster.points[point].installations[series - int(self.first[point])]


def build(records: Sequence[LogRecord], index: SeriesIndex) -> Batch:
    """The batch of some records of the log, in their order."""
    stretches = [
        (record.readings, np.full(len(record.readings), number))
        for number, record in enumerate(records)
        if record.readings is not None
    ]
    stamps = np.array([record.stamp_ms for record in records], np.int64)
    offsets = np.array([record.offset for record in records], np.int64)
    decisions = [(n, record.plant, one) for n, record in enumerate(records) for one in record.decisions]
    return build_stretches(stretches, offsets, stamps, index, decisions)


def build_stretches(
    stretches: Sequence[tuple[Readings, Ints]],
    offsets: Ints,
    stamps: Ints,
    index: SeriesIndex,
    decisions: Sequence[tuple[int, str, Decision]] = (),
) -> Batch:
    """The batch of readings that come with the number of the record each belongs to; ``decisions``: number
    of the record, plant and what was decided.
    """
    stretches = [(readings, numbers) for readings, numbers in stretches if len(readings)]
    record = np.concatenate([np.empty(0, np.int64), *(numbers for _, numbers in stretches)])
    return build_joined(
        Parts([readings for readings, _ in stretches]), record, offsets, stamps, index, decisions
    )


def build_joined(
    source: Source,
    record: Ints,
    offsets: Ints,
    stamps: Ints,
    index: SeriesIndex,
    decisions: Sequence[tuple[int, str, Decision]] = (),
) -> Batch:
    """The batch of readings that lie one after the other; ``record``: the number of the record of each."""
    every = list(placed(decisions, index))
    refused = [one for one in every if isinstance(one, Refused)]
    beside: dict[str, Any] = {"decisions": [one for one in every if isinstance(one, Placed)]}
    beside["refused"] = refused
    if len(record) == 0:
        empty: dict[str, Any] = {name: np.empty(0, np.int64) for name in _PER_READING}
        return Batch(offsets, stamps, **empty | {"flags": np.empty(0, np.uint8)}, **beside)
    taken = Taken(source, record, index, refused)
    columns: dict[str, Any] = _plain(taken) or _columns(taken)
    refused.sort(key=lambda one: one.record)
    batch = Batch(offsets, stamps, **columns, **beside)
    ordered = (batch.record[1:] >= batch.record[:-1]).all()
    return batch if ordered else batch.take(np.argsort(batch.record, kind="stable"))


def _plain(taken: Taken) -> dict[str, NDArray[Any]] | None:
    """What is taken of all readings, where there is nothing to look at in detail."""
    if not COMPILED or taken.named("serial") or taken.named("product"):
        return None
    index, unit, time, mantissa = taken.index, taken.text("unit"), taken.of("time"), taken.of("mantissa")
    exponent = taken.of("exponent").astype(np.int8, copy=False)
    revision = taken.of("revision").astype(np.int32, copy=False)
    marks = (taken.of(name).astype(np.uint8, copy=False) for name in ("quality", "flags"))
    raw = Raw(
        taken.point, time, mantissa, exponent, unit.codes.astype(np.int64, copy=False), revision, *marks
    )
    words = (None, *unit.words)
    shape = (index.kinds, EXPONENTS)
    factors = [index.factors.get(word, np.zeros(shape, np.int64)) for word in words]

    def ask(row: int) -> int:
        """The factor of a reading's unit, exponent and series, from now on known."""
        code, series = int(unit.codes[row]) + 1, int(index.first[taken.point[row]])
        of_point = index.roster.points[int(taken.point[row])].unit
        factor = factor_of(of_point, words[code], int(exponent[row]), int(index.step[series]))
        if words[code] is None or words[code] in UNITS:
            known = index.factors.setdefault(words[code], np.zeros(shape, np.int64))
            known[index.kind[series], int(exponent[row]) + 128] = factor
        return factor

    done = columns(raw, index.facts, np.concatenate(factors).ravel(), index.kinds, ask)
    if done is None:
        return None
    series, value, revisions, flags = done
    return {
        "point": taken.point,
        "series": taken.point if index.only_single else series,  # then both are numbered alike
        "time": time,
        "start": np.broadcast_to(np.int64(NO_TIME), len(time)),
        "value": value,
        "revision": revisions if revision.any() else np.broadcast_to(np.int64(0), len(time)),
        "flags": flags,
        "record": taken.record,
    }


def _columns(taken: Taken) -> dict[str, NDArray[Any]]:
    """What is taken of all readings, as columns; the rest is refused."""
    index = taken.index
    taken.refuse(taken.point < 0, "unknown_point", "the site file has no such point")
    bad = taken.of("quality") == MeterQuality.BAD
    taken.refuse(bad, "quality_bad", "the meter itself says the reading is bad")
    series = _series(taken)
    taken.refuse(series == -1, "no_installation", "no meter is installed at this point at that time")
    unknown = "no meter of this serial number is at this point at that time"
    taken.refuse(series == -2, "unknown_serial", unknown)
    known = np.maximum(series, 0)
    value, rounded, fits = _values(taken, known)
    fits &= np.abs(value) < index.value_max[known]
    taken.refuse(~fits, "value_out_of_range", "beyond what a register can hold")
    taken.refuse(~index.shows(known, value), *OFF_FACE)
    taken.refuse(_product_mismatch(taken), "product_mismatch", "this point counts another product")
    start = _starts(taken, known)
    flags = np.where(rounded | (taken.of("flags") & FLAG_ROUNDED > 0), ROUNDED, 0)
    flags = flags | np.where(taken.of("quality") == MeterQuality.ESTIMATED, ESTIMATED, 0)
    columns = {
        "point": taken.point,
        "series": series,
        "time": taken.of("time"),
        "start": start,
        "value": value,
        "revision": taken.of("revision").astype(np.int64),
        "flags": flags.astype(np.uint8),
        "record": taken.record,
    }
    return columns if taken.keep.all() else {name: column[taken.keep] for name, column in columns.items()}


def _starts(taken: Taken, series: Ints) -> Ints:
    """Starts of interval reads, NO_TIME for registers."""
    reads = taken.index.interval[taken.point]
    if not reads.any():
        return np.full(len(series), NO_TIME)
    start = np.where(reads, taken.of("start"), NO_TIME)
    missing = reads & ((start == NO_TIME) | (start >= taken.of("time")))
    taken.refuse(missing, "start_missing", "an interval read needs its start, before its time")
    early = reads & (start < taken.index.from_ms[series])  # two meters' reads never share time
    taken.refuse(early, "no_installation", "the read begins before its meter was installed")
    return start


def _value_max(point: Point, installation: Installation) -> int:
    """Where values begin to be too large for one of the installation's multipliers."""
    most = {INTERVAL: READ_MAX, GAUGE: GAUGE_MAX}.get(point.reads, AMOUNT_MAX)
    return min(most * m.denominator // max(m.numerator, m.denominator) for m in installation.multipliers)


def _product_mismatch(taken: Taken) -> NDArray[np.bool_]:
    product, index = taken.text("product"), taken.index
    if not product.words:
        return np.zeros(len(product.codes), bool)
    named = np.array([index.products.index(w) if w in index.products else -1 for w in product.words])
    mine = index.product[taken.point]
    counted = np.array([bool(name) for name in index.products])[mine]
    return np.asarray(counted & (product.codes != NO_CODE) & (named[product.codes] != mine))


def _series(taken: Taken) -> Ints:
    """The series of each reading: by serial, else by time; -1 none in force, -2 unknown serial."""
    index, time, serial = taken.index, taken.of("time"), taken.text("serial")
    series = index.first[taken.point]
    out = np.where((time >= index.from_ms[series]) & (time <= index.to_ms[series]), series, -1)
    special = taken.keep & (~index.single[taken.point] | (serial.codes != NO_CODE))
    for p in np.unique(taken.point[special]).tolist():
        rows = np.flatnonzero(special & (taken.point == p))
        out[rows] = _series_of_point(time[rows], serial, rows, index, index.roster.points[p])
    return np.where(taken.keep, out, -3)


def _series_of_point(time: Ints, serial: Dictionary, rows: Ints, index: SeriesIndex, point: Point) -> Ints:
    codes, first = serial.codes[rows], int(index.first[point.index])
    out = np.where(codes == NO_CODE, -1, -2).astype(np.int64)
    for number, installation in enumerate(point.installations):
        inside = (time >= installation.from_ms) & (time <= installation.to_ms)
        named = [word in ("", installation.serial) or not installation.serial for word in serial.words]
        mine = (codes == NO_CODE) | np.array([*named, False])[codes]
        out[inside & mine] = first + number  # at a shared instant the one that starts
    return out


def _values(taken: Taken, series: Ints) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Millionths of the canonical unit in whole register steps; rounded?; in range?"""
    index, unit, mantissa = taken.index, taken.text("unit"), taken.of("mantissa")
    exponent, step = taken.of("exponent").astype(np.int64), index.step[series]
    kinds = (index.kind[series] * (len(unit.words) + 1) + unit.codes + 1) * 256 + exponent + 128
    value = np.zeros(len(series), np.int64)
    rounded, fits = np.zeros(len(series), bool), np.ones(len(series), bool)
    for kind in distinct(kinds[taken.keep]).tolist():
        mine = np.flatnonzero((kinds == kind) & taken.keep)
        i = int(mine[0])
        of_point, s = index.roster.points[int(taken.point[i])].unit, int(step[i])
        word = None if unit.codes[i] == NO_CODE else unit.words[int(unit.codes[i])]
        ratio = ratio_of(of_point, word, int(exponent[i]))
        if ratio is None:
            fits[mine] = False
            continue
        steps, rounded[mine], fits[mine] = scale(mantissa[mine], ratio[0], ratio[1] * s, AMOUNT_MAX // s)
        value[mine] = steps * s
    return value, rounded, fits
