"""A meter export (CSV, Excel, Parquet) into a recording, by a mapping file.

One row of the file is one message. Values stay the decimal texts that stand in the file; what
cannot be read is counted and reported with its place, and does not stop the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from metering.errors import UsageError
from metering.instants import rfc3339
from simulators.convert_map import ColumnReading, FileForm, Mapping, load_mapping
from simulators.convert_stamps import Midnights, Stamps
from simulators.convert_table import Cell, Progress, read_table
from simulators.recording import Message, write_recording

UNREADABLE_SHOWN_MAX = 100
NO_NUMBER = (
    "is not a decimal number: where it means no value, add it to file.empty; for other marks set file.decimal"
    " and file.thousands"
)
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_encode_text: Callable[[str], bytes] = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stamp or a value that could not be read: the line or row of the file, from 1, and why."""

    line: int
    column: str
    text: str
    reason: str


@dataclass(slots=True)
class Summary:
    """What came of a conversion. ``rows`` = messages + rows_empty + rows_unreadable."""

    rows: int = 0
    messages: int = 0
    readings: int = 0
    cells_empty: int = 0
    cells_unreadable: int = 0
    rows_empty: int = 0
    rows_unreadable: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    unreadable: list[Unreadable] = field(default_factory=list)
    """The first hundred of them."""

    def note(self, line: int, column: str, text: object, reason: str) -> None:
        if len(self.unreadable) < UNREADABLE_SHOWN_MAX:
            self.unreadable.append(Unreadable(line, column, str(text)[:80], reason))

    def span(self, end_ms: int) -> None:
        self.first_ms = end_ms if self.first_ms is None else min(self.first_ms, end_ms)
        self.last_ms = end_ms if self.last_ms is None else max(self.last_ms, end_ms)


def convert(source: Path, map_path: Path, out: Path, progress: Progress | None = None) -> Summary:
    """Writes the recording ``out``; raises UsageError for a wrong source or mapping file.

    ``progress`` is called now and then with what is done and the whole (bytes or rows).
    """
    mapping, summary = load_mapping(map_path), Summary()
    with write_recording(out, whole=True) as recording:
        recording.write_all(converted(source, mapping, summary, progress))
    return summary


def converted(
    source: Path, mapping: Mapping, summary: Summary, progress: Progress | None = None
) -> Iterator[Message]:
    """The messages of an export, in the order of its rows; ``summary`` is kept as they come.

    Raises UsageError at the end where the rows of 00:00 are another day's than the mapping file says.
    """
    stamps, values_of = Stamps(mapping.time), _Values(mapping, summary)
    builder = _MessageBuilder(mapping)
    width = len(mapping.time.column)
    for line, cells in read_table(source, mapping.file, _columns(mapping), progress):
        summary.rows += 1
        stamp = cells[0] if width == 1 else " ".join(map(str, cells[:width]))
        try:
            start_ms, end_ms = stamps.span(stamp, line)
        except (ValueError, OverflowError) as error:
            summary.rows_unreadable += 1
            reason = "is the header again" if stamp == " ".join(mapping.time.column) else str(error)
            summary.note(line, " ".join(mapping.time.column), stamp, reason)
            continue
        values = values_of.row(line, cells[width:])
        if any(values):
            summary.span(end_ms)
            summary.messages += 1
            yield builder.message(start_ms, end_ms, values)
        else:
            summary.rows_empty += 1
    _midnights_are_as_said(source, stamps.midnights)


def _midnights_are_as_said(source: Path, midnights: Midnights) -> None:
    line, count, rule = midnights.otherwise()
    if line:
        raise UsageError(
            f"{count} rows of 00:00, the first one here, carry the date of the day that"
            f" {'ends' if rule == 'old_day' else 'begins'} there: read otherwise, each jumps a day",
            where=f"{source}:{line}",
            hint=f"write 'midnight: {rule}' under 'time' in the mapping file",
        )


def _columns(mapping: Mapping) -> list[str]:
    """Those of the stamp, those of the values, those that say which rows are a reading's."""
    readings = mapping.readings
    named = [column for reading in readings for column in reading.where]
    return [*mapping.time.column, *(reading.column for reading in readings), *named]


class _Values:
    """A row's values as JSON numbers; empty texts for what is empty, unreadable or another row's."""

    def __init__(self, mapping: Mapping, summary: Summary) -> None:
        self._mapping, self._summary = mapping, summary
        self._empty = frozenset(text.casefold() for text in mapping.file.empty)
        self._where = [list(reading.where.values()) for reading in mapping.readings]

    def row(self, line: int, cells: Sequence[Cell]) -> list[str]:
        readings = self._mapping.readings
        named = iter(cells[len(readings) :])
        values = []
        for cell, reading, where in zip(cells, readings, self._where, strict=False):
            ours = [str(next(named)).strip() for _ in where] == where
            values.append(self._value(line, cell, reading) if ours else "")
        return values

    def _value(self, line: int, cell: Cell, reading: ColumnReading) -> str:
        text, summary = str(cell).strip(), self._summary
        if text.casefold() in self._empty:
            summary.cells_empty += 1
            return ""
        value = json_number(text, self._mapping.file)
        if not value:
            summary.cells_unreadable += 1
            summary.note(line, reading.column, cell, NO_NUMBER)
        summary.readings += bool(value)
        return value


def json_number(text: str, form: FileForm) -> str:
    """The same digits as a JSON number; empty when the text is no decimal number."""
    text = text.replace("\u2212", "-")
    if form.thousands and form.thousands in text:
        mark = re.escape(form.thousands)
        whole, point, rest = text.partition(form.decimal)
        if not re.fullmatch(rf"[+-]?[0-9]{{1,3}}({mark}[0-9]{{3}})+", whole):
            return ""
        text = whole.replace(form.thousands, "") + point + rest
    if form.decimal != ".":
        if "." in text:
            return ""
        text = text.replace(form.decimal, ".")
    if _JSON_NUMBER.fullmatch(text):
        return text
    return _normal_number(text)


def _normal_number(text: str) -> str:
    """``+3``, ``007``, ``.5``, ``5.`` as JSON writes them."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return ""
    sign, digits, exponent = found.groups()
    whole, _, fraction = digits.partition(".")
    whole = whole.lstrip("0") or "0"
    return f"{sign.rstrip('+')}{whole}{'.' if fraction else ''}{fraction}{exponent or ''}"


class _MessageBuilder:
    """Builds messages in the shortest of interface.md's forms that says all there is.

    What a gauge shows holds from its instant on, so the mean of an interval is of the interval's start.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._readings = mapping.readings
        self._delay_ms = mapping.delay
        self._names = [_encode_text(reading.point).decode() for reading in mapping.readings]
        self._tails = [_tail(reading) for reading in mapping.readings]
        kinds = {reading.reads for reading in mapping.readings}
        self._plain = len(kinds) == 1 and all(reading.plain for reading in mapping.readings)
        self._single = len(mapping.readings) == 1
        self._topic = f"meterflow/v1/{mapping.plant}"
        if self._single:
            self._topic += f"/{mapping.readings[0].point}"

    def message(self, start_ms: int, end_ms: int, values: list[str]) -> Message:
        """One message; empty values are left out."""
        begin, end = rfc3339(start_ms), rfc3339(end_ms)
        times = {
            "register": f'"time":"{end}"',
            "interval": f'"time":"{end}","start":"{begin}"',
            "gauge": f'"time":"{begin}"',
        }
        if self._single:
            payload = "{" + self._element(0, times, values[0]) + "}"
        elif self._plain:
            pairs = (f"{name}:{value}" for name, value in zip(self._names, values, strict=True) if value)
            payload = f'{{{times[self._readings[0].reads]},"values":{{{",".join(pairs)}}}}}'
        else:
            elements = (
                f'{{"point":{self._names[i]},{self._element(i, times, value)}}}'
                for i, value in enumerate(values)
                if value
            )
            payload = f"[{','.join(elements)}]"
        return Message(end_ms + self._delay_ms, self._topic, 1, payload.encode())

    def _element(self, i: int, times: dict[str, str], value: str) -> str:
        return f'{times[self._readings[i].reads]},"value":{value}{self._tails[i]}'


def _tail(reading: ColumnReading) -> str:
    named = {"unit": reading.unit, "product": reading.product}
    return "".join(f',"{key}":{_encode_text(text).decode()}' for key, text in named.items() if text)
