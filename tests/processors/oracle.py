"""The oracle: what the readings mean, one reading at a time, in plain Python and exact fractions.

Slow and meant to be obviously right. It is written from the specification and shares no code with
the operators. Here: which readings count, what happened between two of them, the ledger and the
verdicts. Spans are in oracle_spans, ratios and alerts in oracle_windows.

Differences are taken within one installation; what is doubtful is as oracle_doubt has it. What lies between
neighbours more than 400 days apart is not spread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import TYPE_CHECKING

from metering.readings import MeterQuality
from metering.roster import INTERVAL, Installation, Point, Roster
from metering.units import CANONICAL, MICRO, UNITS
from tests.processors.oracle_doubt import Series, found

if TYPE_CHECKING:
    from tests.processors.log_driver import Key, Reading, Row

AMOUNT_MAX, READ_MAX = 2**61, 2**53
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Content:
    """What a reading says: register value or amount, before the multiplier, in millionths."""

    value: int
    start: int
    rounded: bool
    estimated: bool


@dataclass(frozen=True)
class Flow:
    """An amount between two instants; held: it is not known what it was (``amount`` is 0 then)."""

    point: int
    start: int
    end: int
    amount: int
    held: bool = False
    measured: bool = False
    rounded: bool = False
    suspect: bool = False
    disputed: bool = False

    def between(self, low: int, high: int) -> int:
        """The amount from ``low`` to ``high``, read off on the line from the flow's start to its end."""
        low, high = max(low, self.start), min(high, self.end)
        return self._until(high) - self._until(low) if low < high else 0

    def _until(self, at: int) -> int:
        return self.amount * (at - self.start) // (self.end - self.start)

    def shared_ms(self, low: int, high: int) -> int:
        return max(0, min(high, self.end) - max(low, self.start))


@dataclass
class Meter:
    """All that was said of one installation: readings that count by time, and instants in conflict."""

    point: Point
    installation: Installation
    counted: dict[int, Content] = field(default_factory=dict)
    disputed: dict[int, Content] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    """Of instants in conflict."""


@dataclass
class Books:
    """What the readings mean before any span is looked at."""

    roster: Roster
    meters: list[Meter] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    """Point -> its newest reading."""
    ledger: dict[Key, Row] = field(default_factory=dict)
    verdict: dict[Key, Row] = field(default_factory=dict)
    reads: dict[Key, Row] = field(default_factory=dict)
    """Rows of the table ``interval`` that are interval reads."""


def books_of(roster: Roster, readings: Iterable[Reading]) -> Books:
    """The books of some readings, whatever the order they are given in."""
    books = Books(roster)
    said: dict[tuple[int, int], dict[int, list[tuple[int, Content]]]] = {}
    for reading in readings:
        place = placed(roster, reading)
        if place is not None:
            point, number, content = place
            times = said.setdefault((point.index, number), {})
            times.setdefault(reading.time_ms, []).append((reading.revision, content))
    newest = {index: max(max(times) for (i, _), times in said.items() if i == index) for index, _ in said}
    for (index, number), times in sorted(said.items()):
        meter = Meter(roster.points[index], roster.points[index].installations[number])
        for time, statements in times.items():
            _decide(meter, time, statements)
        _take_as_stated(meter, newest[index])
        if (index, number - 1) in said and meter.point.reads != INTERVAL:
            _replaced(books, meter, number)
        books.meters.append(meter)
        _conflicts(books, meter)
        books.seen[index] = max(*times, books.seen.get(index, 0))
        (_interval_reads if meter.point.reads == INTERVAL else _register)(books, meter)
    return books


def _take_as_stated(meter: Meter, newest: int) -> None:
    """What the site file says of the beginning and, once the point came so far, of the end."""
    one, step = meter.installation, meter.installation.step
    stated = [(one.from_ms, one.initial), (one.to_ms, one.final)]
    for time, value in stated if meter.point.reads != INTERVAL else ():
        if value is not None and time <= newest:
            whole = round(Fraction(value, step)) * step
            meter.disputed.pop(time, None)
            meter.counted[time] = Content(whole, 0, whole != value, estimated=False)


def _replaced(books: Books, meter: Meter, number: int) -> None:
    """The end of the installation before, and the beginning of this one: both have readings."""
    old, plant = meter.point.installations[number - 1], books.roster.plants[meter.point.plant].id
    key = plant, meter.point.id, meter.installation.serial, old.to_ms, meter.installation.from_ms
    evidence = {"from_serial": old.serial, "to_serial": meter.installation.serial}
    books.verdict[key] = {
        **dict(zip(("plant", "point", "serial", "from", "to"), key, strict=True)),
        "verdict": "replacement", "status": "decided", "by": "rule", "evidence": json.dumps(evidence),
    }  # fmt: skip


def _conflicts(books: Books, meter: Meter) -> None:
    """Two values and more for one instant, or for one read."""
    for end, content in meter.disputed.items():
        values = [_text(meter, value) for value in meter.values[end]]
        start = content.start if meter.point.reads == INTERVAL else end
        _hold(books, meter, (start, end), "conflict", {"values": values, "unit": meter.point.unit.name})


# -- which readings count -------------------------------------------------------------------------


def placed(roster: Roster, reading: Reading) -> tuple[Point, int, Content] | None:
    """The point, the number of its installation and the content; None where the reading is refused."""
    point = roster.find(reading.plant, reading.point)
    if point is None or reading.quality is MeterQuality.BAD:
        return None
    number = _installation(point, reading)
    unit = point.unit if reading.unit is None else UNITS.get(reading.unit)
    if number is None or unit is None or unit.dimension != point.unit.dimension:
        return None
    if reading.product not in (None, point.product) and point.product:
        return None
    start = reading.start_ms
    if point.reads == INTERVAL and (start is None or start >= reading.time_ms):
        return None
    if point.reads == INTERVAL and start is not None and start < point.installations[number].from_ms:
        return None
    step = point.installations[number].step
    exact = Fraction(Decimal(reading.value)) * unit.factor * MICRO / step
    value = round(exact) * step  # half to even
    most = READ_MAX if point.reads == INTERVAL else AMOUNT_MAX
    if abs(value) * max(Fraction(1), *_multipliers(point.installations[number])) >= most:
        return None
    estimated = reading.quality is MeterQuality.ESTIMATED
    own_start = start if point.reads == INTERVAL and start is not None else 0
    return point, number, Content(value, own_start, exact.denominator != 1, estimated)


def _multipliers(installation: Installation) -> list[Fraction]:
    return [Fraction(one.numerator, one.denominator) for one in installation.multipliers]


def _installation(point: Point, reading: Reading) -> int | None:
    """By serial, else the one that starts or is in force at that instant (at a shared one the later)."""
    found = None
    for number, one in enumerate(point.installations):
        right = reading.serial is None or one.serial in ("", reading.serial)
        if right and one.from_ms <= reading.time_ms <= one.to_ms:
            found = number
    return found


def _decide(meter: Meter, time: int, statements: list[tuple[int, Content]]) -> None:
    """The highest revision counts; more than one content in it is a conflict, and none of them counts.

    What repeats a content is rounded or estimated only when every copy is.
    """
    highest = max(revision for revision, _ in statements)
    last = [content for revision, content in statements if revision == highest]
    different = {(content.value, content.start) for content in last}
    value, start = min(different)
    rounded, estimated = all(c.rounded for c in last), all(c.estimated for c in last)
    into = meter.counted if len(different) == 1 else meter.disputed
    into[time] = Content(value, start, rounded, estimated)
    meter.values[time] = [value for value, _ in sorted(different)]


# -- registers ------------------------------------------------------------------------------------


def _register(books: Books, meter: Meter) -> None:
    if not meter.counted:
        return
    every = sorted(meter.counted.items())
    said, lost = found(series_of(meter))
    links = {(start, end): link for start, end, *link in said}
    line = [(time, content) for time, content in every if time not in lost]
    booked = held = written_off = 0
    for (start, one), (end, other) in pairwise(line):
        verdict, decided, wrapped, *left = links.get((start, end), ("plain", True, False, 0, 0, 0))
        rise, wrap = other.value - one.value, (meter.installation.width or 0) if wrapped else 0
        if decided:
            booked, written_off = booked + rise + wrap, written_off - wrap
        else:
            held += rise
        if verdict != "plain":
            _note(books, meter, (start, end), (one.value, other.value), (verdict, decided, *left))
        if verdict != "gap":
            flows = _flows(meter, (start, end), (one, other), wrap, held=not decided)
            books.flows += [replace(flow, measured=flow.measured and not left[0]) for flow in flows]
    values = (line[0][1].value, line[-1][1].value, booked, held, written_off)
    _post(books, meter, (line[0][0], line[-1][0]), values)


def series_of(meter: Meter) -> Series:
    """A meter's readings that count, and what is known of it, for the oracle of doubtful readings."""
    one = meter.installation
    changes = [(m.from_ms, Fraction(m.numerator, m.denominator)) for m in one.multipliers]
    readings = [(time, content.value) for time, content in sorted(meter.counted.items())]
    return Series(readings, meter.point.limit_per_hour, one.width, one.step, changes)


def multipliers(installation: Installation, start: int, end: int) -> list[tuple[int, int, Fraction]]:
    """The stretches of [start, end) with the multiplier of each."""
    changes = [m.from_ms for m in installation.multipliers[1:] if start < m.from_ms < end]
    edges = [start, *changes, end]
    return [(low, high, multiplier_at(installation, low)) for low, high in pairwise(edges)]


def multiplier_at(installation: Installation, at: int) -> Fraction:
    found = installation.multipliers[0]
    for one in installation.multipliers[1:]:
        found = one if one.from_ms <= at else found
    return Fraction(found.numerator, found.denominator)


def _flows(
    meter: Meter, times: tuple[int, int], contents: tuple[Content, Content], wrap: int, *, held: bool
) -> list[Flow]:
    """One flow for each multiplier in force; the register stands on its line where it changes."""
    start, end = times
    first, last = contents[0].value, contents[1].value + wrap
    near = end - start <= 2 * meter.point.expect_ms
    estimated = contents[0].estimated or contents[1].estimated
    rounded = contents[0].rounded or contents[1].rounded
    out = []
    for low, high, multiplier in multipliers(meter.installation, start, end):
        at = [first + (last - first) * (edge - start) // (end - start) for edge in (low, high)]
        amount = 0 if held else round(at[1] * multiplier) - round(at[0] * multiplier)
        measured = near and not estimated and not held
        out.append(Flow(meter.point.index, low, high, amount, held, measured, rounded))
    return out


# -- interval reads -------------------------------------------------------------------------------


def _interval_reads(books: Books, meter: Meter) -> None:
    counted = sorted(meter.counted.items())
    held_sum = 0
    for number, (end, content) in enumerate(counted):
        overlap = any(content.start < e and c.start < end for e, c in counted if e != end)
        possible = _possible(meter, content.start, end)
        negative = content.value < 0 and meter.point.measures != "value_added"
        above = possible is not None and content.value > possible
        held = overlap or negative or above
        if held:
            evidence = {"value": _text(meter, content.value)}
            if not overlap and possible is not None:
                evidence["possible"] = _text(meter, floor(possible))
            evidence["unit"] = meter.point.unit.name
            _hold(books, meter, (content.start, end), "overlap" if overlap else "spike", evidence)
        suspect = meter.point.measures == "electricity" and _dropout(counted, number)
        held_sum += content.value if held else 0
        _read(books, meter, end, content, held=held, suspect=suspect)
    for end, content in meter.disputed.items():
        _read(books, meter, end, replace(content, rounded=False, estimated=False), held=True, disputed=True)
    if counted:
        total = sum(content.value for _, content in counted)
        _post(books, meter, (counted[0][0], counted[-1][0]), (0, total, total - held_sum, held_sum, 0))


def _possible(meter: Meter, start: int, end: int) -> Fraction | None:
    """The most that can pass in that time, in millionths before the multiplier; None without a limit."""
    if meter.point.limit_per_hour is None:
        return None
    stretches = multipliers(meter.installation, start, end)
    mean = sum((multiplier * (high - low) for low, high, multiplier in stretches), Fraction(0)) / (end - start)
    rate = meter.point.limit_per_hour * Fraction(12, 10) / HOUR_MS
    return rate * (end - start) / mean + 2 * meter.installation.step


def _dropout(reads: list[tuple[int, Content]], number: int) -> bool:
    """A zero between two neighbours that touch it and are not zero."""
    if reads[number][1].value or not 0 < number < len(reads) - 1:
        return False
    (before_end, before), (end, own), (_, after) = reads[number - 1 : number + 2]
    touching = before_end == own.start and end == after.start
    return touching and before.value > 0 and after.value > 0


def _read(
    books: Books,
    meter: Meter,
    end: int,
    content: Content,
    *,
    held: bool,
    suspect: bool = False,
    disputed: bool = False,
) -> None:
    amount = 0
    for low, high, multiplier in multipliers(meter.installation, content.start, end):
        part = [content.value * (edge - content.start) // (end - content.start) for edge in (low, high)]
        amount += round(part[1] * multiplier) - round(part[0] * multiplier)
    measured = not held and not content.estimated
    flow = Flow(
        meter.point.index,
        content.start,
        end,
        0 if held else amount,
        held,
        measured,
        content.rounded,
        suspect,
        disputed,
    )
    books.flows.append(flow)
    quality = "suspect" if suspect else "estimated" if content.estimated else "valid"
    plant = books.roster.plants[meter.point.plant].id
    books.reads[plant, meter.point.id, end, content.start] = {
        "plant": plant, "point": meter.point.id, "measures": meter.point.measures,
        "start": content.start, "end": end,
        **in_own_unit(meter.point, None if held else amount), "quality": "missing" if held else quality,
        "flags": flags(held=held, rounded=content.rounded), "measured_share": float(measured),
    }  # fmt: skip


# -- rows -----------------------------------------------------------------------------------------


def _post(books: Books, meter: Meter, times: tuple[int, int], values: tuple[int, int, int, int, int]) -> None:
    first, last, booked, held, written_off = (Fraction(v, meter.installation.step) for v in values)
    plant, serial = books.roster.plants[meter.point.plant].id, meter.installation.serial
    books.ledger[plant, meter.point.id, serial] = {
        "plant": plant, "point": meter.point.id, "serial": serial, "from": times[0], "to": times[1],
        "first": first, "last": last, "booked": booked, "held": held, "written_off": written_off,
        "balance": last - first - booked - held - written_off,
    }  # fmt: skip


def _note(
    books: Books,
    meter: Meter,
    times: tuple[int, int],
    values: tuple[int, int],
    said: tuple[str, bool, int, int, int],
) -> None:
    plant, serial = books.roster.plants[meter.point.plant].id, meter.installation.serial
    verdict, decided, left, lowest, highest = said
    evidence = {"from_value": _text(meter, values[0]), "to_value": _text(meter, values[1])}
    evidence["unit"] = meter.point.unit.name
    bounds = {"lowest": _text(meter, lowest), "highest": _text(meter, highest)}
    books.verdict[plant, meter.point.id, serial, *times] = {
        "plant": plant, "point": meter.point.id, "serial": serial, "from": times[0], "to": times[1],
        "verdict": verdict, "status": "decided" if decided else "held", "by": "rule",
        "evidence": json.dumps(evidence | ({"left_out": left, **bounds} if left else {})),
    }  # fmt: skip


def _hold(
    books: Books, meter: Meter, times: tuple[int, int], verdict: str, evidence: dict[str, object]
) -> None:
    plant, serial = books.roster.plants[meter.point.plant].id, meter.installation.serial
    books.verdict[plant, meter.point.id, serial, *times] = {
        "plant": plant, "point": meter.point.id, "serial": serial, "from": times[0], "to": times[1],
        "verdict": verdict, "status": "held", "by": "rule", "evidence": json.dumps(evidence),
    }  # fmt: skip


def _text(meter: Meter, value: int) -> str:
    return f"{(Decimal(value) / MICRO).normalize():f} {CANONICAL[meter.point.unit.dimension]}"


def in_own_unit(point: Point, amount: int | None) -> Row:
    """Amount and unit of a point's row: its own unit when it is a power of ten of the canonical one."""
    exponent = point.unit.decimal_exponent
    own = exponent is not None and -6 <= exponent <= 3
    factor = point.unit.factor if own else Fraction(1)
    unit = point.unit.name if own else CANONICAL[point.unit.dimension]
    return {"amount": None if amount is None else Fraction(amount, MICRO) / factor, "unit": unit}


def flags(*, held: bool, rounded: bool) -> str:
    return "+".join(["held"] * held + ["rounded"] * rounded)
