"""The oracle's interval reads: what is held, what is a dropout, and what each read's row says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

from tests.processors.oracle_books import (
    Books,
    Content,
    Flow,
    Meter,
    flags,
    hold,
    in_own_unit,
    multipliers,
    post,
    text,
)

HOUR_MS = 3_600_000


def interval_reads(books: Books, meter: Meter) -> None:
    counted = sorted(meter.counted.items())
    held_sum = 0
    for number, (end, content) in enumerate(counted):
        overlap = any(content.start < e and c.start < end for e, c in counted if e != end)
        possible = _possible(meter, content.start, end)
        negative = content.value < 0 and meter.point.measures != "value_added"
        above = possible is not None and content.value > possible
        held = overlap or negative or above
        if held:
            evidence: dict[str, object] = {"value": text(meter, content.value)}
            if not overlap and possible is not None:
                evidence["possible"] = text(meter, floor(possible))
            evidence["unit"] = meter.point.unit.name
            hold(books, meter, (content.start, end), "overlap" if overlap else "spike", evidence)
        suspect = meter.point.measures == "electricity" and _dropout(counted, number)
        held_sum += content.value if held else 0
        _read(books, meter, end, content, held=held, suspect=suspect)
    for end, content in meter.disputed.items():
        _read(
            books,
            meter,
            end,
            replace(content, rounded=False, estimated=False, edited=False),
            held=True,
            disputed=True,
        )
    if counted:
        total = sum(content.value for _, content in counted)
        post(books, meter, (counted[0][0], counted[-1][0]), (0, total, total - held_sum, held_sum, 0))


def _possible(meter: Meter, start: int, end: int) -> Fraction | None:
    """The most that can pass in that time, in millionths before the multiplier; None without a limit."""
    if meter.point.limit_per_hour is None:
        return None
    stretches = multipliers(meter.installation, start, end)
    area = sum((multiplier * (high - low) for low, high, multiplier in stretches), Fraction(0))
    rate = meter.point.limit_per_hour * Fraction(12, 10) / HOUR_MS
    return rate * (end - start) ** 2 / area + 2 * meter.installation.step


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
    amount, parts = 0, multipliers(meter.installation, content.start, end)
    for low, high, multiplier in parts:
        part = [content.value * (edge - content.start) // (end - content.start) for edge in (low, high)]
        amount += round(part[1] * multiplier) - round(part[0] * multiplier)
    estimated = content.estimated or (len(parts) > 1 and content.value != 0)
    measured = not held and not estimated
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
    quality = "suspect" if suspect else "estimated" if estimated else "valid"
    plant = books.roster.plants[meter.point.plant].id
    books.reads[plant, meter.point.id, end, content.start] = {
        "plant": plant, "point": meter.point.id, "measures": meter.point.measures,
        "start": content.start, "end": end,
        **in_own_unit(meter.point, None if held else amount), "quality": "missing" if held else quality,
        "flags": flags(meter.point, held=held, rounded=content.rounded, edited=content.edited),
        "measured_share": float(measured),
    }  # fmt: skip
