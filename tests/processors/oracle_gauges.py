"""The oracle's gauges: how long each value holds, and what it is worth over that time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from tests.processors.oracle_books import Books, Flow, Meter, multiplier_at

HOUR_MS = 3_600_000


def gauge(books: Books, meter: Meter) -> None:
    """A value holds until the next reading, twice ``expect_every`` at most; the newest has none yet."""
    point = meter.point
    for start, until in pairwise(sorted({*meter.counted, *meter.disputed})):
        end = min(until, start + 2 * point.expect_ms)
        content = meter.counted.get(start)
        if content is None:
            books.flows.append(Flow(point.index, start, end, 0, held=True))
            continue
        value = round(content.value * multiplier_at(meter.installation, start))
        amount = value * (end - start)
        if point.integrated:
            amount = value * end // HOUR_MS - value * start // HOUR_MS
        measured = not content.estimated and not point.integrated
        books.flows.append(
            Flow(
                point.index,
                start,
                end,
                amount,
                measured=measured,
                rounded=content.rounded,
                edited=content.edited,
            )
        )


def mean(total: int, known_ms: int, unit: Fraction) -> Fraction:
    """The mean of values x milliseconds over the time that is known, rounded to nine places of a unit."""
    exact = Fraction(total, known_ms * 10**6) / unit
    return Fraction(round(exact * 10**9), 10**9)
