"""The oracle's shapes of gaps: by the rule of docs/books.md, one quarter of an hour at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from metering.roster import REGISTER, Plant, Point

if TYPE_CHECKING:
    from tests.processors.oracle_books import Flow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER = 900_000
HOUR = 4 * QUARTER
DAY = 24 * HOUR
TWO_HOURS = 2 * HOUR
DAYS_BACK = 35


def with_shapes(point: Point, plant: Plant, flows: Sequence[Flow]) -> list[Flow]:
    """The flows of a point; those of gaps cut into quarters of an hour where reference days say how."""
    out: list[Flow] = []
    for flow in flows:
        parts = _parts(point, plant, flow, flows) if _is_gap(point, flow) else None
        out += [flow] if parts is None else parts
    return out


def _is_gap(point: Point, flow: Flow) -> bool:
    length = flow.end - flow.start
    if point.reads != REGISTER or flow.held or flow.amount <= 0:
        return False
    return TWO_HOURS < length <= DAYS_BACK * DAY and length > 2 * point.expect_ms


def _parts(point: Point, plant: Plant, gap: Flow, flows: Sequence[Flow]) -> list[Flow] | None:
    """The gap, quarter by quarter; None where it is linear."""
    zone = plant.time_zone
    edges = [gap.start, *range(gap.start // QUARTER * QUARTER + QUARTER, gap.end, QUARTER), gap.end]
    pieces = list(pairwise(edges))
    weights = [Fraction(0)] * len(pieces)
    for day in sorted({_day(zone, low) for low, _ in pieces}):
        mine = [number for number, (low, _) in enumerate(pieces) if _day(zone, low) == day]
        clock = [_clock(zone, pieces[number][0] // QUARTER * QUARTER) for number in mine]
        found = _references(plant, day, _day(zone, gap.start), clock, flows)
        if not found:
            return None
        for number, *used in zip(mine, *found, strict=True):
            low, high = pieces[number]
            weights[number] = Fraction(sum(max(0, one) for one in used), len(used)) * (high - low)
    return _shared_out(point, gap, pieces, weights)


def _shared_out(
    point: Point, gap: Flow, pieces: list[tuple[int, int]], weights: list[Fraction]
) -> list[Flow] | None:
    """The gap's amount in proportion to the weights, each sum up to an edge rounded down."""
    total = sum(weights)
    if total == 0:
        return None
    out, done, so_far = [], 0, Fraction(0)
    for (low, high), weight in zip(pieces, weights, strict=True):
        so_far += weight
        until = gap.amount * so_far // total
        if point.limit_per_hour is not None:
            possible = point.limit_per_hour * Fraction(12, 10) * Fraction(high - low, HOUR)
            if until - done > possible:
                return None
        out.append(replace(gap, start=low, end=high, amount=until - done, shaped=True))
        done = until
    return out


def _references(
    plant: Plant, day: date, first: date, clock: list[int], flows: Sequence[Flow]
) -> list[list[int]]:
    """What was used at these times of day on the last three like this one, before the first of the gap."""
    zone = plant.time_zone
    found: list[list[int]] = []
    for back in range(1, DAYS_BACK + 1):
        other = first - timedelta(days=back)
        if (other - EPOCH.date()).days in plant.holidays:
            continue
        if len(found) < 3 and _kind(plant, other) == _kind(plant, day) and _is_plain(zone, other):
            midnight = _midnight(zone, other)
            used = [_used(midnight + at, flows) for at in clock]
            if None not in used:
                found.append([amount for amount in used if amount is not None])
    return found


def _used(quarter: int, flows: Sequence[Flow]) -> int | None:
    """What flows say of a quarter of an hour; None where it is not measured from beginning to end."""
    near = [flow for flow in flows if flow.start < quarter + QUARTER and flow.end > quarter]
    measured = sum(flow.shared_ms(quarter, quarter + QUARTER) for flow in near if flow.measured)
    if measured < QUARTER:
        return None
    return sum(flow.between(quarter, quarter + QUARTER) for flow in near)


# -- days -------------------------------------------------------------------------------------------


def _kind(plant: Plant, day: date) -> str:
    number = (day - EPOCH.date()).days
    if number in plant.holidays:
        return "Sunday"
    if number in plant.working_days:
        return "working day"
    return {5: "Saturday", 6: "Sunday"}.get(day.weekday(), "working day")


def _is_plain(zone: str, day: date) -> bool:
    """Whether clocks show each time of this day once."""
    start = _midnight(zone, day)
    return all(
        _day(zone, start + at) == day and _clock(zone, start + at) == at for at in range(0, DAY, QUARTER)
    )


def _local(zone: str, at: int) -> datetime:
    return (EPOCH + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone))


def _day(zone: str, at: int) -> date:
    return _local(zone, at).date()


def _clock(zone: str, at: int) -> int:
    """What clocks show, as milliseconds since their midnight."""
    local = _local(zone, at)
    return ((local.hour * 60 + local.minute) * 60 + local.second) * 1000


def _midnight(zone: str, day: date) -> int:
    return (datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) - EPOCH) // timedelta(
        milliseconds=1
    )
