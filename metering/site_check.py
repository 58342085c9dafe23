"""What a site file can get wrong between its parts: names, circles, times, units, the pack."""

from __future__ import annotations

from collections.abc import Sequence

from metering.civil import zone
from metering.errors import UsageError
from metering.faults import Fault, Path, did_you_mean
from metering.measures import OUTPUT, VALUE_ADDED
from metering.policy import Policy
from metering.site_check_figures import check_figures
from metering.site_check_finding import Findings, check_unique
from metering.site_check_points import check_points
from metering.site_meaning import grid_of, groups_of
from metering.site_models import Group, Plant, SiteFile
from metering.yaml_marks import Document


def check_site(document: Document, site: SiteFile, policy: Policy | None) -> list[Fault]:
    """Every fault and warning that takes more than one object to see."""
    findings = Findings(document)
    check_unique(findings, ("groups",), [group.id for group in site.groups])
    check_unique(findings, ("plants",), [plant.id for plant in site.plants])
    _check_within(findings, site)
    _check_circles(findings, site.groups)
    for i, plant in enumerate(site.plants):
        _check_plant(findings, ("plants", i), plant, policy)
        check_points(findings, ("plants", i), plant)
        check_figures(findings, ("plants", i), plant, [plant], policy)
    for i, group in enumerate(site.groups):
        members = [plant for plant in site.plants if group.id in groups_of(plant.within, site)]
        _check_zones(findings, ("groups", i), members)
        check_figures(findings, ("groups", i), group, members, policy)
    return findings.faults


def _check_within(findings: Findings, site: SiteFile) -> None:
    known = [group.id for group in site.groups]
    named = [(("groups", i, "within"), group.within) for i, group in enumerate(site.groups)]
    named += [(("plants", i, "within"), plant.within) for i, plant in enumerate(site.plants)]
    for path, within in named:
        for k, name in enumerate(within):
            if name not in known:
                proposal = did_you_mean(name, known) or f"Add it: groups: [{{id: {name}}}]."
                findings.add((*path, k), f"there is no group '{name}'", proposal)


def _check_circles(findings: Findings, groups: Sequence[Group]) -> None:
    parents = {group.id: group.within for group in groups}
    for i, group in enumerate(groups):
        circle = _way_back(group.id, parents)
        if circle:
            what = f"the group is within itself: {' in '.join(circle)}"
            findings.add(("groups", i, "within"), what, "Remove one of the steps.")


def _way_back(start: str, parents: dict[str, list[str]]) -> list[str]:
    """The steps from a group up to itself; empty when there is no such way."""
    seen: set[str] = set()
    ways = [[start, parent] for parent in parents[start]]
    while ways:
        way = ways.pop()
        if way[-1] == start:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, parent] for parent in parents.get(way[-1], [])]
    return []


def _check_plant(findings: Findings, path: Path, plant: Plant, policy: Policy | None) -> None:
    try:
        zone(plant.time_zone)
    except UsageError as error:
        findings.add((*path, "time_zone"), error.what, error.hint)
    if policy is not None and grid_of(plant, policy) is None:
        what = f"the policy pack {policy.id} has no grid '{plant.grid}'"
        findings.add((*path, "grid"), what, did_you_mean(plant.grid, policy.regions))
    check_unique(findings, (*path, "products"), [product.id for product in plant.products])
    for i, product in enumerate(plant.products):
        if product.id in (OUTPUT, VALUE_ADDED):
            what = f"'{product.id}' has a meaning of its own under 'per'"
            findings.add((*path, "products", i, "id"), what, "Choose another id.")


def _check_zones(findings: Findings, path: Path, members: Sequence[Plant]) -> None:
    zones = sorted({plant.time_zone for plant in members})
    if len(zones) > 1:
        what = f"its plants are in several time zones: {', '.join(zones)}"
        proposal = "Groups across time zones are not computed yet: make a group for each zone."
        findings.add((*path, "id"), what, proposal)
