"""The verb ``record`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meterflow.cli_shared import FILE, reported


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    required=True,
    help="The recording; by name .gz and .zst are compressed, - is standard output.",
)
@click.option("--mqtt", "url", default="mqtt://127.0.0.1:1883", show_default=True, help="The broker.")
@click.option(
    "--topic", "topics", multiple=True, help="A topic filter, several times for several; default #."
)
@click.option("--qos", type=click.IntRange(0, 2), default=2, show_default=True, help="At most.")
@click.option(
    "--retained/--no-retained", default=True, show_default=True, help="Also what the broker holds already."
)
@click.option("--for", "duration", help="Such as 30s, 10m, 6h; default: until stopped.")
@click.option("--append", is_flag=True, help="Adds to a recording that is there.")
@click.option("--user", envvar="METERFLOW_MQTT_USER")
@click.option("--password-file", type=FILE, help="A file with the password.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def record(**options: Any) -> None:
    """Records what a broker carries, byte for byte, until stopped."""
    from meterflow import recording

    raise SystemExit(recording.record(**options))
