"""Payloads read exactly, one field at a time: the reference, and what names every fault.

The quick way (decode_fast.py) takes whole batches of plain readings; whatever it does not take
as it is comes here, where each bad element of a message gets its own reason and the rest of the
message is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ingest.directory import Directory, Route
from ingest.judge import TEXT_SIZE_MAX, Json, NotFinite, Number, Object, Reading, judge, kind, time_of
from ingest.numbers import Fault, shown
from ingest.reasons import Reason

ELEMENTS_MAX = 10_000
"""More readings than this in one message are refused with it: a row each would flood the log."""
_GATEWAY_FIELDS = ("time", "start", "gateway", "sent", "seq")
_TOO_DEEP = Fault(Reason.TOO_DEEP, "the JSON is nested too deeply")
_BLANK = re.compile(r"[ \t\n\r]*")
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reading not taken. ``payload``: a message that could be sent again on the same topic."""

    point: str | None
    time: int | None
    reason: Reason
    detail: str
    payload: str | None
    """None: the whole message as it came."""


def _object(pairs: list[tuple[str, Json]]) -> Object:
    found = Object(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        found.duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=NotFinite
)


def read_message(
    directory: Directory, route: Route, payload: bytes, received_ms: int
) -> tuple[list[Reading], list[Refusal]]:
    """The readings of one message, and a refusal for each that is not taken.

    A message refused as a whole gives one refusal.
    """
    try:
        elements = list(_elements(directory, route, payload))
    except _Whole as whole:
        return [], [Refusal(None, whole.time, whole.fault.reason, whole.fault.detail, None)]
    taken: list[Reading] = []
    refused: list[Refusal] = []
    for element in elements:
        found = _judged(directory, element, received_ms)
        if isinstance(found, Reading):
            taken.append(found)
        else:
            refused.append(found)
    return taken, refused


class _Whole(Exception):
    """Nothing of the message can be taken."""

    def __init__(self, fault: Fault, time: int | None = None) -> None:
        super().__init__(fault.detail)
        self.fault = fault
        self.time = time


@dataclass(frozen=True, slots=True)
class _Element:
    """One reading to be judged. ``point``: its index, or why there is none; ``name``: as written."""

    name: str | None
    point: int | Fault
    fields: Json | Fault
    text: Callable[[], str | None]


def _judged(directory: Directory, element: _Element, received_ms: int) -> Reading | Refusal:
    fields = element.fields
    if isinstance(fields, Fault):
        found: Reading | Fault = fields
    elif not isinstance(fields, Object):
        found = Fault(Reason.WRONG_SHAPE, f"expected an object, got {kind(fields)}")
    elif fields.duplicate is not None:
        found = Fault(Reason.DUPLICATE_KEY, f"{shown(fields.duplicate)!r} is given twice")
    elif isinstance(element.point, Fault):
        found = element.point
    else:
        found = judge(directory, element.point, fields, received_ms)
    if isinstance(found, Reading):
        return found
    time = time_of(fields.get("time")) if isinstance(fields, Object) else None
    stated = time if isinstance(time, int) else None
    name = None if element.name is None else shown(element.name, TEXT_SIZE_MAX)
    return Refusal(name, stated, found.reason, found.detail, element.text())


def json_values(payload: bytes) -> list[tuple[str, Json | Fault]] | Fault:
    """The JSON objects of a payload, each with its own text: one, or the elements of an array.

    A value nested too deeply is a Fault in the list; where nothing of the payload can be read, the
    Fault is all.
    """
    try:
        text = _text(payload)
        position = _blank(text, 0)
        if text[position] == "[":
            return list(_array(text, position + 1))
        value, end = _value(text, position)
        if _blank(text, end) != len(text):
            return Fault(Reason.NOT_JSON, f"more text behind the JSON value, at character {end}")
    except _Whole as whole:
        return whole.fault
    return [(text[position:end], value)]


def _elements(directory: Directory, route: Route, payload: bytes) -> Iterator[_Element]:
    text = _text(payload)
    position = _blank(text, 0)
    if text[position] == "[":
        for part, value in _array(text, position + 1):
            name, point = _point_of(directory, route, value)
            yield _Element(name, point, value, partial(str, part if route.point >= 0 else f"[{part}]"))
        return
    value, end = _value(text, position)
    if _blank(text, end) != len(text):
        raise _Whole(Fault(Reason.NOT_JSON, f"more text behind the JSON value, at character {end}"))
    if isinstance(value, Fault):
        raise _Whole(value)
    if route.point < 0 and isinstance(value, Object) and "values" in value:
        yield from _values(directory, route, value)
        return
    name, point = _point_of(directory, route, value)
    yield _Element(name, point, value, _as_it_came)


def _text(payload: bytes) -> str:
    if not payload.strip(b" \t\n\r"):
        raise _Whole(Fault(Reason.EMPTY, "the payload is empty"))
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise _Whole(Fault(Reason.NOT_UTF8, f"at byte {error.start}")) from None


def _point_of(directory: Directory, route: Route, value: Json | Fault) -> tuple[str | None, int | Fault]:
    """The point that an element means: the topic's, or the one it names."""
    named = value.get("point") if isinstance(value, Object) else None
    if named is not None and (not isinstance(named, str) or isinstance(named, (Number, NotFinite))):
        return None, Fault(Reason.WRONG_SHAPE, f"point: expected a text, got {kind(named)}")
    if route.point >= 0:
        own = directory.points[route.point].id
        if named is None or named == own:
            return own, route.point
        return named, Fault(Reason.WRONG_SHAPE, f"names point {shown(named)!r} on the topic of {own!r}")
    if named is None:
        return None, Fault(Reason.WRONG_SHAPE, "names neither a point nor values")
    return named, directory.find(route.plant, named)


def _values(directory: Directory, route: Route, message: Object) -> Iterator[_Element]:
    """The readings of a gateway's message, all of one time; ``seq`` is the message's."""
    values = message["values"]
    if message.duplicate is not None:
        raise _Whole(Fault(Reason.DUPLICATE_KEY, f"{shown(message.duplicate)!r} is given twice"))
    if not isinstance(values, Object):
        raise _Whole(Fault(Reason.WRONG_SHAPE, f"values: expected an object, got {kind(values)}"))
    if values.duplicate is not None:
        raise _Whole(Fault(Reason.DUPLICATE_KEY, f"{shown(values.duplicate)!r} is given twice in values"))
    if not values:
        raise _Whole(Fault(Reason.EMPTY, "values holds no reading"))
    _check_count(len(values))
    shared = {key: message[key] for key in ("time", "seq") if key in message}
    head = _head(message)
    for name, value in values.items():
        point = directory.find(route.plant, name)
        fields = Object(shared, value=value)
        if "start" in message and isinstance(point, int) and directory.reads_intervals[point]:
            fields["start"] = message["start"]
        yield _Element(name, point, fields, partial(_alone, head, name, value))


def _head(message: Object) -> str:
    """A gateway's own fields, as they are repeated in front of each of its readings refused."""
    own = ((key, _json(message[key])) for key in _GATEWAY_FIELDS if key in message)
    return "".join(f"{json.dumps(key)}:{text}," for key, text in own if len(text) <= TEXT_SIZE_MAX)


def _alone(head: str, name: str, value: Json) -> str:
    """A gateway's message with one reading only."""
    return f'{{{head}"values":{{{json.dumps(name)}:{_json(value)}}}}}'


def _as_it_came() -> None:
    return None


def _json(value: Json) -> str:
    """A scalar as it was written. What is no scalar is no reading, and shown as empty."""
    if isinstance(value, (Number, NotFinite)):
        return str(value)
    if isinstance(value, dict):
        return "{}"
    return "[]" if isinstance(value, list) else json.dumps(value)


def _array(text: str, position: int) -> Iterator[tuple[str, Json | Fault]]:
    """The elements of an array behind its bracket, each with its own text."""
    position = _blank(text, position)
    if text[position : position + 1] == "]":
        raise _Whole(Fault(Reason.EMPTY, "the array holds no reading"))
    count = 0
    while True:
        value, end = _value(text, position)
        yield text[position:end], value
        count += 1
        _check_count(count)
        position = _blank(text, end)
        mark = text[position : position + 1]
        if mark == "]" and _blank(text, position + 1) == len(text):
            return
        if mark != ",":
            raise _Whole(Fault(Reason.NOT_JSON, f"the array breaks off or goes on at character {position}"))
        position = _blank(text, position + 1)


def _value(text: str, position: int) -> tuple[Json | Fault, int]:
    """One JSON value and its end; one that is nested too deeply is passed over."""
    try:
        value, end = _DECODER.raw_decode(text, position)
        return value, end
    except json.JSONDecodeError as error:
        raise _Whole(Fault(Reason.NOT_JSON, f"{error.msg} at character {error.pos}")) from None
    except RecursionError:
        return _TOO_DEEP, _end_of_nested(text, position)


def _end_of_nested(text: str, position: int) -> int:
    depth = 0
    for match in _BRACKETS.finditer(text, position):
        first, size = text[match.start()], match.end() - match.start()
        if first in "[{":
            depth += size
        elif first in "]}":
            if size >= depth:
                return match.start() + depth
            depth -= size
    raise _Whole(_TOO_DEEP)


def _blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    assert match is not None
    return match.end()


def _check_count(count: int) -> None:
    if count > ELEMENTS_MAX:
        raise _Whole(Fault(Reason.TOO_LARGE, f"more than {ELEMENTS_MAX} readings in one message"))
