"""What a site file can get wrong between its parts: names, circles, times, units, the pack.

Of a file with faults of form, the parts are as far as they are known (see model_unknown): every check of
one matter is marked ``where_known``, and says only what follows from known values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from metering.civil import zone
from metering.errors import UsageError
from metering.faults import Fault, Path, did_you_mean
from metering.measures import OUTPUT, VALUE_ADDED
from metering.model_unknown import UNKNOWN, UnknownError, as_known, ids, named, where_known
from metering.policy import Policy
from metering.site_check_figures import check_figures
from metering.site_check_finding import Findings, check_unique
from metering.site_check_points import check_points
from metering.site_meaning import days_of, grid_of
from metering.site_models import Group, Plant, Product, SiteFile
from metering.yaml_marks import Document


def check_site(document: Document, site: SiteFile, policy: Policy | None) -> list[Fault]:
    """Every fault and warning that takes more than one object to see."""
    findings = Findings(document)
    _check_groups(findings, site, policy)
    _check_plants(findings, site, policy)
    return findings.faults


@where_known
def _check_groups(findings: Findings, site: SiteFile, policy: Policy | None) -> None:
    check_unique(findings, ("groups",), site.groups)
    parents = dict(as_known(_links, site.groups))
    for i, group in enumerate(site.groups):
        path = ("groups", i)
        _check_within(findings, path, group, site)
        _check_circle(findings, path, group, parents)
        members = _members(group, site)
        _check_zones(findings, path, members)
        check_figures(findings, path, group, members, policy)


@where_known
def _check_plants(findings: Findings, site: SiteFile, policy: Policy | None) -> None:
    check_unique(findings, ("plants",), site.plants)
    for i, plant in enumerate(site.plants):
        path = ("plants", i)
        _check_within(findings, path, plant, site)
        _check_zone(findings, path, plant)
        _check_days(findings, path, plant)
        _check_grid(findings, path, plant, policy)
        _check_products(findings, path, plant)
        check_points(findings, path, plant)
        check_figures(findings, path, plant, [plant], policy)


@where_known
def _check_within(findings: Findings, path: Path, owner: Plant | Group, site: SiteFile) -> None:
    for k, name in enumerate(owner.within):
        _check_group_name(findings, (*path, "within", k), name, site)


@where_known
def _check_group_name(findings: Findings, path: Path, name: str, site: SiteFile) -> None:
    if named(site.groups, name) is None:
        proposal = did_you_mean(name, ids(site.groups)) or f"Add it: groups: [{{id: {name}}}]."
        findings.add(path, f"there is no group '{name}'", proposal)


@where_known
def _check_days(findings: Findings, path: Path, plant: Plant) -> None:
    """A day is not both a holiday and a working day."""
    holidays = days_of(plant.holidays)
    for k, days in enumerate(plant.working_days):
        both = sorted(days_of([days]) & holidays)
        if both:
            day = date.fromordinal(date(1970, 1, 1).toordinal() + both[0])
            what = f"{day} is among the holidays, too"
            findings.add((*path, "working_days", k), what, "Keep it in one of the two.")


def _links(group: Group) -> tuple[str, list[str]]:
    return group.id, [name for name in group.within if name is not UNKNOWN]


@where_known
def _check_circle(findings: Findings, path: Path, group: Group, parents: Mapping[str, list[str]]) -> None:
    circle = _way_back(group.id, parents)
    if circle:
        what = f"the group is within itself: {' in '.join(circle)}"
        findings.add((*path, "within"), what, "Remove one of the steps.")


def _way_back(start: str, parents: Mapping[str, list[str]]) -> list[str]:
    """The steps from a group up to itself; empty when there is no such way."""
    seen: set[str] = set()
    ways = [[start, parent] for parent in parents.get(start, [])]
    while ways:
        way = ways.pop()
        if way[-1] == start:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, parent] for parent in parents.get(way[-1], [])]
    return []


def _members(group: Group, site: SiteFile) -> list[Plant]:
    """The group's plants, and UNKNOWN for each plant that may be one of them."""
    try:
        return [one for plant in site.plants for one in _if_within(plant, group, site)]
    except UnknownError:
        return [UNKNOWN]


def _if_within(plant: Plant, group: Group, site: SiteFile) -> list[Plant]:
    try:
        return [plant] if _is_within(plant, group, site) else []
    except UnknownError:
        return [UNKNOWN]


def _is_within(plant: Plant, group: Group, site: SiteFile) -> bool:
    """Raises UnknownError when no known way leads to the group, but an unknown one might."""
    ways = list(plant.within)
    seen: set[str] = set()
    unsure = False
    while ways:
        name = ways.pop()
        if name is UNKNOWN:
            unsure = True
        elif name == group.id:
            return True
        elif name not in seen:
            seen.add(name)
            ways += _above(name, site)
    if unsure:
        raise UnknownError(plant.id)
    return False


def _above(name: str, site: SiteFile) -> list[str]:
    """What a group is within; of a name that does not exist nobody knows what it is within."""
    try:
        group = named(site.groups, name)
        return [UNKNOWN] if group is None else group.within
    except UnknownError:
        return [UNKNOWN]


@where_known
def _check_zone(findings: Findings, path: Path, plant: Plant) -> None:
    try:
        zone(plant.time_zone)
    except UsageError as error:
        findings.add((*path, "time_zone"), error.what, error.hint)


@where_known
def _check_grid(findings: Findings, path: Path, plant: Plant, policy: Policy | None) -> None:
    if policy is not None and grid_of(plant, policy) is None:
        what = f"the policy pack {policy.id} has no grid '{plant.grid}'"
        findings.add((*path, "grid"), what, did_you_mean(plant.grid, policy.regions))


@where_known
def _check_products(findings: Findings, path: Path, plant: Plant) -> None:
    check_unique(findings, (*path, "products"), plant.products)
    for i, product in enumerate(plant.products):
        _check_product_id(findings, (*path, "products", i, "id"), product)


@where_known
def _check_product_id(findings: Findings, path: Path, product: Product) -> None:
    if product.id in (OUTPUT, VALUE_ADDED):
        what = f"'{product.id}' has a meaning of its own under 'per'"
        findings.add(path, what, "Choose another id.")


@where_known
def _check_zones(findings: Findings, path: Path, members: Sequence[Plant]) -> None:
    zones = sorted(set(as_known(_existing_zone, members)))
    if len(zones) > 1:
        what = f"its plants are in several time zones: {', '.join(zones)}"
        proposal = "Groups across time zones are not computed yet: make a group for each zone."
        findings.add((*path, "id"), what, proposal)


def _existing_zone(plant: Plant) -> str:
    """A zone that does not exist is a fault of its own, and no second zone."""
    try:
        zone(plant.time_zone)
    except UsageError as error:
        raise UnknownError(plant.time_zone) from error
    return plant.time_zone
