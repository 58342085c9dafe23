"""Checks of meters and installations: registers, multipliers, times that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from metering.faults import Path, did_you_mean
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, REGISTER
from metering.site_check_finding import Findings
from metering.site_meaning import in_millionths, register_width
from metering.site_models import Installation, Meter, MultiplierStep, Plant, Point, Register
from metering.units import UNITS

INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Time:
    """When something stood at a point, and where the file says so."""

    path: Path
    from_ms: int
    to_ms: int


def check_meters(findings: Findings, path: Path, plant: Plant) -> None:
    """A plant's meters with several registers."""
    points = [point.id for point in plant.points]
    for i, meter in enumerate(plant.meters):
        at = (*path, "meters", i)
        _check_time(findings, at, meter)
        _check_multiplier(findings, at, meter.multiplier, meter)
        for name in meter.registers:
            if name not in points:
                what = f"the plant has no point '{name}' for this register"
                findings.add((*at, "registers", name), what, did_you_mean(name, points), of_key=True)


def check_installations(findings: Findings, path: Path, plant: Plant, index: int) -> None:
    """One point's installations, and the registers of meters that are read at it."""
    point = plant.points[index]
    times = []
    for k, one in enumerate(point.installations):
        at = (*path, "points", index, "installations", k)
        _check_time(findings, at, one)
        _check_multiplier(findings, at, one.multiplier, one)
        _check_register(findings, at, point, one, one.multiplier)
        times.append(_time(at, one))
    for k, meter in enumerate(plant.meters):
        if point.id in meter.registers:
            at = (*path, "meters", k, "registers", point.id)
            _check_register(findings, at, point, meter.registers[point.id], meter.multiplier)
            times.append(_time(at, meter))
    _check_overlaps(findings, times)


def _time(path: Path, one: Installation | Meter) -> _Time:
    from_ms = FROM_EVER_MS if one.from_ms is None else one.from_ms
    return _Time(path, from_ms, FOR_EVER_MS if one.to_ms is None else one.to_ms)


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


def _check_multiplier(
    findings: Findings, path: Path, steps: list[MultiplierStep] | None, one: Installation | Meter
) -> None:
    if not steps:
        return
    at = (*path, "multiplier")
    begins = [FROM_EVER_MS if step.from_ms is None else step.from_ms for step in steps]
    for k in range(1, len(begins)):
        if begins[k] <= begins[k - 1]:
            what = "a multiplier begins no later than the one above it"
            findings.add((*at, k), what, "Give each a 'from', the oldest first.")
    start_ms = FROM_EVER_MS if one.from_ms is None else one.from_ms
    if begins[0] > start_ms:
        what = "the meter has no multiplier before the first one of the list"
        findings.add((*at, 0), what, "Let the first one begin with the meter, or leave its 'from' out.")


def _check_register(
    findings: Findings, path: Path, point: Point, one: Register, steps: list[MultiplierStep] | None
) -> None:
    keys = ("digits", "decimals", "rolls_at", "initial", "final")
    face = [key for key in keys if getattr(one, key) is not None]
    if face and point.reads != REGISTER:
        what = f"'{face[0]}' belongs to a register, and this point reads {point.reads}s"
        findings.add((*path, face[0]), what, "Leave it out, or write 'reads: register'.")
        return
    if one.rolls_at is not None and (one.digits is not None or one.decimals is not None):
        what = "'rolls_at' stands in place of 'digits' and 'decimals'"
        findings.add((*path, "rolls_at"), what, "Keep one of the two ways.")
        return
    if one.rolls_at is not None and one.rolls_at <= 0:
        findings.add((*path, "rolls_at"), "a register rolls at more than 0", "Give the value it never shows.")
        return
    _check_width(findings, path, point, one, steps)
    for key, value in (("initial", one.initial), ("final", one.final)):
        if value is not None:
            _check_shown(findings, (*path, key), point, one)


def _check_width(
    findings: Findings, path: Path, point: Point, one: Register, steps: list[MultiplierStep] | None
) -> None:
    width = register_width(one, UNITS[point.unit])
    most = max((step.value for step in steps or ()), default=1)
    if width is not None and width * most > INTEGER_MAX:
        key = "digits" if one.digits is not None else "rolls_at"
        what = "the register times its multiplier is more than can be computed with"
        findings.add((*path, key), what, "Look at the digits, the unit and the multiplier.")


def _check_shown(findings: Findings, path: Path, point: Point, one: Register) -> None:
    """A value that the register is said to have shown must fit on its face."""
    value = getattr(one, str(path[-1]))
    unit = UNITS[point.unit]
    width = register_width(one, unit)
    text = findings.document.mark(path).text
    if value < 0 or (width is not None and in_millionths(value, unit) >= width):
        findings.add(path, f"the register cannot show {text}", "Write the value as the meter shows it.")
    elif one.decimals is not None and value != round(value, one.decimals):
        what = f"{text} has more than the register's {one.decimals} decimals"
        findings.add(path, what, "Write the value as the meter shows it.")
