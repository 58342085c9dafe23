"""The site file as data. Every key that is not said to be required has a default, named here.

Field names carry their unit; the file's keys are the aliases. What involves more than one object is
checked in site_check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from metering.model_unknown import UnknownError
from metering.site_types import (
    Accuracy,
    Days,
    Decimals,
    DelayMs,
    Digits,
    DurationMs,
    EnergyName,
    Exact,
    Id,
    Limit,
    MeasureName,
    NumeratorName,
    NumeratorUnit,
    Percent,
    Serial,
    StampMs,
    Text,
    UnitName,
    Word,
    Year,
    exact,
    listed,
    wrong,
)

FORMAT: Final = 1
REGISTER_EXPECT_MS: Final = 900_000
PATIENCE_MS: Final = 600_000
REGISTER_BASE_MS: Final = 60_000
ROLLING_WINDOWS: Final = ("15m", "1h", "8h", "24h")
CALENDAR_WINDOWS: Final = ("day", "month", "year")

Reads = Annotated[str, Word("way of reading", ("register", "interval", "gauge"))]
Role = Annotated[str, Word("role", ("supply", "feed_in", "generation", "submeter", "reuse", "discharge"))]
Revenue = Annotated[str, Word("size", ("above-scale", "below-scale"))]
Severity = Annotated[str, Word("severity", ("info", "warning", "critical"))]
_KINDS = ("group", "province", "city", "park", "company", "supply-chain")
GroupKind = Annotated[str, Word("kind of group", _KINDS, {"supply_chain": "supply-chain"})]
Window = Annotated[str, Word("window", (*ROLLING_WINDOWS, *CALENDAR_WINDOWS))]
RollingWindow = Annotated[str, Word("window", ROLLING_WINDOWS)]
Listed = BeforeValidator(listed)


def _format(value: Any) -> int:
    if value == FORMAT and not isinstance(value, bool):
        return FORMAT
    raise wrong(f"site files of format {value} are not known here", f"Write 'meterflow: {FORMAT}'.")


def _alert_window(value: Any) -> Any:
    if value in CALENDAR_WINDOWS:
        what = f"alerts on the calendar window '{value}' are not evaluated yet"
        raise wrong(what, f"Use one of {', '.join(ROLLING_WINDOWS)}.")
    return value


def _steps(value: Any) -> Any:
    """A multiplier that never changes is a list of one."""
    return value if isinstance(value, list) else [{"value": exact(value)}]


def _positive(value: Any) -> Any:
    number = exact(value)
    if number <= 0:
        raise wrong(
            f"a multiplier is more than 0, and {value} is not", "Write the CT ratio times the PT ratio."
        )
    return number


class Part(BaseModel):
    """What all parts share: unknown keys are faults, and nothing changes once read.

    What a faulty file leaves unknown of a part (see model_faults.as_far_as_known) raises UnknownError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    if not TYPE_CHECKING:  # it would make every name an attribute

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise UnknownError(name)
            return super().__getattr__(name)


class MultiplierStep(Part):
    """A multiplier from an instant on; the first may do without one."""

    from_ms: StampMs | None = Field(default=None, alias="from")
    value: Annotated[Exact, BeforeValidator(_positive)]


Multipliers = Annotated[
    list[MultiplierStep],
    BeforeValidator(_steps, json_schema_input_type=Exact | list[MultiplierStep]),
    Field(min_length=1),
]


class Register(Part):
    """A register's face: ``digits`` before the point, ``decimals`` behind it, or where it rolls."""

    digits: Digits | None = None
    decimals: Decimals | None = None
    rolls_at: Exact | None = None
    initial: Exact | None = None
    final: Exact | None = None


class Installation(Register):
    """One meter's time at a point, from ever to ever if not said otherwise; multiplier 1."""

    serial: Serial | None = None
    from_ms: StampMs | None = Field(default=None, alias="from")
    to_ms: StampMs | None = Field(default=None, alias="to")
    multiplier: Multipliers | None = None
    accuracy: Accuracy | None = None


class Meter(Part):
    """A meter with several registers: each of them is read at a point of its own."""

    serial: Serial
    from_ms: StampMs | None = Field(default=None, alias="from")
    to_ms: StampMs | None = Field(default=None, alias="to")
    multiplier: Multipliers | None = None
    accuracy: Accuracy | None = None
    registers: dict[Id, Register] = Field(min_length=1)


class Product(Part):
    """Something a plant makes, and the unit it is counted in."""

    id: Id
    name: Text = ""
    unit: UnitName


class Point(Part):
    """A metering point.

    Defaults: role supply; expect_every 15m for registers and gauges, none for interval reads;
    base 1m for registers and gauges, an interval read keeps its own length; patience the plant's; product the
    plant's only one; one installation from ever, multiplier 1.
    """

    id: Id
    name: Text = ""
    measures: MeasureName
    reads: Reads
    unit: UnitName
    product: Id | None = None
    role: Role = "supply"
    line: Id | None = None
    part_of: Id | None = None
    expect_every_ms: DurationMs | None = Field(default=None, alias="expect_every")
    base_ms: DurationMs | None = Field(default=None, alias="base")
    patience_ms: DurationMs | None = Field(default=None, alias="patience")
    limit: Limit | None = None
    installations: Annotated[list[Installation], Listed] = []


class Intensity(Part):
    """A ratio. Defaults: electricity per output, in the measure's own unit, all windows it can have."""

    id: Id
    name: Text = ""
    of: NumeratorName = "electricity"
    unit: NumeratorUnit | None = None
    per: Id = "output"
    windows: Annotated[list[Window], Listed, Field(min_length=1)] | None = None


class TargetBase(Part):
    """What a relative target starts from."""

    year: Year
    value: Exact


class Target(Part):
    """What an intensity is to be at most: a ``value``, or a ``change`` on a ``base`` by a year."""

    metric: Id
    value: Exact | None = None
    base: TargetBase | None = None
    change: Percent | None = None
    by: Year | None = None


class Alert(Part):
    """Fires when an intensity's window stays beyond a threshold.

    Defaults: the intensity's shortest window, at once, severity warning.
    """

    id: Id
    when: Id
    window: Annotated[RollingWindow, BeforeValidator(_alert_window)] | None = None
    above: Exact | None = None
    below: Exact | None = None
    clear_below: Exact | None = None
    clear_above: Exact | None = None
    for_ms: DelayMs = Field(default=0, alias="for", json_schema_extra={"default": "0s"})
    severity: Severity = "warning"


class Group(Part):
    """A province, park, company or supply chain; its ratios use calendar windows."""

    id: Id
    name: Text = ""
    kind: GroupKind = "group"
    within: Annotated[list[Id], Listed] = []
    intensity: list[Intensity] = []
    targets: list[Target] = []
    alerts: list[Alert] = []


class Plant(Part):
    """A plant and everything that is metered in it.

    ``holidays``: days like Sundays; ``working_days``: days like Mondays to Fridays, whatever they are.
    """

    id: Id
    name: Text = ""
    within: Annotated[list[Id], Listed] = []
    time_zone: Text
    grid: Text = "national"
    revenue: Revenue | None = None
    patience_ms: DurationMs = Field(
        default=PATIENCE_MS, alias="patience", json_schema_extra={"default": "10m"}
    )
    holidays: Annotated[list[Days], Listed] = []
    working_days: Annotated[list[Days], Listed] = []
    energies: Annotated[list[EnergyName], Listed] = []
    products: list[Product] = []
    points: list[Point] = Field(min_length=1)
    meters: list[Meter] = []
    intensity: list[Intensity] = []
    targets: list[Target] = []
    alerts: list[Alert] = []


class SiteFile(Part):
    """The whole file."""

    meterflow: Annotated[Literal[1], BeforeValidator(_format)]
    policy: Text = "cn-2025"
    groups: list[Group] = []
    plants: list[Plant] = Field(min_length=1)
