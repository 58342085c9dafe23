"""What the oracle speaks of: readings that count, flows, books, and how a row of the small tables is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from metering.roster import FROM_EVER_MS, Installation, Point, Roster
from metering.units import CANONICAL, MICRO

if TYPE_CHECKING:
    from tests.processors.log_driver import Key, Row
    from tests.processors.oracle_decided import Event, Said


@dataclass(frozen=True)
class Content:
    """What a reading says: register value or amount, before the multiplier, in millionths."""

    value: int
    start: int
    rounded: bool
    estimated: bool
    edited: bool = False


@dataclass(frozen=True)
class Flow:
    """An amount between two instants; held: it is not known what it was (``amount`` is 0 then), and nobody
    wrote it off.
    """

    point: int
    start: int
    end: int
    amount: int
    held: bool = False
    measured: bool = False
    rounded: bool = False
    suspect: bool = False
    disputed: bool = False
    edited: bool = False
    shaped: bool = False
    """By reference days."""
    written_off: bool = False
    """Held, but that a person said that it does not count."""
    replaced: bool = False
    """Held, but that it lies between two meters and nobody can say anything of it."""

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
    last: dict[int, list[Content]] = field(default_factory=dict)
    """Of each instant all that came of the highest revision."""
    said: list[Said] = field(default_factory=list)
    """What people decided of it."""


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


# -- rows -----------------------------------------------------------------------------------------


def installed(books: Books, meter: Meter) -> Row:
    """What names an installation: a serial number may come back to its point."""
    one, plant = meter.installation, books.roster.plants[meter.point.plant].id
    since = None if one.from_ms == FROM_EVER_MS else one.from_ms
    return {"plant": plant, "point": meter.point.id, "serial": one.serial, "installed": since}


def post(books: Books, meter: Meter, times: tuple[int, int], values: tuple[int, int, int, int, int]) -> None:
    first, last, booked, held, written_off = (Fraction(v, meter.installation.step) for v in values)
    which = installed(books, meter)
    books.ledger[*which.values()] = {
        **which, "from": times[0], "to": times[1],
        "first": first, "last": last, "booked": booked, "held": held, "written_off": written_off,
        "balance": last - first - booked - held - written_off,
    }  # fmt: skip


def note(books: Books, meter: Meter, event: Event) -> None:
    values = [text(meter, meter.counted[at].value) for at in (event.start, event.end)]
    evidence: dict[str, object] = dict(zip(("from_value", "to_value"), values, strict=True))
    evidence["unit"] = meter.point.unit.name
    if event.factor:
        evidence["factor"] = f"{Decimal(10) ** event.factor:f}"
    revisions = [one.revision for one in meter.said if (one.start, one.end) == (event.start, event.end)]
    bounds = {"lowest": text(meter, event.lowest), "highest": text(meter, event.highest)}
    which = installed(books, meter)
    books.verdict[*which.values(), event.start, event.end] = {
        **which, "from": event.start, "to": event.end,
        "verdict": event.verdict, "status": event.status, "by": event.by or "rule",
        "evidence": json.dumps(
            evidence
            | _beyond(meter, event)
            | ({"left_out": event.left, **bounds} if event.left else {})
            | _turns(meter, event)
            | ({"decision": max(revisions)} if revisions else {})
        ),
    }  # fmt: skip


def _beyond(meter: Meter, event: Event) -> dict[str, object]:
    if event.beyond is None:
        return {}
    possible, needed = event.beyond
    return {"possible": text(meter, possible), "limit_needed": _rate(meter, needed)}


def _rate(meter: Meter, per_hour: int) -> str:
    """As a site file has it, rounded up to three digits, or to millionths below one."""
    unit = meter.point.amount_unit
    shown, tenth = Fraction(per_hour, MICRO) / unit.factor, 0
    while shown / Fraction(10) ** tenth > 999:
        tenth += 1
    while tenth > -2 and shown >= 1 and shown / Fraction(10) ** (tenth - 1) <= 999:
        tenth -= 1
    power = tenth if shown >= 1 else -6
    rounded = Decimal(ceil(shown / Fraction(10) ** power)).scaleb(power)
    electric = unit.name in ("Wh", "kWh", "MWh", "varh", "kvarh", "Mvarh")
    return f"{rounded.normalize():f} {unit.name.removesuffix('h') if electric else unit.name + '/h'}"


def _turns(meter: Meter, event: Event) -> dict[str, object]:
    if not event.turns:
        return {}
    rolls_at = text(meter, meter.installation.width or 0)
    return {"fewest_turns": event.turns[0], "most_turns": event.turns[-1], "rolls_at": rolls_at}


def hold(
    books: Books,
    meter: Meter,
    times: tuple[int, int],
    verdict: str,
    evidence: Mapping[str, object],
    by: str = "",
) -> None:
    mine = [one for one in meter.said if one.end == one.start == times[1] and one.verdict == "conflict"]
    revisions = [one.revision for one in mine]
    if revisions and verdict == "conflict":
        evidence = {**evidence, "decision": max(revisions)}
    which = installed(books, meter)
    books.verdict[*which.values(), *times] = {
        **which, "from": times[0], "to": times[1],
        "verdict": verdict, "status": _status(verdict, by), "by": by or "rule",
        "evidence": json.dumps(evidence),
    }  # fmt: skip


def _status(verdict: str, by: str) -> str:
    if not by:
        return "held"
    return "refused" if verdict == "plain" else "confirmed"


def text(meter: Meter, value: int) -> str:
    """As the meter shows it; to six decimals where its unit is no power of ten of the canonical one."""
    unit = meter.point.unit
    shown = Fraction(value, MICRO) / unit.factor
    if unit.decimal_exponent is None:
        shown = Fraction(round(shown * MICRO), MICRO)
    return f"{(Decimal(shown.numerator) / shown.denominator).normalize():f} {unit.name}"


def in_own_unit(point: Point, amount: int | None) -> Row:
    """Amount and unit of a point's row: its own unit when it is a power of ten of the canonical one."""
    exponent = point.amount_unit.decimal_exponent
    own = exponent is not None and -6 <= exponent <= 3
    factor = point.amount_unit.factor if own else Fraction(1)
    unit = point.amount_unit.name if own else CANONICAL[point.amount_unit.dimension]
    return {"amount": None if amount is None else Fraction(amount, MICRO) / factor, "unit": unit}


def flags(
    point: Point, *, held: bool, rounded: bool, edited: bool, shaped: bool = False, replaced: bool = False
) -> str:
    """The words, in the order of the alphabet."""
    kind = ["integrated"] * point.integrated + ["mean"] * point.mean + ["profile"] * shaped
    kind += ["replaced"] * replaced
    return "+".join(["edited"] * edited + ["held"] * held + kind + ["rounded"] * rounded)
