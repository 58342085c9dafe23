"""Raw payloads in the archive, where they are to be kept: each once, by its SHA-256, per plant and day.

They are an archive of their own in the folder ``raw`` of the other one: the same commit, the same merging,
the same check. A file is of the day (UTC) on which its messages came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bus.log import PAYLOADS as TOPIC
from bus.log import Log, Record
from bus.payload_frames import decode_payloads
from metering.errors import MeterflowError
from metering.readings import DIGEST_BYTES
from sinks.archive_columns import SCHEMAS, decoded, encoded, folder
from sinks.archive_gone import gone, is_gone
from sinks.archive_manifest import PAYLOADS, File, Span
from sinks.archive_once import first_of_each
from sinks.archive_place import Place
from sinks.archive_sink import ArchiveSink, Kind
from sinks.archive_writer import newest

CONSUMER = "raw"
FOLDER = "raw"
_COST_BYTES = 100
"""A reading takes so many in memory, by which costs are counted."""


@dataclass(slots=True)
class GatheredPayloads:
    """Raw payloads of records of a partition from ``first`` up to ``until``; ``cost``: as of readings."""

    partition: int
    first: int
    until: int = 0
    records: int = 0
    cost: int = 0
    _rows: dict[str, list[pa.Table]] = field(default_factory=dict)

    @property
    def span(self) -> Span:
        return Span(self.partition, self.first, self.until)

    @property
    def empty(self) -> bool:
        return not self._rows

    def take(self, record: Record) -> None:
        """Adds the next record. Raises MeterflowError for one that cannot be read."""
        self.until = record.offset + 1
        self.records += 1
        rows = pa.Table.from_batches([decode_payloads(record.value)])
        rows = rows.append_column("offset", pa.array(np.full(len(rows), record.offset, np.int64)))
        self.cost += len(rows) + rows.nbytes // _COST_BYTES
        if len(rows):
            self._rows.setdefault(record.key, []).append(rows.cast(SCHEMAS[PAYLOADS]))

    def paths(self) -> list[str]:
        """Where its files will be."""
        return [
            f"{folder(PAYLOADS, plant, str(day))}/{self.span}.parquet"
            for plant, tables in self._rows.items()
            for day in np.unique(np.concatenate([_days(table) for table in tables]))
        ]

    def files(self) -> Iterator[tuple[File, bytes]]:
        """All of them."""
        for plant, tables in self._rows.items():
            table = pa.concat_tables(tables)
            days = _days(table)
            for day in np.unique(days):
                rows = first_of_each(table.filter(pa.array(days == day)))
                yield encoded(rows, folder(PAYLOADS, plant, str(day)), plant, self.span)


OF_PAYLOADS = Kind(CONSUMER, TOPIC, GatheredPayloads)
"""Several copies may archive them: what is archived stays on the log until it is old."""
OF_PAYLOADS_ONCE = Kind(CONSUMER, TOPIC, GatheredPayloads, once=True)


@dataclass(frozen=True, slots=True)
class Keep:
    """Raw payloads are to be kept: so many days, or for ever."""

    days: int | None = None


async def of_payloads(log: Log, place: Place, age_s: float, keep: Keep | None) -> list[ArchiveSink]:
    """What archives those of the embedded log; none where none are to come, and none left on the log."""
    if keep is None and await log.end(TOPIC) == await log.first(TOPIC):
        return []
    days = None if keep is None else keep.days
    return [ArchiveSink(log, place.below(FOLDER), kind=OF_PAYLOADS_ONCE, age_s=age_s, keep_days=days)]


def payload(place: Place, digest: bytes, *, plant: str | None = None, day: str | None = None) -> bytes | None:
    """The bytes of this SHA-256, of one plant or day or of all; None where they are not kept. Blocks.

    ``place``: of the archive. Raises MeterflowError where a manifest or a file is missing or damaged.
    """
    raw, wanted = place.below(FOLDER), pa.scalar(digest, pa.binary(DIGEST_BYTES))
    old = gone(raw)
    for manifests in newest(raw).values():
        for file in (file for manifest in manifests for file in manifest.files):
            same_day = day is None or day.startswith(file.day)
            if plant in (None, file.plant) and same_day and not is_gone(file.path, old):
                kept = _kept(raw, file, wanted)
                if kept is not None:
                    return kept
    return None


def _kept(raw: Place, file: File, wanted: pa.Scalar) -> bytes | None:
    """What a file has of a SHA-256; a payload that has another one by now was altered."""
    try:
        data = raw.read(file.path)
        digests = decoded(data, PAYLOADS, ["sha256"]).column(0)
        row: int = pc.index(digests, wanted).as_py()
        if row < 0:
            return None
        kept: bytes = decoded(data, PAYLOADS, ["payload"]).column(0)[row].as_py()
    except (FileNotFoundError, pa.ArrowException, OSError) as error:
        what, hint = f"raw payloads cannot be read: {error}", "Run: meterflow archive check"
        raise MeterflowError(what, where=f"{raw.where}/{file.path}", hint=hint) from error
    if sha256(kept).digest() != wanted.as_py():
        what, hint = "a raw payload was altered", "Run: meterflow archive check"
        raise MeterflowError(what, where=f"{raw.where}/{file.path}", hint=hint)
    return kept


def _days(table: pa.Table) -> NDArray[Any]:
    days: NDArray[Any] = table.column("received").to_numpy().astype("datetime64[D]")
    return days
