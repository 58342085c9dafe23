"""Decisions of log records: whose register or meter each is about; what names nothing there is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from metering.decisions import CONFLICT, PLAIN, WORDS, Decision
from metering.readings import TIME_FIRST_MS
from metering.roster import GAUGE, INTERVAL, REGISTER, Point
from metering.units import MICRO
from processors.memory import TIME_MASK, key_of

if TYPE_CHECKING:
    from processors.batch import SeriesIndex

Ints = NDArray[np.int64]

REVISION_MAX = 2**31 - 1
_WORDS = {
    REGISTER: tuple(word for word in WORDS if word != "overlap"),
    INTERVAL: (PLAIN, "spike", "overlap", CONFLICT),
    GAUGE: (PLAIN, "spike", CONFLICT),
}
"""What can be said of a point, by what it reads."""
_PLACES_MAX = 30
"""Of a decimal, before and behind its point: more than any register has."""

_INVALID = "decision_invalid"
Refusal = tuple[str, str]
"""Reason, detail."""


class _Revised(Protocol):
    @property
    def revision(self) -> int: ...


Said = TypeVar("Said", bound=_Revised)


def may_count(known: set[Said], said: Said) -> set[Said]:
    """What may count of all that was said of one thing, once this was, too: the highest revision."""
    every = {*known, said}
    highest = highest_revision(every)
    return {one for one in every if one.revision == highest}


def highest_revision(said: Iterable[_Revised]) -> int | None:
    """Of what was said of one thing, whether it counts or not; None: nobody said anything."""
    return max((one.revision for one in said), default=None)


OFF_FACE: Refusal = (
    "value_out_of_range",
    "less than 0, or no less than where this register turns: its digits (or rolls_at) in the site file",
)
"""What a register with an end cannot show."""


def rows_about(key: Ints, said: Mapping[int, object]) -> Ints:
    """Which of some keys something was said of, by what was said of keys."""
    if not said:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.isin(key, np.fromiter(said, np.int64)))


@dataclass(frozen=True, slots=True)
class Placed:
    """A decision on a series. ``value``: of a conflict, millionths before the multiplier; 0 else."""

    record: int
    series: int
    said: Decision
    value: int = 0
    rounded: bool = False

    @property
    def key(self) -> int:
        """Of the reading at its end: the one that it is about where it is about one."""
        return int(key_of(np.array([self.series]), np.array([self.said.to_ms]))[0])


@dataclass(frozen=True, slots=True)
class Refused:
    """A reading, or a ``decision``, that the processors cannot take: a row of ``rejected``."""

    record: int
    plant: str
    point: str
    time_ms: int
    reason: str
    detail: str
    decision: bool = False


def placed(decisions: Iterable[tuple[int, str, Decision]], index: SeriesIndex) -> Iterator[Placed | Refused]:
    """Each of some decisions, given with the number of its record and its plant."""
    for record, plant, said in decisions:
        number = index.roster.names.get(plant, {}).get(said.point)
        found: Placed | Refusal = "unknown_point", "the site file has no such point"
        if number is not None:
            found = _placed(record, said, index.roster.points[number], index)
        if not isinstance(found, Placed):
            yield Refused(record, plant, said.point, said.to_ms, *found, decision=True)
        else:
            yield found


def _placed(record: int, said: Decision, point: Point, index: SeriesIndex) -> Placed | Refusal:
    wrong = _wrong(said, point)
    if wrong is not None:
        return wrong
    series = _series(said, point, int(index.first[point.index]))
    return _valued(record, series, said, point, index) if isinstance(series, int) else series


def _wrong(said: Decision, point: Point) -> Refusal | None:
    """What of a decision cannot be, whatever the readings are."""
    conflict, last_ms = said.verdict == CONFLICT, TIME_FIRST_MS + TIME_MASK - 1
    instant = point.reads == GAUGE or (conflict and point.reads != INTERVAL)
    wrongs = {
        f"the verdict is none of {', '.join(WORDS)}": said.verdict not in WORDS,
        "it does not say who decided": not said.by,
        f"the revision is no whole number from 0 to {REVISION_MAX}": not 0 <= said.revision <= REVISION_MAX,
        "its times are outside of what is kept": not TIME_FIRST_MS <= said.from_ms <= said.to_ms < last_ms,
        "a conflict of a register is of one instant, as is what a gauge shows": instant
        and said.from_ms != said.to_ms,
        "an event lies between two instants": not (instant or conflict) and said.from_ms == said.to_ms,
        f"of this point only this can be said: {', '.join(_WORDS[point.reads])}": said.verdict
        not in _WORDS[point.reads],
    }
    return next(((_INVALID, detail) for detail, is_wrong in wrongs.items() if is_wrong), None)


def _series(said: Decision, point: Point, first: int) -> int | Refusal:
    """The installation that both instants belong to; at a shared instant the later one. Of a conflict it is
    that of the reading at its end.
    """
    from_ms = said.to_ms if said.verdict == CONFLICT else said.from_ms
    inside = [
        (number, one.serial)
        for number, one in enumerate(point.installations)
        if one.from_ms <= from_ms and said.to_ms <= one.to_ms
    ]
    if not inside:
        return "no_installation", "no meter is installed at this point from the one instant to the other"
    named = [number for number, serial in inside if not said.serial or serial in ("", said.serial)]
    if not named:
        return "unknown_serial", "no meter of this serial number is at this point at that time"
    return first + named[-1]


def _valued(record: int, series: int, said: Decision, point: Point, index: SeriesIndex) -> Placed | Refusal:
    """With the value that decides a conflict, in whole steps of the register."""
    if said.verdict != CONFLICT:
        return Placed(record, series, said)
    exact = _exact(said.value)
    if exact is None:
        return _INVALID, "the value that counts is no decimal"
    step = int(index.step[series])
    steps = exact * point.unit.factor * MICRO / step
    value = round(steps) * step
    if abs(value) >= int(index.value_max[series]):
        return "value_out_of_range", "beyond what a register can hold"
    if not index.shows(np.array([series]), np.array([value])).all():
        return OFF_FACE
    return Placed(record, series, said, value, steps.denominator != 1)


def _exact(text: str) -> Fraction | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if abs(exponent) > _PLACES_MAX or value.adjusted() > _PLACES_MAX:
        return None
    return Fraction(value)
