"""A stretch of the log as the operators take it: readings in plain integers, record by record.

Here names become numbers, values become millionths of the canonical unit (rounded half to even,
flagged), and what the site file does not know becomes a refusal with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.readings import FLAG_ROUNDED, NO_CODE, NO_TIME, MeterQuality, Readings
from metering.roster import INTERVAL, Installation, Point, Roster
from metering.units import MICRO, UNITS, convertible
from processors.memory import ESTIMATED, ROUNDED

Ints = NDArray[np.int64]

AMOUNT_MAX = 2**61
"""Register values at or beyond it (2.3e12 kWh), before or after the multiplier, are refused: differences
of two stay within 64 bits."""
READ_MAX = 2**53
"""The same for one interval read (9e9 kWh): its sums of a thousand stay within 64 bits."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of the readings topic, decoded; ``readings`` is None for a tick."""

    offset: int
    stamp_ms: int
    readings: Readings | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A reading that the processors cannot take: a row of ``rejected``."""

    record: int
    plant: str
    point: str
    time_ms: int
    reason: str
    detail: str


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

    def __len__(self) -> int:
        return len(self.time)

    def take(self, mask: NDArray[Any]) -> Batch:
        """The readings that ``mask`` or an index selects, of the same records."""
        cut = {name: getattr(self, name)[mask] for name in _PER_READING}
        return Batch(self.offset, self.stamp, **cut, refused=self.refused)


_PER_READING = ("point", "series", "time", "start", "value", "revision", "flags", "record")


class SeriesIndex:
    """Numbers every installation of every point: one series each, in roster order; their facts as columns."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        points = roster.points
        every = [(point, installation) for point in points for installation in point.installations]
        self.point = [point.index for point, _ in every]
        self.serial = [installation.serial for _, installation in every]
        self.from_ms = np.array([i.from_ms for _, i in every], np.int64)
        self.to_ms = np.array([i.to_ms for _, i in every], np.int64)
        self.step = np.array([i.step for _, i in every], np.int64)
        self.value_max = np.array([_value_max(point, i) for point, i in every], np.int64)
        counts = np.array([len(point.installations) for point in points], np.int64)
        self.first = (np.cumsum(counts) - counts).astype(np.int64)
        self.single = counts == 1
        self.interval = np.array([point.reads == INTERVAL for point in points], bool)
        self.products = sorted({point.product for point in points})
        self.product = np.array([self.products.index(point.product) for point in points], np.int64)
        self.units = sorted({point.unit.name for point in points})
        self.unit = np.array([self.units.index(point.unit.name) for point in points], np.int64)

    def __len__(self) -> int:
        return len(self.point)


def build(records: Sequence[LogRecord], index: SeriesIndex) -> Batch:
    """The batch of some records of the log, in their order."""
    stretches = [
        (record.readings, np.full(len(record.readings), number))
        for number, record in enumerate(records)
        if record.readings is not None
    ]
    stamps = np.array([record.stamp_ms for record in records], np.int64)
    offsets = np.array([record.offset for record in records], np.int64)
    return build_stretches(stretches, offsets, stamps, index)


def build_stretches(
    stretches: Sequence[tuple[Readings, Ints]], offsets: Ints, stamps: Ints, index: SeriesIndex
) -> Batch:
    """The batch of readings that come with the number of the record each belongs to."""
    parts: list[dict[str, NDArray[Any]]] = []
    refused: list[Refused] = []
    for readings, numbers in stretches:
        if len(readings):
            parts += _parts(readings, numbers, index, refused)
    columns = {name: _join(parts, name) for name in _PER_READING}
    return Batch(offsets, stamps, **columns, refused=refused)


def _join(parts: list[dict[str, NDArray[Any]]], name: str) -> NDArray[Any]:
    kind = np.uint8 if name == "flags" else np.int64
    return np.concatenate([part[name] for part in parts]).astype(kind) if parts else np.empty(0, kind)


def _parts(
    readings: Readings, numbers: Ints, index: SeriesIndex, refused: list[Refused]
) -> list[dict[str, NDArray[Any]]]:
    taken = _Taken(readings, numbers, index, refused)
    taken.refuse(taken.point < 0, "unknown_point", "the site file has no such point")
    taken.refuse(
        taken.of("quality") == MeterQuality.BAD, "quality_bad", "the meter itself says the reading is bad"
    )
    series = _series(taken)
    taken.refuse(series == -1, "no_installation", "no meter is installed at this point at that time")
    taken.refuse(
        series == -2, "unknown_serial", "no meter of this serial number is at this point at that time"
    )
    keep = series >= 0
    value, rounded, fits = _values(taken, np.where(keep, series, 0))
    fits &= np.abs(value) < index.value_max[np.where(keep, series, 0)]
    taken.refuse(~fits, "value_out_of_range", "beyond what a register can hold")
    taken.refuse(_product_mismatch(taken), "product_mismatch", "this point counts another product")
    reads = index.interval[taken.point]
    start = np.where(reads, taken.of("start"), NO_TIME)
    missing = reads & ((start == NO_TIME) | (start >= taken.of("time")))
    taken.refuse(missing, "start_missing", "an interval read needs its start, before its time")
    early = reads & (start < index.from_ms[np.where(keep, series, 0)])  # two meters' reads never share time
    taken.refuse(early, "no_installation", "the read begins before its meter was installed")
    flags = np.where(rounded | (taken.of("flags") & FLAG_ROUNDED > 0), ROUNDED, 0)
    flags = flags | np.where(taken.of("quality") == MeterQuality.ESTIMATED, ESTIMATED, 0)
    columns = {
        "point": taken.point,
        "series": series,
        "time": taken.of("time"),
        "start": start,
        "value": value,
        "revision": taken.of("revision"),
        "flags": flags,
        "record": numbers[taken.rows],
    }
    return [{name: column[taken.keep] for name, column in columns.items()}]


def _value_max(point: Point, installation: Installation) -> int:
    """Where values begin to be too large for one of the installation's multipliers."""
    most = READ_MAX if point.reads == INTERVAL else AMOUNT_MAX
    return min(most * m.denominator // max(m.numerator, m.denominator) for m in installation.multipliers)


class _Taken:
    """The readings of a stretch that are not refused yet. Refused rows stay in place, not kept."""

    def __init__(self, readings: Readings, numbers: Ints, index: SeriesIndex, refused: list[Refused]) -> None:
        self.readings, self.index, self._numbers, self._refused = readings, index, numbers, refused
        names = index.roster.names.get(readings.plant, {})
        points = np.array([names.get(word, -1) for word in readings.point.words] or [-1], np.int64)
        self.rows = np.arange(len(readings))
        self.point = points[readings.point.codes]
        self.keep = np.ones(len(readings), bool)

    def of(self, name: str) -> NDArray[Any]:
        return np.asarray(getattr(self.readings, name))

    def refuse(self, bad: NDArray[np.bool_], reason: str, detail: str) -> None:
        for i in np.flatnonzero(bad & self.keep).tolist():
            self._refused.append(_refusal(self.readings, i, self._numbers, reason, detail))
        self.keep &= ~bad


def _product_mismatch(taken: _Taken) -> NDArray[np.bool_]:
    product, index = taken.readings.product, taken.index
    if not product.words:
        return np.zeros(len(product.codes), bool)
    named = np.array([index.products.index(w) if w in index.products else -1 for w in product.words])
    mine = index.product[taken.point]
    counted = np.array([bool(name) for name in index.products])[mine]
    return np.asarray(counted & (product.codes != NO_CODE) & (named[product.codes] != mine))


def _series(taken: _Taken) -> Ints:
    """The series of each reading: by serial, else by time; -1 none in force, -2 unknown serial."""
    index, time = taken.index, taken.of("time")
    serials = taken.readings.serial.codes
    series = index.first[taken.point]
    out = np.where((time >= index.from_ms[series]) & (time <= index.to_ms[series]), series, -1)
    special = taken.keep & (~index.single[taken.point] | (serials != NO_CODE))
    for p in np.unique(taken.point[special]).tolist():
        rows = np.flatnonzero(special & (taken.point == p))
        out[rows] = _series_of_point(taken, rows, index.roster.points[p])
    return np.where(taken.keep, out, -3)


def _series_of_point(taken: _Taken, rows: Ints, point: Point) -> Ints:
    time, serial = taken.of("time")[rows], taken.readings.serial
    codes, first = serial.codes[rows], int(taken.index.first[point.index])
    out = np.where(codes == NO_CODE, -1, -2).astype(np.int64)
    for number, installation in enumerate(point.installations):
        inside = (time >= installation.from_ms) & (time <= installation.to_ms)
        named = [word in ("", installation.serial) or not installation.serial for word in serial.words]
        mine = (codes == NO_CODE) | np.array([*named, False])[codes]
        out[inside & mine] = first + number  # at a shared instant the one that starts
    return out


def _values(taken: _Taken, series: Ints) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Millionths of the canonical unit in whole register steps; rounded?; in range?"""
    readings, index = taken.readings, taken.index
    exponent, units = readings.exponent.astype(np.int64), readings.unit.codes.astype(np.int64)
    step = index.step[series]
    kinds = (index.unit[taken.point] * 4096 + units + 1) * 256 + exponent + 128
    value = np.zeros(len(series), np.int64)
    rounded, fits = np.zeros(len(series), bool), np.ones(len(series), bool)
    for kind in np.unique(kinds).tolist():
        for s in np.unique(step[kinds == kind]).tolist():
            mine = (kinds == kind) & (step == s) & taken.keep
            if mine.any():
                i = int(np.flatnonzero(mine)[0])
                ratio = _ratio(taken, i, int(units[i]), int(exponent[i]))
                if ratio is None:
                    fits[mine] = False
                    continue
                steps, rounded[mine], fits[mine] = scale(
                    readings.mantissa[mine], ratio[0], ratio[1] * s, AMOUNT_MAX // s
                )
                value[mine] = steps * s
    return value, rounded, fits


def _ratio(taken: _Taken, i: int, unit_code: int, exponent: int) -> tuple[int, int] | None:
    """What a mantissa is multiplied by to be millionths of the canonical unit; None: no such unit."""
    of_point = taken.index.roster.points[int(taken.point[i])].unit
    unit = of_point if unit_code == NO_CODE else UNITS.get(taken.readings.unit.words[unit_code])
    if unit is None or not convertible(unit, of_point):
        return None
    return unit.numerator * MICRO * 10 ** max(exponent, 0), unit.denominator * 10 ** max(-exponent, 0)


def scale(
    values: Ints, numerator: int, denominator: int, magnitude_max: int
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """values * numerator / denominator, rounded half to even: result, inexact?, below the maximum?"""
    divisor = math.gcd(numerator, denominator)
    numerator, denominator = numerator // divisor, denominator // divisor
    largest = int(np.abs(values).max(initial=0))
    if largest * numerator >= 2**62 or denominator >= 2**62:
        return _scale_slow(values, numerator, denominator, magnitude_max)
    product = values * numerator
    quotient, rest = np.divmod(product, denominator)
    up = (rest > denominator - rest) | ((rest == denominator - rest) & (quotient & 1 == 1))
    result = quotient + (up & (rest > 0))
    return result, rest > 0, np.abs(result) < magnitude_max


def _scale_slow(
    values: Ints, numerator: int, denominator: int, magnitude_max: int
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    result, inexact, fits = (
        np.zeros(len(values), np.int64),
        np.zeros(len(values), bool),
        np.zeros(len(values), bool),
    )
    for i, value in enumerate(values.tolist()):
        quotient, rest = divmod(value * numerator, denominator)
        quotient += 2 * rest > denominator or (2 * rest == denominator and quotient & 1 == 1)
        inexact[i], fits[i] = rest > 0, abs(quotient) < magnitude_max
        result[i] = quotient if fits[i] else 0
    return result, inexact, fits


def _refusal(readings: Readings, i: int, numbers: Ints, reason: str, detail: str) -> Refused:
    return Refused(
        int(numbers[i]), readings.plant, readings.point.text(i) or "", int(readings.time[i]), reason, detail
    )
