"""The verb ``simulate`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meterflow.cli_shared import FILE, FOLDER, reported
from metering.errors import UsageError

OF_A_WORLD = ("profile", "duration", "truth", "faults", "fault_rate", "start", "meters")


@click.command()
@click.option(
    "--mqtt", "--to", "url", default="mqtt://127.0.0.1:1883", show_default=True, help="Broker or endpoint."
)
@click.option("--site", type=FILE, help="The site file; default: the park that ships.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--state", type=FILE, help="Remembers how far it came, to go on there.")
@click.option("--user", envvar="METERFLOW_MQTT_USER")
@click.option("--password-file", type=FILE, help="A file with the password.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="A recording of a profile's plants instead.",
)
@click.option("--profile", help="Plants of steel, textile, food, or a profile file; then also:")
@click.option("--speed", help="1 as they would send, N times as fast, or max; default max.")
@click.option("--duration", help="Such as 6h or 7d; default 1d.")
@click.option("--truth", type=FOLDER, help="A folder for the site file, the true amounts and the faults.")
@click.option("--faults", help="all, none, or names with commas between; default none.")
@click.option("--fault-rate", type=click.FloatRange(0, 1), help="In how many slots of 6 hours; default 0.5.")
@click.option("--start", help="RFC 3339; default 2026-01-05T00:00:00Z.")
@click.option("--meters", type=click.IntRange(1), help="At least so many: more plants of the profile.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def simulate(out: Path | None, as_json: bool, **given: Any) -> None:
    """Publishes a simulated park until stopped; with --profile or --out, plants with a known truth."""
    world, speed = {name: given.pop(name) for name in OF_A_WORLD}, given.pop("speed")
    if out is None and world["profile"] is None:
        needless = [name for name, value in {**world, "speed": speed}.items() if value is not None]
        if needless or as_json:
            name = (needless or ["json"])[0].replace("_", "-")
            raise UsageError(f"--{name} needs a profile", hint="Give --profile NAME, or --out FILE as well.")
        from meterflow import running

        running.simulate(**given)
        return
    if given.pop("site") or given.pop("state"):
        raise UsageError("a profile has its own meters", hint="Give --profile without --site and --state.")
    from meterflow import simulating

    seed = given.pop("seed")
    if out is None:
        where = {**given, "speed": speed or "max"}
        raise SystemExit(simulating.publish_world(where, seed=seed, as_json=as_json, **world))
    if speed is not None:
        raise UsageError("a recording has no speed", hint="Give --speed without --out, or play it by replay.")
    simulating.record_world(out, seed=seed, as_json=as_json, **world)
