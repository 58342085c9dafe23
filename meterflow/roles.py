"""The roles by name: their settings read, their process run."""

from __future__ import annotations

import gc
from importlib import import_module
from pathlib import Path

from meterflow import memory
from meterflow.settings import load_settings

ROLES = {"ingest": "IngestRole", "process": "ProcessRole", "sink": "SinkRole", "web": "WebRole"}
NEEDS = {
    "ingest": ("site", "kafka", "http", "mqtt?", "endpoint?", "json_topic?", "archive?"),
    "process": ("site", "kafka", "archive?", "http"),
    "sink": ("kafka", "influxdb", "http"),
    "web": ("site", "kafka", "influxdb", "http", "decisions?"),
}
"""What of the settings each needs; with ? where it is there."""


def run(name: str, file: Path | None) -> None:
    """Runs a role until SIGINT or SIGTERM. Raises MeterflowError when it fails."""
    memory.spare()
    gc.disable()  # what a start makes stays; ``run_role`` enables it again
    settings = load_settings(file, NEEDS[name])
    from meterflow.role import run_role

    run_role(settings, getattr(import_module(f"meterflow.role_{name}"), ROLES[name]))
