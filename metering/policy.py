"""Policy packs: coefficients, each dated and sourced. None stands in code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Factor:
    """A coefficient per canonical unit, valid in [from_ms, to_ms), as an exact fraction."""

    from_ms: int
    to_ms: int
    numerator: int
    denominator: int
    source: str
    verified: bool

    @property
    def value(self) -> Fraction:
        return Fraction(self.numerator, self.denominator)


def factor_at(factors: Sequence[Factor], at_ms: int) -> Factor | None:
    """The factor in force at an instant, or None: unknown, which is not zero."""
    for factor in factors:
        if factor.from_ms <= at_ms < factor.to_ms:
            return factor
    return None


@dataclass(frozen=True, slots=True)
class TariffBand:
    """In ``months`` and between ``start`` and ``end`` (local time, end 00:00 is midnight)."""

    name: str
    months: tuple[int, ...]
    start: time
    end: time

    def holds(self, local: datetime) -> bool:
        midnight = time(0)
        at = local.time()
        return local.month in self.months and self.start <= at and (self.end == midnight or at < self.end)


@dataclass(frozen=True, slots=True)
class Tariff:
    """Time-of-use bands; the first band that holds an instant wins. ``ratios``: prices, flat is 1."""

    id: str
    source: str
    bands: tuple[TariffBand, ...]
    ratios: dict[str, Fraction] = field(default_factory=dict)
    verified: bool = True

    def band(self, local: datetime) -> str:
        """The band of a local instant; an interval's START decides the band."""
        for band in self.bands:
            if band.holds(local):
                return band.name
        raise AssertionError(f"tariff {self.id} has no band at {local}")  # the loader saw to it


@dataclass(frozen=True, slots=True)
class SurchargeStep:
    """``percent`` for each 0.01 as far as ``to``; None: all the way."""

    to: Decimal | None
    percent: Decimal


@dataclass(frozen=True, slots=True)
class PowerFactorStandard:
    """What a monthly power factor ``below`` costs and ``above`` saves, in steps away from it."""

    standard: Decimal
    source: str
    verified: bool
    below: tuple[SurchargeStep, ...]
    above: tuple[SurchargeStep, ...]


def power_factor_surcharge(standard: PowerFactorStandard, factor: Decimal) -> Decimal:
    """Percent on the basic and energy charge: positive costs, negative saves.

    ``factor`` is P / sqrt(P**2 + Q**2) of a month with Q = |lagging| + |leading| kvarh; it is
    rounded to 0.01 here. Source: the adjustment rules of 1983 (document No. 215).
    """
    assert 0 <= factor <= 1, "a power factor lies between 0 and 1"
    rounded = factor.quantize(Decimal("0.01"), ROUND_HALF_UP)
    steps = standard.below if rounded < standard.standard else standard.above
    percent, at = Decimal(0), standard.standard
    for step in steps:
        end = rounded if step.to is None else _nearer(at, rounded, step.to)
        percent += abs(end - at) * 100 * step.percent
        at = end
    return percent.normalize() + 0


def _nearer(at: Decimal, one: Decimal, other: Decimal) -> Decimal:
    return one if abs(one - at) <= abs(other - at) else other


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded pack. ``id`` is in every figure that depends on it, ``edition`` beside them."""

    id: str
    edition: str
    sha256: str
    kgce: dict[str, tuple[Factor, ...]]
    """Measure -> calorific value in kgce per canonical unit."""
    kgco2e: dict[tuple[str, str], tuple[Factor, ...]]
    """(measure, grid region) -> kgCO2e per canonical unit; region '' for measures without one."""
    tariffs: dict[str, Tariff]
    power_factor: dict[str, PowerFactorStandard] = field(default_factory=dict)
    """Standard as text ("0.90") -> its steps."""

    @property
    def regions(self) -> tuple[str, ...]:
        """The grid regions that electricity has CO2 factors for."""
        return tuple(region for measure, region in self.kgco2e if measure == "electricity")
