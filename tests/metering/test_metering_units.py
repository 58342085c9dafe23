"""Units and measures."""

from __future__ import annotations

from fractions import Fraction

import pytest

from metering.measures import ALIASES, ENERGIES, MEASURES
from metering.units import CANONICAL, MICRO, UNITS, convertible


@pytest.mark.parametrize(
    ("name", "factor", "exponent"),
    [
        ("kWh", Fraction(1), 0),
        ("MWh", Fraction(1000), 3),
        ("MJ", Fraction(5, 18), None),
        ("L", Fraction(1, 1000), -3),
        ("mL", Fraction(1, 10**6), -6),
        ("10kCNY", Fraction(10_000), 4),
        ("%", Fraction(1, 100), -2),
    ],
)
def test_a_unit_is_an_exact_fraction_of_its_canonical_one(
    name: str, factor: Fraction, exponent: int | None
) -> None:
    """And a power of ten, where it is one."""
    assert UNITS[name].factor == factor
    assert UNITS[name].decimal_exponent == exponent


def test_the_canonical_unit_of_a_dimension_is_one() -> None:
    """It stands first in its list."""
    assert all(UNITS[name].factor == 1 for name in CANONICAL.values())


def test_units_convert_within_a_dimension_only() -> None:
    """kWh into MJ, never into kvarh."""
    assert convertible(UNITS["kWh"], UNITS["MJ"])
    assert not convertible(UNITS["kWh"], UNITS["kvarh"])


def test_every_measure_has_a_dimension_with_a_canonical_unit() -> None:
    """And gauges are no energies."""
    for measure in MEASURES.values():
        assert all(dimension in CANONICAL for dimension in measure.dimensions)
        assert not (measure.gauge and measure.energy)
    assert set(ALIASES.values()) <= set(ENERGIES)


def test_a_millionth_of_a_unit_is_what_amounts_are_counted_in() -> None:
    """mWh, mL, grams."""
    assert MICRO * UNITS["mL"].factor == 1
