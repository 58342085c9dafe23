"""``meterflow apply``: hands a changed site file to the service that runs on a folder, and follows it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import click

from meterflow.files import bar
from meterflow.folder import Folder, Running
from meterflow.given import SITE_FILE, load_roster
from meterflow.plan import plan
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.policy_load import read_policy

LOOK_S = 0.2
_TIMEOUT_S = 600
_SILENT_S = 60.0
"""A service that has not answered for so long has gone."""


def apply(site: Path | None, *, data: Path, planned: bool, yes: bool, stop: bool, as_json: bool) -> int:
    """Returns when the file is in force; 1 where it was not applied. Raises UsageError, MeterflowError."""
    if (site is None) != stop:
        raise UsageError("which site file?", hint="meterflow apply SITE, or meterflow apply --stop.")
    files = {} if site is None else _files(site)
    service = _Service(_running(data))
    if site is None:
        return _tell(service.ask("DELETE", {}), "stopped", as_json)
    if not as_json:
        if planned:
            plan(site, data, None, as_json=False)
        if not yes and not click.confirm("Apply it?", default=False, err=True):
            return 1
        if files != _files(site):
            raise UsageError(
                "the site file was changed meanwhile", where=str(site), hint="Apply it once more."
            )
    found = service.ask("POST", files)
    version = found["version"]
    with bar("records") as told:
        while found["version"] == version and found["state"] in ("working", "switching"):
            told(found["records"], found["of"])
            time.sleep(LOOK_S)
            found = service.patiently()
    if found["in_force"] == version:  # also by a start of the service meanwhile
        found |= {"state": "in force", "version": version}
    return _tell(found, "in force", as_json)


def _tell(found: dict[str, Any], wanted: str, as_json: bool) -> int:
    """Says how it ended; 0 where that was wanted."""
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif found["state"] == "in force":
        click.echo("the site file is in force", err=True)
    elif found["state"] == "stopped":
        click.echo("stopped: the site file before stays in force", err=True)
    else:
        click.echo(f"meterflow: the site file is not applied: {found['error'] or found['state']}", err=True)
    return 0 if found["state"] == wanted else 1


def _files(site: Path) -> dict[str, str]:
    """The site file and its policy pack, after a look whether they can be right. Raises UsageError."""
    content = site.read_bytes()
    roster = load_roster(site)
    pack, _ = read_policy(roster.policy.id, [site.parent])
    return {SITE_FILE: content.decode(), f"{roster.policy.id}.yaml": pack.decode()}


def _running(data: Path) -> Running:
    if not data.is_dir():
        raise UsageError("there is no such data folder", where=str(data), hint="Name it with --data.")
    folder = Folder(data)
    folder.check()
    running = folder.running()
    if running is None:
        hint = "Start meterflow up with the changed site file: it counts from then on."
        raise UsageError("no service runs on this folder", where=str(data), hint=hint)
    return running


class _Service:
    """Asked over HTTP; straight, whatever proxy the environment names."""

    def __init__(self, running: Running) -> None:
        self._url = f"{running.address}api/site/change"
        self._headers = {"Content-Type": "application/json"}
        if running.token:
            self._headers["Authorization"] = f"Bearer {running.token}"

    def patiently(self) -> dict[str, Any]:
        """How far it is; a service that is busy for a moment is asked again."""
        until_s = time.monotonic() + _SILENT_S
        while True:
            try:
                return self.ask("GET")
            except Unavailable:
                if time.monotonic() > until_s:
                    raise
                time.sleep(LOOK_S)

    def ask(self, method: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        """Raises UsageError for what the service refuses, Unavailable when it does not answer."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url, data, self._headers, method=method)  # noqa: S310 what it announced
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except HTTPError as error:
            raise _refused(error, self._url) from error
        except (HTTPException, OSError, ValueError) as error:
            what = f"the service on this folder does not answer: {error}"
            hint = "It goes on with the change when it is started again; ask it with: meterflow apply SITE"
            raise Unavailable(what, where=self._url, hint=hint) from error


def _refused(error: HTTPError, url: str) -> MeterflowError:
    text, hint = error.read(1 << 20).decode(errors="replace"), ""
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(text)
        text, hint = str(said["error"]), str(said.get("hint", ""))
    return UsageError(f"the service refused: {text}", where=url, hint=hint)
