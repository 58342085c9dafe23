"""The files as Grafana's provisioning folder wants them, and their text."""

from __future__ import annotations

import io
import json
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from metering.roster import Roster
from web.grafana import alerting, dashboards
from web.grafana.panels import SOURCE_UID, Json
from web.grafana.queries import QUERIES, silent

FOLDER = "/etc/grafana/provisioning"
"""Where Grafana reads them, in its own images and packages."""
SERIES_MAX = 100_000
"""Grafana cuts an answer after 1,000 series unless it is told; a point has one in the rule of the silent."""
_HEAD = "# Made by `python -m web.grafana`: change the code in web/grafana/ and run it again.\n"

DATA_SOURCE: Json = {
    "apiVersion": 1,
    "datasources": [
        {
            "name": "meterflow",
            "uid": SOURCE_UID,
            "type": "influxdb",
            "access": "proxy",
            "url": "${GRAFANA_INFLUXDB_URL}",
            "isDefault": True,
            "editable": False,
            "jsonData": {
                "version": "Flux",
                "organization": "${GRAFANA_INFLUXDB_ORG}",
                "defaultBucket": "${GRAFANA_INFLUXDB_BUCKET}",
                "maxSeries": SERIES_MAX,
            },
            "secureJsonData": {"token": "${GRAFANA_INFLUXDB_TOKEN}"},
        }
    ],
}
PROVIDER: Json = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "meterflow",
            "orgId": 1,
            "folder": alerting.FOLDER,
            "type": "file",
            "disableDeletion": False,
            "allowUiUpdates": False,
            "options": {"path": f"{FOLDER}/dashboards"},
        }
    ],
}
CONTACT = """\
# Who is told. Grafana does not read this file: copy it to contact-points.yaml beside it, keep one
# receiver, put your own address in, and restart Grafana. Without it the rules are still evaluated, and
# go to Grafana's own default contact point, which has no address.
apiVersion: 1
contactPoints:
  - orgId: 1
    name: energy-managers
    receivers:
      - uid: meterflow-mail
        type: email
        settings:
          addresses: energy@example.com
      - uid: meterflow-webhook
        type: webhook
        settings:
          url: https://example.com/hook
policies:
  # This replaces Grafana's whole notification policy tree.
  - orgId: 1
    receiver: energy-managers
    group_by: [grafana_folder, alertname]
"""


def files(roster: Roster | None = None) -> dict[str, str]:
    """Text by path within the provisioning folder. With a roster, silence is judged by its rhythms."""
    rules = alerting.rules(QUERIES["alert_firing"], silent(roster))
    return {
        "datasources/meterflow.yaml": _yaml(DATA_SOURCE),
        "dashboards/meterflow.yaml": _yaml(PROVIDER),
        "dashboards/plants.json": _json(dashboards.plants()),
        "dashboards/point.json": _json(dashboards.point()),
        "alerting/meterflow.yaml": _yaml(rules),
        "alerting/contact-points.yaml.example": CONTACT,
    }


def _json(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: Json) -> str:
    """YAML in the order given, texts of several lines as they are."""
    writer = YAML()
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = 4096
    out = io.StringIO()
    writer.dump(_literal(value), out)
    return _HEAD + out.getvalue()


def _literal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _literal(its) for key, its in value.items()}
    if isinstance(value, list):
        return [_literal(its) for its in value]
    return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value
