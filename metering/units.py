"""Units of what is measured, and how each becomes the canonical one, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MICRO = 1_000_000
"""Amounts are integers in millionths of the canonical unit."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One of it is ``numerator / denominator`` of the dimension's canonical unit.

    ``decimal_exponent``: the same as a power of ten, or None when it is none (MJ for kWh).
    """

    name: str
    dimension: str
    numerator: int
    denominator: int

    @property
    def factor(self) -> Fraction:
        return Fraction(self.numerator, self.denominator)

    @property
    def decimal_exponent(self) -> int | None:
        factor, exponent = self.factor, 0
        while factor >= 10:
            factor, exponent = factor / 10, exponent + 1
        while factor < 1:
            factor, exponent = factor * 10, exponent - 1
        return exponent if factor == 1 else None


_DIMENSIONS: dict[str, dict[str, Fraction]] = {
    # canonical unit first
    "energy": {
        "kWh": Fraction(1),
        "Wh": Fraction(1, 1000),
        "MWh": Fraction(1000),
        "GWh": Fraction(10**6),
        "MJ": Fraction(5, 18),
        "GJ": Fraction(2500, 9),
        "kJ": Fraction(1, 3600),
    },
    "reactive_energy": {"kvarh": Fraction(1), "varh": Fraction(1, 1000), "Mvarh": Fraction(1000)},
    "volume": {
        "m3": Fraction(1),
        "L": Fraction(1, 1000),
        "mL": Fraction(1, 10**6),
        "dm3": Fraction(1, 1000),
    },
    "mass": {"t": Fraction(1), "kg": Fraction(1, 1000), "g": Fraction(1, 10**6)},
    "money": {
        "CNY": Fraction(1),
        "kCNY": Fraction(1000),
        "10kCNY": Fraction(10_000),
        "MCNY": Fraction(10**6),
    },
    "count": {"pcs": Fraction(1)},
    "length": {"m": Fraction(1), "km": Fraction(1000)},
    "area": {"m2": Fraction(1)},
    "power": {"kW": Fraction(1), "W": Fraction(1, 1000), "MW": Fraction(1000)},
    "reactive_power": {"kvar": Fraction(1), "var": Fraction(1, 1000), "Mvar": Fraction(1000)},
    "flow": {"m3/h": Fraction(1), "L/h": Fraction(1, 1000)},
    "mass_flow": {"t/h": Fraction(1), "kg/h": Fraction(1, 1000)},
    "voltage": {"V": Fraction(1), "kV": Fraction(1000)},
    "current": {"A": Fraction(1)},
    "ratio": {"1": Fraction(1), "%": Fraction(1, 100)},
    "frequency": {"Hz": Fraction(1)},
    "temperature": {"degC": Fraction(1)},
    "pressure": {"kPa": Fraction(1), "MPa": Fraction(1000), "bar": Fraction(100)},
}

UNITS: dict[str, Unit] = {
    name: Unit(name, dimension, factor.numerator, factor.denominator)
    for dimension, names in _DIMENSIONS.items()
    for name, factor in names.items()
}
CANONICAL: dict[str, str] = {dimension: next(iter(names)) for dimension, names in _DIMENSIONS.items()}


HOURLY: dict[str, str] = {
    "W": "Wh",
    "kW": "kWh",
    "MW": "MWh",
    "var": "varh",
    "kvar": "kvarh",
    "Mvar": "Mvarh",
    "m3/h": "m3",
    "L/h": "L",
    "t/h": "t",
    "kg/h": "kg",
}
"""Units of what passes in an hour, and of how much that is."""


def convertible(one: Unit, other: Unit) -> bool:
    return one.dimension == other.dimension
