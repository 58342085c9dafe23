"""A site without faults into plain numbers: the roster that ingest and the processors read."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import accumulate

from metering import roster, site_models
from metering.measures import OUTPUT, VALUE_ADDED
from metering.policy import Policy
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, Multiplier, Roster
from metering.site_load import Site
from metering.site_meaning import (
    alert_window,
    amount_unit,
    base_ms,
    days_of,
    expect_ms,
    grid_of,
    groups_of,
    in_millionths,
    installations_of,
    limit_per_hour,
    numerator_unit,
    product_of,
    register_step,
    register_width,
    sign_of,
    target_value,
    windows_of,
)
from metering.units import UNITS, Unit

VALUE_ADDED_PER = 10_000
"""Intensities per value added are per 10,000 yuan, as the statistics have them."""


def compile_roster(site: Site) -> Roster:
    """The roster of a site; the same content and pack give the same roster and version."""
    file = site.model
    points = tuple(_points(file))
    first = accumulate((len(plant.points) for plant in file.plants), initial=0)
    plants = tuple(
        _plant(i, plant, file, range(start, start + len(plant.points)), site.policy)
        for i, (plant, start) in enumerate(zip(file.plants, first, strict=False))
    )
    return Roster(
        version=sha256(f"{site.sha256} {site.policy.sha256}".encode()).hexdigest(),
        policy=site.policy,
        plants=plants,
        groups=tuple(_group(group, plants) for group in file.groups),
        points=points,
        intensities=tuple(_intensities(file)),
        targets=tuple(_targets(file)),
        alerts=tuple(_alerts(file)),
        names={plant.id: {points[i].id: i for i in plant.points} for plant in plants},
    )


def _points(file: site_models.SiteFile) -> Iterator[roster.Point]:
    index = 0
    for number, plant in enumerate(file.plants):
        for point in plant.points:
            yield _point(index, number, plant, point)
            index += 1


def _point(index: int, number: int, plant: site_models.Plant, point: site_models.Point) -> roster.Point:
    unit = UNITS[point.unit]
    installations = compiled_installations(plant, point)
    return roster.Point(
        index=index,
        plant=number,
        id=point.id,
        measures=point.measures,
        reads=point.reads,
        unit=unit,
        product=product_of(plant, point),
        line=point.line or "",
        role=point.role,
        sign=sign_of(point),
        expect_ms=expect_ms(point),
        base_ms=base_ms(point),
        patience_ms=point.patience_ms or plant.patience_ms,
        limit_per_hour=None if point.limit is None else limit_per_hour(point.limit),
        installations=installations,
        expected_from_ms=min(one.from_ms for one in installations),
        expected_to_ms=max(one.to_ms for one in installations),
    )


def compiled_installations(
    plant: site_models.Plant, point: site_models.Point
) -> tuple[roster.Installation, ...]:
    """A point's own installations and the registers of meters read at it, in order of time."""
    unit = UNITS[point.unit]
    found = [_installation(one, one.multiplier, unit) for one in installations_of(plant, point)]
    found.sort(key=lambda one: one.from_ms)
    return tuple(found) or (_installation(site_models.Installation(), None, unit),)


def _installation(
    one: site_models.Installation, steps: list[site_models.MultiplierStep] | None, unit: Unit
) -> roster.Installation:
    return roster.Installation(
        serial=one.serial or "",
        from_ms=FROM_EVER_MS if one.from_ms is None else one.from_ms,
        to_ms=FOR_EVER_MS if one.to_ms is None else one.to_ms,
        step=register_step(one, unit),
        width=register_width(one, unit),
        multipliers=tuple(_multiplier(step) for step in steps or ()) or (Multiplier(FROM_EVER_MS, 1, 1),),
        initial=None if one.initial is None else round(in_millionths(one.initial, unit)),
        final=None if one.final is None else round(in_millionths(one.final, unit)),
    )


def _multiplier(step: site_models.MultiplierStep) -> Multiplier:
    numerator, denominator = step.value.as_integer_ratio()
    return Multiplier(FROM_EVER_MS if step.from_ms is None else step.from_ms, numerator, denominator)


def _plant(
    index: int,
    plant: site_models.Plant,
    file: site_models.SiteFile,
    points: range,
    policy: Policy,
) -> roster.Plant:
    return roster.Plant(
        index=index,
        id=plant.id,
        name=plant.name or plant.id,
        time_zone=plant.time_zone,
        grid=grid_of(plant, policy) or "",
        energies=tuple(dict.fromkeys(plant.energies)),
        points=tuple(points),
        groups=tuple(sorted(groups_of(plant.within, file))),
        holidays=days_of(plant.holidays),
        working_days=days_of(plant.working_days),
    )


def _group(group: site_models.Group, plants: tuple[roster.Plant, ...]) -> roster.Group:
    members = tuple(plant.index for plant in plants if group.id in plant.groups)
    zone = plants[members[0]].time_zone if members else "UTC"
    return roster.Group(group.id, group.name or group.id, group.kind, zone, members)


def _scopes(
    file: site_models.SiteFile,
) -> Iterator[tuple[str, site_models.Plant | site_models.Group]]:
    for plant in file.plants:
        yield f"plant:{plant.id}", plant
    for group in file.groups:
        yield f"group:{group.id}", group


def _intensities(file: site_models.SiteFile) -> Iterator[roster.Intensity]:
    for scope, owner in _scopes(file):
        for one in owner.intensity:
            yield _intensity(scope, owner, one)


def _intensity(
    scope: str, owner: site_models.Plant | site_models.Group, one: site_models.Intensity
) -> roster.Intensity:
    product, unit, amount = "", "CNY", VALUE_ADDED_PER
    if one.per != VALUE_ADDED and isinstance(owner, site_models.Plant):
        product, unit = _made(owner, one.per)
        amount = 1
    return roster.Intensity(
        id=one.id,
        scope=scope,
        of=one.of,
        unit=one.unit or numerator_unit(one.of),
        per=one.per,
        product=product,
        per_unit=unit,
        per_amount=amount,
        windows=windows_of(owner, one),
    )


def _made(plant: site_models.Plant, per: str) -> tuple[str, str]:
    """Product and unit of a denominator; a plant without products makes one thing without a name."""
    if not plant.products:
        return "", next(amount_unit(point).name for point in plant.points if point.measures == OUTPUT)
    made = next(p for p in plant.products if per in (p.id, OUTPUT))
    return made.id, made.unit


def _targets(file: site_models.SiteFile) -> Iterator[roster.Target]:
    for scope, owner in _scopes(file):
        for target in owner.targets:
            value = float(target_value(target))
            yield roster.Target(scope, target.metric, value, target.by, _target_text(target))


def _target_text(target: site_models.Target) -> str:
    by = "" if target.by is None else f" by {target.by}"
    if target.base is None or target.change is None:
        return f"at most {target.value}{by}"
    change = f"{float(target.change * 100):+g} %"
    return f"{change} on {target.base.value} of {target.base.year}{by}"


def _alerts(file: site_models.SiteFile) -> Iterator[roster.AlertRule]:
    for scope, owner in _scopes(file):
        for alert in owner.alerts:
            yield _alert(scope, owner, alert)


def _alert(
    scope: str, owner: site_models.Plant | site_models.Group, alert: site_models.Alert
) -> roster.AlertRule:
    metric = next(one for one in owner.intensity if one.id == alert.when)
    threshold = alert.below if alert.above is None else alert.above
    clear = alert.clear_above if alert.above is None else alert.clear_below
    assert threshold is not None
    return roster.AlertRule(
        id=alert.id,
        scope=scope,
        when=alert.when,
        window=alert_window(owner, metric, alert),
        above=alert.above is not None,
        threshold=float(threshold),
        clear=float(threshold if clear is None else clear),
        for_ms=alert.for_ms,
        severity=alert.severity,
    )
