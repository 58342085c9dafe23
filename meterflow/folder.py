"""The data folder: its files, who runs on it, and how other verbs reach that service."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bus.durable import write_durable
from bus.log_sqlite_file import LOCK_NAME
from metering.errors import UsageError

VERSION = 1
_VERSION_FILE, _SITE_FILE, _SERVICE_FILE, _EARLIER_FILE = "version", "site", "service.json", "earlier"
_GIVEN_FILE, _NEXT_FILE = "given", "next"
_BEFORE, _STAMP = ".before-", "%Y%m%dT%H%M%S%fZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Running:
    """How to reach the service that runs on a folder: its page, and where meters connect to."""

    pid: int
    address: str
    token: str
    mqtt: str = ""


class Folder:
    """Paths in a data folder. Opening or checking one of a newer version raises UsageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "results.duckdb"
        self.next_store = path / "next.duckdb"
        self.sites = path / "sites"
        self.archive = path / "archive"
        self.publisher = path / "publisher.json"

    def open(self) -> None:
        """Makes the folder, or checks that this version can read it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.check():
                self._write(_VERSION_FILE, f"{VERSION}\n")
        except OSError as error:
            raise self._unusable(error) from error

    def check(self) -> bool:
        """Whether the folder says which version wrote it."""
        found = self._text(_VERSION_FILE)
        if found is None:
            return False
        if not found.isdecimal() or int(found) > VERSION:
            raise UsageError(
                f"a newer meterflow wrote this data folder (format {found}, this one knows {VERSION})",
                where=str(self.path),
                hint="Update meterflow, or start on an empty folder with --data.",
            )
        return True

    def site(self) -> str | None:
        """The mark of the site file that the stored results are of, None when nobody knows."""
        return self._text(_SITE_FILE)

    def mark_site(self, mark: str) -> None:
        """The stored results are of this site file from now on."""
        if mark == self.site():
            return
        self._note(_SITE_FILE, mark)

    def given(self) -> str | None:
        """The version of the site file that ``up`` was given last, None when nobody knows."""
        return self._text(_GIVEN_FILE)

    def note_given(self, version: str) -> None:
        """``up`` was given this one."""
        if version != self.given():
            self._note(_GIVEN_FILE, version)

    def next(self) -> str | None:
        """The version of the site file that is being applied."""
        return self._text(_NEXT_FILE)

    def note_next(self, version: str | None) -> None:
        """It is this one; None: none."""
        if version is None:
            (self.path / _NEXT_FILE).unlink(missing_ok=True)
        else:
            self._note(_NEXT_FILE, version)

    def put_aside(self, at_ms: int | None = None) -> Path:
        """Keeps the results of the site file before, under a name with the time; where they are now.

        ``at_ms``: that instant is its name, not this moment, so that it can be done again after a kill.
        """
        at = datetime.now(UTC) if at_ms is None else _EPOCH + timedelta(milliseconds=at_ms)
        aside = self.store.with_name(f"{self.store.name}{_BEFORE}{at.strftime(_STAMP)}")
        try:
            wal = self.store.with_name(f"{self.store.name}.wal")
            if wal.exists():  # first: without its file it would be taken for that of the next one
                wal.rename(aside.with_name(f"{aside.name}.wal"))
            if self.store.exists():
                self.store.rename(aside)
            self._write(_EARLIER_FILE, "".join(f"{name}\n" for name in sorted(self._aside())))
        except OSError as error:
            raise self._unusable(error) from error
        return aside

    def stood(self, at_ms: int) -> tuple[Path, int] | None:
        """The results that stood at an instant, and until when; None: the newest. They may be gone."""
        for name in sorted(self._aside()):
            with suppress(ValueError):  # somebody's own name
                until = datetime.strptime(name.partition(_BEFORE)[2], _STAMP).replace(tzinfo=UTC)
                until_ms = (until - _EPOCH) // timedelta(milliseconds=1)
                if at_ms < until_ms:
                    return self.path / name, until_ms
        return None

    def _aside(self) -> set[str]:
        """Names of files of results before: those that are here, and those that were."""
        here = {path.name for path in self.path.glob(f"{self.store.name}{_BEFORE}*Z")}
        return here | set((self._text(_EARLIER_FILE) or "").split())

    def announce(self, running: Running) -> None:
        """Tells other verbs where the service is; readable by this user only."""
        try:
            self._write(_SERVICE_FILE, json.dumps(asdict(running)))
        except OSError as error:
            raise self._unusable(error) from error

    def retire(self) -> None:
        """The service has stopped."""
        (self.path / _SERVICE_FILE).unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The service that runs on this folder, if there is one.

        What a killed one has left behind is told apart, also when another process has its number now.
        """
        try:
            running = Running(**json.loads((self.path / _SERVICE_FILE).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return running if _alive(running.pid) and self._owned() else None

    def _owned(self) -> bool:
        """Whether a process holds the lock on the folder's log."""
        try:
            with (self.path / LOCK_NAME).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _note(self, name: str, text: str) -> None:
        try:
            self._write(name, f"{text}\n")
        except OSError as error:
            raise self._unusable(error) from error

    def _text(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text().strip() or None
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        """Replaces a file at once, durably; it may hold what others must not read."""
        write_durable(self.path / name, text.encode(), mode=0o600)

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(
            f"the data folder cannot be used: {error.strerror}",
            where=str(self.path),
            hint="Choose another one with --data, or give this user the right and the room to write there.",
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True
