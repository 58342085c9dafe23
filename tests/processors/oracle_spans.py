"""The oracle's spans: intervals of points, and roll-ups in civil time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from metering.measures import ENERGIES
from metering.policy import Factor, factor_at
from metering.roster import INTERVAL, Point, Roster
from metering.units import CANONICAL, MICRO, UNITS
from tests.processors.oracle_books import Books, Flow, flags, in_own_unit
from tests.processors.oracle_gauges import mean

if TYPE_CHECKING:
    from tests.processors.log_driver import Key, Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER_MS = 900_000
SPANS = ("15m", "hour", "day", "month", "year")


# -- civil time -----------------------------------------------------------------------------------


def span_at(span: str, zone: str, at: int) -> tuple[int, int]:
    """Start and end of the span of a zone's civil time that holds an instant."""
    if span == "15m":
        return at // QUARTER_MS * QUARTER_MS, (at // QUARTER_MS + 1) * QUARTER_MS
    quarter = at // QUARTER_MS * QUARTER_MS  # clocks change on full quarters of UTC
    return _hour_at(zone, quarter) if span == "hour" else _days_at(span, zone, quarter)


@lru_cache(maxsize=100_000)
def _hour_at(zone: str, at: int) -> tuple[int, int]:
    start, end = at, at + QUARTER_MS
    while not _hour_begins(zone, start):
        start -= QUARTER_MS
    while not _hour_begins(zone, end):
        end += QUARTER_MS
    return start, end


def _hour_begins(zone: str, at: int) -> bool:
    """An hour begins where clocks show a full hour, or are put back."""
    now, before = _local(zone, at), _local(zone, at - 1)
    return now.minute == 0 or now.replace(tzinfo=None) < before.replace(tzinfo=None)


@lru_cache(maxsize=100_000)
def _days_at(span: str, zone: str, at: int) -> tuple[int, int]:
    day = _local(zone, at).date()
    if span == "day":
        first, behind = day, day + timedelta(days=1)
    elif span == "month":
        first = day.replace(day=1)
        behind = (first + timedelta(days=32)).replace(day=1)
    else:
        first, behind = date(day.year, 1, 1), date(day.year + 1, 1, 1)
    return _midnight(zone, first), _midnight(zone, behind)


def _local(zone: str, at: int) -> datetime:
    return (EPOCH + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone))


def _midnight(zone: str, day: date) -> int:
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return (local - EPOCH) // timedelta(milliseconds=1)


# -- sums -----------------------------------------------------------------------------------------


@dataclass
class Sum:
    """What is known of some points over one span. ``measured_ms`` and so on: together of all points."""

    start: int
    end: int
    amount: int = 0
    known_ms: int = 0
    measured_ms: int = 0
    held_ms: int = 0
    suspect_ms: int = 0
    rounded: bool = False
    edited: bool = False
    shaped: bool = False
    replaced: bool = False

    def add(self, flow: Flow, sign: int, *, whole_only: bool = False) -> None:
        """Adds a flow's part in the span. ``whole_only``: a part of it has no shape of its own."""
        shared_ms = flow.shared_ms(self.start, self.end)
        if shared_ms == 0:
            return
        self.amount += sign * flow.between(self.start, self.end)
        self.rounded |= flow.rounded
        self.edited |= flow.edited
        self.shaped |= flow.shaped
        self.replaced |= flow.replaced
        self.suspect_ms += shared_ms if flow.suspect else 0
        if flow.held:
            self.held_ms += 0 if flow.written_off or flow.replaced else shared_ms
        else:
            self.known_ms += shared_ms
        if flow.measured and not (whole_only and shared_ms < flow.end - flow.start):
            self.measured_ms += shared_ms

    def quality(self, expected_ms: int) -> str:
        """Of the whole span, of which ``expected_ms`` should be known."""
        if self.known_ms == 0:
            return "missing"
        if self.known_ms < expected_ms:
            return "partial"
        if self.suspect_ms:
            return "suspect"
        return "estimated" if self.measured_ms < self.known_ms else "valid"


@dataclass
class Account:
    """Points whose amounts are added up, each with its sign."""

    scope: str
    measures: str
    product: str
    unit: str
    zone: str
    grid: str
    energies: tuple[str, ...]
    members: dict[int, int] = field(default_factory=dict)


def accounts_of(roster: Roster) -> dict[tuple[str, str, str], Account]:
    """Every point, line, plant and group, by (scope, measures, product)."""
    out: dict[tuple[str, str, str], Account] = {}
    for point in roster.points:
        plant = roster.plants[point.plant]
        groups = [g for g in roster.groups if plant.index in g.plants and point.sign]
        places = [(f"point:{plant.id}/{point.id}", 1, plant.time_zone)]
        if point.line and not point.mean and (point.sign or point.role == "submeter"):
            places.append((f"line:{plant.id}/{point.line}", point.sign or 1, plant.time_zone))
        if point.sign:
            places.append((f"plant:{plant.id}", point.sign, plant.time_zone))
        places += [(f"group:{group.id}", point.sign, group.time_zone) for group in groups]
        for scope, sign, zone in places:
            grouped = scope.startswith("group:")
            key = (scope, point.measures, point.product)
            unit = CANONICAL[point.amount_unit.dimension]
            grid, energies = ("", ()) if grouped else (plant.grid, plant.energies)
            made = out.setdefault(key, Account(*key, unit, zone, grid, energies))
            made.members[point.index] = sign
    return out


# -- intervals ------------------------------------------------------------------------------------


def interval_rows(books: Books) -> dict[Key, Row]:
    """The table ``interval``: base spans of registers, and interval reads."""
    out = dict(books.reads)
    for point in books.roster.points:
        if point.base_ms:
            flows = [flow for flow in books.flows if flow.point == point.index]
            for start in _base_starts(books, point.index, flows):
                row = _base_row(books, point.index, Sum(start, start + point.base_ms), flows)
                out[row["plant"], row["point"], row["end"], row["start"]] = row
    return out


def _base_starts(books: Books, index: int, flows: Sequence[Flow]) -> set[int]:
    """Base spans in which a reading lies, or something is known or held."""
    base_ms = books.roster.points[index].base_ms
    times = [t for m in books.meters if m.point.index == index for t in (*m.counted, *m.disputed)]
    out = {time // base_ms * base_ms for time in times}
    for flow in flows:
        out.update(range(flow.start // base_ms * base_ms, flow.end, base_ms))
    return out


def _base_row(books: Books, index: int, total: Sum, flows: Sequence[Flow]) -> Row:
    point = books.roster.points[index]
    for flow in flows:
        total.add(flow, 1)
    length_ms = total.end - total.start
    return {
        "plant": books.roster.plants[point.plant].id, "point": point.id, "measures": point.measures,
        "start": total.start, "end": total.end,
        **_amount(point, total),
        "quality": total.quality(length_ms),
        "flags": flags(
            point,
            held=total.held_ms > 0,
            rounded=total.rounded,
            edited=total.edited,
            shaped=total.shaped,
            replaced=total.replaced,
        ),
        "measured_share": total.measured_ms / length_ms,
    }  # fmt: skip


def _amount(point: Point, total: Sum) -> Row:
    """Of a gauge of the moment the mean over the time that is known."""
    said = in_own_unit(point, total.amount if total.known_ms else None)
    if point.mean and total.known_ms:
        said["amount"] = mean(total.amount, total.known_ms, UNITS[said["unit"]].factor)
    return said


# -- roll-ups -------------------------------------------------------------------------------------


def rollup_rows(books: Books) -> dict[Key, Row]:
    """The table ``rollup``."""
    out: dict[Key, Row] = {}
    for account in accounts_of(books.roster).values():
        for span in SPANS:
            for total in sums_of(books, account, span):
                row = _rollup_row(books.roster, account, span, total)
                out[account.scope, account.measures, account.product, span, total.end] = row
    return out


def sums_of(books: Books, account: Account, span: str) -> list[Sum]:
    """The account's spans in which anything is known or held."""
    sums: dict[int, Sum] = {}
    for flow in books.flows:
        is_read = books.roster.points[flow.point].reads == INTERVAL
        if flow.point in account.members and not (is_read and _too_long(flow, span, account.zone)):
            for start, end in _spans_of(flow, span, account.zone):
                total = sums.setdefault(start, Sum(start, end))
                total.add(flow, account.members[flow.point], whole_only=is_read)
    return list(sums.values())


def _too_long(flow: Flow, span: str, zone: str) -> bool:
    """An interval read counts in spans no shorter than it is."""
    start, end = span_at(span, zone, flow.start)
    return flow.end - flow.start > end - start


def _spans_of(flow: Flow, span: str, zone: str) -> Iterator[tuple[int, int]]:
    at = flow.start
    while at < flow.end:
        start, end = span_at(span, zone, at)
        yield start, end
        at = end


def _rollup_row(roster: Roster, account: Account, span: str, total: Sum) -> Row:
    expected_ms = _expected_ms(roster, account, total)
    energy = account.measures in ENERGIES
    amount = total.amount if total.known_ms else None
    said = None if amount is None else Fraction(amount, MICRO)
    if amount is not None and any(roster.points[index].mean for index in account.members):
        said = mean(amount, total.known_ms, Fraction(1))
    factors = roster.policy.kgce.get(account.measures, ()) if energy else ()
    return {
        "scope": account.scope, "measures": account.measures, "product": account.product, "span": span,
        "start": total.start, "end": total.end, "amount": said,
        "unit": account.unit, "kgce": _coal(amount, factors, total.start),
        "covers": covers(account.energies, [account.measures]) if energy else "",
        "quality": total.quality(expected_ms),
        "measured_share": total.measured_ms / expected_ms if expected_ms else 0.0,
    }  # fmt: skip


def _expected_ms(roster: Roster, account: Account, total: Sum) -> int:
    points = [roster.points[index] for index in account.members]
    return sum(
        max(0, min(total.end, p.expected_to_ms) - max(total.start, p.expected_from_ms)) for p in points
    )


def _coal(amount: int | None, factors: tuple[Factor, ...], at: int) -> Fraction | None:
    """kgce by the coefficient in force at the span's start."""
    factor = factor_at(factors, at)
    return None if amount is None or factor is None else Fraction(round(amount * factor.value), MICRO)


def covers(declared: Sequence[str], measures: Sequence[str]) -> str:
    """Comprehensive only when every energy that the plant declares is in it."""
    text = "+".join(sorted(measures))
    return f"comprehensive: {text}" if declared and set(declared) <= set(measures) else text
