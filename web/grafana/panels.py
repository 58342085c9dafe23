"""The parts of a Grafana dashboard as plain values: panels, queries, links, variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web.grafana.queries import QUERIES

SOURCE_UID = "meterflow"
SOURCE = {"type": "influxdb", "uid": SOURCE_UID}
SCHEMA_VERSION = 39
"""Of Grafana 11; later ones migrate it when they load it."""
Json = dict[str, Any]


def target(name: str) -> Json:
    """The query of this name."""
    return {"refId": "A", "datasource": SOURCE, "query": QUERIES[name]}


def drawn(
    title: str,
    query: str,
    where: tuple[int, int, int, int],
    note: str,
    steps_max: int | None = None,
    **field: Any,
) -> Json:
    """Lines over time. A gap stays a gap: an unknown figure is not drawn as if it were known.

    ``steps_max``: of the picture, instead of one for each of its pixels.
    """
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "stepBefore",
        "spanNulls": False,
        "showPoints": "auto",
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    panel = _panel("timeseries", title, query, where, note, {"custom": custom, **field}, options)
    return panel if steps_max is None else panel | {"maxDataPoints": steps_max}


def listed(
    title: str,
    query: str,
    where: tuple[int, int, int, int],
    note: str,
    links: Mapping[str, str] | None = None,
    overrides: Sequence[Json] = (),
) -> Json:
    """A table. ``links``: a column's name to the address that its cells open."""
    made = [
        {
            "matcher": {"id": "byName", "options": column},
            "properties": [{"id": "links", "value": [{"title": f"Open {column}", "url": url}]}],
        }
        for column, url in (links or {}).items()
    ]
    panel = _panel("table", title, query, where, note, {}, {"showHeader": True, "cellHeight": "sm"})
    panel["fieldConfig"]["overrides"] = [*made, *overrides]
    return panel


def colored(column: str, steps: Sequence[tuple[float | None, str]], **properties: Any) -> Json:
    """A column's background by thresholds, as an override of a table."""
    thresholds = {"mode": "absolute", "steps": [{"value": at, "color": color} for at, color in steps]}
    values = {
        "custom.cellOptions": {"type": "color-background"},
        "thresholds": thresholds,
        "color": {"mode": "thresholds"},
        **properties,
    }
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [{"id": name, "value": value} for name, value in values.items()],
    }


def variable(name: str, label: str, query: str) -> Json:
    """A choice among the answers of a query; asked again when the time that is shown changes."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": QUERIES[query]},
        "refresh": 2,
        "sort": 1,
        "multi": False,
        "includeAll": False,
        "hide": 0,
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Json],
    panels: Sequence[Json],
    links: Sequence[Json],
) -> Json:
    """A dashboard of these panels, numbered in their order."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["meterflow"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "timezone": "browser",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": list(links),
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def link(title: str, uid: str) -> Json:
    """A link to another dashboard at the head of one, with time and variables."""
    return {
        "type": "link",
        "title": title,
        "url": f"/d/{uid}",
        "icon": "dashboard",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _panel(
    kind: str, title: str, query: str, where: tuple[int, int, int, int], note: str, field: Json, options: Json
) -> Json:
    left, top, width, height = where
    return {
        "type": kind,
        "title": title,
        "description": note,
        "datasource": SOURCE,
        "gridPos": {"x": left, "y": top, "w": width, "h": height},
        "targets": [target(query)],
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": options,
    }
