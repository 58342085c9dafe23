"""What the fields of a topic's JSON readings are called."""

from __future__ import annotations

from dataclasses import dataclass, fields

from metering.errors import UsageError

USUAL = ("plant", "point", "time", "value", "unit")
"""The fields of a plain reading."""
UNITS_MAX = 16
"""So many different units are told apart at once."""


@dataclass(frozen=True, slots=True)
class JsonFields:
    """The names, in the topic, of a reading's fields (interface.md); the defaults are our own names.

    ``ignored``: fields that mean nothing here. One that is named neither here nor there does no harm,
    but costs time: it has to be told from a field given twice.
    """

    plant: str = "plant"
    point: str = "point"
    time: str = "time"
    value: str = "value"
    unit: str = "unit"
    start: str = "start"
    serial: str = "serial"
    product: str = "product"
    revision: str = "revision"
    seq: str = "seq"
    quality: str = "quality"
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [*self.names.values(), *self.ignored]
        if "" in names or len(set(names)) != len(names):
            what = "the fields of a topic's readings need names, each another one"
            raise UsageError(what, where="json_topic.fields", hint=f"They are: {', '.join(names)}.")

    @property
    def names(self) -> dict[str, str]:
        """Our name of each field, and theirs."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "ignored"}
