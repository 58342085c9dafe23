"""Faults of what somebody tells of a batch or a shift: an interval read says an amount, from start to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from metering.roster import LIMIT_MARGIN
from simulators.world_faults import HELD, MISSING, VALID, Fault
from simulators.world_flows import DAY_MS, HOUR_MS, MINUTE_MS
from simulators.world_meters import Point, Stream

EACH = 3
"""Of so many reports the middle one may be wrong: those beside it are right."""
TOO_MUCH = (10, 100, 1_000)
LATE_MS = (HOUR_MS, 60 * DAY_MS)
AGAIN_MS = (MINUTE_MS, DAY_MS)


@dataclass(frozen=True, slots=True)
class Report:
    """One report: whose, and which of its stream."""

    point: Point
    stream: Stream
    index: int
    random: Generator

    @property
    def value(self) -> int:
        return int(self.stream.value[self.index])

    def later(self) -> int:
        return int(np.exp(self.random.uniform(*np.log(AGAIN_MS))))

    def fault(self, kind: str, concludes: str, status: str = "", *, before: int = 0) -> Fault:
        """Of it; ``before``: and of so many before it."""
        assert self.stream.spans is not None, "reports have spans"
        start_ms, end_ms = self.stream.spans
        names = (kind, self.point.plant, self.point.meter.id)
        begin_ms = int(start_ms[self.index - before])
        return Fault(*names, begin_ms, int(end_ms[self.index]), concludes, status)

    def tell(self, value: int, at_ms: int, revision: int) -> None:
        """A report in words of its own."""
        stream, i = self.stream, self.index
        scale = 10**self.point.meter.decimals
        whole, rest = divmod(abs(value), scale)
        digits = str(rest + scale)[1:]
        text = f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"
        payload = (
            f'{{"start":{int(stream.starts()[i])},"time":{int(stream.time_ms[i])},'
            f'"value":"{text}","revision":{revision}}}'
        )
        stream.besides.append((at_ms, self.point.meter.id, payload.encode()))


def report_late(report: Report) -> Fault:
    """It comes hours to months later."""
    low, high = np.log(LATE_MS)
    report.stream.received_ms[report.index] += int(np.exp(report.random.uniform(low, high)))
    return report.fault("report_late", VALID)


def report_twice(report: Report) -> Fault:
    """It comes again, the same."""
    report.stream.again(slice(report.index, report.index + 1), 0, np.array([report.later()]))
    return report.fault("report_twice", VALID)


def report_missing(report: Report) -> Fault:
    """Nobody tells."""
    report.stream.gone[report.index] = True
    return report.fault("report_missing", MISSING)


def report_conflict(report: Report) -> Fault:
    """It comes again with another amount, and nothing says which one is right."""
    by = int(report.random.integers(1, max(2, report.value // 10)))
    report.stream.again(slice(report.index, report.index + 1), by, np.array([report.later()]))
    return report.fault("report_conflict", "conflict", HELD)


def report_corrected(report: Report) -> Fault:
    """It was wrong, and a revision of it says so."""
    right, i = report.value, report.index
    report.stream.value[i] += int(report.random.integers(1, max(2, right // 3)))
    report.tell(right, int(report.stream.received_ms[i]) + report.later(), revision=1)
    return report.fault("report_corrected", VALID)


def report_overlap(report: Report) -> Fault | None:
    """It begins too early, in the one before."""
    stream, i = report.stream, report.index
    assert stream.start_ms is not None, "reports have starts"
    length_ms = int(stream.time_ms[i - 1] - stream.start_ms[i - 1])
    if int(stream.time_ms[i - 1]) != int(stream.start_ms[i]) or length_ms < 2 * MINUTE_MS:
        return None
    stream.start_ms[i] -= int(report.random.integers(1, length_ms // MINUTE_MS)) * MINUTE_MS
    return report.fault("report_overlap", "overlap", HELD, before=1)


def report_too_much(report: Report) -> Fault | None:
    """Somebody forgets the point, or gives kilograms for tonnes: more than can have been made."""
    stream, i = report.stream, report.index
    length_ms = int(stream.time_ms[i] - stream.starts()[i])
    wrong = report.value * int(report.random.choice(TOO_MUCH))
    if not report.point.limit or wrong * report.point.step * HOUR_MS <= LIMIT_MARGIN * (
        (report.point.limit + report.point.step) * length_ms
    ):
        return None
    stream.value[i] = wrong
    return report.fault("report_too_much", "spike", HELD)


def report_negative(report: Report) -> Fault | None:
    """Less than nothing was made; of value added that may be."""
    if report.point.meter.measures == "value_added" or report.value == 0:
        return None
    report.tell(-report.value, int(report.stream.received_ms[report.index]), revision=0)
    report.stream.gone[report.index] = True
    return report.fault("report_negative", "spike", HELD)


REPORT_KINDS: dict[str, Callable[[Report], Fault | None]] = {
    "report_late": report_late,
    "report_twice": report_twice,
    "report_missing": report_missing,
    "report_conflict": report_conflict,
    "report_corrected": report_corrected,
    "report_overlap": report_overlap,
    "report_too_much": report_too_much,
    "report_negative": report_negative,
}
