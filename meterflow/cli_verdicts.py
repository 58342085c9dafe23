"""The verb ``verdicts`` of the command line, which has verbs of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from meterflow.cli_shared import FILE, FOLDER, F, reported

PLACES: tuple[Callable[[F], F], ...] = (
    click.option(
        "--data", type=FOLDER, default=Path("data"), show_default=True, help="What up or compute wrote."
    ),
    click.option(
        "--settings", type=FILE, help="A settings file: its InfluxDB and broker instead of a folder."
    ),
)
SENDING: tuple[Callable[[F], F], ...] = (
    click.argument("event"),
    click.option("--from", "from_time", help="Of PLANT/POINT: when the event began, RFC 3339."),
    click.option("--to", "to_time", help="Of PLANT/POINT: when it ended, RFC 3339."),
    click.option("--value", help="Of a conflict: the value that counts, as the meter shows it."),
    click.option(
        "--start", help="Of a conflict of interval reads: when the one that counts begins, RFC 3339."
    ),
    click.option("--by", help="Who decides; default: the login, else this system's user."),
    click.option("--mqtt", "url", help="Broker or endpoint; default: the service's, or the settings'."),
    click.option("--user", envvar="METERFLOW_MQTT_USER"),
    click.option("--password-file", type=FILE, help="A file with the password."),
    click.option("--wait", is_flag=True, help="Until the results show the decision."),
    click.option("--json", "as_json", is_flag=True, help="For scripts."),
)


def _with(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group()
def verdicts() -> None:
    """Register events that wait for a person, and decisions on them."""


@verdicts.command("list")
@_with(*PLACES)
@click.option(
    "--status",
    type=click.Choice(["held", "decided", "confirmed", "refused", "all"]),
    default="held",
    show_default=True,
)
@click.option("--plant", "plants", multiple=True, help="Of this plant only; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def show(data: Path, settings: Path | None, status: str, plants: tuple[str, ...], as_json: bool) -> None:
    """Shows events with their evidence, and what each decision would do."""
    from meterflow import verdicts as deciding
    from meterflow.verdicts_source import source

    states = () if status == "all" else (status,)
    deciding.show(source(data, settings, None, None, None), states, plants, as_json)


@verdicts.command()
@_with(*PLACES, *SENDING)
@click.option("--as", "verdict", help="Another word for what happened: reset, glitch, rollover, ...")
@reported
def confirm(verdict: str | None, **given: Any) -> None:
    """Says that EVENT (an id, or PLANT/POINT) is what it is taken for, or what --as says."""
    _decide(verdict or "", refuse=False, **given)


@verdicts.command()
@_with(*PLACES, *SENDING)
@click.option("--as", "verdict", help="What it was instead: reset, glitch, rollover, ...; default plain.")
@reported
def refuse(verdict: str | None, **given: Any) -> None:
    """Says that EVENT (an id, or PLANT/POINT) is not what it is taken for: its readings are right."""
    _decide(verdict or "", refuse=True, **given)


def _decide(
    verdict: str,
    *,
    refuse: bool,
    data: Path,
    settings: Path | None,
    event: str,
    from_time: str | None,
    to_time: str | None,
    value: str | None,
    start: str | None,
    by: str | None,
    url: str | None,
    user: str | None,
    password_file: Path | None,
    wait: bool,
    as_json: bool,
) -> None:
    from meterflow import verdicts as deciding
    from meterflow.verdicts_source import source

    said = deciding.Said.of(verdict, by, user, value, start)
    place = source(data, settings, url, user, password_file)
    deciding.decide(place, event, (from_time, to_time), said, refuse=refuse, wait=wait, as_json=as_json)
