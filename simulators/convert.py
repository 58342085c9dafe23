"""A meter export (CSV, Excel, Parquet) into a recording, by a mapping file.

One row of the file is one message. Values stay the decimal texts that stand in the file; what
cannot be read is counted and reported with its place, and does not stop the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from simulators.convert_map import ColumnReading, FileForm, Mapping, TimeForm, load_mapping
from simulators.convert_table import Cell, Progress, read_table
from simulators.recording import Message, write_recording

UNREADABLE_SHOWN_MAX = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
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
    """The messages of an export, in the order of its rows; ``summary`` is kept as they come."""
    stamps = Stamps(mapping.time)
    builder = _MessageBuilder(mapping)
    width = len(mapping.time.column)
    columns = [*mapping.time.column, *(reading.column for reading in mapping.readings)]
    for line, cells in read_table(source, mapping.file, columns, progress):
        summary.rows += 1
        stamp = cells[0] if width == 1 else " ".join(map(str, cells[:width]))
        try:
            start_ms, end_ms = stamps.span(stamp)
        except (ValueError, OverflowError) as error:
            summary.rows_unreadable += 1
            summary.note(line, " ".join(mapping.time.column), stamp, str(error))
            continue
        values = _values(line, cells[width:], mapping, summary)
        if any(values):
            summary.span(end_ms)
            summary.messages += 1
            yield builder.message(start_ms, end_ms, values)
        else:
            summary.rows_empty += 1


def _values(line: int, cells: Sequence[Cell], mapping: Mapping, summary: Summary) -> list[str]:
    """A row's values as JSON numbers, empty texts for what is empty or cannot be read."""
    values = []
    for cell, reading in zip(cells, mapping.readings, strict=True):
        value = ""
        text = str(cell).strip()
        if text in mapping.file.empty:
            summary.cells_empty += 1
        else:
            value = json_number(text, mapping.file)
            if not value:
                summary.cells_unreadable += 1
                summary.note(line, reading.column, cell, "is not a decimal number")
        summary.readings += bool(value)
        values.append(value)
    return values


def json_number(text: str, form: FileForm) -> str:
    """The same digits as a JSON number; empty when the text is no decimal number."""
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


class Stamps:
    """Reads the stamps of a file, row after row.

    Where the clocks go back, a local time is shown twice: the second time is told from the first
    by the order of the rows.
    """

    def __init__(self, form: TimeForm) -> None:
        self.form = form
        self.zone = ZoneInfo(form.zone)
        self._interval_ms = form.interval or 0
        self._previous_ms: int | None = None

    def span(self, stamp: Cell) -> tuple[int, int]:
        """Start and end of the row's interval, equal without one; raises ValueError with the reason."""
        stamp_ms = self._instant_ms(stamp)
        self._previous_ms = stamp_ms
        if self.form.stamp == "start":
            return stamp_ms, stamp_ms + self._interval_ms
        return stamp_ms - self._interval_ms, stamp_ms

    def _instant_ms(self, stamp: Cell) -> int:
        if not isinstance(stamp, datetime):
            text = stamp.strip()
            if self.form.format in ("epoch_s", "epoch_ms"):
                return _epoch_ms(text, 1_000 if self.form.format == "epoch_s" else 1)
            stamp = self._parsed(text)
        if self.form.midnight == "old_day" and not (stamp.hour or stamp.minute or stamp.second):
            stamp += _DAY
        if stamp.tzinfo is not None:
            return (stamp - _EPOCH) // _MILLISECOND
        return self._local_ms(stamp)

    def _parsed(self, text: str) -> datetime:
        if not text:
            raise ValueError("there is no stamp")
        try:
            if self.form.format == "iso":
                return datetime.fromisoformat(text)
            return datetime.strptime(text, self.form.format)  # noqa: DTZ007  the zone comes after
        except ValueError as error:
            raise ValueError(f"does not have the form {self.form.format}") from error

    def _local_ms(self, shown: datetime) -> int:
        instant = shown.replace(tzinfo=self.zone, fold=0)
        first = (instant - _EPOCH) // _MILLISECOND
        second = (instant.replace(fold=1) - _EPOCH) // _MILLISECOND
        if first == second:
            return first
        if second < first:
            raise ValueError(f"the clocks of {self.form.zone} went forward over this time")
        previous = self._previous_ms
        return second if previous is not None and first <= previous < second else first


def _epoch_ms(text: str, factor: int) -> int:
    if not re.fullmatch(r"-?[0-9]+(\.0*)?", text):
        raise ValueError("is not a whole number of the epoch")
    return int(text.partition(".")[0]) * factor


class _MessageBuilder:
    """Builds messages in the shortest of interface.md's forms that says all there is."""

    def __init__(self, mapping: Mapping) -> None:
        self._readings = mapping.readings
        self._delay_ms = mapping.delay
        self._names = [_encode_text(reading.point).decode() for reading in mapping.readings]
        self._tails = [_tail(reading) for reading in mapping.readings]
        kinds = {reading.reads for reading in mapping.readings}
        self._interval_only = kinds == {"interval"}
        self._plain = len(kinds) == 1 and all(reading.plain for reading in mapping.readings)
        self._single = len(mapping.readings) == 1
        self._topic = f"meterflow/v1/{mapping.plant}"
        if self._single:
            self._topic += f"/{mapping.readings[0].point}"

    def message(self, start_ms: int, end_ms: int, values: list[str]) -> Message:
        """One message; empty values are left out."""
        time = f'"time":"{_rfc3339(end_ms)}"'
        start = f',"start":"{_rfc3339(start_ms)}"'
        if self._single:
            payload = "{" + self._element(0, time, start, values[0]) + "}"
        elif self._plain:
            pairs = (f"{name}:{value}" for name, value in zip(self._names, values, strict=True) if value)
            payload = f'{{{time}{start if self._interval_only else ""},"values":{{{",".join(pairs)}}}}}'
        else:
            elements = (
                f'{{"point":{self._names[i]},{self._element(i, time, start, value)}}}'
                for i, value in enumerate(values)
                if value
            )
            payload = f"[{','.join(elements)}]"
        return Message(end_ms + self._delay_ms, self._topic, 1, payload.encode())

    def _element(self, i: int, time: str, start: str, value: str) -> str:
        start = start if self._readings[i].reads == "interval" else ""
        return f'{time}{start},"value":{value}{self._tails[i]}'


def _tail(reading: ColumnReading) -> str:
    named = {"unit": reading.unit, "product": reading.product}
    return "".join(f',"{key}":{_encode_text(text).decode()}' for key, text in named.items() if text)


def _rfc3339(time_ms: int) -> str:
    precision = "milliseconds" if time_ms % 1_000 else "seconds"
    return (_EPOCH + time_ms * _MILLISECOND).isoformat(timespec=precision)[:-6] + "Z"
