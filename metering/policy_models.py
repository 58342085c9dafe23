"""A policy pack as data: every coefficient with its edition, its dates, its source and its trust."""

from __future__ import annotations

import re
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema

from metering.site_types import Exact, MeasureName, Text, UnitName, exact, wrong

FORMAT: Final = 1
_CLOCK = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise wrong(f"'{value}' is not a date", "Write it like 2021-04-01.") from error


def _clock(value: Any) -> time:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if not found or (found[1] == "24" and found[2] != "00"):
        raise wrong(f"'{value}' is not a time of day", 'Write it like "06:00"; the day ends at "24:00".')
    return time(int(found[1]) % 24, int(found[2]))


def _value(value: Any) -> Decimal:
    number = exact(value)
    if number < 0:
        raise wrong(f"a coefficient is not negative, and {value} is", "Write it without the sign.")
    return number


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Clock = Annotated[time, BeforeValidator(_clock), WithJsonSchema({"type": "string", "examples": ["06:00"]})]
Value = Annotated[Exact, BeforeValidator(_value)]
Flag = Annotated[bool, Strict()]


class Part(BaseModel):
    """Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Coefficient(Part):
    """``value`` per ``per`` unit, valid from the first day of ``from`` to the day before ``to``.

    Days are those of the pack's time zone. ``verified``: the value was read in a published source.
    """

    value: Value
    per: UnitName
    from_day: Day = Field(alias="from")
    to_day: Day | None = Field(default=None, alias="to")
    source: Text
    verified: Flag


class GridYear(Part):
    """The grid's CO2 factors of one year, kgCO2 per kWh by region; ``unverified`` names the doubtful."""

    factor_year: Annotated[int, Strict(), Field(ge=1990, le=2100)]
    from_day: Day = Field(alias="from")
    to_day: Day | None = Field(default=None, alias="to")
    source: Text
    unverified: list[Text] = []
    regions: dict[Text, Value] = Field(min_length=1)


class Band(Part):
    """A band of a tariff: in ``months`` (all, if absent) from ``start`` to before ``end``."""

    name: Text
    months: list[Annotated[int, Strict(), Field(ge=1, le=12)]] = Field(
        default=list(range(1, 13)), min_length=1
    )
    start: Clock
    end: Clock


class Tariff(Part):
    """Time-of-use bands; the first that holds an instant wins. ``ratios``: prices, flat is 1."""

    source: Text
    verified: Flag
    ratios: dict[Text, Value] = {}
    bands: list[Band] = Field(min_length=1)


class SurchargeStep(Part):
    """``percent`` for each 0.01 away from the standard as far as ``to``; without it, all the way."""

    to: Value | None = None
    percent: Exact


class PowerFactor(Part):
    """A power-factor standard: what each 0.01 away from it costs (positive) or saves (negative)."""

    source: Text
    verified: Flag
    below: list[SurchargeStep] = Field(min_length=1)
    above: list[SurchargeStep] = Field(min_length=1)


class PolicyFile(Part):
    """A whole pack."""

    policy: Text
    format: Annotated[int, Strict(), Field(ge=FORMAT, le=FORMAT)]
    edition: Text
    time_zone: Text
    notes: list[Text] = []
    kgce: dict[MeasureName, list[Coefficient]]
    kgco2e: dict[MeasureName, list[Coefficient]] = {}
    grid: list[GridYear] = []
    tariffs: dict[Text, Tariff] = {}
    power_factor: dict[Text, PowerFactor] = {}
