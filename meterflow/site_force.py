"""Which site file is in force: the one that ``up`` or ``apply`` was given last. The log says since when.

Each time it is another one a record of the topic ``sites`` says so. Of one that was applied while the service
ran this record is the change itself: before it the old file is in force, behind it the new one, whatever is
left to be done with the stores is done by the next start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from bus.durable import sync_folder, write_durable
from bus.log import READINGS, RESULTS, SITES, Entry
from bus.log_sqlite import SqliteLog
from ingest.clock import wall_clock_ms
from meterflow.folder import Folder
from meterflow.given import SITE_FILE, load_roster
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.instants import rfc3339
from metering.roster import Roster
from sinks.store_carry import carry
from sinks.store_duckdb import DuckStore, open_existing, open_store

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InForce:
    """``since``: the first record of ``readings`` that ingest decoded by it; ``results``: its first result.

    ``applied``: while the service ran; ``sites/VERSION`` in the data folder has the file then.
    """

    version: str
    applied: bool
    since: int
    results: int
    at_ms: int

    def entry(self) -> Entry:
        """The record that says so."""
        return Entry(self.version, json.dumps(asdict(self)).encode(), self.at_ms)


async def present(log: SqliteLog) -> InForce | None:
    """What the log says last; None where it says nothing. Raises MeterflowError for a damaged record."""
    found = await log.read(SITES, max(0, await log.end(SITES) - 1), records_max=1)
    if not found:
        return None
    try:
        return InForce(**json.loads(found[-1].value))
    except (ValueError, TypeError) as error:
        what = f"a log record cannot be read: {error}"
        hint = "The log is damaged, or something else wrote to it: restore it from a copy."
        raise MeterflowError(what, where=f"{SITES} {found[-1].offset}", hint=hint) from error


async def chosen(log: SqliteLog, folder: Folder, given: Roster) -> tuple[Roster, Path | None]:
    """What is in force from this start on, and its file where that is not the one given.

    The one that was applied stays until ``up`` is given another one than at the start before.
    """
    last = await present(log)
    if last is not None and last.applied and last.version != given.version:
        if folder.given() == given.version:
            path = folder.sites / last.version / SITE_FILE
            _log.warning(
                "the site file in force is the one that was applied; the one given is older",
                applied=rfc3339(last.at_ms),
                site=str(path),
            )
            return _kept(path), path
        _log.warning("the site file given is another one than before: it counts, not the one applied since")
    if last is None or last.version != given.version:
        ends = await log.end(READINGS), await log.end(RESULTS)
        now = InForce(given.version, False, *ends, wall_clock_ms())
        await log.append({SITES: [now.entry()]})
    folder.note_given(given.version)
    return given, None


def keep(folder: Folder, version: str, files: Mapping[str, bytes]) -> Path:
    """Keeps a site file and its policy pack; where the site file is then."""
    place = folder.sites / version
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_durable(place / name, content)
    sync_folder(place.parent)
    return place / SITE_FILE


def finish(folder: Folder, now: InForce, mark: str) -> None:
    """Brings the stores to what is in force; a kill anywhere in it, and it is done by the next start.

    No store of the folder may be open.
    """
    if folder.next() != now.version:
        return
    if folder.next_store.exists():
        store, _ = open_store(folder.next_store)
        try:
            _carry(store, folder, now)
            store.write([], now.results)
        finally:
            store.close()
        folder.put_aside(now.at_ms)
        folder.next_store.rename(folder.store)
    folder.mark_site(mark)
    drop(folder)


def _carry(store: DuckStore, folder: Folder, now: InForce) -> None:
    """What was reported until now goes on in the new store."""
    if store.carried or not folder.store.exists():
        return
    try:
        before = open_existing(folder.store)
    except Unavailable:
        raise
    except MeterflowError as error:
        _log.error("revisions begin anew: the results before cannot be read", cause=str(error))
        return
    try:
        carry(store, before, now.at_ms, now.results)
    finally:
        before.close()


def drop(folder: Folder) -> None:
    """Nothing is left of a change that does not come."""
    for path in folder.path.glob(f"{folder.next_store.name}*"):
        with suppress(FileNotFoundError):
            path.unlink()
    folder.note_next(None)


def _kept(path: Path) -> Roster:
    if not path.exists():
        raise UsageError(
            "the site file that was applied is gone",
            where=str(path),
            hint="Put it back (the archive has a copy in sites), or change the one up is given.",
        )
    return load_roster(path)
