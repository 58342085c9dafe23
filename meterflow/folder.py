"""The data folder: its files, who runs on it, and how other verbs reach that service."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from metering.errors import UsageError

VERSION = 1
_VERSION_FILE, _SERVICE_FILE = "version", "service.json"


@dataclass(frozen=True, slots=True)
class Running:
    """How to reach the service that runs on a folder."""

    pid: int
    address: str
    token: str


class Folder:
    """Paths in a data folder. Opening one of a newer version raises UsageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "results.duckdb"
        self.publisher = path / "publisher.json"

    def open(self) -> None:
        """Makes the folder, or checks that this version can read it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            mark = self.path / _VERSION_FILE
            if mark.exists():
                self._check(mark.read_text().strip())
            else:
                mark.write_text(f"{VERSION}\n")
        except OSError as error:
            raise UsageError(
                f"the data folder cannot be used: {error.strerror}", where=str(self.path),
                hint="Choose another one with --data, or give this user the right to write there.",
            ) from error  # fmt: skip

    def _check(self, found: str) -> None:
        if not found.isdigit() or int(found) > VERSION:
            raise UsageError(
                f"the data folder was written by a newer meterflow (format {found}, this one knows {VERSION})",
                where=str(self.path),
                hint="Update meterflow, or start on an empty folder with --data.",
            )

    def announce(self, running: Running) -> None:
        """Tells other verbs where the service is; readable by this user only."""
        file = self.path / _SERVICE_FILE
        part = file.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(running)))
        part.replace(file)

    def retire(self) -> None:
        """The service has stopped."""
        (self.path / _SERVICE_FILE).unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The service that runs on this folder, if there is one."""
        try:
            running = Running(**json.loads((self.path / _SERVICE_FILE).read_text()))
            os.kill(running.pid, 0)
        except (OSError, ValueError, TypeError):
            return None
        return running
