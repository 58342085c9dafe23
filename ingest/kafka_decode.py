"""JSON readings of a Kafka topic in bulk: thousands of records' values in, columns out.

Four ways, each for what the one before it does not take:

1. plain readings of the usual fields are read by a compiled loop (kafka_plain.py); where it was not built,
   records that are laid out alike, as one writer's mostly are, are read as columns (kafka_alike.py);
2. one reading of the usual fields a record: all are parsed at once, as lines of one text;
3. anything plain (arrays, more fields, other plants' habits): parsed value by value;
4. the rest is read exactly, and what is wrong gets its reason (kafka_exact.py).

Joined by line ends, two values are never taken for one: behind a brace that does not end its value
JSON wants a comma or a bracket, and the next line begins with a brace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from ingest.columns import Columns, by_plant, from_readings, joined
from ingest.decode import Decoded, Decoder, Delivery, Rejected, payload_text
from ingest.decode_exact import ELEMENTS_MAX
from ingest.decode_fast import (
    NOT_PLAIN,
    Element,
    Fields,
    NotPlain,
    columns_of,
    fields_of,
    has_duplicates,
    quotes_of,
)
from ingest.evidence import Origin, Senders, users
from ingest.fast_fields import is_utf8
from ingest.judge import Reading
from ingest.kafka_alike import Alike
from ingest.kafka_exact import Refused, read_value
from ingest.kafka_fields import JsonFields
from ingest.kafka_layout import NotAlike
from ingest.kafka_plain import COMPILED, Plain
from ingest.kafka_values import Values
from ingest.numbers import Fault
from ingest.reasons import Reason
from metering.readings import Readings
from metering.roster import Roster

_log = logging.getLogger(__name__)
Longs = NDArray[np.int64]
_QUOTE = ord('"')
_LEAN = ("time", "value", "unit", "point")
_FRAME_READINGS_MAX = 20_000
"""More readings of a plant make several records of the log: 0.8 MB each, mostly digests."""


@dataclass(slots=True)
class Pool:
    """Elements of many values. ``owners``: each one's value, ``points``: its roster index."""

    fields: Fields
    owners: list[int]
    points: list[int]


@dataclass(slots=True)
class _Exact:
    """What the exact reading of values gave."""

    taken: list[Reading] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class TopicDecoder(Decoder):
    """Decodes values of one topic; a delivery's ``topics`` hold the topic's name, once or more.

    ``by_loop``: whether plain readings are read by the compiled loop.
    """

    def __init__(self, roster: Roster, names: JsonFields, *, by_loop: bool = COMPILED) -> None:
        super().__init__(roster)
        self._names, self._kind = names, Plain if by_loop else Alike
        self._made = self._directory, self._kind(self._directory, names)
        self._ignored = [attrgetter(f"ignored_{i}") for i in range(len(names.ignored))]
        lean = _structure(names, _LEAN)
        self._lines: Callable[[bytes], list[Any]] = msgspec.json.Decoder(lean).decode_lines
        whole: Any = _structure(names, Element.__struct_fields__)
        self._one: Callable[[bytes], Any] = msgspec.json.Decoder(whole).decode
        self._many: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[whole]).decode

    def decode(self, deliveries: Sequence[Delivery]) -> Decoded:
        """Takes what can be taken; rejections are in the order of receipt."""
        parts = [self._decoded(delivery) for delivery in deliveries]
        if len(parts) == 1:
            return parts[0]
        readings = [one for part in parts for one in part.readings]
        rejected = [one for part in parts for one in part.rejected]
        return Decoded(readings, rejected, sum(part.received for part in parts))

    def _decoded(self, delivery: Delivery) -> Decoded:
        given = delivery.payloads
        values = given if isinstance(given, Values) else Values.of(given)
        received = np.full(len(values), delivery.received_ms, np.int64)
        columns, others = self._guarded(values, received)
        rejected: list[Rejected] = []
        if others:
            exact = self._one_by_one(values, others, delivery.received_ms)
            columns = joined(columns, from_readings(exact.taken, exact.order))
            topic, received_ms = delivery.topics[0], delivery.received_ms
            rejected = [_rejected(topic, received_ms, one) for one in exact.refused]
        senders = self._senders(delivery, len(values))
        origin = Origin(senders, values, columns.order, keep=self.payloads)
        every = by_plant(self._directory, columns, received, origin)
        readings = [part for one in every for part in _parts(one)]
        return Decoded(readings, rejected, len(columns) + len(rejected))

    def _senders(self, delivery: Delivery, count: int) -> Senders:
        topic = delivery.topics[0]
        user = users([delivery.login], [count])
        return Senders(np.zeros(count, np.int64), lambda _: topic, user, self.roster.version)

    @property
    def _first(self) -> Plain | Alike:
        """What reads plain readings, for the roster as it is now."""
        if self._made[0] is not self._directory:
            self._made = self._directory, self._kind(self._directory, self._names)
        return self._made[1]

    # -- in bulk ----------------------------------------------------------------------------------

    def _guarded(self, values: Values, received: Longs) -> tuple[Columns, Sequence[int]]:
        """The quick way; should it fail by a mistake of ours, there is the other one."""
        try:
            return self.in_bulk(values, received)
        except Exception:  # noqa: BLE001
            _log.exception("a batch of %d values could not be decoded at once", len(values))
            return from_readings((), ()), range(len(values))

    def in_bulk(self, values: Values, received: Longs) -> tuple[Columns, list[int]]:
        """What is plain, and the numbers of the values that are not. ``received``: UTC ms of each."""
        columns, left = from_readings((), ()), list(range(len(values)))
        with suppress(NotAlike):
            columns, left = _without(*self._first.columns(values, received), set())
        if not left:
            return columns, left
        more, others = self._parsed(values.some(left), received[left])
        numbers = np.array(left, np.int64)
        return joined(columns, replace(more, order=numbers[more.order])), numbers[others].tolist()

    def _parsed(self, values: list[bytes], received: Longs) -> tuple[Columns, list[int]]:
        try:
            pool, others = self.as_lines(values), set[int]()
        except (*NOT_PLAIN, NotPlain, KeyError):
            pool, others = self._value_by_value(values)
        columns, bad = columns_of(self._directory, pool.owners, pool.points, pool.fields, received)
        return _without(columns, bad, others)

    def as_lines(self, values: list[bytes]) -> Pool:
        """All values as lines of one text.

        Raises NotPlain, one of NOT_PLAIN or KeyError where a value is anything but one reading, of a
        known point, of the usual fields.
        """
        lines, count = b"\n".join(values), len(values)
        if not (lines.startswith(b"{") and lines.endswith(b"}") and is_utf8(lines)):
            raise NotPlain
        if not lines.count(b"\n") == lines.count(b"}\n{") == count - 1:
            raise NotPlain
        elements = self._lines(lines)
        if len(elements) != count:
            raise NotPlain
        absent: list[Any] = [UNSET] * count
        fields = Fields(
            time=[e.time for e in elements],
            value=[e.value for e in elements],
            start=absent,
            unit=[e.unit for e in elements],
            serial=absent,
            product=absent,
            quality=absent,
            point=[e.point for e in elements],
            seq=absent,
            revision=absent,
        )
        if _quotes(lines) != quotes_of(fields) + self._further_quotes(elements):
            raise NotPlain
        names = self._directory.names
        points = [names[e.plant][e.point] for e in elements]
        return Pool(fields, list(range(count)), points)

    def _value_by_value(self, values: list[bytes]) -> tuple[Pool, set[int]]:
        """Value by value, arrays too."""
        elements: list[Any] = []
        owners: list[int] = []
        points: list[int] = []
        others: set[int] = set()
        for i, value in enumerate(values):
            try:
                mine, its = self._elements(value)
            except (*NOT_PLAIN, NotPlain, KeyError):
                others.add(i)
                continue
            elements += mine
            points += its
            owners += [i] * len(mine)
        return Pool(fields_of(elements), owners, points), others

    def _elements(self, value: bytes) -> tuple[list[Any], list[int]]:
        elements = self._many(value) if value.startswith(b"[") else [self._one(value)]
        if not 0 < len(elements) <= ELEMENTS_MAX or not is_utf8(value):
            raise NotPlain
        stood_for = quotes_of(fields_of(elements)) + self._further_quotes(elements)
        if value.count(b'"') != stood_for and has_duplicates(value):
            raise NotPlain
        names = self._directory.names
        return elements, [names[e.plant][e.point] for e in elements]

    def _further_quotes(self, elements: list[Any]) -> int:
        """The quotes of plants and of fields that mean nothing."""
        total = 4 * len(elements)
        for ignored in self._ignored:
            column = list(map(ignored, elements))
            there = column if UNSET not in column else [raw for raw in column if raw is not UNSET]
            total += 2 * len(there) + _quotes(b"".join(there))
        return total

    # -- one by one -------------------------------------------------------------------------------

    def _one_by_one(self, values: Values, numbers: Sequence[int], received_ms: int) -> _Exact:
        exact = _Exact()
        for i, value in zip(numbers, values.some(numbers), strict=True):
            taken, refused = self._read_one(value, received_ms)
            exact.taken += taken
            exact.order += [i] * len(taken)
            exact.refused += refused
        return exact

    def _read_one(self, value: bytes, received_ms: int) -> tuple[list[Reading], list[Refused]]:
        """A mistake of ours must cost its record, not the service: it would be read for ever."""
        try:
            return read_value(self._directory, self._names, value, received_ms)
        except Exception as error:  # noqa: BLE001
            _log.exception("a value of %d bytes could not be decoded", len(value))
            fault = Fault(Reason.NOT_DECODED, type(error).__name__)
            return [], [Refused("", None, None, fault, payload_text(value))]


def _structure(names: JsonFields, wanted: Sequence[str]) -> type:
    """A structure with these fields of ``Element``, the plant, and what is ignored, by the topic's names."""
    given = {f.name: f for f in msgspec.structs.fields(Element)}
    columns: list[Any] = [("plant", str)]
    for name in wanted:
        required = given[name].required or name == "point"
        kind = str if name == "point" else given[name].type
        columns.append((name, kind) if required else (name, kind, UNSET))
    columns.sort(key=len)
    columns += [(f"ignored_{i}", Raw | UnsetType, UNSET) for i in range(len(names.ignored))]
    rename = names.names | {f"ignored_{i}": name for i, name in enumerate(names.ignored)}
    return msgspec.defstruct("Element", columns, rename=rename, gc=False)


def _without(columns: Columns, bad: NDArray[np.bool_], others: set[int]) -> tuple[Columns, list[int]]:
    """The columns of the values that are plain as a whole, and the numbers of all others."""
    if not bad.any() and not others:
        return columns, []
    left = sorted(others.union(columns.order[bad].tolist()))
    keep = ~np.isin(columns.order, np.array(left, np.int64))
    return columns.pick(np.flatnonzero(keep)), left


def _quotes(text: bytes) -> int:
    """As ``count`` of them, many times as fast where there are many."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _QUOTE))


def _parts(readings: Readings) -> list[Readings]:
    """Readings in portions that a record of the log can hold."""
    if len(readings) <= _FRAME_READINGS_MAX:
        return [readings]
    starts = range(0, len(readings), _FRAME_READINGS_MAX)
    return [readings.part(slice(start, start + _FRAME_READINGS_MAX)) for start in starts]


def _rejected(topic: str, received_ms: int, one: Refused) -> Rejected:
    """The row that tells of a refusal."""
    row: dict[str, object] = {
        "received": received_ms,
        "topic": topic,
        "point": one.point,
        "time": one.time,
        "reason": one.fault.reason.value,
        "detail": one.fault.detail,
        "payload": one.payload,
    }
    return Rejected(one.plant, row)
