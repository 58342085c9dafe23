"""What a command is given: a site file, a secret in a file, an instant."""

from __future__ import annotations

import importlib.resources
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import UsageError
from metering.faults import FileFaults
from metering.roster import Roster

if TYPE_CHECKING:
    from sinks.archive_sites import SiteFiles

SITE_FILE = "site.yaml"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def load_roster(site: Path | None) -> Roster:
    """The roster of a site file, or of the park that ships with meterflow."""
    from metering.site import compile_roster, load_site

    return compile_roster(load_site(site or example("park")))


def site_files(site: Path | None, roster: Roster) -> SiteFiles:
    """What a roster was made of, to be kept in the archive."""
    from sinks.archive_sites import SiteFiles

    return SiteFiles(roster.version, partial(_read_site, site or example("park"), roster))


def _read_site(path: Path, roster: Roster) -> dict[str, bytes]:
    """The site file and its policy pack; nothing where they are not those of the roster any more."""
    from metering.policy_load import read_policy

    content = path.read_bytes()
    pack, _ = read_policy(roster.policy.id, [path.parent])
    same = load_roster(path).version == roster.version and path.read_bytes() == content
    return {SITE_FILE: content, f"{roster.policy.id}.yaml": pack} if same else {}


@contextmanager
def written(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A site file and its policy pack that somebody sent, in a folder for as long as they are looked at.

    Faults are told by the files' own names.
    """
    with tempfile.TemporaryDirectory(prefix="meterflow-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        try:
            yield folder
        except FileFaults as error:
            raise type(error)(Path(error.file).name, error.faults) from None


def example(name: str) -> Path:
    """The site file of an example that ships with meterflow."""
    return Path(str(importlib.resources.files("examples"))) / name / SITE_FILE


def secret(file: Path | None, what: str) -> str | None:
    """The first line of a file that holds a secret."""
    if file is None:
        return None
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise UsageError(f"the {what} cannot be read: {error.strerror}", where=str(file)) from error
    if not lines or not lines[0].strip():
        raise UsageError(
            f"the file for the {what} is empty", where=str(file), hint="Its first line is taken."
        )
    return lines[0].strip()


def instant_ms(text: str, where: str = "") -> int:
    """An RFC 3339 time with zone, or epoch milliseconds. Raises UsageError, which says ``where`` it stood."""
    if text.lstrip("-").isdecimal():
        return int(text)
    hint = "RFC 3339 with a zone: 2026-11-22T08:00:00+08:00."
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", where=where, hint=hint) from None
    if instant.tzinfo is None:
        raise UsageError(f"{text!r} has no zone", where=where, hint=hint)
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
