"""One reading, judged field by field: taken exactly, or refused with its reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ingest.directory import Directory
from ingest.numbers import Exact, Fault, epoch_ms, exact, shown, time_fault
from ingest.reasons import Reason
from metering.readings import NO_SEQ, NO_TIME, MeterQuality

TEXT_SIZE_MAX = 200
"""Serial numbers and product names are shorter."""
SEQ_MAX = 2**63 - 1
REVISION_MAX = 2**31 - 1
QUALITIES: dict[str | None, int] = {
    None: MeterQuality.UNSTATED,
    "good": MeterQuality.GOOD,
    "bad": MeterQuality.BAD,
    "estimated": MeterQuality.ESTIMATED,
}
_INTEGER = re.compile(r"-?[0-9]+")
_TIME_DIGITS_MAX = 15
_TIME_SHOWN_MS = (-62_135_596_800_000, 253_402_300_799_999)
"""Years 1 to 9999: what a table can show."""

Json: TypeAlias = Any
"""A JSON value: Object, list, str, Number, NotFinite, bool or None."""


class Number(str):
    """A JSON number's text."""

    __slots__ = ()


class NotFinite(str):
    """``NaN``, ``Infinity`` or ``-Infinity``, which JSON does not have but some devices send."""

    __slots__ = ()


class Object(dict[str, Json]):
    """A JSON object; ``duplicate``: a key that it had twice."""

    duplicate: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading taken; ``point`` is an index in the roster, the rest as in metering.readings."""

    point: int
    time: int
    start: int
    value: Exact
    unit: str | None
    serial: str | None
    product: str | None
    revision: int
    seq: int
    quality: int


class Refused(Exception):
    """Leaves the judging of a reading, or of a decision, at its first fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(reason, detail)


def judge(directory: Directory, point: int, fields: Mapping[str, Json], received_ms: int) -> Reading | Fault:
    """A reading from its fields; the first fault in the order of the code counts."""
    try:
        time = instant(fields.get("time"), "", received_ms)
        value = value_of(fields)
        return Reading(
            point=point,
            time=time,
            start=_start(directory, point, fields.get("start"), time, received_ms),
            value=value,
            unit=_unit(directory, point, fields),
            serial=read_text(fields, "serial"),
            product=read_text(fields, "product"),
            revision=whole(fields, "revision", 0, REVISION_MAX, Reason.REVISION_INVALID),
            seq=whole(fields, "seq", NO_SEQ, SEQ_MAX, Reason.WRONG_SHAPE),
            quality=_quality(fields),
        )
    except Refused as refused:
        return refused.fault


def time_of(value: Json) -> int | Fault:
    """A ``time`` field in milliseconds; any bounds are checked elsewhere."""
    if value is None:
        return Fault(Reason.TIME_MISSING, "the reading has no time")
    if isinstance(value, Number):
        if not _INTEGER.fullmatch(value):
            return Fault(Reason.TIME_INVALID, f"{shown(value)} is no whole number of milliseconds")
        return _milliseconds(value)
    if isinstance(value, str) and not isinstance(value, NotFinite):
        return epoch_ms(value)
    return Fault(Reason.TIME_INVALID, "the time is neither a text nor a whole number of milliseconds")


def _milliseconds(text: str) -> int | Fault:
    if len(text.lstrip("-")) <= _TIME_DIGITS_MAX and _TIME_SHOWN_MS[0] <= int(text) <= _TIME_SHOWN_MS[1]:
        return int(text)
    reason = Reason.TIME_BEFORE_2000 if text.startswith("-") else Reason.TIME_IN_FUTURE
    return Fault(reason, f"{shown(text)}: are these milliseconds?")


def instant(value: Json, name: str, received_ms: int) -> int:
    """A time that a reading or a decision may have; ``name`` stands before what is wrong. Raises Refused."""
    found = time_of(value)
    if isinstance(found, Fault):
        raise Refused(found.reason, name + found.detail)
    reason = time_fault(found, received_ms)
    if reason is not None:
        seconds = reason is Reason.TIME_BEFORE_2000 and isinstance(value, Number)
        asked = ": are these milliseconds?" if seconds else ""
        raise Refused(reason, name + shown(value) + asked)
    return found


def value_of(fields: Mapping[str, Json]) -> Exact:
    """The number in ``value``. Raises Refused."""
    if "value" not in fields:
        raise Refused(Reason.VALUE_MISSING, "the reading has no value")
    value = fields["value"]
    if isinstance(value, NotFinite):
        raise Refused(Reason.VALUE_NOT_FINITE, str(value))
    if not isinstance(value, str):
        raise Refused(Reason.VALUE_NOT_NUMBER, f"expected a number or a decimal text, got {kind(value)}")
    found = exact(value)
    if isinstance(found, Fault):
        raise Refused(found.reason, found.detail)
    return found


def _start(directory: Directory, point: int, value: Json, time: int, received_ms: int) -> int:
    if not directory.reads_intervals[point]:
        if value is not None:
            raise Refused(Reason.WRONG_SHAPE, "start: only a point that reads intervals has one")
        return NO_TIME
    if value is None:
        raise Refused(Reason.START_MISSING, "the point reads intervals, and the reading has no start")
    start = instant(value, "start: ", received_ms)
    if start >= time:
        raise Refused(Reason.START_NOT_BEFORE_TIME, f"start {shown(value)}")
    return start


def _unit(directory: Directory, point: int, fields: Mapping[str, Json]) -> str | None:
    unit = read_text(fields, "unit")
    if unit is None:
        return None
    reason = directory.unit_fault(unit, point)
    if reason is not None:
        raise Refused(reason, f"{shown(unit)!r}, the point is in {directory.points[point].unit.name}")
    return unit


def read_text(fields: Mapping[str, Json], name: str) -> str | None:
    """An optional text; null and the empty text are what devices send for none. Raises Refused."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and not isinstance(value, (Number, NotFinite)) and good_text(value):
        return value
    wanted = f"a text of up to {TEXT_SIZE_MAX} printable characters"
    raise Refused(Reason.WRONG_SHAPE, f"{name}: expected {wanted}")


def good_text(text: str) -> bool:
    """Whether a text may stand in a column: short, and nothing in it that no table can hold."""
    return len(text) <= TEXT_SIZE_MAX and text.isprintable()


def whole(fields: Mapping[str, Json], name: str, none: int, most: int, reason: Reason) -> int:
    """An optional whole number from 0 to ``most``. Raises Refused."""
    value = fields.get(name)
    if value is None:
        return none
    plain = isinstance(value, Number) and _INTEGER.fullmatch(value) and len(value) <= len(str(SEQ_MAX))
    if plain and 0 <= int(value) <= most:
        return int(value)
    raise Refused(reason, f"{name}: {shown(value)} is no whole number from 0 to {most}")


def kind(value: Json) -> str:
    """What a JSON value is, for people."""
    if isinstance(value, (Number, NotFinite)):
        return f"the number {shown(value)}"
    if isinstance(value, str):
        return f"the text {shown(value)!r}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return shown(value)


def _quality(fields: Mapping[str, Json]) -> int:
    value = fields.get("quality")
    text = value if isinstance(value, str) and not isinstance(value, (Number, NotFinite)) else None
    if value is not None and (text is None or text not in QUALITIES):
        raise Refused(Reason.WRONG_SHAPE, f"quality: {shown(value)} is none of good, bad, estimated")
    return QUALITIES[text]
