"""The verbs that run until they are stopped."""

from __future__ import annotations

import asyncio
import importlib.resources
import signal
import sys
import threading
from pathlib import Path

import click
from metering.errors import MeterflowError, UsageError
from metering.roster import Roster

from meterflow.logs import set_up


def load_roster(site: Path | None) -> Roster:
    """The roster of a site file, or of the park that ships with meterflow."""
    from metering.site import compile_roster, load_site

    return compile_roster(load_site(site or example("park")))


def example(name: str) -> Path:
    return Path(str(importlib.resources.files("examples"))) / name / "site.yaml"


def secret(file: Path | None, what: str) -> str | None:
    """The first line of a file that holds a secret."""
    if file is None:
        return None
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise UsageError(f"the {what} cannot be read: {error.strerror}", where=str(file)) from error
    if not lines or not lines[0].strip():
        raise UsageError(f"the file for the {what} is empty", where=str(file), hint="Its first line is taken.")
    return lines[0].strip()


def up(
    site: Path | None, *, data: Path, mqtt_host: str, mqtt_port: int, http_host: str, http_port: int,
    token_file: Path | None, users: Path | None, simulate: bool, seed: int,
) -> None:  # fmt: skip
    """Runs the service until SIGINT or SIGTERM."""
    from meterflow.service import Options

    if site is None and not simulate:
        raise UsageError(
            "a site file is needed: what plants and points are there?",
            hint="meterflow up SITE, or meterflow up --simulate for a simulated park.",
        )
    set_up()
    token = secret(token_file, "token")
    options = Options(data, mqtt_host, mqtt_port, http_host, http_port, token, users, simulate, seed)
    roster = load_roster(site)
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:  # not made for this platform
        runner = asyncio.run
    runner(_serve(roster, options))


async def _serve(roster: Roster, options: object) -> None:
    from meterflow.service import Options, Service

    assert isinstance(options, Options)
    service = Service(roster, options)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await service.start()
        _greet(service)
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([stopping, service.failed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await service.stop()
    if service.failed.done():
        raise MeterflowError(f"a part of the service has failed: {service.failed.exception()}")


def _greet(service: object) -> None:
    from meterflow.service import Service

    assert isinstance(service, Service)
    options, points = service.options, len(service.roster.points)
    click.echo(f"meterflow is running: {len(service.roster.plants)} plants, {points} points", err=True)
    click.echo(f"  page  {service.server.address}", err=True)
    click.echo(f"  MQTT  mqtt://{options.mqtt_host}:{service.endpoint.port}", err=True)
    click.echo(f"  data  {options.data}", err=True)
    if options.simulate:
        click.echo("  a simulated park is publishing its past 24 hours, then real time", err=True)
    click.echo("Ctrl-C stops it.", err=True)
    sys.stderr.flush()


def simulate(
    *, url: str, site: Path | None, seed: int, state: Path | None, user: str | None, password_file: Path | None
) -> None:
    """Publishes a simulated park until SIGINT or SIGTERM."""
    from simulators.publisher import publish_park

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    password = secret(password_file, "password")
    publish_park(url, load_roster(site), seed, None, stop, state_path=state, user=user, password=password)
