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
from tests.processors.oracle_decided import Said, that_count

HOUR_MS = 3_600_000


def interval_reads(books: Books, meter: Meter) -> None:
    counted = sorted(meter.counted.items())
    held_sum = off_sum = 0
    words = _people(meter, counted)
    for number, (end, content) in enumerate(counted):
        ruling, revision, overlap = words[end]
        possible = _possible(meter, content.start, end)
        negative = content.value < 0 and meter.point.measures != "value_added"
        above = possible is not None and content.value > possible
        off = ruling is not None and ruling.verdict != "plain"
        held = ruling is None and (overlap or negative or above)
        if held or ruling:
            word = ruling.verdict if ruling else "overlap" if overlap else "spike"
            evidence: dict[str, object] = {"value": text(meter, content.value)}
            if word != "overlap" and possible is not None:
                evidence["possible"] = text(meter, floor(possible))
            evidence["unit"] = meter.point.unit.name
            if revision is not None:
                evidence["decision"] = revision
            hold(books, meter, (content.start, end), word, evidence, ruling.by if ruling else "")
        suspect = meter.point.measures == "electricity" and _dropout(counted, number)
        held_sum += content.value if held else 0
        off_sum += content.value if off else 0
        said = replace(content, edited=content.edited or ruling is not None)
        _read(books, meter, end, said, held=held or off, suspect=suspect and not off, written_off=off)
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
        post(
            books,
            meter,
            (counted[0][0], counted[-1][0]),
            (0, total, total - held_sum - off_sum, held_sum, off_sum),
        )


def _share_time(one: tuple[int, Content], other: tuple[int, Content]) -> bool:
    return one[1].start < other[0] and other[1].start < one[0]


def _people(
    meter: Meter, counted: list[tuple[int, Content]]
) -> dict[int, tuple[Said | None, int | None, bool]]:
    """By the end of each read what somebody made of it, what the next decision has to be above, and whether
    it shares time with another one that is as the rule has it.
    """
    said = {(one.start, one.end): one for one in that_count(s for s in meter.said if s.verdict != "conflict")}
    ruling = {end: said.get((content.start, end)) for end, content in counted}
    stand: list[tuple[int, Content]] = []
    for revision in sorted({one.revision for one in meter.said}, reverse=True):
        right = [r for r in counted if (s := ruling[r[0]]) and (s.verdict, s.revision) == ("plain", revision)]
        free = [r for r in right if not any(_share_time(r, other) for other in stand)]
        stand += [r for r in free if not any(_share_time(r, other) for other in free if other != r)]
    made: dict[int, Said | None] = {}
    for read in counted:
        own = ruling[read[0]]
        beside = [r for r in stand if _share_time(read, r) and r != read]
        if own is not None and (own.verdict != "plain" or read in stand):
            made[read[0]] = own
        elif beside:
            winner = min((ruling[end] for end, _ in beside), key=lambda s: (-s.revision, s.end))  # type: ignore[union-attr]
            assert winner is not None
            made[read[0]] = replace(winner, verdict="overlap")
        else:
            made[read[0]] = None
    left = [read for read in counted if made[read[0]] is None]
    out = {}
    for read in counted:
        end, content = read
        revisions = [s.revision for s in meter.said if (s.start, s.end) == (content.start, end)]
        revisions += [s.revision for e, c in stand if _share_time(read, (e, c)) and (s := ruling[e])]
        overlap = any(_share_time(read, other) for other in left if other != read)
        out[end] = made[end], max(revisions, default=None), overlap
    return out


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
    written_off: bool = False,
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
        written_off=written_off,
    )
    books.flows.append(flow)
    quality = "suspect" if suspect else "estimated" if estimated else "valid"
    plant = books.roster.plants[meter.point.plant].id
    books.reads[plant, meter.point.id, end, content.start] = {
        "plant": plant, "point": meter.point.id, "measures": meter.point.measures,
        "start": content.start, "end": end,
        **in_own_unit(meter.point, None if held else amount), "quality": "missing" if held else quality,
        "flags": flags(
            meter.point, held=held and not written_off, rounded=content.rounded, edited=content.edited
        ),
        "measured_share": float(measured),
    }  # fmt: skip
