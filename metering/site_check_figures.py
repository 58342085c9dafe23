"""Checks of intensities, targets and alerts of a plant or a group."""

from __future__ import annotations

from collections.abc import Sequence

from metering.faults import Path, did_you_mean
from metering.measures import ENERGY, MEASURES, OUTPUT, VALUE_ADDED
from metering.policy import Policy
from metering.site_check_finding import Findings, check_unique
from metering.site_meaning import grid_of, numerator_unit, product_of, sign_of, target_value, windows_of
from metering.site_models import CALENDAR_WINDOWS, Alert, Group, Intensity, Plant, Target

KGCE, KGCO2E = "kgce", "kgCO2e"


def check_figures(
    findings: Findings, path: Path, owner: Plant | Group, plants: Sequence[Plant], policy: Policy | None
) -> None:
    """What is computed for an owner; ``plants`` are the plant itself, or the group's."""
    check_unique(findings, (*path, "intensity"), [one.id for one in owner.intensity])
    for i, one in enumerate(owner.intensity):
        at = (*path, "intensity", i)
        _check_of(findings, at, one, plants)
        _check_numerator_unit(findings, at, one, plants, policy)
        if isinstance(owner, Group):
            _check_group_intensity(findings, at, one, plants)
        else:
            _check_per(findings, (*at, "per"), one, owner)
    _check_targets(findings, (*path, "targets"), owner)
    check_unique(findings, (*path, "alerts"), [alert.id for alert in owner.alerts])
    for i, alert in enumerate(owner.alerts):
        _check_alert(findings, (*path, "alerts", i), owner, alert)


def _counted(plants: Sequence[Plant]) -> list[str]:
    """What the plants measure and sum."""
    return sorted({point.measures for plant in plants for point in plant.points if sign_of(point)})


def _check_of(findings: Findings, path: Path, one: Intensity, plants: Sequence[Plant]) -> None:
    at, counted = (*path, "of"), _counted(plants)
    if one.of == OUTPUT or (one.of != ENERGY and MEASURES[one.of].gauge):
        what = f"{one.of} cannot be what a ratio is of"
        findings.add(at, what, "Use electricity, water, another amount, or energy.")
    elif one.of == ENERGY and not any(MEASURES[name].energy for name in counted):
        findings.add(at, "no energy is metered here", "Add a point that measures electricity.")
    elif one.of != ENERGY and one.of not in counted:
        what = f"{one.of} is not metered here by any point that counts"
        findings.add(at, what, f"Add a point, or use one of {', '.join(counted)}.")


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


def _check_per(findings: Findings, path: Path, one: Intensity, plant: Plant) -> None:
    products = [product.id for product in plant.products]
    if one.per == VALUE_ADDED:
        if VALUE_ADDED not in _counted([plant]):
            what = "the plant has no point that measures value_added"
            findings.add(path, what, "Add {id: books, measures: value_added, reads: interval, unit: CNY}.")
    elif one.per == OUTPUT and len(products) != 1:
        what = f"'per: output' means the plant's only product, and it has {len(products)}"
        findings.add(path, what, f"Name one of {', '.join(products)}." if products else "Add 'products'.")
    elif one.per != OUTPUT and one.per not in products:
        known = [*products, OUTPUT, VALUE_ADDED]
        findings.add(path, f"the plant has no product '{one.per}'", did_you_mean(one.per, known))
    else:
        name = products[0] if one.per == OUTPUT else one.per
        if not any(product_of(plant, point) == name and sign_of(point) for point in plant.points):
            what = f"no point counts '{name}'"
            findings.add(path, what, "Add a point that measures output of this product.")


def _check_group_intensity(findings: Findings, path: Path, one: Intensity, plants: Sequence[Plant]) -> None:
    if one.per != VALUE_ADDED:
        what = f"a group's ratio is per value_added, and not per '{one.per}'"
        findings.add((*path, "per"), what, "Write 'per: value_added'.")
    lacking = [plant.id for plant in plants if VALUE_ADDED not in _counted([plant])]
    if one.per == VALUE_ADDED and lacking:
        what = f"no value_added is known of {', '.join(lacking)}, so the ratio would leave it out"
        findings.add((*path, "per"), what, "Add a value_added point to each plant of the group.")
    for k, window in enumerate(one.windows or ()):
        if window not in CALENDAR_WINDOWS:
            what = f"a group has no rolling window {window}"
            findings.add((*path, "windows", k), what, "Use day, month or year.")


def _check_targets(findings: Findings, path: Path, owner: Plant | Group) -> None:
    metrics = [one.id for one in owner.intensity]
    seen: dict[tuple[str, int | None], int] = {}
    for i, target in enumerate(owner.targets):
        at = (*path, i)
        if target.metric not in metrics:
            what = f"there is no intensity '{target.metric}' here"
            findings.add((*at, "metric"), what, did_you_mean(target.metric, metrics))
        if (target.metric, target.by) in seen:
            line = findings.line((*path, seen[target.metric, target.by]))
            findings.add(at, f"a second target for '{target.metric}' (first in line {line})", "Keep one.")
        seen.setdefault((target.metric, target.by), i)
        _check_target_value(findings, at, target)


def _check_target_value(findings: Findings, path: Path, target: Target) -> None:
    relative = (target.base, target.change, target.by)
    if target.value is not None and (target.base is not None or target.change is not None):
        findings.add(path, "a target has a value, or a change on a base, not both", "Keep one of the two.")
    elif target.value is None and any(part is None for part in relative):
        what = "a target is 'value', or 'base', 'change' and 'by' together"
        findings.add(
            path, what, "Add 'value: 600', or base: {year: 2020, value: 28.4}, change: -16%, by: 2025."
        )
    elif target_value(target) <= 0:
        findings.add(path, "a target is more than 0", "Look at its value, or at its base and change.")
    elif target.base is not None and target.by is not None and target.by <= target.base.year:
        findings.add((*path, "by"), "the target ends before its base year", "Put 'by' after base.year.")


def _check_alert(findings: Findings, path: Path, owner: Plant | Group, alert: Alert) -> None:
    metrics = {one.id: one for one in owner.intensity}
    metric = metrics.get(alert.when)
    if metric is None:
        what = f"there is no intensity '{alert.when}' here"
        findings.add((*path, "when"), what, did_you_mean(alert.when, metrics))
    elif alert.window is not None and alert.window not in windows_of(owner, metric):
        what = f"'{alert.when}' has no window {alert.window}"
        known = ", ".join(windows_of(owner, metric))
        findings.add((*path, "window"), what, f"Use one of {known}, or add it to its windows.")
    _check_thresholds(findings, path, alert)


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
