"""The small words of a site file: ids, durations, stamps, exact numbers, limits, percentages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from metering.faults import did_you_mean
from metering.measures import ALIASES, ENERGIES, ENERGY, MEASURES
from metering.units import UNITS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_DURATION_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_STAMP_EXAMPLE: Final = "2025-06-01T10:00:00+08:00"
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_DAYS = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?: to ([0-9]{4}-[0-9]{2}-[0-9]{2}))?")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([^\s/]+)(?:/(s|min|h|d))?")
_RATE_MS: Final = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_PERCENT = re.compile(r"([+-]?[0-9]+(?:\.[0-9]+)?)\s*%")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_EXPONENT_MAX: Final = 24
_ID_HINT: Final = "Use letters, digits, - and _."
ID_LENGTH_MAX: Final = 128


def wrong(what: str, proposal: str = "") -> PydanticCustomError:
    """A fault as pydantic carries it; braces in texts are kept as they are."""
    return PydanticCustomError("fault", "{what}", {"what": what, "proposal": proposal})


@dataclass(frozen=True, slots=True)
class Rate:
    """An amount of a unit per time, such as ``80 m3/h``; ``per_ms`` is 0 for a power (``500 kW``)."""

    amount: Decimal
    unit: str
    per_ms: int


def _text(value: Any, example: str) -> str:
    if isinstance(value, str):
        return value.strip()
    raise wrong(f"'{value}' is not of the form {example}", f"Write it like {example}.")


def delay_ms(value: Any) -> int:
    """``60s``, ``10m``, ``1h``, ``1d`` in milliseconds; ``0s`` is no delay."""
    found = _DURATION.fullmatch(_text(value, "60s, 10m, 1h or 1d"))
    if not found:
        raise wrong(f"'{value}' is not a duration", "Write a number with s, m, h or d, such as 60s or 10m.")
    return int(found[1]) * _DURATION_MS[found[2]]


def duration_ms(value: Any) -> int:
    """A delay of more than nothing."""
    if length_ms := delay_ms(value):
        return length_ms
    raise wrong("a duration of nothing", "Write how long, such as 60s or 10m.")


def stamp_ms(value: Any) -> int:
    """An RFC 3339 stamp with its zone, in UTC milliseconds; what is finer is cut off."""
    text = _text(value, _STAMP_EXAMPLE)
    if not _STAMP.fullmatch(text):
        raise wrong(f"'{value}' is not a time with its zone", f"Write it like {_STAMP_EXAMPLE}.")
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise wrong(f"'{value}' is not a time: {error}", "Look at the day, the hour and the zone.") from error


def days(value: Any) -> tuple[int, int]:
    """``2026-10-01``, or ``2026-10-01 to 2026-10-07``: its first and last day, 1970-01-01 being 0."""
    found = _DAYS.fullmatch(_text(value, "2026-10-01 or 2026-10-01 to 2026-10-07"))
    if not found:
        proposal = "Write it like 2026-10-01 or 2026-10-01 to 2026-10-07."
        raise wrong(f"'{value}' is not a day, nor days from one to another", proposal)
    try:
        first, last = (date.fromisoformat(text) for text in (found[1], found[2] or found[1]))
    except ValueError as error:
        raise wrong(f"'{value}' is not in the calendar: {error}", "Look at the month and the day.") from error
    if last < first:
        raise wrong(f"'{value}' ends before it begins", f"Write it as {last} to {first}.")
    if last - first > timedelta(days=366):
        raise wrong(f"'{value}' is more than a year", "Look at the years, or write a line for each year.")
    return (first - _EPOCH.date()).days, (last - _EPOCH.date()).days


def exact(value: Any) -> Decimal:
    """A number without rounding: never through a float."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        value = Decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise wrong(f"'{value}' is not a number", "Write digits with a point, such as 40 or 0.25.")
    number = Decimal(value)
    if not number.is_finite():
        raise wrong(f"'{value}' is not a number", "Write digits with a point, such as 40 or 0.25.")
    digits, exponent = len(number.as_tuple().digits), number.as_tuple().exponent
    if number and (digits > _EXPONENT_MAX or abs(int(exponent)) > _EXPONENT_MAX):
        raise wrong(f"'{value}' has too many digits", f"Keep to {_EXPONENT_MAX} digits.")
    return number


def rate(value: Any) -> Rate:
    """``500 kW``, ``80 m3/h``: an amount per time."""
    if isinstance(value, Rate):
        return value
    found = _RATE.fullmatch(_text(value, "500 kW or 80 m3/h"))
    if not found:
        raise wrong(f"'{value}' is not a number with a unit per time", "Write it like 500 kW or 80 m3/h.")
    return Rate(Decimal(found[1]), found[2], _RATE_MS[found[3]] if found[3] else 0)


def percent(value: Any) -> Decimal:
    """``-16%`` as -0.16."""
    found = _PERCENT.fullmatch(_text(value, "-16%"))
    if not found:
        raise wrong(f"'{value}' is not a percentage", "Write it like -16%.")
    return Decimal(found[1]) / 100


def identifier(value: Any) -> str:
    """Text that may be part of an MQTT topic and of a scope."""
    if not isinstance(value, str):
        raise wrong(f"an id is text, and '{value}' is not", f'Write it in quotes: "{value}".')
    bad = next((c for c in value if c in "/+#" or not c.isprintable()), None)
    if bad is not None:
        raise wrong(f"the id {value!r} has {bad!r} in it, which topics cannot hold", _ID_HINT)
    if not value or value != value.strip() or len(value) > ID_LENGTH_MAX:
        raise wrong(f"the id {value[:40]!r} is empty, too long or has blanks around it", _ID_HINT)
    if value == "decision":
        raise wrong("the id 'decision' has a meaning of its own in topics", "Choose another id.")
    return value


def _plain(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(f"this is text, and '{value}' is not", f'Write it in quotes: "{value}".')
    if any(not c.isprintable() for c in value):
        raise wrong("there are characters in it that cannot be shown", "Use printable text.")
    return value


def _serial(value: Any) -> str:
    text = _plain(value)
    if not text or text != text.strip():
        raise wrong("a serial number is not empty and has no blanks around it", "Leave it out if unknown.")
    return text


def _accuracy(value: Any) -> str:
    text = str(value)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?S?", text):
        raise wrong(f"'{value}' is not an accuracy class", "Write it like 0.5S or 2.")
    return text


class Word:
    """Marks a str as a word of a vocabulary; ``aliases`` are other spellings, turned into the known one."""

    def __init__(self, kind: str, words: Iterable[str], aliases: dict[str, str] | None = None) -> None:
        self.kind, self.words, self.aliases = kind, tuple(words), aliases or {}

    def check(self, value: Any) -> str:
        text = str(value) if type(value) is int else value  # YAML reads the unit 1 as a number
        word = self.aliases.get(text, text) if isinstance(text, str) else text
        if isinstance(word, str) and word in self.words:
            return word
        raise wrong(f"'{value}' is not a known {self.kind}", did_you_mean(str(value), self.words))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        numbers = [int(word) for word in self.words if word.isdecimal()]
        kinds: str | list[str] = ["string", "integer"] if numbers else "string"
        return {"type": kinds, "enum": [*self.words, *self.aliases, *numbers]}


def listed(value: Any) -> Any:
    """Refuses a single text where a list of them belongs."""
    if isinstance(value, str):
        raise wrong(f"'{value}' is a text where a list belongs", f"Write it as a list: [{value}].")
    return value


def _schema(pattern: re.Pattern[str], *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$", "examples": list(examples)})


_NUMBER_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^{_DECIMAL.pattern}$"}]}
)

Id = Annotated[
    str,
    BeforeValidator(identifier),
    WithJsonSchema({"type": "string", "pattern": "^[^/+#]+$", "maxLength": ID_LENGTH_MAX}),
]
Text = Annotated[str, BeforeValidator(_plain)]
Serial = Annotated[str, BeforeValidator(_serial)]
Accuracy = Annotated[
    str, BeforeValidator(_accuracy), WithJsonSchema({"type": ["string", "number"], "examples": ["0.5S", 2]})
]
DelayMs = Annotated[int, BeforeValidator(delay_ms), _schema(_DURATION, "0s", "10m")]
DurationMs = Annotated[int, BeforeValidator(duration_ms), _schema(_DURATION, "60s", "10m", "1h", "1d")]
StampMs = Annotated[int, BeforeValidator(stamp_ms), WithJsonSchema({"type": "string", "format": "date-time"})]
Days = Annotated[
    tuple[int, int], BeforeValidator(days), _schema(_DAYS, "2026-10-01", "2026-10-01 to 2026-10-07")
]
Exact = Annotated[Decimal, BeforeValidator(exact), _NUMBER_SCHEMA]
Limit = Annotated[Rate, BeforeValidator(rate), _schema(_RATE, "500 kW", "80 m3/h")]
Percent = Annotated[Decimal, BeforeValidator(percent), _schema(_PERCENT, "-16%")]
Year = Annotated[int, Strict(), Field(ge=1950, le=2100)]
Digits = Annotated[int, Strict(), Field(ge=1, le=15)]
Decimals = Annotated[int, Strict(), Field(ge=0, le=6)]

MeasureName = Annotated[str, Word("measure", MEASURES, ALIASES)]
EnergyName = Annotated[str, Word("energy", ENERGIES, ALIASES)]
NumeratorName = Annotated[str, Word("measure", [ENERGY, *MEASURES], ALIASES)]
UnitName = Annotated[str, Word("unit", UNITS, {"m³": "m3", "m²": "m2", "l": "L"})]
NumeratorUnit = Annotated[str, Word("unit", [*UNITS, "kgce", "kgCO2e"], {"m³": "m3"})]
