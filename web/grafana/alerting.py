"""Grafana's alert rules. They read what meterflow says fires, and who is silent; nothing is judged anew.

A rule without an answer, and one whose query fails, alerts. Grafana takes a series that is no longer
in the answer for resolved, so a silent meter must never make its series vanish: the query of the second
rule answers for every point that was ever seen, however long ago.
"""

from __future__ import annotations

from web.grafana.dashboards import PLANTS
from web.grafana.panels import SOURCE_UID, Json

EVERY = "1m"
FOLDER = "meterflow"
EXPRESSION = "__expr__"
FIRES_ABOVE, SILENT_ABOVE = 0.5, 1.0
LOOK_BACK_S = 600
"""Grafana wants a time range for every query; ours do not use it."""


def rules(firing: str, silent: str) -> Json:
    """The provisioning file of both rules, given their Flux."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": "meterflow",
                "folder": FOLDER,
                "interval": EVERY,
                "rules": [
                    _rule(
                        "meterflow-firing",
                        "An alert of the site file fires",
                        firing,
                        FIRES_ABOVE,
                        "{{ .Labels.id }} fires for {{ .Labels.scope }}",
                        "What meterflow's table `alert` says. Without labels: no results came for a day, "
                        "or InfluxDB does not answer.",
                        panel=1,
                    ),
                    _rule(
                        "meterflow-silent",
                        "A metering point is silent",
                        silent,
                        SILENT_ABOVE,
                        "{{ .Labels.plant }}/{{ .Labels.point }} has not been seen for too long",
                        "No newer interval with an amount for longer than the point may be silent. "
                        "Without labels: there are no results at all, or InfluxDB does not answer.",
                        panel=7,
                    ),
                ],
            }
        ],
    }


def _rule(
    uid: str, title: str, flux: str, above: float, summary: str, description: str, *, panel: int
) -> Json:
    """A: the query; B: its newest value by labels; C: whether that is above; C decides, at once."""
    assert "$" not in flux + summary + description, "Grafana would look for an environment variable"
    return {
        "uid": uid,
        "title": title,
        "condition": "C",
        "data": [
            _step("A", SOURCE_UID, {"query": flux, "intervalMs": 1000, "maxDataPoints": 43_200}),
            _step("B", EXPRESSION, {"type": "reduce", "expression": "A", "reducer": "last"}),
            _step("C", EXPRESSION, {"type": "threshold", "expression": "B", "conditions": [_above(above)]}),
        ],
        "for": "0s",
        "noDataState": "Alerting",
        "execErrState": "Alerting",
        "dashboardUid": PLANTS,
        "panelId": panel,
        "annotations": {"summary": summary, "description": description},
        "labels": {"service": "meterflow"},
        "isPaused": False,
    }


def _step(name: str, source: str, model: Json) -> Json:
    kind = EXPRESSION if source == EXPRESSION else "influxdb"
    datasource = {"type": kind, "uid": source}
    return {
        "refId": name,
        "relativeTimeRange": {"from": LOOK_BACK_S if source != EXPRESSION else 0, "to": 0},
        "datasourceUid": source,
        "model": {"refId": name, "datasource": datasource, **model},
    }


def _above(value: float) -> Json:
    return {"type": "query", "evaluator": {"type": "gt", "params": [value]}}
