"""Checks of intensities, targets and alerts of a plant or a group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from metering.faults import Path, did_you_mean
from metering.measures import ENERGIES, ENERGY, MEASURES, OUTPUT, VALUE_ADDED
from metering.model_unknown import UNKNOWN, UnknownError, as_known, ids, named, tried, where_known
from metering.policy import Policy
from metering.site_check_finding import Findings, check_unique
from metering.site_meaning import grid_of, numerator_unit, product_of, sign_of, target_value, windows_of
from metering.site_models import (
    CALENDAR_WINDOWS,
    ROLLING_WINDOWS,
    Alert,
    Group,
    Intensity,
    Plant,
    Point,
    Target,
)

KGCE, KGCO2E = "kgce", "kgCO2e"


def check_figures(
    findings: Findings, path: Path, owner: Plant | Group, plants: Sequence[Plant], policy: Policy | None
) -> None:
    """What is computed for an owner; ``plants`` are the plant itself, or the group's."""
    _check_intensities(findings, (*path, "intensity"), owner, plants, policy)
    _check_targets(findings, (*path, "targets"), owner)
    _check_alerts(findings, (*path, "alerts"), owner)


@where_known
def _check_intensities(
    findings: Findings, path: Path, owner: Plant | Group, plants: Sequence[Plant], policy: Policy | None
) -> None:
    check_unique(findings, path, owner.intensity)
    for i, one in enumerate(owner.intensity):
        at = (*path, i)
        _check_of(findings, at, one, plants)
        _check_numerator_unit(findings, at, one, plants, policy)
        if isinstance(owner, Group):
            _check_group_per(findings, (*at, "per"), one, plants)
            _check_group_windows(findings, (*at, "windows"), one)
        else:
            _check_per(findings, (*at, "per"), one, owner)


def _points(plants: Sequence[Plant]) -> list[Point]:
    return [point for plant in plants for point in plant.points]


def _counts(measure: str, point: Point) -> bool:
    """Whether a point measures and sums it."""
    return point.measures == measure and bool(sign_of(point))


def _is_counted(measure: str, points: Sequence[Point]) -> bool:
    """Raises UnknownError when no known point counts it, but another one might."""
    counts = [tried(partial(_counts, measure), point) for point in points]
    if any(one is True for one in counts):
        return True
    if any(one is UNKNOWN for one in counts):
        raise UnknownError(measure)
    return False


def _is_energy_counted(points: Sequence[Point]) -> bool:
    return any(_is_counted(name, points) for name in ENERGIES)


def _counted(points: Sequence[Point]) -> list[str]:
    """What the points are known to measure and sum, for proposals."""
    pairs = as_known(lambda point: (point.measures, sign_of(point)), points)
    return sorted({measures for measures, sign in pairs if sign})


@where_known
def _check_of(findings: Findings, path: Path, one: Intensity, plants: Sequence[Plant]) -> None:
    at = (*path, "of")
    if one.of == OUTPUT or (one.of != ENERGY and MEASURES[one.of].gauge):
        what = f"{one.of} cannot be what a ratio is of"
        findings.add(at, what, "Use electricity, water, another amount, or energy.")
        return
    points = _points(plants)
    if one.of == ENERGY and not _is_energy_counted(points):
        findings.add(at, "no energy is metered here", "Add a point that measures electricity.")
    elif one.of != ENERGY and not _is_counted(one.of, points):
        what = f"{one.of} is not metered here by any point that counts"
        others = ", ".join(_counted(points))
        findings.add(at, what, f"Add a point, or use one of {others}." if others else "Add a point.")


@where_known
def _check_numerator_unit(
    findings: Findings, path: Path, one: Intensity, plants: Sequence[Plant], policy: Policy | None
) -> None:
    unit, at = one.unit or numerator_unit(one.of), (*path, "unit")
    own = [] if one.of == ENERGY else [numerator_unit(one.of)]
    if unit not in (KGCE, KGCO2E, *own):
        known = ", ".join((*own, KGCE, KGCO2E))
        findings.add(at, f"{one.of} cannot be given in {unit}", f"Use one of {known}.")
    elif policy is None or one.of == ENERGY:
        return
    elif unit == KGCE and one.of not in policy.kgce:
        what = f"the policy pack {policy.id} has no kgce for {one.of}"
        findings.add(at, what, f"Use {own[0]}, or a pack of your own that has it.")
    elif unit == KGCO2E and not all(_has_co2(policy, one.of, plant) for plant in plants):
        what = f"the policy pack {policy.id} has no kgCO2e for {one.of}"
        findings.add(at, what, f"Use {own[0]}, or a pack of your own that has it.")


def _has_co2(policy: Policy, measure: str, plant: Plant) -> bool:
    region = grid_of(plant, policy) or ""
    return (measure, "") in policy.kgco2e or (measure, region) in policy.kgco2e


@where_known
def _check_per(findings: Findings, path: Path, one: Intensity, plant: Plant) -> None:
    products = ids(plant.products)
    if one.per == VALUE_ADDED:
        if not _is_counted(VALUE_ADDED, plant.points):
            what = "the plant has no point that measures value_added"
            findings.add(path, what, "Add {id: books, measures: value_added, reads: interval, unit: CNY}.")
    elif one.per == OUTPUT and len(plant.products) > 1:
        what = f"'per: output' means the plant's only product, and it has {len(plant.products)}"
        findings.add(path, what, f"Name one of {', '.join(products)}.")
    elif one.per == OUTPUT and not plant.products:
        if not _is_counted(OUTPUT, plant.points):
            what = "the plant has no point that measures output"
            findings.add(path, what, "Add {id: count, measures: output, reads: register, unit: t}.")
    elif one.per != OUTPUT and named(plant.products, one.per) is None:
        known = [*products, OUTPUT, VALUE_ADDED]
        findings.add(path, f"the plant has no product '{one.per}'", did_you_mean(one.per, known))
    else:
        name = plant.products[0].id if one.per == OUTPUT else one.per
        if not any(_makes(plant, point, name) for point in plant.points):
            what = f"no point counts '{name}'"
            findings.add(path, what, "Add a point that measures output of this product.")


def _makes(plant: Plant, point: Point, product: str) -> bool:
    """Whether a point counts the product; raises UnknownError when it names one that does not exist."""
    if not _counts(OUTPUT, point):
        return False
    own = product_of(plant, point)
    if named(plant.products, own) is None:
        raise UnknownError(own)
    return own == product


@where_known
def _check_group_per(findings: Findings, path: Path, one: Intensity, plants: Sequence[Plant]) -> None:
    if one.per != VALUE_ADDED:
        what = f"a group's ratio is per value_added, and not per '{one.per}'"
        findings.add(path, what, "Write 'per: value_added'.")
        return
    pairs = as_known(lambda plant: (plant.id, _is_counted(VALUE_ADDED, plant.points)), plants)
    lacking = [name for name, counted in pairs if not counted]
    if lacking:
        what = f"no value_added is known of {', '.join(lacking)}, so the ratio would leave it out"
        findings.add(path, what, "Add a value_added point to each plant of the group.")


@where_known
def _check_group_windows(findings: Findings, path: Path, one: Intensity) -> None:
    for k, window in enumerate(one.windows or ()):
        if window is not UNKNOWN and window not in CALENDAR_WINDOWS:
            what = f"a group has no rolling window {window}"
            findings.add((*path, k), what, "Use day, month or year.")


@where_known
def _check_metric(findings: Findings, path: Path, owner: Plant | Group, part: Target | Alert) -> None:
    """``path`` ends in the key that names the intensity."""
    name = getattr(part, str(path[-1]))
    if named(owner.intensity, name) is None:
        what = f"there is no intensity '{name}' here"
        findings.add(path, what, did_you_mean(name, ids(owner.intensity)))


@where_known
def _check_targets(findings: Findings, path: Path, owner: Plant | Group) -> None:
    seen: dict[tuple[str, int | None], int] = {}
    for i, target in enumerate(owner.targets):
        at = (*path, i)
        _check_metric(findings, (*at, "metric"), owner, target)
        _check_second(findings, path, target, i, seen)
        _check_target_value(findings, at, target)


@where_known
def _check_second(
    findings: Findings, path: Path, target: Target, index: int, seen: dict[tuple[str, int | None], int]
) -> None:
    first = seen.setdefault((target.metric, target.by), index)
    if first != index:
        line = findings.line((*path, first))
        what = f"a second target for '{target.metric}' (first in line {line})"
        findings.add((*path, index), what, "Keep one.")


@where_known
def _check_target_value(findings: Findings, path: Path, target: Target) -> None:
    if target.value is not None and (target.base is not None or target.change is not None):
        findings.add(path, "a target has a value, or a change on a base, not both", "Keep one of the two.")
    elif target.value is None and (target.base is None or target.change is None or target.by is None):
        what = "a target is 'value', or 'base', 'change' and 'by' together"
        findings.add(
            path, what, "Add 'value: 600', or base: {year: 2020, value: 28.4}, change: -16%, by: 2025."
        )
    elif target_value(target) <= 0:
        findings.add(path, "a target is more than 0", "Look at its value, or at its base and change.")
    elif target.base is not None and target.by is not None and target.by <= target.base.year:
        findings.add((*path, "by"), "the target ends before its base year", "Put 'by' after base.year.")


@where_known
def _check_alerts(findings: Findings, path: Path, owner: Plant | Group) -> None:
    check_unique(findings, path, owner.alerts)
    for i, alert in enumerate(owner.alerts):
        at = (*path, i)
        _check_metric(findings, (*at, "when"), owner, alert)
        _check_alert_window(findings, (*at, "window"), owner, alert)
        _check_thresholds(findings, at, alert)


@where_known
def _check_alert_window(findings: Findings, path: Path, owner: Plant | Group, alert: Alert) -> None:
    """Alerts are evaluated on rolling windows only; that one it names is such is seen to by its type."""
    metric = named(owner.intensity, alert.when)
    if metric is None:
        return
    windows = windows_of(owner, metric)
    rolling = [window for window in windows if window in ROLLING_WINDOWS]
    if isinstance(owner, Group):
        proposal = "Put the alert at the group's plants: a group has calendar windows only."
    elif rolling:
        proposal = f"Use one of {', '.join(rolling)}, or add it to its windows."
    else:
        proposal = f"Add one of {', '.join(ROLLING_WINDOWS)} to its windows."
    if alert.window is not None and alert.window not in windows:
        findings.add(path, f"'{alert.when}' has no window {alert.window}", proposal)
    elif alert.window is None and not rolling:
        what = f"'{alert.when}' has calendar windows only, on which alerts are not evaluated yet"
        findings.add(path, what, proposal)


@where_known
def _check_thresholds(findings: Findings, path: Path, alert: Alert) -> None:
    if (alert.above is None) == (alert.below is None):
        what = "an alert has either 'above' or 'below'"
        findings.add(path, what, "Write one of the two, such as 'above: 620'.")
        return
    if alert.above is not None:
        wrong_side, key = alert.clear_below is not None and alert.clear_below > alert.above, "clear_below"
        stray = "clear_above" if alert.clear_above is not None else None
    else:
        assert alert.below is not None
        wrong_side, key = alert.clear_above is not None and alert.clear_above < alert.below, "clear_above"
        stray = "clear_below" if alert.clear_below is not None else None
    side = "above" if key == "clear_below" else "below"
    if wrong_side:
        what = f"it would clear while it still fires: '{key}' is on the wrong side of '{side}'"
        findings.add((*path, key), what, f"Put it on the other side of '{side}', or leave it out.")
    if stray:
        findings.add((*path, stray), f"'{stray}' does not go with '{side}'", f"Write '{key}'.", of_key=True)
