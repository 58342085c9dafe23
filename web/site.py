"""The site and a single plant as the page wants them: from the roster and the result tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from metering.instants import rfc3339
from metering.query import Query, Results
from metering.roster import FOR_EVER_MS, FROM_EVER_MS, Group, Intensity, Plant, Point, Roster
from web.answers import readable
from web.overview import SEEN
from web.params import BadParameter
from web.status import Status

Row = dict[str, Any]
SERIES_ROWS_MAX = 20_000
HOURS_MAX = 24
PRODUCTS_MAX = 16


def site(roster: Roster, version: str) -> Row:
    """What ``/api/site`` gives: everything of the site file that a reader of figures needs."""
    return {
        "version": version,
        "roster": roster.version,
        "policy": {"id": roster.policy.id, "edition": roster.policy.edition},
        "plants": [_plant(roster, plant) for plant in roster.plants],
        "groups": [_group(roster, group) for group in roster.groups],
        "intensities": [_intensity(intensity) for intensity in roster.intensities],
        "targets": [
            {"scope": t.scope, "metric": t.metric, "value": t.value, "by": t.by, "text": t.text}
            for t in roster.targets
        ],
        "alerts": [
            {
                "id": a.id,
                "scope": a.scope,
                "when": a.when,
                "window": a.window,
                "direction": "above" if a.above else "below",
                "threshold": a.threshold,
                "clear": a.clear,
                "for_ms": a.for_ms,
                "severity": a.severity,
            }
            for a in roster.alerts
        ],
    }


def _plant(roster: Roster, plant: Plant) -> Row:
    return {
        "id": plant.id,
        "scope": f"plant:{plant.id}",
        "name": plant.name or plant.id,
        "time_zone": plant.time_zone,
        "groups": list(plant.groups),
        "energies": list(plant.energies),
        "points": [_point(roster.points[index]) for index in plant.points],
    }


def _point(point: Point) -> Row:
    return {
        "id": point.id,
        "measures": point.measures,
        "reads": point.reads,
        "unit": point.unit.name,
        "product": point.product,
        "line": point.line,
        "role": point.role,
        "expect_ms": point.expect_ms,
        "patience_ms": point.patience_ms,
        "expected_from": _bound(point.expected_from_ms),
        "expected_to": _bound(point.expected_to_ms),
    }


def _bound(instant_ms: int) -> str | None:
    return rfc3339(instant_ms) if FROM_EVER_MS < instant_ms < FOR_EVER_MS else None


def _group(roster: Roster, group: Group) -> Row:
    return {
        "id": group.id,
        "scope": f"group:{group.id}",
        "name": group.name or group.id,
        "kind": group.kind,
        "time_zone": group.time_zone,
        "plants": [roster.plants[index].id for index in group.plants],
    }


def _intensity(intensity: Intensity) -> Row:
    return {
        "id": intensity.id,
        "scope": intensity.scope,
        "of": intensity.of,
        "unit": intensity.unit,
        "per": intensity.per,
        "product": intensity.product,
        "per_unit": intensity.per_unit,
        "per_amount": intensity.per_amount,
        "windows": list(intensity.windows),
    }


def series(results: Results, query: Query) -> Row:
    """One intensity's windows as columns, oldest first (``query`` asks for the newest first).

    ``end`` in UTC milliseconds, ``value`` or null with its ``reason``, the measured ``share``, the
    first letter of each ``state``, and whether the answer is ``complete``.
    """
    rows = results.rows(query)[::-1]
    return {
        "end": [row["end"] for row in rows],
        "value": [row["value"] for row in rows],
        "share": [row["measured_share"] for row in rows],
        "state": "".join((row["state"] or "o")[0] for row in rows),
        "reason": [row["reason"] or "" for row in rows],
        "complete": len(rows) < (query.limit or 0),
    }


def plant_detail(
    results: Results, roster: Roster, plant_id: str, status: Status, as_of_ms: int | None = None
) -> Row:
    """A plant's points with what each used last, and its amounts by hour and by day; with ``as_of_ms`` as
    they were reported then, and the newest windows of then, too.
    """
    plant = next((plant for plant in roster.plants if plant.id == plant_id), None)
    if plant is None:
        raise BadParameter(f"there is no plant {plant_id!r}", status=404)
    points = [roster.points[index] for index in plant.points]
    last = _last_intervals(results, plant.id, points, as_of_ms)
    windows = [] if as_of_ms is None else _windows(results, roster, plant.id, as_of_ms)
    return {
        "plant": plant.id,
        "as_of": rfc3339(as_of_ms),
        "windows": readable("intensity", windows),
        "points": [
            {
                "point": point.id,
                "seen": rfc3339(status.last_seen_ms.get(f"{plant.id}/{point.id}")),
                "interval": last.get(point.id),
            }
            for point in points
        ],
        "days": _newest_rollups(results, plant.id, "day", 16, as_of_ms),
        "hours": _newest_rollups(results, plant.id, "hour", 16 * HOURS_MAX, as_of_ms),
    }


def _windows(results: Results, roster: Roster, plant: str, as_of_ms: int) -> list[Row]:
    """The newest window of each intensity, its products one after the other, as reported at an instant."""
    found: list[Row] = []
    for intensity in roster.intensities:
        for window in intensity.windows if intensity.scope == f"plant:{plant}" else ():
            equal = {"scope": (intensity.scope,), "id": (intensity.id,), "window": (window,)}
            query = Query("intensity", equal=equal, as_of_ms=as_of_ms, newest_first=True, limit=PRODUCTS_MAX)
            newest: dict[str, Row] = {}
            for row in results.rows(query):
                newest.setdefault(row["product"] or "", row)
            found += (newest[product] for product in sorted(newest))
    return found


def _last_intervals(
    results: Results, plant: str, points: Iterable[Point], as_of_ms: int | None
) -> dict[str, Row]:
    """The newest interval of each point that has an amount."""
    wanted = {point.id for point in points}
    limit = 8 * len(wanted) + 16
    found: dict[str, Row] = {}
    equal = {"plant": (plant,), "quality": SEEN}
    rows = results.rows(Query("interval", equal=equal, as_of_ms=as_of_ms, newest_first=True, limit=limit))
    for row in rows:
        found.setdefault(row["point"], row)
    for point in wanted - found.keys() if len(rows) == limit else ():
        its = {**equal, "point": (point,)}
        query = Query("interval", equal=its, as_of_ms=as_of_ms, newest_first=True, limit=1)
        found.update((point, row) for row in results.rows(query))
    return {point: readable("interval", [row])[0] for point, row in found.items()}


def _newest_rollups(results: Results, plant: str, span: str, limit: int, as_of_ms: int | None) -> list[Row]:
    equal = {"scope": (f"plant:{plant}",), "span": (span,)}
    query = Query("rollup", equal=equal, as_of_ms=as_of_ms, newest_first=True, limit=limit)
    return readable("rollup", results.rows(query))
