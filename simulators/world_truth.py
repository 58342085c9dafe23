"""The truth of a simulated world as tables: every base span, roll-up and intensity window of it, exactly.

Beside each amount stands ``uncertainty``: how far a figure that is called measured may be from it. That is
what the readings themselves do not say: the resolution of the registers, and how the truth runs between two
readings that are near enough to count as measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.instants import rfc3339
from metering.site_meaning import SIGNS
from metering.units import CANONICAL, UNITS
from simulators.world import Plant
from simulators.world_faults import MISLEADING, NOTHING, VALID, Fault
from simulators.world_flows import HOUR_MS, MINUTE_MS, Integers
from simulators.world_meters import Point, Stream
from simulators.world_profile import Profile

AMOUNT = pa.decimal128(38, 9)
TIME = pa.timestamp("ms", "UTC")
BILLIONTHS_OF_A_MILLIONTH = 1_000
ROLLING_MS = {"15m": HOUR_MS // 4, "1h": HOUR_MS, "8h": 8 * HOUR_MS, "24h": 24 * HOUR_MS}
EVEN_MS = {"15m": HOUR_MS // 4, "hour": HOUR_MS}
CALENDAR = ("day", "month", "year")
RIGHT, WRONG = "right", "wrong"
ENDS = 2
"""A register's amount is uncertain by its last step at both ends of a span, and where a meter was changed."""


class Edges:
    """What a point had truly counted by each full minute, and how far a line between readings may be off."""

    def __init__(self, point: Point, stream: Stream) -> None:
        self.point, self.from_ms = point, point.from_ms
        self.at_ms = np.arange(point.from_ms, point.to_ms + 1, MINUTE_MS, dtype=np.int64)
        self.past = point.past.at(self.at_ms)
        self.reads = None if stream.spans is None else np.sort(stream.spans[1])
        self.unsure = point.unsure(self.at_ms) if self.reads is None else None

    def amount(self, start_ms: Integers, end_ms: Integers) -> Integers:
        return np.asarray(self.past[self._index(end_ms)] - self.past[self._index(start_ms)])

    def uncertainty(self, start_ms: Integers, end_ms: Integers) -> Integers:
        """In millionths: of a register at both edges, of interval reads with each read."""
        if self.reads is not None:
            reads = np.searchsorted(self.reads, end_ms) - np.searchsorted(self.reads, start_ms)
            return np.asarray((reads + ENDS) * self.point.step)
        assert self.unsure is not None, "a register's line is uncertain"
        steps = ENDS + len(self.point.breaks)
        return np.asarray(
            self.unsure[self._index(end_ms)] + self.unsure[self._index(start_ms)] + steps * self.point.step
        )

    def _index(self, at_ms: Integers) -> Integers:
        return np.asarray((at_ms - self.from_ms) // MINUTE_MS)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose amounts are added up: points with their signs."""

    scope: str
    measures: str
    product: str
    unit: str
    members: tuple[tuple[Edges, int], ...]

    def amount(self, start_ms: Integers, end_ms: Integers) -> Integers:
        parts = [sign * edges.amount(start_ms, end_ms) for edges, sign in self.members]
        return np.asarray(np.sum(parts, axis=0))

    def uncertainty(self, start_ms: Integers, end_ms: Integers) -> Integers:
        parts = [edges.uncertainty(start_ms, end_ms) for edges, _ in self.members]
        return np.asarray(np.sum(parts, axis=0))


class Truth:
    """The tables of one plant's truth."""

    def __init__(self, profile: Profile, plant: Plant) -> None:
        self.profile, self.plant = profile, plant
        both = zip(plant.points, plant.streams, strict=True)
        self.edges = [Edges(point, stream) for point, stream in both]
        self.from_ms, self.to_ms = plant.points[0].from_ms, plant.points[0].to_ms
        self.streams = plant.streams

    def intervals(self) -> pa.Table:
        """Every base span of every register, and every read of the others."""
        parts = []
        for edges, stream in zip(self.edges, self.streams, strict=True):
            start_ms, end_ms = stream.spans or (edges.at_ms[:-1], edges.at_ms[1:])
            meter = edges.point.meter
            names = {"plant": self.plant.id, "point": meter.id}
            parts.append(_spans(names, meter.unit, start_ms, end_ms, edges))
        return pa.concat_tables(parts)

    def rollups(self) -> pa.Table:
        """Every span from a quarter of an hour to a year that is simulated from end to end."""
        parts = []
        for account in self.accounts():
            names = {"scope": account.scope, "measures": account.measures, "product": account.product}
            for span in (*EVEN_MS, *CALENDAR):
                start_ms, end_ms = self.spans(span)
                if len(start_ms):
                    parts.append(_spans({**names, "span": span}, account.unit, start_ms, end_ms, account))
        return pa.concat_tables(parts)

    def intensities(self) -> Iterator[pa.Table]:
        """Every window whose two sides are known; kgce and kgCO2e are not among them."""
        accounts = {(a.scope, a.measures, a.product): a for a in self.accounts()}
        scope = f"plant:{self.plant.id}"
        for row in self.profile.intensity:
            per = row.get("per", "output")
            product = "" if per == "value_added" else self._product(per)
            above = accounts.get((scope, row.get("of", "electricity"), ""))
            below = accounts.get((scope, "value_added" if per == "value_added" else "output", product))
            if above is None or below is None or row.get("unit", above.unit) != above.unit:
                continue
            for window in row.get("windows", []):
                start_ms, end_ms = self.windows(window)
                if len(start_ms):
                    names = {"scope": scope, "id": row["id"], "product": product, "window": window}
                    yield _windows(names, start_ms, end_ms, above, below)

    def _product(self, per: str) -> str:
        return self.profile.products[0].id if per == "output" else per

    def accounts(self) -> list[Account]:
        """Points, lines and the plant itself."""
        members: dict[tuple[str, str, str, str], list[tuple[Edges, int]]] = {}
        for edges in self.edges:
            meter = edges.point.meter
            product = self._product(meter.product or "output") if meter.measures == "output" else ""
            unit = CANONICAL[UNITS[meter.unit].dimension]
            scopes = [(f"point:{self.plant.id}/{meter.id}", 1)]
            sign = SIGNS[meter.role]
            if meter.line and (sign or meter.role == "submeter"):
                scopes.append((f"line:{self.plant.id}/{meter.line}", sign or 1))
            scopes += [(f"plant:{self.plant.id}", sign)] if sign else []
            for scope, part in scopes:
                members.setdefault((scope, meter.measures, product, unit), []).append((edges, part))
        return [Account(*name, tuple(each)) for name, each in members.items()]

    def windows(self, window: str) -> tuple[Integers, Integers]:
        """Start and end of all windows that are simulated; a rolling one ends each minute."""
        if window not in ROLLING_MS:
            return self.spans(window)
        end_ms = np.arange(self.from_ms + ROLLING_MS[window], self.to_ms + 1, MINUTE_MS, dtype=np.int64)
        return end_ms - ROLLING_MS[window], end_ms

    def spans(self, span: str) -> tuple[Integers, Integers]:
        """Start and end of all spans that lie in the time that is simulated."""
        if span in EVEN_MS:
            length_ms = EVEN_MS[span]
            first = -(-self.from_ms // length_ms) * length_ms
            edges = np.arange(first, self.to_ms + 1, length_ms, dtype=np.int64)
        else:
            edges = _civil(span, self.from_ms, self.to_ms, self.profile.time_zone)
        return edges[:-1], edges[1:]


def _civil(span: str, from_ms: int, to_ms: int, zone: str) -> Integers:
    """Beginnings of days, months or years of a time zone in [from, to]."""
    zone_of, one_day = ZoneInfo(zone), timedelta(days=1)
    day: date = datetime.fromtimestamp(from_ms / 1_000, UTC).astimezone(zone_of).date()
    last: date = datetime.fromtimestamp(to_ms / 1_000, UTC).astimezone(zone_of).date()
    out = []
    while day <= last:
        if span == "day" or (day.day == 1 and (span == "month" or day.month == 1)):
            out.append(round(datetime(day.year, day.month, day.day, tzinfo=zone_of).timestamp()) * 1_000)
        day += one_day
    edges = np.array(out, np.int64)
    return np.asarray(edges[(edges >= from_ms) & (edges <= to_ms)])


def _spans(
    names: dict[str, str], unit: str, start_ms: Integers, end_ms: Integers, of: Edges | Account
) -> pa.Table:
    count = len(start_ms)
    return pa.table(
        {
            **{name: _repeated(text, count) for name, text in names.items()},
            "start": pa.array(start_ms).cast(TIME),
            "end": pa.array(end_ms).cast(TIME),
            "amount": amounts(of.amount(start_ms, end_ms), unit),
            "unit": _repeated(unit, count),
            "uncertainty": amounts(of.uncertainty(start_ms, end_ms), unit),
        }
    )


def _repeated(text: str, count: int) -> pa.Array:
    return pa.array([text]).take(pa.array(np.zeros(count, np.int64)))


def _windows(
    names: dict[str, str], start_ms: Integers, end_ms: Integers, above: Account, below: Account
) -> pa.Table:
    count = len(start_ms)
    over, under = above.amount(start_ms, end_ms), below.amount(start_ms, end_ms)
    with np.errstate(divide="ignore", invalid="ignore"):
        value: NDArray[np.float64] = np.where(under == 0, np.nan, over / under)
    return pa.table(
        {
            **{name: _repeated(text, count) for name, text in names.items()},
            "start": pa.array(start_ms).cast(TIME),
            "end": pa.array(end_ms).cast(TIME),
            "numerator": amounts(over, above.unit),
            "numerator_uncertainty": amounts(above.uncertainty(start_ms, end_ms), above.unit),
            "denominator": amounts(under, below.unit),
            "denominator_uncertainty": amounts(below.uncertainty(start_ms, end_ms), below.unit),
            "value": pa.array(value, from_pandas=True),
        }
    )


def amounts(millionths: Integers, unit: str) -> pa.Array:
    """Millionths of the canonical unit as exact decimals of a unit that is a power of ten of it."""
    factor = UNITS[unit].factor
    scaled = millionths * BILLIONTHS_OF_A_MILLIONTH
    whole = scaled * factor.denominator // factor.numerator
    both = np.stack([whole, whole >> 63], axis=1)
    return pa.Array.from_buffers(AMOUNT, len(whole), [None, pa.py_buffer(both.tobytes())])


def fault_rows(plants: Sequence[Plant]) -> list[tuple[str, ...]]:
    """What faults.csv has: a header, then a row for each fault."""
    header = ("kind", "plant", "point", "from", "to", "concludes", "status", "found_by", "figures")
    return [header, *(row for plant in plants for fault in plant.faults for row in _fault_rows(fault))]


def _fault_rows(fault: Fault) -> Iterator[tuple[str, ...]]:
    names = (fault.kind, fault.plant, fault.point)
    said = (fault.concludes, fault.status, fault.found_by, WRONG if fault.found_by in MISLEADING else RIGHT)
    yield (*names, rfc3339(fault.from_ms), rfc3339(fault.to_ms), *said)
    if fault.hidden is not None:
        yield (*names, *map(rfc3339, fault.hidden), VALID, "", NOTHING, WRONG)
