"""Readings as a person writes them, the log they make, and the tables an engine makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from metering.readings import NO_SEQ, NO_TIME, MeterQuality, Readings, dictionary
from metering.tables import POSITION, TABLES
from processors import state
from processors.batch import LogRecord
from processors.engine import Engine
from processors.rows import Rows

if TYPE_CHECKING:
    from metering.decisions import Decision
    from metering.roster import Roster

MINUTE_MS = 60_000
Key = tuple[Any, ...]
Row = dict[str, Any]
Store = dict[str, dict[Key, Row]]
"""Table -> key -> row, as a store that keeps the newest row of each key has them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading as it is sent; ``value`` is decimal text, taken exactly."""

    plant: str
    point: str
    time_ms: int
    value: str
    start_ms: int | None = None
    revision: int = 0
    serial: str | None = None
    unit: str | None = None
    product: str | None = None
    quality: MeterQuality = MeterQuality.UNSTATED


@dataclass(frozen=True, slots=True)
class Decide:
    """A person's decision as it is sent."""

    plant: str
    said: Decision

    @property
    def time_ms(self) -> int:
        return self.said.to_ms

    @property
    def point(self) -> str:
        return self.said.point


Item = Reading | Decide


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record of the log: its stamp and the readings of one plant, and decisions on it; none: a tick."""

    stamp_ms: int
    readings: tuple[Item, ...] = ()


def as_readings(rows: Sequence[Reading], received_ms: int) -> Readings:
    """The columns of some readings of one plant."""
    parts = [_mantissa(row.value) for row in rows]
    n = len(rows)
    return Readings(
        plant=rows[0].plant,
        point=dictionary([row.point for row in rows]),
        time=np.array([row.time_ms for row in rows], np.int64),
        start=np.array([NO_TIME if row.start_ms is None else row.start_ms for row in rows], np.int64),
        mantissa=np.array([mantissa for mantissa, _ in parts], np.int64),
        exponent=np.array([exponent for _, exponent in parts], np.int8),
        unit=dictionary([row.unit for row in rows]),
        serial=dictionary([row.serial for row in rows]),
        product=dictionary([row.product for row in rows]),
        revision=np.array([row.revision for row in rows], np.int32),
        seq=np.full(n, NO_SEQ, np.int64),
        quality=np.array([row.quality for row in rows], np.uint8),
        flags=np.zeros(n, np.uint8),
        received=np.full(n, received_ms, np.int64),
    )


def _mantissa(text: str) -> tuple[int, int]:
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)))
    return (-number if sign else number), exponent


def as_records(log: Iterable[Arrival]) -> list[LogRecord]:
    """The log, offsets from 0; a record's readings and decisions must be of one plant."""
    return [_as_record(offset, one) for offset, one in enumerate(log)]


def _as_record(offset: int, one: Arrival) -> LogRecord:
    readings = [item for item in one.readings if isinstance(item, Reading)]
    decisions = tuple(item.said for item in one.readings if isinstance(item, Decide))
    plant = one.readings[0].plant if one.readings else ""
    columns = as_readings(readings, one.stamp_ms) if readings else None
    return LogRecord(offset, one.stamp_ms, columns, plant, decisions)


def one_record_per_plant(readings: Sequence[Item], stamp_ms: int) -> list[Arrival]:
    """All readings at once, as the shortest log there is."""
    plants = dict.fromkeys(reading.plant for reading in readings)
    return [Arrival(stamp_ms, tuple(r for r in readings if r.plant == plant)) for plant in plants]


@dataclass
class Driver:
    """An engine with a store behind it. ``restart`` goes on from what was dumped, in a fresh engine."""

    roster: Roster
    tables: Store = field(default_factory=dict)
    history: list[tuple[str, Row]] = field(default_factory=list)
    """Every row ever said, with its table, in the order it was said."""
    chunks: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine(self.roster)
        self.rows = Rows(self.engine)

    def feed(self, records: Sequence[LogRecord]) -> None:
        """Steps the engine and stores what it says."""
        for step in self.engine.step(records):
            for name, table in self.rows.emit(step):
                for row in _plain(table).to_pylist():
                    self._take(name, row)

    def _take(self, name: str, row: Row) -> None:
        table = TABLES[name]
        position = row.pop(POSITION)
        key = tuple(row[column] for column in table.key) or (len(self.tables.get(name, {})),)
        self.history.append((name, {**row, "gone": position < 0}))
        rows = self.tables.setdefault(name, {})
        if position < 0:
            rows.pop(key, None)
        else:
            rows[key] = row

    def restart(self) -> None:
        """Dumps, and goes on in a fresh engine that loaded the dump."""
        changed, gone = state.dump(self.engine)
        self.chunks.update(changed)
        for name in gone:
            self.chunks.pop(name, None)
        self.engine = Engine(self.roster)
        state.load(self.engine, self.chunks)
        self.rows = Rows(self.engine)


def run(
    roster: Roster,
    log: Sequence[Arrival],
    cut: Callable[[], int] = lambda: 1 << 30,
    restart: Callable[[], bool] = lambda: False,
) -> Driver:
    """The log through an engine in batches of ``cut()`` records, restarted between them where told."""
    driver, records, at = Driver(roster), as_records(log), 0
    while at < len(records):
        size = cut()
        driver.feed(records[at : at + size])
        at += size
        if at < len(records) and restart():
            driver.restart()
    return driver


def _plain(table: pa.Table) -> pa.Table:
    """The same with instants as UTC milliseconds."""
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names)


def of_the_set(tables: Mapping[str, Mapping[Key, Row]], names: Iterable[str]) -> Store:
    """The columns that are functions of the set of readings, of some tables."""
    return {name: {key: of_set(name, row) for key, row in tables.get(name, {}).items()} for name in names}


_OF_SET = {name: [c.name for c in table.columns if not c.of_log] for name, table in TABLES.items()}


def of_set(name: str, row: Row) -> Row:
    """A row less the columns that tell its story."""
    return {column: row[column] for column in _OF_SET[name]}


def differences(one: Store, other: Store, most: int = 6) -> list[str]:
    """What two stores do not agree in, in words; empty when they are the same."""
    out: list[str] = []
    for name in sorted(one.keys() | other.keys()):
        left, right = one.get(name, {}), other.get(name, {})
        for key in sorted(left.keys() | right.keys(), key=str):
            a, b = left.get(key), right.get(key)
            if a != b and a is not None and b is not None:
                out.append(f"{name} {key}: " + str({c: (a[c], b.get(c)) for c in a if a[c] != b.get(c)}))
            elif a != b:
                out.append(f"{name} {key}: {a} against {b}")
    return out[:most] + ([f"and {len(out) - most} more"] if len(out) > most else [])
