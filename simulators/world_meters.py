"""The meters of a simulated plant: what each of them shows at any instant, and what it sends."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from metering.roster import LIMIT_MARGIN
from metering.site_meaning import limit_per_hour
from metering.units import MICRO, UNITS
from simulators.world_flows import HOUR_MS, MINUTE_MS, Activities, Days, Integers, Past
from simulators.world_profile import Meter

LATENCY_MS = (40, 900)
GATEWAYS = 3
FIRST = (0.01, 0.5)
"""Where on its face a register begins: anywhere between these parts of it."""
POSSIBLE_STEPS = 2
"""A register may show so many steps more than its limit allows (docs/books.md)."""
SHIFT_HOURS = (6.0, 14.0, 22.0)
HOLDS = 2
"""Readings so many times ``expect_every`` apart still count as measured."""


@dataclass(slots=True)
class Point:
    """One metering point and its truth.

    ``step``: what a step of the register is worth, behind the multiplier, in millionths of the canonical
    unit. ``first``: what the register shows at ``from_ms``, in steps; ``width``: where it rolls, in steps.
    ``limit``: millionths in an hour. Readings are at ``phase_ms`` + whole ``every_ms``.
    """

    plant: str
    meter: Meter
    past: Past
    from_ms: int
    to_ms: int
    step: int
    first: int
    width: int
    limit: int
    phase_ms: int
    latency_ms: int
    breaks: list[tuple[int, int]] = field(default_factory=list)
    """Resets and new meters: from an instant on the register counts from another value (steps)."""

    @property
    def every_ms(self) -> int:
        return self.meter.every

    def counts(self, at_ms: Integers) -> Integers:
        """What the register would show if it had no end, in steps."""
        shown = self._since(at_ms, self.from_ms, self.first)
        for from_ms, value in self.breaks:
            shown = np.where(at_ms >= from_ms, self._since(at_ms, from_ms, value), shown)
        return np.asarray(shown)

    def shows(self, at_ms: Integers) -> Integers:
        return np.asarray(self.counts(at_ms) % self.width)

    def _since(self, at_ms: Integers, from_ms: int, value: int) -> Integers:
        before = self.past.at(np.array([from_ms], np.int64))
        return np.asarray(value + (self.past.at(at_ms) - before) // self.step)

    def possible(self, length_ms: int) -> int:
        """The most full steps that the register can rise in this time, by the site file's limit."""
        most = LIMIT_MARGIN * self.limit * length_ms / HOUR_MS / self.step
        return int(most // 1) + POSSIBLE_STEPS

    def instants(self) -> Integers:
        """When it is read: in [from, to)."""
        first = -(-(self.from_ms - self.phase_ms) // self.every_ms)
        last = (self.to_ms - 1 - self.phase_ms) // self.every_ms
        return self.phase_ms + np.arange(first, last + 1, dtype=np.int64) * self.every_ms

    def unsure(self, at_ms: Integers) -> Integers:
        """How far a line between readings can be from the truth there, in millionths.

        The line may be between any two readings that still count as measured; the truth is what flowed.
        """
        before = self.phase_ms + (at_ms - self.phase_ms) // self.every_ms * self.every_ms
        worst = np.zeros_like(at_ms)
        truth = self.past.at(at_ms)
        for back in range(HOLDS):
            for ahead in range(1, HOLDS - back + 1):
                low_ms, high_ms = before - back * self.every_ms, before + ahead * self.every_ms
                low, high = self.past.at(low_ms), self.past.at(high_ms)
                line = low + (high - low) * (at_ms - low_ms) // (high_ms - low_ms)
                worst = np.maximum(worst, np.abs(line - truth) + 1)
        return worst


@dataclass(slots=True)
class Stream:
    """What a point sends, one element a reading: may be changed by faults, then is sorted and sent.

    ``value`` in units of the last digit that the meter shows. ``gone``: never sent. ``more``: readings sent
    besides: time, value, received, start (0: none). ``spans``: of reports, what they are of: start and end.
    """

    time_ms: Integers
    value: Integers
    received_ms: Integers
    start_ms: Integers | None = None
    gone: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    more: list[tuple[Integers, Integers, Integers, Integers]] = field(default_factory=list)
    besides: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Messages of another form: when received, under whose name, and what."""
    spans: tuple[Integers, Integers] | None = None

    def __post_init__(self) -> None:
        self.gone = np.zeros(len(self.time_ms), np.bool_)
        if self.start_ms is not None:
            self.spans = self.start_ms.copy(), self.time_ms.copy()

    def starts(self) -> Integers:
        """When each begins; 0 where it has no start."""
        return np.zeros_like(self.time_ms) if self.start_ms is None else self.start_ms

    def again(self, which: slice | Integers, by: int, later: Integers) -> None:
        """Sends some once more, ``later`` than before, with a value that is more by ``by``."""
        time_ms, value, received_ms = self.time_ms[which], self.value[which], self.received_ms[which]
        self.more.append((time_ms, value + by, received_ms + later, self.starts()[which]))

    def sent(self) -> tuple[Integers, Integers, Integers, Integers]:
        """time, value, received and start (0: none) of all that is sent."""
        here = ~self.gone
        parts = [(self.time_ms[here], self.value[here], self.received_ms[here], self.starts()[here])]
        parts += self.more
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return columns[0], columns[1], columns[2], columns[3]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Reads its meters at once, ``phase_ms`` after each full minute, and sends that ``latency_ms`` later."""

    phase_ms: int
    latency_ms: int


def gateways(random: Generator) -> list[Gateway]:
    """Those of a plant; its meters are dealt to them."""
    phases, latencies = random.integers(60, size=GATEWAYS), random.integers(*LATENCY_MS, size=GATEWAYS)
    return [Gateway(int(p) * 1_000, int(each)) for p, each in zip(phases, latencies, strict=True)]


def point(
    plant: str, meter: Meter, past: Past, span_ms: tuple[int, int], gateway: Gateway, random: Generator
) -> Point:
    """A point whose register has counted for a while."""
    worth = UNITS[meter.unit].factor * MICRO * meter.multiplier / Fraction(10) ** meter.decimals
    assert worth.denominator == 1, "a step of a profile's register is whole millionths"
    width = 10 ** (meter.digits + meter.decimals)
    first = int(width * np.exp(random.uniform(*np.log(FIRST))))
    phase_ms = 0 if meter.reads == "interval" else gateway.phase_ms % meter.every
    limit = limit_per_hour(meter.limit) if meter.limit is not None else 0
    return Point(plant, meter, past, *span_ms, int(worth), first, width, limit, phase_ms, gateway.latency_ms)


def registered(point: Point) -> Stream:
    """What a register sends, without faults."""
    at_ms = point.instants()
    return Stream(at_ms, point.shows(at_ms), at_ms + point.latency_ms)


def reported(point: Point, busy: Activities, days: Days, random: Generator) -> Stream:
    """Amounts as somebody tells them: of batches, shifts, days or months, later."""
    edges = _edges(point, busy, days)
    past = point.past.at(edges)
    amounts = (np.diff(past) + point.step // 2) // point.step
    reports = point.meter.reports
    assert reports is not None, "a point that reads intervals has reports"
    low, high = sorted(reports.delay_minutes)
    delays = random.integers(low * MINUTE_MS, high * MINUTE_MS + 1, len(amounts))
    return Stream(edges[1:].copy(), amounts, edges[1:] + delays, edges[:-1].copy())


def _edges(point: Point, busy: Activities, days: Days) -> Integers:
    """Where one report ends and the next begins, inside the time that is simulated."""
    reports = point.meter.reports
    assert reports is not None, "a point that reads intervals has reports"
    at_ms = days.from_ms + np.arange(days.minutes, dtype=np.int64) * MINUTE_MS
    if reports.per == "batch":
        batches = busy.batches.get(reports.activity or "")
        edges = batches.edges_ms if batches is not None else at_ms[:0]
    elif reports.per == "shift":
        edges = at_ms[np.isin(days.hour, SHIFT_HOURS)]
    elif reports.per == "day":
        edges = at_ms[days.hour == 0]
    else:
        edges = at_ms[days.first_of_month & (days.hour == 0)]
    return np.asarray(edges[(edges >= point.from_ms) & (edges <= point.to_ms)])
