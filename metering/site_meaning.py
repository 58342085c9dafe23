"""What a site file's parts mean once defaults and references are filled in.

Used by the checks, before a file is known to be right, and by the compiler.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil

from metering import site_models
from metering.measures import ENERGY, MEASURES, OUTPUT
from metering.policy import Policy
from metering.roster import GAUGE, INTERVAL
from metering.site_models import CALENDAR_WINDOWS, ROLLING_WINDOWS
from metering.site_types import Rate
from metering.units import CANONICAL, HOURLY, MICRO, UNITS, Unit

HOUR_MS = 3_600_000
SIGNS = {"supply": 1, "generation": 1, "feed_in": -1, "submeter": 0, "reuse": 0, "discharge": 0}
POWERS = {name: amount for name, amount in HOURLY.items() if "/" not in name}
"""Units of power, and what they move in an hour."""


def sign_of(point: site_models.Point) -> int:
    """A point's part in its plant's amount: parts of another point and states of the moment add nothing."""
    state = point.reads == GAUGE and MEASURES[point.measures].gauge
    return 0 if point.part_of or state else SIGNS[point.role]


def amount_unit(point: site_models.Point) -> Unit:
    """Of its amounts: what passes in an hour becomes, added up, an amount."""
    hourly = point.unit in HOURLY and point.reads == GAUGE and not MEASURES[point.measures].gauge
    return UNITS[HOURLY[point.unit] if hourly else point.unit]


def expect_ms(point: site_models.Point) -> int:
    """How often a reading is expected; 0: at no rhythm."""
    default_ms = 0 if point.reads == INTERVAL else site_models.REGISTER_EXPECT_MS
    return point.expect_every_ms or default_ms


def days_of(ranges: Iterable[tuple[int, int]]) -> frozenset[int]:
    """Every day, from the first to the last of each range, counted from 1970-01-01."""
    return frozenset(day for first, last in ranges for day in range(first, last + 1))


def base_ms(point: site_models.Point) -> int:
    """The shortest span kept; 0: an interval read keeps its own length."""
    return 0 if point.reads == INTERVAL else point.base_ms or site_models.REGISTER_BASE_MS


def product_of(plant: site_models.Plant, point: site_models.Point) -> str:
    """What an output point counts: the product it names, else the plant's only one."""
    if point.measures != OUTPUT:
        return ""
    return point.product or (plant.products[0].id if len(plant.products) == 1 else "")


def is_limit_of(limit: Rate, unit: Unit) -> bool:
    """Whether it limits amounts of this unit."""
    name = POWERS.get(limit.unit) if limit.per_ms == 0 else limit.unit
    return name in UNITS and UNITS[name].dimension == unit.dimension


def limit_per_hour(limit: Rate) -> int:
    """Millionths of the canonical unit in an hour, rounded up."""
    name, per_ms = (POWERS[limit.unit], HOUR_MS) if limit.per_ms == 0 else (limit.unit, limit.per_ms)
    return ceil(in_millionths(limit.amount, UNITS[name]) * HOUR_MS / per_ms)


@lru_cache(maxsize=1024)  # a site's many points have few widths, decimals and limits
def in_millionths(amount: Decimal, unit: Unit) -> Fraction:
    """Exact; whole for every unit that is a power of ten of the canonical one."""
    return Fraction(amount) * unit.factor * MICRO


def installations_of(plant: site_models.Plant, point: site_models.Point) -> list[site_models.Installation]:
    """A point's installations; the register of a meter with several becomes one of them."""
    of_meters = [meter for meter in plant.meters if point.id in meter.registers]
    return [*point.installations, *(_as_installation(meter, point.id) for meter in of_meters)]


def _as_installation(meter: site_models.Meter, point: str) -> site_models.Installation:
    shared = {name: getattr(meter, name) for name in ("serial", "from_ms", "to_ms", "multiplier", "accuracy")}
    # all of it has been validated; and model_construct takes names where the file has aliases
    return site_models.Installation.model_construct(None, **dict(meter.registers[point]), **shared)


def register_step(one: site_models.Register, unit: Unit) -> int:
    """One step in millionths; 1 where no decimals are given, or a step is no whole number of them."""
    if one.decimals is None:
        return 1
    step = in_millionths(Decimal(1).scaleb(-one.decimals), unit)
    return step.numerator if step.denominator == 1 else 1


def register_width(one: site_models.Register, unit: Unit) -> int | None:
    """Where the register rolls, in millionths."""
    if one.rolls_at is not None:
        return round(in_millionths(one.rolls_at, unit))
    return None if one.digits is None else round(in_millionths(Decimal(10) ** one.digits, unit))


def grid_of(plant: site_models.Plant, policy: Policy) -> str | None:
    """The pack's region of a plant's grid, however it is capitalised; None when there is none."""
    regions = {region.casefold(): region for region in policy.regions}
    return regions.get(plant.grid.casefold())


def groups_of(within: list[str], file: site_models.SiteFile) -> set[str]:
    """The groups named and all that those are within."""
    parents = {group.id: group.within for group in file.groups}
    found: set[str] = set()
    waiting = list(within)
    while waiting:
        group = waiting.pop()
        if group not in found:
            found.add(group)
            waiting += parents.get(group, [])
    return found


def numerator_unit(of: str) -> str:
    """kgce for all energies together, else the canonical unit of the measure."""
    return "kgce" if of == ENERGY else CANONICAL[MEASURES[of].dimensions[0]]


def windows_of(owner: site_models.Plant | site_models.Group, one: site_models.Intensity) -> tuple[str, ...]:
    """The windows named, else all that a plant or a group can have."""
    if one.windows is not None:
        return tuple(dict.fromkeys(one.windows))
    return CALENDAR_WINDOWS if isinstance(owner, site_models.Group) else ROLLING_WINDOWS + CALENDAR_WINDOWS


def alert_window(
    owner: site_models.Plant | site_models.Group, metric: site_models.Intensity, alert: site_models.Alert
) -> str:
    """The window an alert names, else the shortest of its intensity."""
    order = (*ROLLING_WINDOWS, *CALENDAR_WINDOWS)
    return alert.window or min(windows_of(owner, metric), key=order.index)


def target_value(target: site_models.Target) -> Decimal:
    """What the metric is to be at most."""
    if target.value is not None:
        return target.value
    assert target.base is not None
    assert target.change is not None
    return target.base.value * (1 + target.change)
