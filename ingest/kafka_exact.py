"""JSON readings of a Kafka topic read exactly, field by field: the reference, and what names every fault."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.decode import payload_text
from ingest.decode_exact import json_values
from ingest.directory import Directory
from ingest.judge import TEXT_SIZE_MAX, Json, NotFinite, Number, Object, Reading, judge, kind, time_of
from ingest.kafka_fields import JsonFields
from ingest.numbers import Fault, shown
from ingest.reasons import Reason


@dataclass(frozen=True, slots=True)
class Refused:
    """A reading not taken: what is known of it, and why. ``payload``: its own text."""

    plant: str
    point: str | None
    time: int | None
    fault: Fault
    payload: str


def read_value(
    directory: Directory, names: JsonFields, value: bytes, received_ms: int
) -> tuple[list[Reading], list[Refused]]:
    """The readings of one record's value, and a refusal for each that is not taken.

    A value refused as a whole gives one refusal.
    """
    found = json_values(value)
    if isinstance(found, Fault):
        return [], [Refused("", None, None, found, payload_text(value))]
    taken: list[Reading] = []
    refused: list[Refused] = []
    for text, one in found:
        reading = _read(directory, names, one, received_ms)
        if isinstance(reading, Reading):
            taken.append(reading)
        else:
            refused.append(_refused(directory, names, one, reading, text))
    return taken, refused


def _read(directory: Directory, names: JsonFields, value: Json | Fault, received_ms: int) -> Reading | Fault:
    if isinstance(value, Fault):
        return value
    if not isinstance(value, Object):
        return Fault(Reason.WRONG_SHAPE, f"expected an object, got {kind(value)}")
    if value.duplicate is not None:
        return Fault(Reason.DUPLICATE_KEY, f"{shown(value.duplicate)!r} is given twice")
    point = _point(directory, names, value)
    if isinstance(point, Fault):
        return point
    own = {ours: value[theirs] for ours, theirs in names.names.items() if theirs in value}
    return judge(directory, point, own, received_ms)


def _point(directory: Directory, names: JsonFields, value: Object) -> int | Fault:
    plant, point = _text(value, names.plant), _text(value, names.point)
    if isinstance(plant, Fault):
        return plant
    if isinstance(point, Fault):
        return point
    if plant not in directory.names:
        return Fault(Reason.UNKNOWN_PLANT, f"no plant {shown(plant)!r} in the site file")
    return directory.find(plant, point)


def _text(value: Object, name: str) -> str | Fault:
    found = value.get(name)
    if name not in value:
        return Fault(Reason.WRONG_SHAPE, f"names no {name}")
    if not isinstance(found, str) or isinstance(found, (Number, NotFinite)):
        return Fault(Reason.WRONG_SHAPE, f"{name}: expected a text, got {kind(found)}")
    return found


def _refused(
    directory: Directory, names: JsonFields, value: Json | Fault, fault: Fault, text: str
) -> Refused:
    payload = payload_text(text.encode(errors="replace"))
    if not isinstance(value, Object):
        return Refused("", None, None, fault, payload)
    plant, point = _text(value, names.plant), _text(value, names.point)
    time = time_of(value.get(names.time))
    return Refused(
        plant if isinstance(plant, str) and plant in directory.names else "",
        shown(point, TEXT_SIZE_MAX) if isinstance(point, str) else None,
        time if isinstance(time, int) else None,
        fault,
        payload,
    )
