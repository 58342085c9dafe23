"""``meterflow doctor``: every connection, right and version that the settings need."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from meterflow import doctor_checks as checks
from meterflow.settings import Settings, find_faults, load_settings
from metering.errors import MeterflowError
from metering.findings import Finding

PATIENCE_S = 30.0
"""How long one check may take before it counts as failed."""
SECTIONS = (
    "site?",
    "mqtt?",
    "endpoint?",
    "json_topic?",
    "decisions?",
    "kafka?",
    "influxdb?",
    "archive?",
    "http",
)
_SIGNS = {"good": "ok", "warning": "WARNING", "bad": "FAILED"}
_COLOURS = {"good": "green", "warning": "yellow", "bad": "bold red"}

Check = Callable[[Settings], Awaitable[Iterable[Finding]]]


def doctor(file: Path | None, as_json: bool) -> int:
    """Looks at everything and says what was found; 1 when something keeps the roles from working."""
    findings = asyncio.run(examine(file))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    elif sys.stdout.isatty():
        _show(findings)
    else:
        for finding in findings:
            click.echo(_line(finding))
    bad = sum(finding.verdict == "bad" for finding in findings)
    if not as_json:
        summary = f"{bad} of {len(findings)} checks failed" if bad else f"all {len(findings)} checks passed"
        click.echo(f"{file}: {summary}", err=True)
    return 1 if bad else 0


async def examine(file: Path | None) -> list[Finding]:
    """All findings; only those of the settings themselves when they cannot be used."""
    faults = find_faults(file, SECTIONS)
    findings = [checks.of_fault("settings", fault, file) for fault in faults]
    if any(fault.severity == "error" for fault in faults):
        hint = "Put the settings right first."
        return [*findings, Finding("settings", "connections", "warning", "not looked at", hint)]
    settings = load_settings(file, SECTIONS)
    findings.append(Finding("settings", "settings file", detail=str(file)))
    wanted = [check for name, check in checks.CHECKS if getattr(settings.values, name) is not None]
    found = await asyncio.gather(*(_tried(check, settings) for check in wanted))
    return [*findings, *(finding for part in found for finding in part)]


async def _tried(check: Check, settings: Settings) -> Sequence[Finding]:
    """A check's findings; that it could not be made is one, too."""
    of = check.__name__.removeprefix("check_")
    try:
        return list(await asyncio.wait_for(check(settings), PATIENCE_S))
    except TimeoutError:
        what = f"no answer within {PATIENCE_S:g} s"
        return [Finding(of, "connection", "bad", what, "Is the address right, and the way to it open?")]
    except MeterflowError as error:
        where = f"{error.where}: " if error.where else ""
        return [Finding(of, "connection", "bad", f"{where}{error.what}", error.hint)]


def _line(finding: Finding) -> str:
    detail = f": {finding.detail}" if finding.detail else ""
    hint = f"\n    {finding.hint}" if finding.hint else ""
    return f"{_SIGNS[finding.verdict]} {finding.of}: {finding.what}{detail}{hint}"


def _show(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("", "of", "checked", "found"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        found = Text(finding.detail)
        if finding.hint:
            found.append(f"\n{finding.hint}", style="italic")
        sign = Text(_SIGNS[finding.verdict], style=_COLOURS[finding.verdict])
        table.add_row(sign, finding.of, finding.what, found)
    Console().print(table)
