"""The verbs that work on files: check, convert, compute, passwd."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from metering.query import Format


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

    with bar("convert") as told:
        summary = converter.convert(file, map_path, out, told)
    unreadable = summary.rows_unreadable + summary.cells_unreadable
    if as_json:
        click.echo(json.dumps(asdict(summary)), err=str(out) == "-")
        return 1 if unreadable else 0
    for bad in summary.unreadable:
        click.echo(f"{file}:{bad.line}: {bad.column}: {bad.reason}: {bad.text!r}", err=True)
    click.echo(
        f"{out}: {summary.rows} rows, {summary.messages} messages, {summary.readings} readings;"
        f" empty: {summary.rows_empty} rows, {summary.cells_empty} cells;"
        f" unreadable: {summary.rows_unreadable} rows, {summary.cells_unreadable} cells",
        err=True,
    )
    return 1 if unreadable else 0


def compute(recordings: Sequence[Path], site: Path, out: Path, form: Format, as_json: bool) -> int:
    """The tables of some recordings; a count of each."""
    from meterflow import compute as computing
    from meterflow.given import load_roster

    started_s = time.perf_counter()
    with bar("messages") as told:
        computation = computing.compute(recordings, load_roster(site), lambda done: told(done, None))
    counts = computing.write(computation, out, form)
    seconds = time.perf_counter() - started_s
    if as_json:
        click.echo(
            json.dumps({"received": computation.received, "rows": counts, "seconds": round(seconds, 3)})
        )
    else:
        rows = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        click.echo(f"{out}: {computation.received} readings -> {rows}", err=True)
    return 0


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Shows how much is done, and of how much where that is known, when standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _whole: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description} {task.completed:.0f}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)


def passwd(file: Path, user: str, password: str, plants: Sequence[str], decide: bool) -> None:
    """Writes a user into a users file, new or in place of the one of that name."""
    from ruamel.yaml import YAML

    from ingest.users import hash_password, load_users

    yaml = YAML()
    if file.exists():
        load_users(file)
        content = yaml.load(file.read_text())
    else:
        content = {"users": []}
    entry: dict[str, Any] = {"name": user, "password": hash_password(password)}
    if plants:
        entry["plants"] = list(plants)
    if decide:
        entry["decide"] = True
    content["users"] = [old for old in content["users"] if old["name"] != user] + [entry]
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    with part.open("w") as stream:
        yaml.dump(content, stream)
    part.replace(file)
    click.echo(f"{file}: user {user} written", err=True)
