"""A look into the SQLite log of a folder, while a service writes to it or when none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bus.log import Record
from bus.log_sqlite_file import FILE_NAME, Storage, load_topics, our_errors
from bus.log_sqlite_reader import records_of
from metering.errors import UsageError

RECORDS_MAX, BYTES_MAX = 20_000, 8 << 20


def look(folder: Path, topic: str, *, partition: int = 0) -> Iterator[list[Record]]:
    """The records that are durable as it begins, in order, some thousands at a time.

    Raises UsageError where the folder has no log, MeterflowError where it cannot be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UsageError("there is no log in this folder", where=str(folder), hint="Name what up wrote.")
    with our_errors(path, "be read"), closing(Storage().reader(path)) as connection:
        extent = load_topics(connection).get((topic, partition))
        offset = extent.first if extent is not None else 0
        while extent is not None and offset < extent.end:
            stop = min(extent.end, offset + RECORDS_MAX)
            found = records_of(connection, extent.row(offset), extent.row(stop), BYTES_MAX)
            offset = found[-1].offset + 1 if found else stop
            yield found


def done(folder: Path, consumer: str) -> dict[int, int]:
    """Up to which offset a consumer is done, by partition; none where it never was, or there is no log."""
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    sql = "SELECT partition, done FROM consumer WHERE name = ?"
    with our_errors(path, "be read"), closing(Storage().reader(path)) as connection:
        return {int(partition): int(at) for partition, at in connection.execute(sql, (consumer,))}
