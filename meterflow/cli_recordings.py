"""The verbs ``record`` and ``replay`` of the command line."""

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


@click.command()
@click.argument(
    "recordings",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    nargs=-1,
    required=True,
)
@click.option("--mqtt", "url", default="mqtt://127.0.0.1:1883", show_default=True, help="Broker or endpoint.")
@click.option("--speed", default="1", show_default=True, help="1 as recorded, N times as fast, or max.")
@click.option("--from", "begin", help="RFC 3339: messages received then or later.")
@click.option("--to", "end", help="RFC 3339: messages received before.")
@click.option("--loop", is_flag=True, help="Again and again, until stopped.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="How often.")
@click.option(
    "--stamps",
    default="original",
    show_default=True,
    help="original, now, or RFC 3339: when the first message is to count as received.",
)
@click.option(
    "--unstamped",
    type=click.Choice(["refuse", "send", "leave"]),
    default="refuse",
    show_default=True,
    help="What becomes of messages whose stamps cannot be moved.",
)
@click.option("--skip", type=click.IntRange(0), default=0, help="Leaves out the first messages.")
@click.option("--user", envvar="METERFLOW_MQTT_USER")
@click.option("--password-file", type=FILE, help="A file with the password.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def replay(recordings: tuple[Path, ...], loop: bool, rounds: int, **options: Any) -> None:
    """Plays recordings into a broker or endpoint over MQTT."""
    from meterflow import recording

    raise SystemExit(recording.replay(recordings, rounds=0 if loop else rounds, **options))
