"""A look into the SQLite log of a folder, while a service writes to it or when none does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bus.log import Record
from bus.log_sqlite_file import FILE_NAME, Extent, Storage, load_topics, our_errors
from bus.log_sqlite_reader import records_of
from metering.errors import UsageError

RECORDS_MAX, BYTES_MAX = 20_000, 8 << 20


def look(folder: Path, topic: str, *, first: int = 0, partition: int = 0) -> Iterator[list[Record]]:
    """The records from ``first`` on that are durable as it begins, in order, some thousands at a time.

    Raises UsageError where the folder has no log, MeterflowError where it cannot be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UsageError("there is no log in this folder", where=str(folder), hint="Name what up wrote.")
    with our_errors(path, "be read"), closing(Storage().reader(path)) as connection:
        extent = load_topics(connection).get((topic, partition))
        offset = max(extent.first, first) if extent is not None else 0
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


@dataclass(frozen=True, slots=True)
class Kept:
    """A topic's records ``first`` to ``end``; those before ``older`` are older than was asked.

    ``saved``: a consumer's saved state has everything before it. ``first_ms``, ``at_ms``: log times of the
    first record and of that at the offset asked for; None where there is none.
    """

    first: int
    older: int
    end: int
    saved: int
    first_ms: int | None
    at_ms: int | None


def kept(folder: Path, topic: str, consumer: str, before_ms: int, *, at: int = 0, partition: int = 0) -> Kept:
    """What a folder's log has of a topic, by log time, which never falls."""
    path = folder / FILE_NAME
    if not path.exists():
        raise UsageError("there is no log in this folder", where=str(folder), hint="Name what up wrote.")
    with our_errors(path, "be read"), closing(Storage().reader(path)) as connection:
        extent = load_topics(connection).get((topic, partition)) or Extent(0)

        def stamp_ms(offset: int) -> int | None:
            sql = "SELECT stamp_ms FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT 1"
            found = connection.execute(sql, (extent.row(offset), extent.row(extent.end))).fetchone()
            return None if found is None else int(found[0])

        offsets = range(extent.first, extent.end)
        older = extent.first + bisect_left(offsets, before_ms, key=lambda offset: stamp_ms(offset) or 0)
        sql = "SELECT offset FROM consumer WHERE name = ? AND partition = ?"
        saved = connection.execute(sql, (consumer, partition)).fetchone()
        at_ms = stamp_ms(max(at, extent.first))
        return Kept(
            extent.first, older, extent.end, int(saved[0]) if saved else 0, stamp_ms(extent.first), at_ms
        )
