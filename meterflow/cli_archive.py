"""The verb ``archive`` of the command line, which has verbs of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meterflow.cli_shared import FILE, FOLDER, reported

DATA = click.option("--data", type=FOLDER, help="The data folder of up; default: data.")
URL = click.option(
    "--archive", "url", help="The archive, where it is elsewhere: a folder, or s3://bucket/prefix."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For scripts.")


@click.group()
def archive() -> None:
    """All readings and decisions in Parquet, kept for ever."""


@archive.command()
@DATA
@URL
@click.option("--quick", is_flag=True, help="Compare lengths only, not every byte.")
@AS_JSON
@reported
def check(data: Path | None, url: str | None, quick: bool, as_json: bool) -> None:
    """Finds what is missing, torn, altered or left over, and says what to do; exit code 1 if anything is."""
    from meterflow import archive as verbs

    raise SystemExit(verbs.check(data, url, as_json=as_json, quick=quick))


@archive.command("list")
@DATA
@URL
@click.option("--plant", help="Of this plant only.")
@AS_JSON
@reported
def list_(data: Path | None, url: str | None, plant: str | None, as_json: bool) -> None:
    """Plant, day (UTC) and number of readings, a line each."""
    from meterflow import archive as verbs

    verbs.list_days(data, url, plant=plant, as_json=as_json)


@archive.command()
@click.argument("plant")
@DATA
@URL
@click.option("--point", help="Of this point only.")
@click.option("--from", "first", help="Measured at this instant or later.")
@click.option("--to", "until", help="Measured before this instant.")
@click.option("--since", help="That came after this instant.")
@click.option("--by", help="That came at this instant or before.")
@AS_JSON
@reported
def evidence(
    plant: str, data: Path | None, url: str | None, point: str | None, as_json: bool, **instants: str | None
) -> None:
    """Readings of a plant, each with the message it came in: topic, user, SHA-256, when."""
    from meterflow import archive as verbs
    from meterflow import archive_evidence as its
    from meterflow.exporting import bound

    wanted = its.Wanted(point, **{name: bound(text, f"--{name}") for name, text in instants.items()})
    its.show(verbs.found(data, url), plant, wanted, as_json=as_json)


@archive.command()
@click.argument("sha256")
@DATA
@URL
@click.option("--plant", help="Looked for among those of this plant only.")
@reported
def payload(sha256: str, data: Path | None, url: str | None, plant: str | None) -> None:
    """The raw payload of a message, byte for byte, where raw payloads are kept (up --raw)."""
    from meterflow import archive as verbs

    verbs.payload(data, url, sha256, plant=plant)


@archive.command()
@DATA
@URL
@click.option("--keep-log", "days", type=click.FloatRange(min=0), required=True, help="As of up, in days.")
@AS_JSON
@reported
def kept(data: Path | None, url: str | None, days: float, as_json: bool) -> None:
    """What of the log is older than so many days, archived and not needed: what up --keep-log lets go of."""
    from meterflow import archive as verbs
    from meterflow import log_age

    folder = data or Path("data")
    log_age.show(folder, verbs.place_of(folder, url), days, as_json=as_json)


@archive.command()
@DATA
@URL
@reported
def restore(data: Path | None, url: str | None) -> None:
    """Puts readings that the log has let go of back on it; no service may run on the folder."""
    from meterflow import archive as verbs
    from meterflow import log_restore

    folder = data or Path("data")
    log_restore.restore(folder, verbs.place_of(folder, url))


@archive.command()
@click.argument("site", type=FILE)
@DATA
@URL
@click.option("--out", type=FOLDER, required=True, help="A folder: the results, to be exported from there.")
@click.option("--plant", "plants", multiple=True, help="Of this plant only; may be given several times.")
@click.option("--against", type=FOLDER, help="A data folder: whether its results are the same.")
@AS_JSON
@reported
def rebuild(site: Path, data: Path | None, url: str | None, **options: Any) -> None:
    """Works the results out from the archive alone, by a site file; exit code 1 if others are stored."""
    from meterflow import memory

    memory.spare()
    from meterflow import archive as verbs
    from meterflow import rebuild as again

    raise SystemExit(again.rebuild(site, verbs.found(data, url), **options))
