"""The verbs that run until they are stopped."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog

from meterflow.given import load_roster, secret
from meterflow.logs import set_up
from meterflow.until_stopped import run_loop, until_stopped
from metering.errors import UsageError
from metering.roster import Roster

if TYPE_CHECKING:
    from meterflow.service import Options, Service

STOP_S = 4.5
"""A stop that takes longer is cut short. That harms nothing: it is no worse than a kill."""

_log = structlog.get_logger(__name__)


def up(
    site: Path | None,
    *,
    data: Path,
    mqtt_host: str,
    mqtt_port: int,
    http_host: str,
    http_port: int,
    token_file: Path | None,
    users: Path | None,
    simulate: bool,
    seed: int,
    decide: bool | None,
    apply: bool | None,
    archive: str | None,
    archive_every_s: float,
    keep_log_days: float | None,
    raw: bool,
    keep_raw_days: int | None,
) -> None:
    """Runs the service until SIGINT or SIGTERM."""
    from meterflow.service import Options

    _check(site, users, simulate=simulate)
    from meterflow import memory
    from sinks.archive_raw import Keep
    from web.security import is_loopback

    memory.spare()
    set_up()
    token = secret(token_file, "token")
    alone = is_loopback(http_host)
    options = Options(
        data=data,
        mqtt_host=mqtt_host,
        mqtt_port=mqtt_port,
        http_host=http_host,
        http_port=http_port,
        token=token,
        users=users,
        simulate=simulate,
        seed=seed,
        decide=alone if decide is None else decide,
        archive=archive,
        archive_every_s=archive_every_s,
        keep_log_days=keep_log_days,
        raw=Keep(keep_raw_days) if raw or keep_raw_days is not None else None,
        site=site,
        apply=alone if apply is None else apply,
    )
    roster = load_roster(site)
    run_loop(_serve(roster, options))


def _check(site: Path | None, users: Path | None, *, simulate: bool) -> None:
    """Raises UsageError for what does not go together."""
    if site is None and not simulate:
        raise UsageError(
            "a site file is needed: what plants and points are there?",
            hint="meterflow up SITE, or meterflow up --simulate for a simulated park.",
        )
    if simulate and users is not None:
        raise UsageError(
            "the simulated park has no user and password to publish with",
            where="--users",
            hint="Leave --users away; or leave --simulate away, and run meterflow simulate --user beside it.",
        )


async def _serve(roster: Roster, options: Options) -> None:
    from meterflow.service import Service

    service = Service(roster, options)
    await until_stopped(service, lambda: _greet(service), STOP_S)


def _greet(service: Service) -> None:
    options = service.options
    plants, points = len(service.roster.plants), len(service.roster.points)
    if not sys.stderr.isatty():
        _log.info(
            "meterflow is running",
            page=service.address,
            mqtt=service.mqtt_url,
            data=str(options.data),
            plants=plants,
            points=points,
            simulate=options.simulate,
        )
        return
    click.echo(f"meterflow is running: {plants} plants, {points} points", err=True)
    click.echo(f"  page  {service.address}", err=True)
    click.echo(f"  MQTT  {service.mqtt_url}", err=True)
    click.echo(f"  data  {options.data}", err=True)
    if options.simulate:
        click.echo("  a simulated park is publishing its past 24 hours, then real time", err=True)
    click.echo("Ctrl-C stops it.", err=True)


def simulate(
    *,
    url: str,
    site: Path | None,
    seed: int,
    state: Path | None,
    user: str | None,
    password_file: Path | None,
) -> None:
    """Publishes a simulated park until SIGINT or SIGTERM."""
    from simulators.publisher import publish_park

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    password = secret(password_file, "password")
    click.echo(f"publishing a simulated park to {url}; Ctrl-C stops it", err=True)
    publish_park(url, load_roster(site), seed, None, stop, state_path=state, user=user, password=password)
