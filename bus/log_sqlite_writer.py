"""The one thread that writes the SQLite log: commits everything that waits as one group."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from bus.log_sqlite_store import Change, Store
from metering.errors import MeterflowError

GROUP_CHANGES_MAX = 1024
GROUP_BYTES_MAX = 16 << 20
"""A group is closed at either: it bounds the time a commit takes."""


@dataclass(slots=True, eq=False)
class Job:
    """A change, and whom to tell; ``error`` is None when it is durable."""

    change: Change
    done: asyncio.Future[None]
    error: BaseException | None = None


class Writer:
    """Takes jobs from any thread. While one group is being committed the next one gathers.

    ``settled`` is called in the writer's thread with the jobs of each finished group.
    """

    def __init__(self, store: Store, settled: Callable[[list[Job]], None]) -> None:
        self._store = store
        self._settled = settled
        self._finishing = False
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def finish(self) -> None:
        """Commits what was submitted before, and ends the thread. Blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._finishing:
            group = self._gathered()
            if group:
                self._commit(group)
                self._settled(group)
                with suppress(Exception):  # whatever it is: the next commit meets it, too, and tells
                    self._store.checkpoint_if_due()

    def _gathered(self) -> list[Job]:
        """Waits for a job and takes what else has come by then."""
        group: list[Job] = []
        size = 0
        job = self._jobs.get()
        while job is not None:
            group.append(job)
            size += job.change.size
            if len(group) >= GROUP_CHANGES_MAX or size >= GROUP_BYTES_MAX:
                return group
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return group
        self._finishing = True
        return group

    def _commit(self, group: list[Job]) -> None:
        try:
            self._store.commit([job.change for job in group])
        except MeterflowError as error:
            _fail(group, error)
        except Exception as error:  # noqa: BLE001 - it is raised in the caller
            # Bad code of one caller (a value SQLite cannot take) is not to fail the others.
            if len(group) == 1:
                _fail(group, error)
                return
            for job in group:
                self._commit([job])


def _fail(group: list[Job], error: Exception) -> None:
    for job in group:
        job.error = error
