"""``meterflow archive``: what is in an archive, and whether it is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import click

from bus.log_sqlite_look import done
from meterflow.folder import Folder
from metering.errors import UsageError
from metering.instants import rfc3339
from metering.readings import DIGEST_BYTES
from sinks import archive_raw
from sinks.archive_check import Report
from sinks.archive_check import check as look
from sinks.archive_gone import Gone, gone
from sinks.archive_place import Place, open_place
from sinks.archive_reader import Archive
from sinks.archive_sink import CONSUMER


def place_of(data: Path, url: str | None) -> Place:
    """The archive of a data folder, or the one at an address."""
    return open_place(url or str(Folder(data).archive))


def check(data: Path | None, url: str | None, *, as_json: bool, quick: bool) -> int:
    """Says what is there and what is wrong; 1 when anything is."""
    folder = data or Path("data")
    place = existing(place_of(folder, url))
    log_says = done(folder, CONSUMER) if data is not None or url is None else {}
    report = look(place, log_says, contents=not quick)
    raw_says = done(folder, archive_raw.CONSUMER) if log_says else {}
    _add_raw(report, look(place.below(archive_raw.FOLDER), raw_says, contents=not quick))
    if as_json:
        click.echo(json.dumps({**asdict(report), "bytes_a_reading": report.bytes_a_reading}))
    else:
        _show(place, report, quick=quick)
    return 1 if report.problems else 0


def _add_raw(report: Report, raw: Report) -> None:
    """What was found of raw payloads, which the log has let go of once they are archived."""
    report.payloads, report.payload_bytes, report.gone = raw.payloads, raw.payload_bytes, raw.gone
    report.problems += [
        replace(each, path=f"{archive_raw.FOLDER}/{each.path}", hint=_hint_of_raw(each.kind))
        for each in raw.problems
    ]


def _hint_of_raw(kind: str) -> str:
    if kind in ("unlisted", "left over"):
        return "Nobody reads it. Remove it when no service writes here."
    return "Put it back from a copy. Readings and results do not depend on it: only raw payloads are lost."


def payload(data: Path | None, url: str | None, digest: str, *, plant: str | None) -> None:
    """Writes the bytes of a raw payload to standard output. Raises UsageError where it is not kept."""
    try:
        wanted = bytes.fromhex(digest)
    except ValueError:
        wanted = b""
    if len(wanted) != DIGEST_BYTES:
        hint = "64 hexadecimal digits, as in the archive's evidence."
        raise UsageError(f"this is no SHA-256: {digest}", hint=hint)
    place = place_of(data or Path("data"), url)
    found = archive_raw.payload(place, wanted, plant=plant)
    if found is None:
        hint = "Raw payloads are kept only while up has --raw, or the settings archive.raw."
        if told := "\n  ".join(_let_go(gone(place.below(archive_raw.FOLDER)))):
            hint = f"{hint}\n  {told}"
        raise UsageError("no raw payload with this SHA-256 is kept", where=place.where, hint=hint)
    sys.stdout.buffer.write(found)


def list_days(data: Path | None, url: str | None, *, plant: str | None, as_json: bool) -> None:
    """How many readings there are of each plant and day."""
    archive = found(data, url)
    plants = archive.plants() if plant is None else [plant]
    every = {name: archive.days(name) for name in plants}
    if as_json:
        click.echo(json.dumps(every, ensure_ascii=False))
        return
    for name, days in every.items():
        for day, readings in days.items():
            click.echo(f"{name}\t{day}\t{readings}")


def found(data: Path | None, url: str | None) -> Archive:
    """The archive of a data folder, or the one at an address. Raises UsageError where there is none."""
    return Archive(existing(place_of(data or Path("data"), url)))


def existing(place: Place) -> Place:
    """A place with an archive in it. Raises UsageError where there is none."""
    if not place.sizes("manifest"):
        raise UsageError(
            "there is no archive here, or nothing in it yet",
            where=place.where,
            hint="Name the data folder of up with --data, or the archive itself with --archive. What is on\n"
            "  the log is archived after 15 minutes at the latest, and when the service stops.",
        )
    return place


def _let_go(found: Mapping[int, Gone]) -> list[str]:
    return [
        f"partition {partition}: {one.payloads} raw payloads that came before {one.before} were let go of,"
        f" the last at {rfc3339(one.at_ms)}"
        for partition, one in sorted(found.items())
    ]


def _show(place: Place, report: Report, *, quick: bool) -> None:
    for problem in report.problems:
        click.echo(f"{problem.kind.upper()} {place.where}/{problem.path}: {problem.what}\n  {problem.hint}")
    for partition, until in sorted(report.until.items()):
        click.echo(f"partition {partition}: archived up to offset {until}")
    size = f", {report.bytes_a_reading:.2f} bytes each" if report.bytes_a_reading is not None else ""
    evidence = (
        f"; evidence of {report.messages} messages, {report.evidence_bytes} bytes" if report.messages else ""
    )
    click.echo(f"{report.readings} readings in {report.files} files{size}{evidence}")
    if report.payloads:
        each = report.payload_bytes / report.payloads
        click.echo(f"{report.payloads} raw payloads, {each:.1f} bytes each")
    for line in _let_go(report.gone):
        click.echo(line)
    how = "lengths" if quick else "every byte"
    count = len(report.problems)
    told = f"{count} problem{'s' if count != 1 else ''}" if count else f"whole: {how} compared"
    click.echo(f"{place.where}: {told}", err=True)
