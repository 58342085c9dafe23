"""A stretch of the log as the operators take it: readings in plain integers, record by record.

Here names become numbers, values become millionths of the canonical unit (rounded half to even,
flagged), and what the site file does not know becomes a refusal with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from metering.readings import FLAG_ROUNDED, NO_CODE, NO_TIME, MeterQuality, Readings
from metering.roster import INTERVAL, Point, Roster
from metering.units import MICRO, UNITS, convertible
from numpy.typing import NDArray

from processors.memory import ESTIMATED, ROUNDED

Ints = NDArray[np.int64]

AMOUNT_MAX = 2**61
"""Amounts at or beyond it (2.3e12 kWh) are refused, so that sums of two stay within 64 bits."""
_TEN = 10 ** np.arange(19, dtype=np.int64)


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

    def take(self, mask: NDArray) -> Batch:
        """The readings that ``mask`` or an index selects, of the same records."""
        cut = {name: getattr(self, name)[mask] for name in _PER_READING}
        return Batch(self.offset, self.stamp, **cut, refused=self.refused)


_PER_READING = ("point", "series", "time", "start", "value", "revision", "flags", "record")


class SeriesIndex:
    """Numbers every installation of every point: one series each, in roster order."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.first: list[int] = []
        self.point: list[int] = []
        self.serial: list[str] = []
        for point in roster.points:
            self.first.append(len(self.point))
            for installation in point.installations:
                self.point.append(point.index)
                self.serial.append(installation.serial)

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
    parts: list[dict[str, NDArray]] = []
    refused: list[Refused] = []
    for readings, numbers in stretches:
        if len(readings):
            parts += _parts(readings, numbers, index, refused)
    columns = {name: _join(parts, name) for name in _PER_READING}
    return Batch(offsets, stamps, **columns, refused=refused)


def _join(parts: list[dict[str, NDArray]], name: str) -> NDArray:
    kind = np.uint8 if name == "flags" else np.int64
    return np.concatenate([part[name] for part in parts]).astype(kind) if parts else np.empty(0, kind)


def _parts(
    readings: Readings, numbers: Ints, index: SeriesIndex, refused: list[Refused]
) -> list[dict[str, NDArray]]:
    names = index.roster.names.get(readings.plant, {})
    parts = []
    single = len(readings.point.words) == 1
    for code, word in enumerate(readings.point.words):
        rows = np.arange(len(readings)) if single else np.flatnonzero(readings.point.codes == code)
        at = names.get(word)
        if at is None:
            for i in rows.tolist():
                refused.append(_refusal(readings, i, numbers, "unknown_point", f"no point {word} in the site file"))
        elif len(rows):
            parts.append(_of_point(readings, rows, numbers, index.roster.points[at], index, refused))
    return parts


def _of_point(
    readings: Readings, rows: Ints, numbers: Ints, point: Point, index: SeriesIndex, refused: list[Refused]
) -> dict[str, NDArray]:
    keep = np.ones(len(rows), bool)

    def refuse(bad: NDArray[np.bool_], reason: str, detail: str) -> None:
        for i in rows[bad & keep].tolist():
            refused.append(_refusal(readings, i, numbers, reason, detail))
        keep[bad] = False

    refuse(readings.quality[rows] == MeterQuality.BAD, "quality_bad", "the meter itself says the reading is bad")
    series = _series(readings, rows, point, index)
    refuse(series == -1, "no_installation", "no meter is installed at this point at that time")
    refuse(series == -2, "unknown_serial", "no installation of this point has this serial number at that time")
    installation = [point.installations[s - index.first[point.index]] if s >= 0 else None for s in series.tolist()] \
        if len(point.installations) > 1 else [point.installations[0]] * len(rows)
    value, rounded, ok = _values(readings, rows, point, [i.step if i else 1 for i in installation])
    refuse(~ok, "value_out_of_range", "beyond what a register can hold")
    refuse(_product_mismatch(readings, rows, point), "product_mismatch", f"this point counts {point.product}")
    start = readings.start[rows] if point.reads == INTERVAL else np.full(len(rows), NO_TIME)
    if point.reads == INTERVAL:
        refuse((start == NO_TIME) | (start >= readings.time[rows]), "start_missing", "an interval read needs its start")
    flags = np.where(rounded | (readings.flags[rows] & FLAG_ROUNDED > 0), ROUNDED, 0)
    flags = flags | np.where(readings.quality[rows] == MeterQuality.ESTIMATED, ESTIMATED, 0)
    n = int(keep.sum())
    return {
        "point": np.full(n, point.index), "series": series[keep], "time": readings.time[rows][keep],
        "start": start[keep], "value": value[keep], "revision": readings.revision[rows][keep].astype(np.int64),
        "flags": flags[keep].astype(np.uint8), "record": numbers[rows][keep],
    }  # fmt: skip


def _product_mismatch(readings: Readings, rows: Ints, point: Point) -> NDArray[np.bool_]:
    if not point.product or not readings.product.words:
        return np.zeros(len(rows), bool)
    right = [word == point.product for word in readings.product.words]
    codes = readings.product.codes[rows]
    return (codes != NO_CODE) & ~np.array(right)[np.where(codes == NO_CODE, 0, codes)]


def _series(readings: Readings, rows: Ints, point: Point, index: SeriesIndex) -> Ints:
    """The series of each reading: by serial, else by time; -1 none in force, -2 unknown serial."""
    first, installations = index.first[point.index], point.installations
    time = readings.time[rows]
    serials = readings.serial.codes[rows]
    if len(installations) == 1 and not (serials != NO_CODE).any():
        only = installations[0]
        return np.where((time >= only.from_ms) & (time <= only.to_ms), first, -1)
    out = np.full(len(rows), -1, np.int64)
    for number, installation in enumerate(installations):
        inside = (time >= installation.from_ms) & (time <= installation.to_ms)
        out[inside & (serials == NO_CODE)] = first + number  # the later one wins at a shared instant
    for code, word in enumerate(readings.serial.words):
        named = serials == code
        out[named] = -2
        for number, installation in enumerate(installations):
            inside = (time >= installation.from_ms) & (time <= installation.to_ms)
            if installation.serial in (word, ""):
                out[named & inside] = first + number
    return out


def _values(
    readings: Readings, rows: Ints, point: Point, steps: list[int]
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Millionths of the canonical unit in whole register steps; rounded?; in range?"""
    mantissa, exponent = readings.mantissa[rows], readings.exponent[rows].astype(np.int64)
    units = readings.unit.codes[rows]
    value = np.zeros(len(rows), np.int64)
    rounded, ok = np.zeros(len(rows), bool), np.ones(len(rows), bool)
    step = np.array(steps, np.int64)
    for e, u, s in {(int(e), int(u), int(s)) for e, u, s in zip(exponent, units, step, strict=True)}:
        mine = (exponent == e) & (units == u) & (step == s)
        unit = point.unit if u == NO_CODE else UNITS.get(readings.unit.words[u])
        if unit is None or not convertible(unit, point.unit):
            ok[mine] = False
            continue
        numerator = unit.numerator * MICRO * (10**e if e > 0 else 1)
        denominator = unit.denominator * s * (10**-e if e < 0 else 1)
        steps_of, inexact, fits = scale(mantissa[mine], numerator, denominator, AMOUNT_MAX // s)
        value[mine], rounded[mine], ok[mine] = steps_of * s, inexact, fits
    return value, rounded, ok


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
    result, inexact, fits = np.zeros(len(values), np.int64), np.zeros(len(values), bool), np.zeros(len(values), bool)
    for i, value in enumerate(values.tolist()):
        quotient, rest = divmod(value * numerator, denominator)
        quotient += 2 * rest > denominator or (2 * rest == denominator and quotient & 1 == 1)
        inexact[i], fits[i] = rest > 0, abs(quotient) < magnitude_max
        result[i] = quotient if fits[i] else 0
    return result, inexact, fits


def _refusal(readings: Readings, i: int, numbers: Ints, reason: str, detail: str) -> Refused:
    return Refused(int(numbers[i]), readings.plant, readings.point.text(i) or "", int(readings.time[i]), reason, detail)
