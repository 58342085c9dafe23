"""What can be measured, in which units, and which of it is energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OUTPUT: Final = "output"
VALUE_ADDED: Final = "value_added"
ENERGY: Final = "energy"
"""``of: energy``: all energies a plant uses, together, in kgce or kgCO2e."""
PRODUCT_DIMENSIONS: Final = ("mass", "volume", "count", "length", "area")


@dataclass(frozen=True, slots=True)
class Measure:
    """``dimensions``: what its unit must be one of. ``energy``: may be declared in ``energies``.

    ``gauge``: a state of the moment, read by gauges only. ``medium``: a working medium, whose energy
    is in the electricity already when the plant makes it itself (GB/T 2589).
    """

    name: str
    dimensions: tuple[str, ...]
    energy: bool = False
    gauge: bool = False
    medium: bool = False


_ENERGIES = {
    "electricity": "energy",
    "heat": "energy",
    "steam": "mass",
    "gas": "volume",  # natural gas
    "coke_oven_gas": "volume",
    "blast_furnace_gas": "volume",
    "coal": "mass",
    "coke": "mass",
    "gasoline": "mass",
    "diesel": "mass",
    "fuel_oil": "mass",
    "lpg": "mass",
    "lng": "mass",
}
_MEDIA = ("compressed_air", "oxygen", "nitrogen")
_GAUGES = {
    "power": "power",
    "voltage": "voltage",
    "current": "current",
    "frequency": "frequency",
    "power_factor": "ratio",
    "reactive_power": "reactive_power",
    "temperature": "temperature",
    "pressure": "pressure",
    "power_quality": "ratio",
}

MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for measure in (
        *(Measure(name, (dimension,), energy=True) for name, dimension in _ENERGIES.items()),
        *(Measure(name, ("volume",), energy=True, medium=True) for name in _MEDIA),
        Measure("reactive_energy", ("reactive_energy",)),
        Measure("water", ("volume",)),
        Measure(OUTPUT, PRODUCT_DIMENSIONS),
        Measure(VALUE_ADDED, ("money",)),
        *(Measure(name, (dimension,), gauge=True) for name, dimension in _GAUGES.items()),
    )
}
ENERGIES: Final = tuple(name for name, measure in MEASURES.items() if measure.energy)
ALIASES: Final = {"natural_gas": "gas"}
"""Other names a site file may use; results carry the name of the table above."""
