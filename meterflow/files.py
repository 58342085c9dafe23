"""The verbs that work on files: check, convert, replay, compute, passwd."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from metering.errors import UsageError


def check(site: Path, as_json: bool) -> int:
    """Prints every fault of a site file; 2 when there is one that is not a mere warning."""
    from metering.site import find_faults

    faults = find_faults(site)
    if as_json:
        click.echo(json.dumps([asdict(fault) for fault in faults], default=str))
    else:
        for fault in faults:
            click.echo(fault.text(str(site)))
    bad = [fault for fault in faults if fault.severity != "warning"]
    if not as_json:
        click.echo(f"{site}: {len(bad)} faults" if bad else f"{site}: no faults", err=True)
    return 2 if bad else 0


def convert(file: Path, map_path: Path, out: Path, as_json: bool) -> int:
    """Makes a recording; 1 when some rows could not be read."""
    from simulators import convert as converter

    summary = converter.convert(file, map_path, out)
    if as_json:
        click.echo(json.dumps(asdict(summary), default=str), err=str(out) == "-")
        return 1 if summary.unreadable else 0
    for bad in summary.examples:
        click.echo(f"{file}:{bad.line}: {bad.column}: {bad.reason}: {bad.text}", err=True)
    click.echo(
        f"{out}: {summary.messages} messages, {summary.readings} readings, {summary.empty} empty cells,"
        f" {summary.unreadable} unreadable cells", err=True,
    )  # fmt: skip
    return 1 if summary.unreadable else 0


def replay(
    recordings: Sequence[Path], *, url: str, speed: str, user: str | None, password_file: Path | None, as_json: bool
) -> int:
    """Plays recordings; 1 when some messages were refused by the other side."""
    from simulators.replay import replay as play

    from meterflow.running import secret

    password = secret(password_file, "password")
    report = asyncio.run(play([str(path) for path in recordings], url, _speed(speed), user=user, password=password))
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        click.echo(
            f"{report.messages} messages, {report.acknowledged} acknowledged, {report.resent} resent,"
            f" {sum(report.refused.values())} refused, {report.seconds:.1f} s, {report.rate_hz:.0f}/s", err=True,
        )  # fmt: skip
    return 1 if report.refused else 0


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no speed", hint="Give 1, a number above 0, or max.") from None


def compute(recordings: Sequence[Path], site: Path, out: Path, form: str, as_json: bool) -> int:
    """The tables of some recordings; a count of each."""
    from meterflow import compute as computing
    from meterflow.running import load_roster

    started_s = time.perf_counter()
    with _bar("readings") as told:
        computation = computing.compute(recordings, load_roster(site), told)
    counts = computing.write(computation, out, form)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started_s
    if as_json:
        click.echo(json.dumps({"received": computation.received, "rows": counts, "seconds": round(seconds, 3)}))
    else:
        rows = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        click.echo(f"{out}: {computation.received} readings -> {rows}", err=True)
    return 0


@contextmanager
def _bar(what: str) -> Iterator[Any]:
    """Counts on long work when standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} messages"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.advance(task, count)


def passwd(file: Path, user: str, password: str, plants: Sequence[str]) -> None:
    """Writes a user into a users file, new or in place of the one of that name."""
    from ingest.users import hash_password, load_users
    from ruamel.yaml import YAML

    yaml = YAML()
    if file.exists():
        load_users(file)
        content = yaml.load(file.read_text())
    else:
        content = {"users": []}
    entry: dict[str, Any] = {"name": user, "password": hash_password(password)}
    if plants:
        entry["plants"] = list(plants)
    content["users"] = [old for old in content["users"] if old["name"] != user] + [entry]
    part = file.with_name(file.name + ".part")
    part.touch(mode=0o600)
    with part.open("w") as stream:
        yaml.dump(content, stream)
    part.replace(file)
    click.echo(f"{file}: user {user} written", err=True)
