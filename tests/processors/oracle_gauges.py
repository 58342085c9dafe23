"""The oracle's gauges: how long each value holds, and what it is worth over that time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import floor

from tests.processors.oracle_books import Books, Flow, Meter, hold, multiplier_at, text
from tests.processors.oracle_decided import that_count

HOUR_MS = 3_600_000


def gauge(books: Books, meter: Meter) -> None:
    """A value holds until the next reading, twice ``expect_every`` at most; the newest has none yet."""
    point, said = meter.point, _judged(books, meter)
    for start, until in pairwise(sorted({*meter.counted, *meter.disputed})):
        end = min(until, start + 2 * point.expect_ms)
        content = meter.counted.get(start)
        if content is None:
            books.flows.append(Flow(point.index, start, end, 0, held=True))
            continue
        held, off = said.get(start, (False, False))
        if held or off:
            books.flows.append(
                Flow(
                    point.index,
                    start,
                    end,
                    0,
                    held=True,
                    rounded=content.rounded,
                    edited=content.edited or off,
                    written_off=off,
                )
            )
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
                edited=content.edited or start in said,
            )
        )


def _judged(books: Books, meter: Meter) -> dict[int, tuple[bool, bool]]:
    """Of readings that have a verdict, whether they are held, and whether they are written off."""
    chosen = {one.end for one in that_count(s for s in meter.said if s.verdict == "conflict")}
    ruled = {one.end: one for one in that_count(s for s in meter.said if s.verdict != "conflict")}
    out = {}
    for at, content in meter.counted.items():
        possible, ruling = _possible(meter, at), ruled.get(at)
        above = possible is not None and abs(content.value) > possible
        if at in chosen or (ruling is None and not above):
            continue
        word, by = (ruling.verdict, ruling.by) if ruling else ("spike", "")
        evidence: dict[str, object] = {"value": text(meter, content.value)}
        if possible is not None:
            evidence["possible"] = text(meter, floor(possible))
        evidence["unit"] = meter.point.unit.name
        revisions = [one.revision for one in meter.said if one.end == at and one.verdict != "conflict"]
        if revisions:
            evidence["decision"] = max(revisions)
        hold(books, meter, (at, at), word, evidence, by)
        out[at] = not by, bool(by) and word == "spike"
    return out


def _possible(meter: Meter, at: int) -> Fraction | None:
    """The most that power can be, before the multiplier; None where nothing limits it."""
    limit, step = meter.point.limit_per_hour, meter.installation.step
    if limit is None or not meter.point.integrated:
        return None
    return limit * Fraction(12, 10) / multiplier_at(meter.installation, at) + 2 * step


def mean(total: int, known_ms: int, unit: Fraction) -> Fraction:
    """The mean of values x milliseconds over the time that is known, rounded to nine places of a unit."""
    exact = Fraction(total, known_ms * 10**6) / unit
    return Fraction(round(exact * 10**9), 10**9)
