"""Checks of a plant's points: units, products, roles, limits, spans. Meters are in site_check_meters."""

from __future__ import annotations

from collections.abc import Sequence

from metering.faults import Path, did_you_mean
from metering.measures import MEASURES, OUTPUT, VALUE_ADDED
from metering.model_unknown import ids, named, where_known
from metering.roster import GAUGE, HOLDS, INTERVAL
from metering.site_check_finding import Findings, check_unique
from metering.site_check_meters import check_installations, check_meters
from metering.site_meaning import amount_unit, is_limit_of, limit_per_hour, product_of
from metering.site_models import REGISTER_EXPECT_MS, Plant, Point
from metering.units import CANONICAL, HOURLY, UNITS

QUARTER_MS = 900_000
INTEGER_MAX = 2**63 - 1


@where_known
def check_points(findings: Findings, path: Path, plant: Plant) -> None:
    """Every point of a plant, and its meters."""
    check_meters(findings, path, plant)
    check_unique(findings, (*path, "points"), plant.points)
    for i, point in enumerate(plant.points):
        at = (*path, "points", i)
        _check_unit(findings, at, point)
        _check_reads(findings, at, point)
        _check_role(findings, at, point)
        _check_product(findings, at, plant, point)
        _check_product_unit(findings, at, plant, point)
        _check_part_of(findings, at, plant, point)
        _check_base(findings, at, point)
        _check_limit(findings, (*at, "limit"), point)
        check_installations(findings, path, plant, i)


@where_known
def _check_unit(findings: Findings, path: Path, point: Point) -> None:
    dimensions = MEASURES[point.measures].dimensions
    if amount_unit(point).dimension not in dimensions:
        known = [name for name, unit in UNITS.items() if unit.dimension in dimensions]
        what = f"{point.measures} is not measured in {point.unit}"
        findings.add((*path, "unit"), what, f"Use one of {', '.join(known)}.")


@where_known
def _check_reads(findings: Findings, path: Path, point: Point) -> None:
    gauge = MEASURES[point.measures].gauge
    if gauge and point.reads != GAUGE:
        what = f"{point.measures} is a state of the moment, and no {point.reads} can hold it"
        findings.add((*path, "reads"), what, "Write 'reads: gauge'.")
    elif not gauge and point.reads == GAUGE and point.unit not in HOURLY:
        what = f"{point.measures} is an amount, and a gauge shows none"
        rates = [
            name for name, amount in HOURLY.items() if UNITS[amount].dimension == UNITS[point.unit].dimension
        ]
        proposal = f"Use a unit of what passes in an hour ({', '.join(rates)}), or " if rates else "Write "
        findings.add((*path, "reads"), what, f"{proposal}'reads: register' or 'reads: interval'.")
    elif point.reads == GAUGE and point.expect_every_ms is None:
        hold_min = HOLDS * REGISTER_EXPECT_MS // 60_000
        what = f"without 'expect_every' a value of this gauge holds for {hold_min} minutes at most"
        findings.warn((*path, "reads"), what)


@where_known
def _check_role(findings: Findings, path: Path, point: Point) -> None:
    at = (*path, "role")
    if point.role in ("reuse", "discharge") and point.measures != "water":
        findings.add(at, f"the role '{point.role}' is for water", "Use supply, submeter or feed_in.")
    if point.role not in ("supply", "submeter") and point.measures in (OUTPUT, VALUE_ADDED):
        findings.add(at, f"{point.measures} has no role '{point.role}'", "Use supply or submeter.")
    if point.role == "generation" and MEASURES[point.measures].medium:
        what = f"{point.measures} that the plant makes itself is in its electricity already"
        findings.add(at, what, "Use 'role: submeter', so that its energy is not counted twice.")


@where_known
def _check_product(findings: Findings, path: Path, plant: Plant, point: Point) -> None:
    if point.measures != OUTPUT:
        if point.product is not None:
            what = f"a product belongs to output, not to {point.measures}"
            findings.add((*path, "product"), what, "Leave it out, or write 'measures: output'.")
        return
    name = product_of(plant, point)
    products = ids(plant.products)
    if not name and products:
        what = "an output point counts a product, and this one names none"
        findings.add(path, what, f"Name one of {', '.join(products)}.")
    elif not name:
        _check_unnamed(findings, path, plant, point)
    elif named(plant.products, name) is None:
        proposal = did_you_mean(name, products) or f"Add to the plant products: [{{id: {name}, unit: t}}]."
        findings.add((*path, "product"), f"the plant has no product '{name}'", proposal)


def _check_unnamed(findings: Findings, path: Path, plant: Plant, point: Point) -> None:
    """A plant without products makes one thing; all points that count it use units of one kind."""
    first = next(p for p in plant.points if p.measures == OUTPUT)
    if amount_unit(first).dimension != amount_unit(point).dimension:
        what = f"the plant's output is counted in {first.unit} elsewhere, and here in {point.unit}"
        findings.add((*path, "unit"), what, "Use one unit, or give the plant products and name them.")


@where_known
def _check_product_unit(findings: Findings, path: Path, plant: Plant, point: Point) -> None:
    name = product_of(plant, point)
    product = named(plant.products, name) if name else None
    if product is not None and UNITS[product.unit].dimension != amount_unit(point).dimension:
        what = f"'{name}' is counted in {product.unit}, and {point.unit} cannot become that"
        findings.add((*path, "unit"), what, f"Use a unit like {product.unit}.")


@where_known
def _check_part_of(findings: Findings, path: Path, plant: Plant, point: Point) -> None:
    if point.part_of is None:
        return
    at, whole = (*path, "part_of"), named(plant.points, point.part_of)
    if whole is None:
        proposal = did_you_mean(point.part_of, ids(plant.points))
        findings.add(at, f"the plant has no point '{point.part_of}'", proposal)
    elif whole.measures != point.measures:
        what = f"'{whole.id}' measures {whole.measures}, so {point.measures} is no part of it"
        findings.add(at, what, "Name a point that measures the same.")
    elif _in_circle(point, plant.points):
        findings.add(at, f"'{point.id}' is a part of itself", "Name the point of the whole register.")


def _in_circle(point: Point, points: Sequence[Point]) -> bool:
    seen: set[str] = set()
    at: Point | None = point
    while at is not None and at.part_of is not None and at.id not in seen:
        seen.add(at.id)
        at = named(points, at.part_of)
    return at is not None and at.id == point.id and bool(seen)


@where_known
def _check_base(findings: Findings, path: Path, point: Point) -> None:
    if point.base_ms is None:
        return
    if point.reads == INTERVAL:
        what = "what is read as intervals keeps their own length, and no 'base'"
        findings.warn((*path, "base"), what, "Leave 'base' out.")
    elif QUARTER_MS % point.base_ms:
        what = f"15 minutes are not a whole number of {findings.document.mark((*path, 'base')).text}"
        findings.add((*path, "base"), what, "Use 1s, 5s, 10s, 15s, 30s, 1m, 3m, 5m or 15m.")


@where_known
def _check_limit(findings: Findings, path: Path, point: Point) -> None:
    limit = point.limit
    if limit is None:
        return
    if not is_limit_of(limit, amount_unit(point)):
        dimension = amount_unit(point).dimension
        powers = {"energy": "500 kW", "reactive_energy": "300 kvar"}
        example = powers.get(dimension, f"80 {CANONICAL[dimension]}/h")
        text = findings.document.mark(path).text
        what = f"'{text}' is no limit for {point.measures} in {point.unit}"
        findings.add(path, what, f"Write it like {example}.")
    elif not 0 < limit_per_hour(limit) <= INTEGER_MAX:
        findings.add(path, "the limit is 0 or too large to compute with", "Give what the equipment can do.")
