"""Profiles of simulated plants, read from YAML: what uses and makes what, and which meters see it.

The profiles that ship lie in ``simulators/profiles``. Every fault of a profile is reported with its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from metering.errors import UsageError
from metering.faults import FileFaults
from metering.measures import MEASURES
from metering.model_faults import validated
from metering.site_models import Group, Intensity, Product, Reads, Role
from metering.site_types import (
    Decimals,
    Digits,
    DurationMs,
    EnergyName,
    Id,
    Limit,
    MeasureName,
    Text,
    UnitName,
    Word,
    wrong,
)
from metering.units import HOURLY, UNITS, Unit
from metering.yaml_marks import read_document
from simulators.convert_map import Zone

FINEST = 6
"""Amounts are kept in millionths: so many decimals of the canonical unit."""
POLICY = "cn-2025"
FOLDER = Path(__file__).parent / "profiles"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0, le=10)]
Names = Annotated[list[Id], Field(min_length=1)]


def _clock(value: Any) -> float:
    """``06:30`` as hours of the day; ``24:00`` is its end."""
    hours, _, minutes = str(value).partition(":")
    if not (hours.isdecimal() and minutes.isdecimal() and int(minutes) < 60 and int(hours) * 60 <= 1_440):
        raise wrong(f"'{value}' is no time of day", "Write it like '06:30', in quotes.")
    return int(hours) + int(minutes) / 60


Clock = Annotated[float, BeforeValidator(_clock)]
Kind = Annotated[str, Word("kind of activity", ("week", "batches", "sun"))]
Weekday = Annotated[int, Field(ge=1, le=7)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Stretch(_Part):
    """From a time of day to another one on some days of the week (1 is Monday) an activity has a level."""

    days: Annotated[list[Weekday], Field(min_length=1)] = [1, 2, 3, 4, 5, 6, 7]
    begins: Clock
    ends: Clock
    level: Level


class Activity(_Part):
    """How busy something is, minute by minute: 1 is its usual full load.

    ``week``: ``stretches`` of the day, else ``otherwise``; ``ramp_minutes`` from one level to the next.
    ``batches``: one behind the other, each ``minutes`` from to long, with levels ``shape`` spread over it
    evenly; each is of one of ``kinds`` sorts, by chance, for ``campaign`` batches. ``sun``: a clear sky
    with clouds.
    """

    id: Id
    kind: Kind
    stretches: list[Stretch] = []
    otherwise: Level = 0
    ramp_minutes: Annotated[int, Field(ge=0, le=240)] = 0
    minutes: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2, le=1_440)]] = (50, 60)
    shape: Annotated[list[Level], Field(min_length=1)] = [1.0]
    kinds: Annotated[int, Field(ge=1, le=9)] = 1
    campaign: Annotated[int, Field(ge=1)] = 1


class Flow(_Part):
    """Something that is used or made: ``rate`` of the canonical unit an hour at full load.

    ``follows`` an activity (none: always the same) with ``base`` of the rate when it rests, only in batches
    of sort ``only``; ``noise`` and ``season`` (more in winter) relative. Or ``part`` of another flow, ``of``.
    """

    id: Id
    rate: Positive | None = None
    follows: Id | None = None
    only: int | None = None
    base: Share = 0
    noise: Share = 0
    season: Share = 0
    of: Id | None = None
    part: Share = 1

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.rate is None) == (self.of is None):
            raise wrong(f"the flow '{self.id}' has to have 'rate' or 'of'", "Write one of the two.")
        return self


class Reports(_Part):
    """Amounts that somebody tells: of each batch of an ``activity``, shift of 8 hours, day or month.

    Each comes ``delay_minutes`` from to after its end.
    """

    per: Annotated[str, Word("span of reports", ("batch", "shift", "day", "month"))]
    activity: Id | None = None
    delay_minutes: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (1, 10)


class Meter(_Part):
    """A metering point: the site file's keys, and what it sees: flows it ``adds`` and flows it ``takes`` off.

    ``way``: of the sum only what is above zero, or what is below it (as more than zero), minute by minute.
    """

    id: Id
    measures: MeasureName
    reads: Reads = "register"
    unit: UnitName
    role: Role = "supply"
    product: Id | None = None
    line: Id | None = None
    every: DurationMs = Field(default=60_000, alias="expect_every")
    limit: Limit | None = None
    digits: Digits = 6
    decimals: Decimals = 2
    multiplier: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    adds: Names
    takes: list[Id] = []
    way: Literal["all", "above", "below"] = "all"
    reports: Reports | None = None

    @property
    def amounts_in(self) -> Unit:
        """The unit of its amounts: of what passes in an hour, what has passed; of a state its own."""
        return UNITS[HOURLY[self.unit] if self.reads == "gauge" and not self.is_state else self.unit]

    @property
    def is_state(self) -> bool:
        """Whether it is a gauge of a state of the moment, of which spans have means."""
        return self.reads == "gauge" and MEASURES[self.measures].gauge

    @model_validator(mode="after")
    def _reads_what_it_can(self) -> Self:
        if (self.reads == "interval") != (self.reports is not None):
            what = f"'{self.id}' is a register or a gauge, or reads intervals and has 'reports'"
            raise wrong(what, "Write reads: interval and reports: {per: shift}, or neither.")
        if self.reads == "gauge" and not self.is_state and self.unit not in HOURLY:
            what = f"'{self.id}' is a gauge of an amount, and {self.unit} is none that passes in an hour"
            raise wrong(what, f"Use one of {', '.join(HOURLY)}.")
        worth = UNITS[self.unit].decimal_exponent
        if worth is None or worth + FINEST < self.decimals:
            raise wrong(
                f"'{self.id}' would show less than a millionth of what is kept",
                "Take another unit or decimals.",
            )
        if self.reads != "interval" and self.limit is None and not self.is_state:
            raise wrong(f"'{self.id}' needs a limit", "Write what it can do, such as limit: 500 kW.")
        return self


def _intensities(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        Intensity.model_validate(row)
    return rows


def _groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        Group.model_validate(row)
    return rows


class Profile(_Part):
    """A whole profile: one plant; each one that is made of it is in all its ``groups``."""

    profile: Literal[1]
    plant: Id
    name: Text = ""
    time_zone: Zone
    patience: Text = "10m"
    energies: list[EnergyName] = []
    products: list[Product] = []
    activities: list[Activity] = []
    flows: Annotated[list[Flow], Field(min_length=1)]
    points: Annotated[list[Meter], Field(min_length=1)]
    intensity: Annotated[list[dict[str, Any]], AfterValidator(_intensities)] = []
    groups: Annotated[list[dict[str, Any]], AfterValidator(_groups)] = []

    def product_of(self, per: str) -> str:
        """The product that ``output`` means, or the one that is named."""
        return self.products[0].id if per == "output" else per

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        activities, flows = {"sun", *(a.id for a in self.activities)}, [f.id for f in self.flows]
        used = {f.follows for f in self.flows if f.follows}
        used |= {p.reports.activity for p in self.points if p.reports and p.reports.activity}
        for i, flow in enumerate(self.flows):
            if flow.of and flow.of not in flows[:i]:
                raise wrong(f"no flow '{flow.of}' stands above '{flow.id}'", "Write it above.")
        unknown = sorted(used - activities) + sorted(
            {name for point in self.points for name in (*point.adds, *point.takes)} - set(flows)
        )
        if unknown:
            raise wrong(f"nothing is called '{unknown[0]}'", "Name an activity or a flow of this profile.")
        of_batches = {a.id for a in self.activities if a.kind == "batches"}
        for point in self.points:
            if point.reports and point.reports.per == "batch" and point.reports.activity not in of_batches:
                raise wrong(f"'{point.id}' reports batches of no activity", "Name an activity of batches.")
        for names in (flows, [p.id for p in self.points], [a.id for a in self.activities]):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise wrong(f"'{twice[0]}' is there twice", "Give one of them another id.")
        return self


class ProfileFaults(FileFaults):
    """A profile cannot be used."""

    kind = "profile"


def shipped() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """A profile that ships, by its name, or of a file; raises UsageError with every fault and its line."""
    path = FOLDER / f"{name}.yaml" if name in shipped() else Path(name)
    if not path.exists():
        raise UsageError(
            f"no profile '{name}'", hint=f"Give one of {', '.join(shipped())}, or the path of a profile."
        )
    document = read_document(path)
    if document.faults:
        raise ProfileFaults(document.file, document.faults)
    profile, faults = validated(document, Profile)
    if profile is None:
        raise ProfileFaults(document.file, faults)
    return profile
