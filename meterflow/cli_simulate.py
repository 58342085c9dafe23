"""The verb ``simulate`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meterflow.cli_shared import FILE, FOLDER, reported
from metering.errors import UsageError

OF_A_WORLD = ("profile", "duration", "truth", "faults", "fault_rate", "start", "meters")


@click.command()
@click.option("--mqtt", "url", default="mqtt://127.0.0.1:1883", show_default=True, help="Broker or endpoint.")
@click.option("--site", type=FILE, help="The site file; default: the park that ships.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--state", type=FILE, help="Remembers how far it came, to go on there.")
@click.option("--user", envvar="METERFLOW_MQTT_USER")
@click.option("--password-file", type=FILE, help="A file with the password.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="A recording of a profile's plants instead; then also:",
)
@click.option("--profile", help="steel, textile, food, or a profile file; default steel.")
@click.option("--duration", help="Such as 6h or 7d; default 1d.")
@click.option("--truth", type=FOLDER, help="A folder for the site file, the true amounts and the faults.")
@click.option("--faults", help="all, none, or names with commas between; default none.")
@click.option("--fault-rate", type=click.FloatRange(0, 1), help="In how many slots of 6 hours; default 0.5.")
@click.option("--start", help="RFC 3339; default 2026-01-05T00:00:00Z.")
@click.option("--meters", type=click.IntRange(1), help="At least so many: more plants of the profile.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def simulate(out: Path | None, as_json: bool, **given: Any) -> None:
    """Publishes a simulated park until stopped; or, with --out, records plants with a known truth."""
    world = {name: given.pop(name) for name in OF_A_WORLD}
    if out is None:
        needless = [name for name, value in world.items() if value is not None]
        if needless or as_json:
            name = (needless or ["json"])[0].replace("_", "-")
            raise UsageError(f"--{name} needs a recording", hint="Give --out FILE, and play it by replay.")
        from meterflow import running

        running.simulate(**given)
        return
    if given["site"] or given["state"]:
        raise UsageError("a recording is of a profile", hint="Give --profile instead of --site and --state.")
    from meterflow import simulating

    simulating.record_world(out, seed=given["seed"], as_json=as_json, **world)
