"""The oracle: what the readings mean, one reading at a time, in plain Python and exact fractions.

Slow and meant to be obviously right. It is written from the specification and shares no code with
the operators. Here: which readings count, and what happened between two of them. Interval reads are
in oracle_reads, shapes of gaps in oracle_profile, rows of ledger and verdicts in oracle_books, spans in
oracle_spans, ratios and alerts in oracle_windows.

Differences are taken within one installation; what is doubtful is as oracle_doubt has it. What lies between
neighbours more than 400 days apart is not spread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from metering.readings import MeterQuality
from metering.roster import GAUGE, INTERVAL, REGISTER, Installation, Point, Roster
from metering.units import MICRO, UNITS
from tests.processors.oracle_books import (
    Books,
    Content,
    Flow,
    Meter,
    hold,
    installed,
    multipliers,
    note,
    post,
    text,
)
from tests.processors.oracle_decided import Event, Said, decided, that_count
from tests.processors.oracle_doubt import DAY, Series
from tests.processors.oracle_gauges import gauge
from tests.processors.oracle_profile import with_shapes
from tests.processors.oracle_reads import interval_reads

if TYPE_CHECKING:
    from metering.decisions import Decision
    from tests.processors.log_driver import Item, Reading

WORDS_OF = {
    REGISTER: ("plain", "rollover", "glitch", "spike", "stuck", "clock_jump", "reset", "decrease"),
    INTERVAL: ("plain", "spike", "overlap"),
    GAUGE: ("plain", "spike"),
}
"""What can be said beside which of two values counts."""
AMOUNT_MAX, READ_MAX, GAUGE_MAX = 2**61, 2**53, 2**42


def books_of(roster: Roster, items: Iterable[Item]) -> Books:
    """The books of some readings and decisions, whatever the order they are given in."""
    books = Books(roster)
    said: dict[tuple[int, int], dict[int, list[tuple[int, Content]]]] = {}
    decisions: dict[tuple[int, int], list[Said]] = {}
    for item in items:
        if hasattr(item, "said"):
            _take_decision(roster, item.plant, item.said, decisions)
    for reading in (item for item in items if not hasattr(item, "said")):
        place = placed(roster, reading)
        if place is not None:
            point, number, content = place
            times = said.setdefault((point.index, number), {})
            times.setdefault(reading.time_ms, []).append((reading.revision, content))
    newest = {index: max(max(times) for (i, _), times in said.items() if i == index) for index, _ in said}
    for (index, number), times in sorted(said.items()):
        meter = Meter(roster.points[index], roster.points[index].installations[number])
        meter.said = decisions.get((index, number), [])
        for time, statements in times.items():
            _decide(meter, time, statements)
        _take_as_stated(meter, newest[index])
        if (index, number - 1) in said and meter.point.reads == REGISTER:
            _replaced(books, meter, number)
        _choose(books, meter)
        books.meters.append(meter)
        _conflicts(books, meter)
        books.seen[index] = max(*times, books.seen.get(index, 0))
        {INTERVAL: interval_reads, GAUGE: gauge}.get(meter.point.reads, _register)(books, meter)
    for point in roster.points:
        books.flows += _between(books, point)
        mine = [flow for flow in books.flows if flow.point == point.index]
        others = [flow for flow in books.flows if flow.point != point.index]
        books.flows = others + with_shapes(point, roster.plants[point.plant], mine)
    return books


def _take_decision(
    roster: Roster, plant: str, one: Decision, into: dict[tuple[int, int], list[Said]]
) -> None:
    """Where a decision belongs: the installation (the later of two) with both its instants, if any."""
    point = roster.find(plant, one.point)
    conflict = one.verdict == "conflict"
    if point is None or one.from_ms > one.to_ms:
        return
    either, instant = conflict and point.reads == INTERVAL, conflict or point.reads == GAUGE
    if instant != (one.from_ms == one.to_ms) and not either:
        return
    if conflict and not one.value:
        return
    if one.verdict not in (*WORDS_OF[point.reads], "conflict"):
        return
    for number in reversed(range(len(point.installations))):
        meter = point.installations[number]
        right = one.serial is None or meter.serial in ("", one.serial)
        from_ms = one.to_ms if conflict else one.from_ms
        if right and meter.from_ms <= from_ms and one.to_ms <= meter.to_ms:
            value = (*_chosen(point, meter, one.value), one.from_ms) if conflict else (0, False, 0)
            if not _can_be_shown(point, meter, value[0]):
                return
            said = Said(from_ms, one.to_ms, one.verdict, one.by, one.revision, value)
            into.setdefault((point.index, number), []).append(said)
            return


def _chosen(point: Point, meter: Installation, value: str) -> tuple[int, bool]:
    exact = Fraction(Decimal(value)) * point.unit.factor * MICRO / meter.step
    return round(exact) * meter.step, exact.denominator != 1


def _choose(books: Books, meter: Meter) -> None:
    """What a person said counts; what no meter said is an estimate."""
    for one in that_count(said for said in meter.said if said.verdict == "conflict"):
        if one.end not in meter.last:
            continue
        every, (value, rounded, from_ms) = meter.last[one.end], one.value
        likely = [content for content in every if content.start == from_ms < one.end] or every
        same = [content for content in likely if content.value == value]
        start = min((content.value, content.start) for content in same or likely)[1]
        same = [content for content in same if content.start == start]
        content = Content(value, start, rounded, estimated=True, edited=True)
        if same:
            rounded, estimated = all(c.rounded for c in same), all(c.estimated for c in same)
            content = Content(value, start, rounded, estimated, edited=True)
        meter.disputed.pop(one.end, None)
        meter.counted[one.end] = content
        evidence = _contest(meter, one.end, {"counts": text(meter, value)})
        hold(books, meter, (one.end, one.end), "conflict", evidence, one.by)


def _take_as_stated(meter: Meter, newest: int) -> None:
    """What the site file says of the beginning and, once the point came so far, of the end."""
    one, step = meter.installation, meter.installation.step
    stated = [(one.from_ms, one.initial), (one.to_ms, one.final)]
    for time, value in stated if meter.point.reads == REGISTER else ():
        if value is not None and time <= newest:
            whole = round(Fraction(value, step)) * step
            meter.disputed.pop(time, None)
            meter.counted[time] = Content(whole, 0, whole != value, estimated=False)
            meter.last[time] = [meter.counted[time]]


def _replaced(books: Books, meter: Meter, number: int) -> None:
    """The end of the installation before, and the beginning of this one: both have readings."""
    old, which = meter.point.installations[number - 1], installed(books, meter)
    times = {"from": old.to_ms, "to": meter.installation.from_ms}
    evidence = {"from_serial": old.serial, "to_serial": meter.installation.serial}
    books.verdict[*which.values(), *times.values()] = {
        **which, **times,
        "verdict": "replacement", "status": "decided", "by": "rule", "evidence": json.dumps(evidence),
    }  # fmt: skip


def _between(books: Books, point: Point) -> list[Flow]:
    """From the last reading of a register's meter to the first one of the next that has any: not known."""
    meters = [meter for meter in books.meters if meter.point.index == point.index and meter.counted]
    ends = [(max(old.counted), min(new.counted)) for old, new in pairwise(meters)]
    return [
        Flow(point.index, start, end, 0, held=True, replaced=True)
        for start, end in ends
        if point.reads == REGISTER and start < end <= start + 400 * DAY
    ]


def _conflicts(books: Books, meter: Meter) -> None:
    """Two values and more for one instant, or for one read."""
    for end, content in meter.disputed.items():
        start = content.start if meter.point.reads == INTERVAL else end
        hold(books, meter, (start, end), "conflict", _contest(meter, end, {}))


def _contest(meter: Meter, end: int, counts: dict[str, object]) -> dict[str, object]:
    """What stands against each other at an instant; of reads that begin apart, from when."""
    contents = sorted({(content.value, content.start) for content in meter.last[end]})
    starts = [_sent(start) for _, start in contents]
    out: dict[str, object] = {"values": [text(meter, value) for value, _ in contents]}
    out |= {"starts": starts} if len(set(starts)) > 1 else {}
    return out | counts | {"unit": meter.point.unit.name}


def _sent(instant: int) -> str:
    """In UTC; with thousandths of a second where there are some."""
    second, rest = divmod(instant, 1000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}{f'.{rest:03}' if rest else ''}Z"


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
    if not _can_be_shown(point, point.installations[number], value):
        return None
    estimated = reading.quality is MeterQuality.ESTIMATED
    own_start = start if point.reads == INTERVAL and start is not None else 0
    return point, number, Content(value, own_start, exact.denominator != 1, estimated)


def _can_be_shown(point: Point, meter: Installation, value: int) -> bool:
    """Whether it can be computed with, and is on the register's face where that has an end."""
    if abs(value) * max(Fraction(1), *_multipliers(meter)) >= _most(point):
        return False
    return not meter.width or 0 <= value < meter.width


def _most(point: Point) -> int:
    return {INTERVAL: READ_MAX, GAUGE: GAUGE_MAX}.get(point.reads, AMOUNT_MAX)


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
    meter.last[time] = last
    different = {(content.value, content.start) for content in last}
    value, start = min(different)
    rounded, estimated = all(c.rounded for c in last), all(c.estimated for c in last)
    into = meter.counted if len(different) == 1 else meter.disputed
    into[time] = Content(value, start, rounded, estimated, highest > 0)


# -- registers ------------------------------------------------------------------------------------


def _register(books: Books, meter: Meter) -> None:
    if not meter.counted:
        return
    every = sorted(meter.counted.items())
    events, lost, units = decided(series_of(meter), meter.said)
    for event in events:
        note(books, meter, event)
    known = {(event.start, event.end): event for event in events}
    line = [(time, content) for time, content in every if time not in lost]
    booked = held = written_off = 0
    for (start, one), (end, other) in pairwise(line):
        event = known.get((start, end), Event(start, end, "", True, False, 0, 0, 0))
        if not event.by and any(low <= start < high for low, high in units):
            event = replace(event, decided=False, wrapped=False)
        rise, wrap = other.value - one.value, (meter.installation.width or 0) if event.wrapped else 0
        if event.decided:
            booked, written_off = booked + rise + wrap, written_off - wrap
        elif event.written_off:
            written_off += rise
        else:
            held += rise
        if end - start <= 400 * DAY:
            flows = _flows(meter, (start, end), (one, other), wrap, held=not event.decided)
            books.flows += [_as_said(flow, event) for flow in flows]
    values = (line[0][1].value, line[-1][1].value, booked, held, written_off)
    post(books, meter, (line[0][0], line[-1][0]), values)


def _as_said(flow: Flow, event: Event) -> Flow:
    """As the verdict on its link has it."""
    measured = flow.measured and not event.left and not event.by
    edited = flow.edited or bool(event.by)
    return replace(flow, measured=measured, edited=edited, written_off=event.written_off)


def series_of(meter: Meter) -> Series:
    """A meter's readings that count, and what is known of it, for the oracle of doubtful readings."""
    one = meter.installation
    changes = [(m.from_ms, Fraction(m.numerator, m.denominator)) for m in one.multipliers]
    readings = [(time, content.value) for time, content in sorted(meter.counted.items())]
    return Series(readings, meter.point.limit_per_hour, one.width, one.step, changes)


def _flows(
    meter: Meter, times: tuple[int, int], contents: tuple[Content, Content], wrap: int, *, held: bool
) -> list[Flow]:
    """One flow for each multiplier in force; the register stands on its line where it changes, estimated."""
    start, end = times
    first, last = contents[0].value, contents[1].value + wrap
    near = end - start <= 2 * meter.point.expect_ms
    estimated = contents[0].estimated or contents[1].estimated
    rounded = contents[0].rounded or contents[1].rounded
    edited = contents[0].edited or contents[1].edited
    parts, out = multipliers(meter.installation, start, end), []
    for low, high, multiplier in parts:
        at = [first + (last - first) * (edge - start) // (end - start) for edge in (low, high)]
        amount = 0 if held else round(at[1] * multiplier) - round(at[0] * multiplier)
        known = near and (len(parts) == 1 or first == last)
        measured = known and not estimated and not held
        flow = Flow(meter.point.index, low, high, amount, held, measured, rounded, edited=edited)
        out.append(flow)
    return out
