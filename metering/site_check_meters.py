"""Checks of meters and installations: registers, multipliers, times that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import pairwise

from metering.faults import Path, did_you_mean
from metering.model_unknown import as_known, ids, named, tried, where_known
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, LIMIT_MARGIN, REGISTER
from metering.site_check_finding import Findings
from metering.site_meaning import (
    HOUR_MS,
    expect_ms,
    in_millionths,
    is_limit_of,
    limit_per_hour,
    register_step,
    register_width,
)
from metering.site_models import Installation, Meter, MultiplierStep, Plant, Point, Register
from metering.units import UNITS

FACE = ("digits", "decimals", "rolls_at", "initial", "final")
INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Time:
    """When something stood at a point, and where the file says so."""

    path: Path
    from_ms: int
    to_ms: int


@where_known
def check_meters(findings: Findings, path: Path, plant: Plant) -> None:
    """A plant's meters with several registers."""
    for i, meter in enumerate(plant.meters):
        at = (*path, "meters", i)
        _check_time(findings, at, meter)
        _check_multiplier(findings, at, meter)
        _check_names(findings, (*at, "registers"), plant, meter)


@where_known
def _check_names(findings: Findings, path: Path, plant: Plant, meter: Meter) -> None:
    for name in meter.registers:
        _check_name(findings, (*path, name), plant, name)


@where_known
def _check_name(findings: Findings, path: Path, plant: Plant, name: str) -> None:
    if named(plant.points, name) is None:
        what = f"the plant has no point '{name}' for this register"
        findings.add(path, what, did_you_mean(name, ids(plant.points)), of_key=True)


def check_installations(findings: Findings, path: Path, plant: Plant, index: int) -> None:
    """One point's installations, and the registers of meters that are read at it."""
    point = plant.points[index]
    times: list[_Time] = []
    _check_own(findings, (*path, "points", index, "installations"), point, times)
    _check_of_meters(findings, (*path, "meters"), plant, point, times)
    _check_overlaps(findings, times)


@where_known
def _check_own(findings: Findings, path: Path, point: Point, times: list[_Time]) -> None:
    """``times`` takes when each of them stood there, as far as that is known."""
    for k, one in enumerate(point.installations):
        at = (*path, k)
        _check_time(findings, at, one)
        _check_multiplier(findings, at, one)
        _check_register(findings, at, point, one, one)
        times += as_known(partial(_time, at), [one])


@where_known
def _check_of_meters(findings: Findings, path: Path, plant: Plant, point: Point, times: list[_Time]) -> None:
    for k, meter in enumerate(plant.meters):
        if tried(partial(_reads, point), meter) is True:
            at = (*path, k, "registers", point.id)
            _check_register(findings, at, point, meter.registers[point.id], meter)
            times += as_known(partial(_time, at), [meter])


def _reads(point: Point, meter: Meter) -> bool:
    return point.id in meter.registers


def _time(path: Path, one: Installation | Meter) -> _Time:
    return _Time(path, _from_ms(one), FOR_EVER_MS if one.to_ms is None else one.to_ms)


def _from_ms(one: Installation | Meter | MultiplierStep) -> int:
    return FROM_EVER_MS if one.from_ms is None else one.from_ms


@where_known
def _check_time(findings: Findings, path: Path, one: Installation | Meter) -> None:
    if one.from_ms is not None and one.to_ms is not None and one.to_ms <= one.from_ms:
        findings.add((*path, "to"), "it ends before it begins", "Put 'to' after 'from'.")


def _check_overlaps(findings: Findings, times: Sequence[_Time]) -> None:
    ordered = sorted(times, key=lambda time: (time.from_ms, time.path))
    for before, after in pairwise(ordered):
        if after.from_ms < before.to_ms:
            line = findings.line(before.path)
            what = f"two meters at one point at once: its time overlaps with that of line {line}"
            findings.add(after.path, what, "End the earlier one with 'to', begin the later one with 'from'.")


@where_known
def _check_multiplier(findings: Findings, path: Path, one: Installation | Meter) -> None:
    steps, at = one.multiplier or [], (*path, "multiplier")
    for k, (before, after) in enumerate(pairwise(steps), 1):
        _check_order(findings, (*at, k), before, after)
    if steps and _from_ms(steps[0]) > _from_ms(one):
        what = "the meter has no multiplier before the first one of the list"
        findings.add((*at, 0), what, "Let the first one begin with the meter, or leave its 'from' out.")


@where_known
def _check_order(findings: Findings, path: Path, before: MultiplierStep, after: MultiplierStep) -> None:
    if _from_ms(after) <= _from_ms(before):
        what = "a multiplier begins no later than the one above it"
        findings.add(path, what, "Give each a 'from', the oldest first.")


def _check_register(
    findings: Findings, path: Path, point: Point, one: Register, meter: Installation | Meter
) -> None:
    """A register's face; ``meter`` has its multiplier."""
    _check_face(findings, path, point, one)
    _check_rolls(findings, path, point, one)
    _check_width(findings, path, point, one, meter)
    _check_turn(findings, path, point, one, meter)
    for key in ("initial", "final"):
        _check_shown(findings, (*path, key), point, one)


@where_known
def _check_face(findings: Findings, path: Path, point: Point, one: Register) -> None:
    reads = point.reads
    faces = [key for key in FACE if tried(partial(_has, one), key) is True]
    if faces and reads != REGISTER:
        what = f"'{faces[0]}' belongs to a register, and this point reads {reads}s"
        findings.add((*path, faces[0]), what, "Leave it out, or write 'reads: register'.")


def _has(one: Register, key: str) -> bool:
    return getattr(one, key) is not None


@where_known
def _check_rolls(findings: Findings, path: Path, point: Point, one: Register) -> None:
    if point.reads != REGISTER or one.rolls_at is None:
        return
    if one.digits is not None or one.decimals is not None:
        what = "'rolls_at' stands in place of 'digits' and 'decimals'"
        findings.add((*path, "rolls_at"), what, "Keep one of the two ways.")
    elif one.rolls_at <= 0:
        findings.add((*path, "rolls_at"), "a register rolls at more than 0", "Give the value it never shows.")


def _is_sound(point: Point, one: Register) -> bool:
    """Whether what is said of the register's face has none of the faults above."""
    if one.rolls_at is None:
        return point.reads == REGISTER
    return point.reads == REGISTER and one.digits is None and one.decimals is None and one.rolls_at > 0


@where_known
def _check_width(
    findings: Findings, path: Path, point: Point, one: Register, meter: Installation | Meter
) -> None:
    if not _is_sound(point, one):
        return
    width = register_width(one, UNITS[point.unit])
    most = max(as_known(_value, meter.multiplier or ()), default=1)
    if width is not None and width * most > INTEGER_MAX:
        key = _width_key(one)
        what = "the register times its multiplier is more than can be computed with"
        findings.add((*path, key), what, "Look at the digits, the unit and the multiplier.")


def _width_key(one: Register) -> str:
    return "digits" if one.digits is not None else "rolls_at"


@where_known
def _check_turn(
    findings: Findings, path: Path, point: Point, one: Register, meter: Installation | Meter
) -> None:
    """Whether a register can pass its end unseen between two readings that come as expected."""
    if point.limit is None or not _is_sound(point, one) or not is_limit_of(point.limit, UNITS[point.unit]):
        return
    width = register_width(one, UNITS[point.unit])
    least = min(as_known(_value, meter.multiplier or ()), default=Decimal(1))
    limit = limit_per_hour(point.limit)
    if width is None or least <= 0 or limit <= 0:
        return
    per_ms = LIMIT_MARGIN * limit / HOUR_MS / Fraction(least)
    turn_ms = max(Fraction(0), (width - 2 * register_step(one, UNITS[point.unit])) / per_ms)
    if turn_ms <= expect_ms(point):
        every = _words(Fraction(expect_ms(point)))
        what = f"at its limit this register turns in {_words(turn_ms)}, and it is read every {every}"
        proposal = (
            "What may hide a turn is held: lower 'limit' to what the point can do, or read it more often."
        )
        findings.warn((*path, _width_key(one)), what, proposal)


def _words(length_ms: Fraction) -> str:
    """A length, about."""
    minutes = length_ms / 60_000
    if minutes < 2:
        return f"{float(length_ms / 1000):.0f} s"
    return f"{float(minutes):.0f} min" if minutes < 120 else f"{float(minutes / 60):.1f} h"


def _value(step: MultiplierStep) -> Decimal:
    return step.value


@where_known
def _check_shown(findings: Findings, path: Path, point: Point, one: Register) -> None:
    """A value that the register is said to have shown must fit on its face."""
    value = getattr(one, str(path[-1]))
    if value is None or not _is_sound(point, one):
        return
    unit = UNITS[point.unit]
    width = register_width(one, unit)
    text = findings.document.mark(path).text
    if value < 0 or (width is not None and in_millionths(value, unit) >= width):
        findings.add(path, f"the register cannot show {text}", "Write the value as the meter shows it.")
    elif one.decimals is not None and value != round(value, one.decimals):
        what = f"{text} has more than the register's {one.decimals} decimals"
        findings.add(path, what, "Write the value as the meter shows it.")
