"""An archive together with what a folder's log has, and it does not have yet.

A reading waits on the log for others that are archived with it; whoever looks for it now finds it here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bus.log import READINGS
from bus.log_sqlite_file import FILE_NAME
from bus.log_sqlite_look import look
from meterflow.log_age import PARTITION
from metering.decisions import Decision
from sinks.archive_gathered import Gathered
from sinks.archive_place import FolderPlace, Place
from sinks.archive_reader import Archive, Batch
from sinks.archive_writer import Writer, newest

COST_MAX = 1 << 19
"""Of readings in memory at a time."""


class Whole:
    """Readings and decisions of an archive before an offset, and of another one from there on."""

    def __init__(self, archive: Archive, rest: Archive | None = None, until: int = 0) -> None:
        self._archive, self._rest, self._until = archive, rest, until

    def readings(
        self, plant: str, days: Collection[str] | None = None, *, evidence: bool = True
    ) -> Iterator[Batch]:
        """In the order of the log; see ``Archive.readings``."""
        for batch in self._archive.readings(plant, days, evidence=evidence):
            yield batch if self._rest is None else _before(batch, self._until)
        if self._rest is not None:
            yield from self._rest.readings(plant, days, evidence=evidence)

    def decisions(self, plant: str) -> list[tuple[int, list[Decision]]]:
        """Record by record, each with its offset."""
        found = self._archive.decisions(plant)
        if self._rest is None:
            return found
        return [one for one in found if one[0] < self._until] + self._rest.decisions(plant)


@contextmanager
def whole(folder: Path | None, place: Place) -> Iterator[Whole]:
    """The archive with what came since to the log of a folder (None: nothing), while both are looked at."""
    if folder is None or not (folder / FILE_NAME).exists():
        yield Whole(Archive(place))
        return
    until = max((one.span.until for one in newest(place).get(PARTITION, [])), default=0)
    with tempfile.TemporaryDirectory(prefix="meterflow-", ignore_cleanup_errors=True) as name:
        rest = FolderPlace(Path(name))
        writer, gathered = Writer(rest, PARTITION), Gathered(PARTITION, until)
        for records in look(folder, READINGS, first=until):
            for record in records:
                gathered.take(record)
                if gathered.cost > COST_MAX:
                    _put(writer, gathered)
                    gathered = Gathered(PARTITION, record.offset + 1)
        _put(writer, gathered)
        yield Whole(Archive(place), Archive(rest), until)


def _put(writer: Writer, gathered: Gathered) -> None:
    if not gathered.empty:
        writer.write(gathered)


def _before(batch: Batch, until: int) -> Batch:
    """Without what was archived while it is looked at."""
    some = slice(0, int(np.searchsorted(batch.offset, until)))
    if some.stop == len(batch.offset):
        return batch
    columns = (batch.offset[some], batch.row[some], batch.message[some])
    return Batch(*columns, batch.readings.part(some), batch.evidence)
