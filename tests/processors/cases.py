"""How a case of tests/cases writes readings, decisions and rows: its lines, and what is meant by them.

readings.txt: a line each, `when, plant/point, value [unit] [, start, revision, serial]`; `when` and
`start` are RFC 3339 stamps, or minutes after the stamp that a first line `from STAMP` gives.
`every STEP, when, until, plant/point, value, more [, interval]` is one reading after the other, STEP (`15m`,
`1h`, `1d`) apart, the last one at `until`, each `more` than the one before, or each of the STEP before it;
such lines behind one another go on at the same time.
`decide plant/point, from, to, verdict, by [, revision] [, value]` is what a person says there.
`received STAMP`: what is below came at that instant, or by its own stamps where these are later.
expected.yaml: by table, rows named by key columns with whatever columns matter; instants as in readings.txt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from metering.decisions import Decision
from metering.tables import TABLES, Kind
from tests.processors.log_driver import MINUTE_MS, Arrival, Decide, Item, Reading

UNITS_MS: Final = {"m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": 24 * 60 * MINUTE_MS}
EVERY, RECEIVED = "every ", "received "


class Notation:
    """The lines of a case. ``from_ms``: the instant that its minutes are counted from."""

    def __init__(self, text: str, from_ms: int = 0) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._lines = [line for line in lines if line and not line.startswith("#")]
        first = self._lines[0] if self._lines else ""
        self.from_ms = stamp_ms(self._lines.pop(0)[5:]) if first.startswith("from ") else from_ms

    def arrivals(self, since_ms: int = 0) -> list[Arrival]:
        """Each reading as a record of its own, stamped with the newest time so far."""
        log, newest_ms = [], max(self.from_ms, since_ms)
        for key, lines in groupby(self._lines, key=lambda line: line.split(" ")[0]):
            if key == RECEIVED.strip():
                newest_ms = max(newest_ms, *(stamp_ms(line.removeprefix(RECEIVED)) for line in lines))
                continue
            for item in self._items(key, list(lines)):
                newest_ms = max(newest_ms, item.time_ms if isinstance(item, Reading) else 0)
                log.append(Arrival(newest_ms, (item,)))
        return log

    def _items(self, key: str, lines: Sequence[str]) -> Iterator[Item]:
        if key == EVERY.strip():
            yield from merge(*map(self._every, lines), key=lambda reading: reading.time_ms)
            return
        for line in lines:
            yield self._decision(line[7:]) if key == "decide" else self._reading(line)

    def _decision(self, line: str) -> Decide:
        place, start, end, verdict, by, revision, value = ([*map(str.strip, line.split(",")), "", ""])[:7]
        plant, point = place.split("/")
        times = self.instant(start), self.instant(end)
        return Decide(plant, Decision(point, None, *times, verdict, by, int(revision or 0), value))

    def _reading(self, line: str) -> Reading:
        when, place, value, start, revision, serial = ([*map(str.strip, line.split(",")), "", "", ""])[:6]
        plant, point = place.split("/")
        number, _, unit = value.partition(" ")
        start_ms = self.instant(start) if start else None
        time_ms = self.instant(when)
        return Reading(
            plant, point, time_ms, number, start_ms, int(revision or 0), serial or None, unit or None
        )

    def _every(self, line: str) -> Iterator[Reading]:
        step, first, last, place, value, more, of = [
            *map(str.strip, line.removeprefix(EVERY).split(",")),
            "",
        ][:7]
        plant, point = place.split("/")
        step_ms, number = int(step[:-1]) * UNITS_MS[step[-1]], Decimal(value)
        for time_ms in range(self.instant(first), self.instant(last) + 1, step_ms):
            yield Reading(plant, point, time_ms, str(number), time_ms - step_ms if of == "interval" else None)
            number += Decimal(more)

    def instant(self, written: Any) -> int:
        """UTC milliseconds of a stamp, or of minutes after the case's first instant."""
        text = str(written)
        return stamp_ms(text) if "T" in text else self.from_ms + round(Decimal(text) * MINUTE_MS)

    def wanted(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """An expected row with its instants in milliseconds."""
        times = {column.name for column in TABLES[table].columns if column.kind is Kind.TIME}
        return {
            name: self.instant(value) if name in times and value is not None else value
            for name, value in row.items()
        }


def expected(file: Path) -> dict[str, Any]:
    """What has to come out."""
    return dict(YAML(typ="safe").load(file.read_text()) or {})


def stamp_ms(text: str) -> int:
    """UTC milliseconds of an RFC 3339 stamp."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def named_by(table: str) -> tuple[str, ...]:
    """The columns by which a row is named; what is only ever added has its instant."""
    return TABLES[table].key or ("time", "point")


def equal(is_: Any, wanted: Any) -> bool:
    """Amounts as exact decimals, doubles as doubles."""
    if isinstance(is_, Decimal) and wanted is not None:
        return is_ == Decimal(str(wanted))
    return bool(is_ == wanted)
