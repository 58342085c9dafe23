"""The site file compiled: who is expected, in plain numbers. What ingest and the processors read.

Amounts are integers in millionths of the canonical unit of what is measured (mWh for kWh, mL for
m3, grams for t, 10**-6 yuan); instants are UTC milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from metering.measures import MEASURES
from metering.policy import Policy
from metering.units import HOURLY, UNITS, Unit

FROM_EVER_MS = -(2**62)
FOR_EVER_MS = 2**62

REGISTER, INTERVAL, GAUGE = "register", "interval", "gauge"
HOLDS = 2
"""So many times ``expect_every`` a gauge's value holds at most."""
LIMIT_MARGIN = Fraction(12, 10)
"""So many times its limit a point is believed to move."""


@dataclass(frozen=True, slots=True)
class Multiplier:
    """What a register difference is multiplied by from ``from_ms`` on, as an exact fraction."""

    from_ms: int
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class Installation:
    """One meter's time at a point: [from_ms, to_ms).

    ``step``: what one step of its register is worth in millionths of the canonical unit, before
    the multiplier (1 when the site file gives no decimals). ``width``: where the register rolls,
    in the same millionths, or None. ``initial`` and ``final`` likewise.
    """

    serial: str
    from_ms: int
    to_ms: int
    step: int
    width: int | None
    multipliers: tuple[Multiplier, ...]
    initial: int | None = None
    final: int | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A metering point. ``sign``: its part in the plant's amount (+1, -1, 0 for sub-meters).

    ``unit``: of its readings, and of its amounts where those are of the same kind (``amount_unit``).
    ``expect_ms``: how often a reading is expected; 0 at no rhythm (interval reads without one).
    ``base_ms``: length of its base spans, 0 for interval reads that keep their own length.
    ``limit_per_hour``: millionths of the canonical unit it can physically move in an hour, or None.
    ``expected_from_ms`` to ``expected_to_ms``: when readings are expected at all.
    """

    index: int
    plant: int
    id: str
    measures: str
    reads: str
    unit: Unit
    product: str
    line: str
    role: str
    sign: int
    expect_ms: int
    base_ms: int
    patience_ms: int
    limit_per_hour: int | None
    installations: tuple[Installation, ...]
    expected_from_ms: int = FROM_EVER_MS
    expected_to_ms: int = FOR_EVER_MS

    @property
    def integrated(self) -> bool:
        """A gauge of what passes in an hour, whose amount is added up over time."""
        return self.reads == GAUGE and not MEASURES[self.measures].gauge

    @property
    def mean(self) -> bool:
        """A gauge of a state, of which a span has a mean."""
        return self.reads == GAUGE and MEASURES[self.measures].gauge

    @property
    def amount_unit(self) -> Unit:
        """Of its amounts: that of its readings, kWh for a gauge of kW that is added up."""
        return UNITS[HOURLY[self.unit.name]] if self.integrated else self.unit


@dataclass(frozen=True, slots=True)
class Plant:
    """``energies``: what the site file declares the plant to use, for ``comprehensive``.

    ``holidays``, ``working_days``: civil days that are not what the week makes of them, from 1970-01-01 as 0.
    """

    index: int
    id: str
    name: str
    time_zone: str
    grid: str
    energies: tuple[str, ...]
    points: tuple[int, ...]
    groups: tuple[str, ...]
    holidays: frozenset[int] = frozenset()
    working_days: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """A park, province, company or supply chain; ``plants``: its distinct plants, sub-groups' too."""

    id: str
    name: str
    kind: str
    time_zone: str
    plants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Intensity:
    """A ratio to be computed for a scope (``plant:ID`` or ``group:ID``).

    ``of``: ``electricity``, ``water``, another measure, or ``energy`` (all energies, in kgce).
    ``unit``: of the numerator (``kWh``, ``m3``, ``kgce``, ``kgCO2e``). ``per``: a product's id,
    ``output`` (the plant's only product) or ``value_added``. ``per_unit`` and ``per_amount``: the
    denominator's unit and how much of it the value is per (10,000 yuan: CNY, 10_000).
    ``windows``: ``15m``, ``1h``, ``8h``, ``24h`` roll; ``day``, ``month``, ``year`` are calendar.
    """

    id: str
    scope: str
    of: str
    unit: str
    per: str
    product: str
    per_unit: str
    per_amount: int
    windows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """``metric``: an intensity's id; ``value``: what it is to be at most by the year ``by``."""

    scope: str
    metric: str
    value: float
    by: int | None
    text: str


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Fires when the intensity's window stays beyond the threshold for ``for_ms``.

    ``above``: True when it fires above ``threshold`` and clears below ``clear`` (else mirrored).
    """

    id: str
    scope: str
    when: str
    window: str
    above: bool
    threshold: float
    clear: float
    for_ms: int
    severity: str


@dataclass(frozen=True, slots=True)
class Roster:
    """Everything of a site file that computing needs. ``version``: SHA-256 of file and policy."""

    version: str
    policy: Policy
    plants: tuple[Plant, ...]
    groups: tuple[Group, ...]
    points: tuple[Point, ...]
    intensities: tuple[Intensity, ...]
    targets: tuple[Target, ...]
    alerts: tuple[AlertRule, ...]
    names: dict[str, dict[str, int]] = field(default_factory=dict)
    """Plant id -> point id -> index in ``points``."""

    def find(self, plant: str, point: str) -> Point | None:
        index = self.names.get(plant, {}).get(point)
        return None if index is None else self.points[index]
