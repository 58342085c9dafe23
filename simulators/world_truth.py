"""The truth of a simulated world as tables: every base span, roll-up and intensity window of it, exactly.

Beside each amount stands ``uncertainty``: how far a figure that is called measured may be from it. That is
what the readings themselves do not say: the resolution of the registers, and how the truth runs between two
readings that are near enough to count as measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.instants import rfc3339
from metering.measures import ENERGY, MEASURES
from metering.site_models import Intensity
from metering.units import UNITS, Unit
from simulators.world import Plant
from simulators.world_accounts import (
    Accounts,
    Counted,
    Figure,
    Name,
    Spans,
    accounts_of,
    amount_of,
    counted,
    energy_of,
    join_groups,
)
from simulators.world_faults import MISLEADING, NOTHING, VALID, Fault
from simulators.world_flows import HOUR_MS, MINUTE_MS, Integers
from simulators.world_profile import Profile

AMOUNT = pa.decimal128(38, 9)
TIME = pa.timestamp("ms", "UTC")
BILLIONTHS_OF_A_MILLIONTH = 1_000
ROLLING_MS = {"15m": HOUR_MS // 4, "1h": HOUR_MS, "8h": 8 * HOUR_MS, "24h": 24 * HOUR_MS}
EVEN_MS = {"15m": HOUR_MS // 4, "hour": HOUR_MS}
CALENDAR = ("day", "month", "year")
RIGHT, WRONG = "right", "wrong"
STATES = {dimension for measure in MEASURES.values() if measure.gauge for dimension in measure.dimensions}
"""Dimensions of what has means, not amounts."""
CONVERTED = ("kgce", "kgCO2e")


class Clock:
    """The spans and windows that lie in the time that is simulated."""

    def __init__(self, from_ms: int, to_ms: int, zone: str) -> None:
        self.from_ms, self.to_ms, self.zone = from_ms, to_ms, zone

    def windows(self, window: str) -> Spans:
        """All windows that are simulated; a rolling one ends each minute."""
        if window not in ROLLING_MS:
            return self.spans(window)
        end_ms = np.arange(self.from_ms + ROLLING_MS[window], self.to_ms + 1, MINUTE_MS, dtype=np.int64)
        return Spans(end_ms - ROLLING_MS[window], end_ms, by_minute=True)

    def spans(self, span: str) -> Spans:
        """All spans of a length that are simulated."""
        if span in EVEN_MS:
            length_ms = EVEN_MS[span]
            first = -(-self.from_ms // length_ms) * length_ms
            edges = np.arange(first, self.to_ms + 1, length_ms, dtype=np.int64)
        else:
            edges = _civil(span, self.from_ms, self.to_ms, self.zone)
        return Spans(edges[:-1], edges[1:])


class Truth:
    """The tables of one plant's truth."""

    def __init__(self, profile: Profile, plant: Plant) -> None:
        self.profile, self.plant = profile, plant
        both = zip(plant.points, plant.streams, strict=True)
        self.counted = [counted(point, stream) for point, stream in both]
        self.accounts = accounts_of(profile, plant, self.counted)
        self.clock = Clock(plant.points[0].from_ms, plant.points[0].to_ms, profile.time_zone)

    def intervals(self) -> pa.Table:
        """Every base span of every register and gauge, and every read of the others."""
        parts = []
        minutes = np.arange(self.clock.from_ms, self.clock.to_ms + 1, MINUTE_MS, dtype=np.int64)
        for one, point, stream in zip(self.counted, self.plant.points, self.plant.streams, strict=True):
            spans = Spans(*(stream.spans or (minutes[:-1], minutes[1:])))
            names = {"plant": self.plant.id, "point": point.meter.id}
            parts.append(_spans(names, point.meter.amounts_in, spans, one))
        return pa.concat_tables(parts)

    def rollups(self) -> pa.Table:
        """Every span from a quarter of an hour to a year that is simulated from end to end."""
        return _rollups(self.accounts, self.clock)

    def intensities(self) -> Iterator[pa.Table]:
        """Every window of the plant."""
        return _intensities(
            self.profile, self.profile.intensity, f"plant:{self.plant.id}", self.accounts, self.clock
        )


class GroupTruth:
    """The tables of the groups that all plants of a world are in."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.accounts: Accounts = {}
        self.clock: Clock | None = None

    def add(self, known: Truth) -> None:
        """One plant more."""
        self.clock = known.clock
        join_groups(self.profile, known.plant, known.accounts, self.accounts)

    def rollups(self) -> list[pa.Table]:
        return [_rollups(self.accounts, self.clock)] if self.accounts and self.clock else []

    def intensities(self) -> Iterator[pa.Table]:
        for group in self.profile.groups if self.clock else ():
            scope, rows = f"group:{group['id']}", group.get("intensity", [])
            assert self.clock is not None, "a plant was added"
            yield from _intensities(self.profile, rows, scope, self.accounts, self.clock)


def _rollups(accounts: Accounts, clock: Clock) -> pa.Table:
    parts = []
    for name, one in accounts.items():
        names = {"scope": name.scope, "measures": name.measures, "product": name.product}
        for span in (*EVEN_MS, *CALENDAR):
            spans = clock.spans(span)
            if len(spans):
                table = _spans({**names, "span": span}, UNITS[name.unit], spans, one)
                parts.append(_converted(table, name, one, spans))
    return pa.concat_tables(parts)


def _converted(table: pa.Table, name: Name, one: Counted, spans: Spans) -> pa.Table:
    """With columns of what it is in kgce and kgCO2e."""
    for unit in CONVERTED:
        figure = amount_of(name, one, unit, spans)
        table = table.append_column(unit.lower(), _figures(figure.amount, figure))
        table = table.append_column(f"{unit.lower()}_uncertainty", _figures(figure.uncertainty, figure))
    return table


def _intensities(
    profile: Profile, rows: list[dict[str, Any]], scope: str, accounts: Accounts, clock: Clock
) -> Iterator[pa.Table]:
    """Every window whose two sides are metered; its value is empty where a coefficient is not known."""
    for row in rows:
        what = Intensity.model_validate(row)
        product = "" if what.per == "value_added" else profile.product_of(what.per)
        lower = _account(accounts, scope, "value_added" if what.per == "value_added" else "output", product)
        upper = None if what.of == ENERGY else _account(accounts, scope, what.of, "")
        if lower is None or (upper is None and what.of != ENERGY):
            continue
        unit = what.unit or ("kgce" if upper is None else upper.unit)
        for window in what.windows or ():
            spans = clock.windows(window)
            if len(spans) == 0:
                continue
            if upper is None:
                over = energy_of(accounts, scope, unit, spans)
            else:
                over = amount_of(upper, accounts[upper], unit, spans)
            if over is not None:
                names = {"scope": scope, "id": what.id, "product": product, "window": window}
                yield _windows(names, spans, over, amount_of(lower, accounts[lower], lower.unit, spans))


def _account(accounts: Accounts, scope: str, measures: str, product: str) -> Name | None:
    wanted = scope, measures, product
    return next((name for name in accounts if (name.scope, name.measures, name.product) == wanted), None)


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


def _spans(names: dict[str, str], unit: Unit, spans: Spans, of: Counted) -> pa.Table:
    count = len(spans)
    amount, off = of.amount(spans.start_ms, spans.end_ms), of.uncertainty(spans.start_ms, spans.end_ms)
    if unit.dimension in STATES:
        length_ms = spans.end_ms - spans.start_ms
        amount, off = _mean(amount, length_ms), _mean(off, length_ms) + 2
    return pa.table(
        {
            **{name: _repeated(text, count) for name, text in names.items()},
            "start": pa.array(spans.start_ms).cast(TIME),
            "end": pa.array(spans.end_ms).cast(TIME),
            "amount": amounts(amount, unit.factor),
            "unit": _repeated(unit.name, count),
            "uncertainty": amounts(off, unit.factor),
        }
    )


def _mean(passed: Integers, length_ms: Integers) -> Integers:
    """Of a state, from its sum over hours; without overflow, rounded down."""
    whole, rest = np.divmod(passed, length_ms)
    return np.asarray(whole * HOUR_MS + rest * HOUR_MS // length_ms)


def _repeated(text: str, count: int) -> pa.Array:
    return pa.array([text]).take(pa.array(np.zeros(count, np.int64)))


def _windows(names: dict[str, str], spans: Spans, over: Figure, under: Figure) -> pa.Table:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = over.amount / under.amount
    value: NDArray[np.float64] = np.where((under.amount == 0) | ~over.known, np.nan, ratio)
    return pa.table(
        {
            **{name: _repeated(text, len(spans)) for name, text in names.items()},
            "start": pa.array(spans.start_ms).cast(TIME),
            "end": pa.array(spans.end_ms).cast(TIME),
            "numerator": _figures(over.amount, over),
            "numerator_uncertainty": _figures(over.uncertainty, over),
            "denominator": _figures(under.amount, under),
            "denominator_uncertainty": _figures(under.uncertainty, under),
            "value": pa.array(value, from_pandas=True),
        }
    )


def _figures(millionths: Integers, of: Figure) -> pa.Array:
    """As decimals; empty where nothing is known."""
    return pc.if_else(pa.array(of.known), amounts(millionths), pa.scalar(None, AMOUNT))


def amounts(millionths: Integers, factor: Fraction = Fraction(1)) -> pa.Array:
    """Millionths as exact decimals of a unit that is ``factor``, a power of ten, of the canonical one."""
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
