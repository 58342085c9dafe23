"""Whole batches of plain readings at once: typed decoding, then columns.

What it takes, it takes exactly as decode_exact.py would (a law, tested). It names no fault: a
message with anything in it that is not plain (another shape, a key given twice, a time out of
bounds) is handed back untouched, to be read exactly.

A key given twice leaves no trace in what is decoded. But every field decoded stands for a known
number of quote characters at least; a payload that has more of them holds something else, too:
a field that nobody knows, which is no harm, or a duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from numpy.typing import NDArray

from ingest.columns import Columns
from ingest.decode_exact import ELEMENTS_MAX
from ingest.directory import Directory
from ingest.fast_fields import (
    exact_columns,
    is_utf8,
    quality_column,
    start_column,
    text_column,
    time_column,
    unit_column,
    whole_column,
)
from ingest.judge import REVISION_MAX, SEQ_MAX
from metering.readings import FUTURE_MAX_MS, NO_SEQ

_Text = str | UnsetType | None
_Whole = int | UnsetType | None
_Time = int | float | str
"""Floats are let in so that they are seen, and handed back."""


class Element(Struct, gc=False):
    """One reading as it is sent."""

    time: _Time
    value: Raw
    start: _Time | UnsetType | None = UNSET
    unit: _Text = UNSET
    serial: _Text = UNSET
    product: _Text = UNSET
    quality: _Text = UNSET
    point: _Text = UNSET
    seq: _Whole = UNSET
    revision: _Whole = UNSET


class Gateway(Struct, gc=False):
    """The message of a gateway that reads all its meters at once."""

    time: _Time
    values: dict[str, Raw]
    start: _Time | UnsetType | None = UNSET
    gateway: _Time | UnsetType | None = UNSET
    sent: _Time | UnsetType | None = UNSET
    seq: _Whole = UNSET


_decode_one = msgspec.json.Decoder(Element).decode
_decode_many = msgspec.json.Decoder(list[Element]).decode
_decode_gateway = msgspec.json.Decoder(Gateway).decode
_decode_any = msgspec.json.Decoder(dict[str, Raw] | list[dict[str, Raw]]).decode
NOT_PLAIN = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class NotPlain(Exception):
    """A message that is to be read exactly; never seen outside this file."""


@dataclass(slots=True)
class _Pool:
    """Elements of many messages; ``owners``: each one's message, ``points``: its roster index.

    ``messages``: those that have elements here. ``surplus``: how many more quotes gateways'
    messages have than their elements stand for; they are checked as they are added.
    """

    elements: list[Element] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    gateways: set[int] = field(default_factory=set)
    surplus: int = 0


@dataclass(slots=True)
class Fields:
    """The fields of elements, a list each."""

    time: list[Any]
    value: list[Raw]
    start: list[Any]
    unit: list[Any]
    serial: list[Any]
    product: list[Any]
    quality: list[Any]
    point: list[Any]
    seq: list[Any]
    revision: list[Any]


def decode_fast(
    directory: Directory, codes: Sequence[int], payloads: Sequence[bytes], received: NDArray[np.int64]
) -> tuple[Columns, list[int]]:
    """Takes the plain messages of a batch, and hands back the numbers of all others.

    ``codes``: where each message's topic leads (``Directory.codes``); ``received``: UTC ms of each.
    """
    pool, others = _pool(directory, codes, payloads)
    fields = fields_of(pool.elements)
    others |= _unaccounted(pool, fields, payloads)
    columns, bad = columns_of(directory, pool.owners, pool.points, fields, received)
    others.update(columns.order[bad].tolist())
    if others:
        keep = ~np.isin(columns.order, np.array(sorted(others), np.int64))
        columns = columns.pick(np.flatnonzero(keep))
    return columns, sorted(others)


def _pool(directory: Directory, codes: Sequence[int], payloads: Sequence[bytes]) -> tuple[_Pool, set[int]]:
    count = len(codes)
    if codes and min(codes) >= 0:
        try:  # one reading a message, all of them plain: what meters mostly send
            elements = list(map(_decode_one, payloads))
            if all(e.point is UNSET for e in elements):
                messages = list(range(count))
                return _Pool(elements, messages, list(codes), messages), set()
        except NOT_PLAIN:
            pass
    pool, others = _Pool(), set()
    for i in range(count):
        try:
            _add(pool, directory, codes[i], payloads[i], i)
        except (*NOT_PLAIN, NotPlain):
            others.add(i)
    return pool, others


def _add(pool: _Pool, directory: Directory, code: int, payload: bytes, owner: int) -> None:
    """Adds a message's elements, or none of them."""
    many = payload.startswith(b"[")
    if code >= 0:
        elements = _decode_many(payload) if many else [_decode_one(payload)]
        points = [code] * len(elements)
        if any(e.point is not UNSET for e in elements):
            raise NotPlain
    elif code == Directory.UNKNOWN:
        raise NotPlain
    elif many:
        elements = _decode_many(payload)
        points = _named(directory, code, [e.point for e in elements])
    else:
        elements, points = _gateway(directory, code, payload)
    if not 0 < len(elements) <= ELEMENTS_MAX:
        raise NotPlain
    pool.elements += elements
    pool.owners += [owner] * len(elements)
    pool.points += points
    pool.messages.append(owner)
    if code < 0 and not many:
        pool.gateways.add(owner)
        pool.surplus += payload.count(b'"') - _stood_for(elements)


def _named(directory: Directory, code: int, names: Sequence[Any]) -> list[int]:
    """Roster indices of points of the plant that ``code`` stands for."""
    known = directory.points_of(code)
    points = [known.get(name, -1) for name in names]
    if points and min(points) < 0:
        raise NotPlain
    return points


def _gateway(directory: Directory, code: int, payload: bytes) -> tuple[list[Element], list[int]]:
    message = _decode_gateway(payload)
    values = message.values
    if payload.count(b'"') != _gateway_quotes(message) and _gateway_has_duplicates(payload, values):
        raise NotPlain
    points = _named(directory, code, list(values))
    start, intervals = message.start, directory.reads_intervals
    return [
        Element(message.time, value, start=start if intervals[point] else UNSET, seq=message.seq)
        for point, value in zip(points, values.values(), strict=True)
    ], points


def _gateway_has_duplicates(payload: bytes, values: dict[str, Raw]) -> bool:
    top = _decode_any(payload)
    inside = bytes(top["values"]) if isinstance(top, dict) else b""
    return has_duplicates(payload) or inside.count(b'"') != _own_quotes(values)


def _gateway_quotes(message: Gateway) -> int:
    fields = (message.time, message.start, message.gateway, message.sent, message.seq)
    own = sum(2 + 2 * isinstance(value, str) for value in fields if value is not UNSET)
    return own + 2 + 2 * len(message.values) + b"".join(message.values.values()).count(b'"')


def fields_of(elements: list[Element]) -> Fields:
    return Fields(
        [e.time for e in elements],
        [e.value for e in elements],
        [e.start for e in elements],
        [e.unit for e in elements],
        [e.serial for e in elements],
        [e.product for e in elements],
        [e.quality for e in elements],
        [e.point for e in elements],
        [e.seq for e in elements],
        [e.revision for e in elements],
    )


def quotes_of(fields: Fields) -> int:
    """The quotes that elements stand for: two for each key, two for each text."""
    count = len(fields.time)
    total = 4 * count + 2 * _texts(fields.time) + b"".join(fields.value).count(b'"')
    for column in (fields.start, fields.unit, fields.serial, fields.product, fields.quality, fields.point):
        absent = column.count(UNSET)
        if absent != count:
            total += 2 * (count - absent) + 2 * _texts(column)
    return total + 2 * (2 * count - fields.seq.count(UNSET) - fields.revision.count(UNSET))


def _stood_for(elements: list[Element]) -> int:
    """``quotes_of`` of a gateway message's elements: each has time and value, some have start and seq."""
    first = elements[0]
    each = 4 + 2 * isinstance(first.time, str) + 2 * (first.seq is not UNSET)
    starts = [e.start for e in elements if e.start is not UNSET]
    values = b"".join([e.value for e in elements]).count(b'"')
    return each * len(elements) + 2 * len(starts) + 2 * _texts(starts) + values


def _texts(column: list[Any]) -> int:
    return list(map(type, column)).count(str)


def _unaccounted(pool: _Pool, fields: Fields, payloads: Sequence[bytes]) -> set[int]:
    """Messages with more quotes than their elements stand for, or that are not UTF-8.

    No message can have fewer, so that equal sums mean equality message by message.
    """
    joined = b",".join([payloads[i] for i in pool.messages])
    if is_utf8(joined) and joined.count(b'"') == quotes_of(fields) + pool.surplus:
        return set()
    first_of = dict(zip(reversed(pool.owners), range(len(pool.owners) - 1, -1, -1), strict=True))
    ends = [*[first_of[i] for i in pool.messages[1:]], len(pool.owners)]
    found = set()
    for i, end in zip(pool.messages, ends, strict=True):
        stood_for = -1 if i in pool.gateways else quotes_of(fields_of(pool.elements[first_of[i] : end]))
        more = stood_for >= 0 and payloads[i].count(b'"') != stood_for
        if not is_utf8(payloads[i]) or (more and has_duplicates(payloads[i])):
            found.add(i)
    return found


def has_duplicates(payload: bytes) -> bool:
    """Whether more quotes may mean a key given twice, rather than fields that nobody knows."""
    try:
        objects = _decode_any(payload)
    except NOT_PLAIN:
        return True
    return payload.count(b'"') != sum(map(_own_quotes, objects if isinstance(objects, list) else [objects]))


def _own_quotes(fields: dict[str, Raw]) -> int:
    return 2 * len(fields) + b"".join(fields.values()).count(b'"')


def columns_of(
    directory: Directory, owners: list[int], points: list[int], fields: Fields, received: NDArray[np.int64]
) -> tuple[Columns, NDArray[np.bool_]]:
    """The columns, and which rows are not plain; those hold nonsense.

    ``owners``: each element's message, ``points``: its roster index; ``received``: UTC ms of each message.
    """
    order, point = np.array(owners, np.int64), np.array(points, np.int64)
    latest = received[order] + FUTURE_MAX_MS
    time, bad = time_column(fields.time, latest)
    mantissa, exponent, flags, bad_value = exact_columns(fields.value)
    start, bad_start = start_column(fields.start, time, latest, directory.reads_intervals[point])
    unit, bad_unit = unit_column(directory, fields.unit, points)
    serial, bad_serial = text_column(fields.serial)
    product, bad_product = text_column(fields.product)
    revision, bad_revision = whole_column(fields.revision, 0, REVISION_MAX)
    seq, bad_seq = whole_column(fields.seq, NO_SEQ, SEQ_MAX)
    quality, bad_quality = quality_column(fields.quality)
    for more in (bad_value, bad_start, bad_unit, bad_serial, bad_product, bad_revision, bad_seq, bad_quality):
        if more is not None:
            bad = bad | more
    columns = Columns(
        order, point, time, start, mantissa, exponent, flags, revision.astype(np.int32), seq, quality,
        unit, serial, product,
    )  # fmt: skip
    return columns, bad
