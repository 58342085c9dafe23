"""``meterflow archive evidence``: readings of a plant, each with the message that it came in."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import click
import numpy as np

from metering.instants import rfc3339
from sinks.archive_reader import Archive, Batch, event_days

COLUMNS = (
    *("point", "time", "value", "unit", "serial", "revision", "received", "offset", "row"),
    *("topic", "user", "sha256", "site"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """``point``: None, all. Instants in UTC ms: measured in [first, until), received in (since, by]."""

    point: str | None
    first: int | None
    until: int | None
    since: int | None
    by: int | None


def show(archive: Archive, plant: str, wanted: Wanted, *, as_json: bool) -> None:
    """Writes them to standard output, in the order in which they came."""
    batches = archive.readings(plant, _days(wanted))
    found = (row for batch in batches for row in _rows(batch, wanted))
    if as_json:
        for row in found:
            click.echo(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(found)


def _days(wanted: Wanted) -> list[str] | None:
    """The event days to be looked at; None where neither end is given."""
    if wanted.first is None or wanted.until is None:
        return None
    return event_days(wanted.first, wanted.until - 1)


def _rows(batch: Batch, wanted: Wanted) -> Iterator[list[object]]:
    readings = batch.readings
    keep = np.ones(len(readings), np.bool_)
    if wanted.point is not None:
        words = {word: code for code, word in enumerate(readings.point.words)}
        keep &= readings.point.codes == words.get(wanted.point, -2)
    for column, low, high in (
        (readings.time, wanted.first, None if wanted.until is None else wanted.until - 1),
        (readings.received, None if wanted.since is None else wanted.since + 1, wanted.by),
    ):
        keep &= column >= low if low is not None else True
        keep &= column <= high if high is not None else True
    yield from described(batch, np.flatnonzero(keep).tolist())


def described(batch: Batch, places: Sequence[int]) -> Iterator[list[object]]:
    """Values of ``COLUMNS`` of the readings at some places of a batch."""
    readings = batch.readings
    for i in places:
        value = Decimal(int(readings.mantissa[i])).scaleb(int(readings.exponent[i]))
        yield [
            readings.point.text(i),
            rfc3339(int(readings.time[i])),
            f"{value:f}",
            *(text.text(i) or "" for text in (readings.unit, readings.serial)),
            int(readings.revision[i]),
            rfc3339(int(readings.received[i])),
            int(batch.offset[i]),
            int(batch.row[i]),
            *_message(batch, int(batch.message[i])),
        ]


def _message(batch: Batch, number: int) -> list[str]:
    if number < 0:
        return [""] * 4
    (row,) = batch.evidence.slice(number, 1).select(["topic", "user", "sha256", "site"]).to_pylist()
    return [row["topic"], row["user"] or "", row["sha256"].hex(), row["site"]]
