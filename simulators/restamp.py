"""Moves the stamps inside payloads: everything else of a payload stays as it is, byte for byte.

Known are the payloads of readings and decisions (``meterflow/v1/...``). Others may hold stamps that
nobody here knows of: they are not moved but refused. Stamps move by whole minutes, so that what was
read at the full minute still is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

MINUTE_MS = 60_000
_PREFIX = "meterflow/v1/"
_READING = {"time": True, "start": False, "sent": False}
_DECISION = {"from": True, "to": True}
"""Keys of stamps, and which of them an object must have."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})([Tt ])([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 as the times compared with it
_MS = timedelta(milliseconds=1)
_read = msgspec.json.Decoder().decode


class Unmovable(Exception):
    """Why the stamps of a payload cannot be moved."""


def moved(topic: str, payload: bytes, minutes: int) -> bytes:
    """The payload with its stamps later by so many minutes. Raises Unmovable."""
    text, pieces, end = _text(topic, payload), [], 0
    for begin, behind in _places(topic, text):
        pieces += [text[end:begin], _later(text[begin:behind], minutes)]
        end = behind
    return "".join((*pieces, text[end:])).encode()


def stamps(topic: str, payload: bytes) -> list[int]:
    """The stamps of a payload, in milliseconds since 1970. Raises Unmovable."""
    text = _text(topic, payload)
    return [_instant_ms(text[begin:behind]) for begin, behind in _places(topic, text)]


def _text(topic: str, payload: bytes) -> str:
    levels = topic.removeprefix(_PREFIX).split("/")
    if not topic.startswith(_PREFIX) or len(levels) > 3 or (len(levels) == 3 and levels[2] != "decision"):
        raise Unmovable(f"it is no topic of {_PREFIX}: where its stamps are is not known")
    try:
        _read(payload)
        return payload.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        raise Unmovable("the payload is not JSON") from None


def _places(topic: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the stamps stand: values of keys of the object, or of the objects of an array."""
    wanted = _DECISION if topic.count("/") == 4 else _READING
    needed = sum(wanted.values())
    tokens = _TOKEN.finditer(text)
    objects_at = 2 if text.lstrip()[:1] == "[" else 1
    depth = found = objects = 0
    key: str | None = ""  # the key whose value comes next; empty: a key comes next
    for token in tokens:
        part = token[0]
        if part in "{[":
            depth += 1
            if part == "{" and depth == objects_at:
                key, found, objects = "", 0, objects + 1
        elif part in "}]":
            if part == "}" and depth == objects_at and found < needed:
                raise Unmovable(f"it has no {' and '.join(one for one in wanted if wanted[one])}")
            depth -= 1
        elif depth != objects_at or part == ":":
            continue
        elif part == ",":
            key = ""
        elif key == "" and part[0] == '"':
            key = json.loads(part) or None
        elif key in wanted:
            if part != "null":
                found += wanted[key]
                yield token.span()
            key = None
    if not objects:
        raise Unmovable("it holds no object")


def _instant_ms(value: str) -> int:
    if _INTEGER.fullmatch(value):
        return int(value)
    local, _, zone, fraction = _parts(value)
    offset = timedelta(0)
    if zone not in "Zz":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:])) * (-1 if zone[0] == "-" else 1)
    return (local - offset - _EPOCH) // _MS + int((fraction or ".0")[1:4].ljust(3, "0"))


def _later(value: str, minutes: int) -> str:
    if _INTEGER.fullmatch(value):
        return str(int(value) + minutes * MINUTE_MS)
    local, between, zone, fraction = _parts(value)
    try:
        local += timedelta(minutes=minutes)
    except OverflowError:
        raise Unmovable(f"{value} would leave the calendar") from None
    return f'"{local.date().isoformat()}{between}{local.time().isoformat("seconds")}{fraction}{zone}"'


def _parts(value: str) -> tuple[datetime, str, str, str]:
    """The local time, what stands before the clock, the zone, the fraction with its point."""
    match = _TIME.fullmatch(json.loads(value)) if value[:1] == '"' else None
    if match is None:
        raise Unmovable(f"{value[:60]} is no time: RFC 3339 with a zone, or epoch milliseconds")
    day, between, clock, fraction, zone = match.groups("")
    try:
        return datetime.fromisoformat(f"{day}T{clock}"), between, zone, fraction
    except ValueError:
        raise Unmovable(f"{value[:60]} is no time") from None
