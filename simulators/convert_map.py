"""Mapping files: which columns of a meter export are what, read from YAML.

``examples/steel/map.yaml`` and ``examples/water/map.yaml`` show most of the keys. Every fault of a
mapping file is reported with its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from metering.faults import FileFaults
from metering.model_faults import validated
from metering.site_types import DelayMs, DurationMs, Id, Text, UnitName, Word, listed, wrong
from metering.yaml_marks import read_document

FORMAT = 1
EMPTY_TEXTS = ["", "nan", "na", "n/a", "n.a.", "null", "nil", "none", "nat", "<na>", "-", "--", "---", "?"]
EMPTY_TEXTS += ["#n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!"]


def _format(value: Any) -> int:
    if value == FORMAT and not isinstance(value, bool):
        return FORMAT
    raise wrong(f"mapping files of format {value} are not known here", f"Write 'map: {FORMAT}'.")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise wrong(f"'{name}' is no time zone", "Names are like Asia/Shanghai or UTC.") from error
    return name


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError as error:
        raise wrong(f"'{name}' is no text encoding", "Usual are utf-8 and gb18030.") from error
    return name


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Zone = Annotated[Text, AfterValidator(_known_zone)]
Encoding = Annotated[Text, AfterValidator(_known_encoding)]
DecimalMark = Annotated[str, Word("decimal mark", (".", ","))]
ThousandsMark = Annotated[str, Word("thousands mark", ("", ",", ".", " ", "'", "\u00a0", "\u202f"))]
Delimiter = Annotated[str, Word("delimiter", (",", ";", "\t", "|", " "), {"tab": "\t"})]
Stamp = Annotated[str, Word("stamp", ("start", "end", "reading"))]
Midnight = Annotated[str, Word("rule for midnight", ("new_day", "old_day"))]
Reads = Annotated[str, Word("way of reading", ("register", "interval", "gauge"))]
Columns = Annotated[list[str], BeforeValidator(_one_or_more), Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class FileForm(_Part):
    """How the file is written. ``header_line`` is the line with the columns' names, from 1.

    ``empty``: texts that mean no value, in whatever case.
    """

    encoding: Encoding = "utf-8-sig"
    delimiter: Delimiter = ","
    decimal: DecimalMark = "."
    thousands: ThousandsMark = ""
    sheet: str | None = None
    header_line: Annotated[int, Field(ge=1)] = 1
    empty: Annotated[list[str], BeforeValidator(listed)] = EMPTY_TEXTS

    @model_validator(mode="after")
    def _distinct_marks(self) -> Self:
        if self.decimal == self.thousands:
            raise wrong("decimal and thousands are the same mark", "Leave thousands out if there are none.")
        return self


class TimeForm(_Part):
    """Where the stamp stands and what it means.

    ``column``: one name, or several whose texts are joined by a space. ``format``: ``iso``,
    ``epoch_s``, ``epoch_ms``, ``epoch_us`` or strptime's. ``zone`` holds for stamps that name none
    themselves. ``stamp``: of the ``start`` or the ``end`` of an interval, or of the ``reading``.
    ``midnight``: ``old_day`` when the row of 00:00 carries the date of the day that ends there.
    """

    column: Columns
    format: Annotated[Text, Field(min_length=1)] = "iso"
    zone: Zone
    stamp: Stamp = "reading"
    interval: DurationMs | None = None
    midnight: Midnight = "new_day"

    @model_validator(mode="after")
    def _interval_of_stamp(self) -> Self:
        if (self.stamp != "reading") != bool(self.interval):
            raise wrong(
                "an interval belongs to 'stamp: start' and 'stamp: end', and only to them",
                "Say what the stamp is of, and how long the interval is, such as 15m.",
            )
        return self


class ColumnReading(_Part):
    """One column's readings. ``unit``: when the file's is not the point's own of the site file.

    ``where``: only rows with these texts in these columns, such as the number of one meter of many.
    """

    point: Id
    column: str
    reads: Reads
    unit: UnitName | None = None
    product: Id | None = None
    where: dict[str, str] = Field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Time and value say all there is."""
        return self.unit is None and self.product is None


class Mapping(_Part):
    """A whole mapping file. ``delay``: from the end of an interval to when its message came."""

    map: Annotated[Literal[1], BeforeValidator(_format)]
    plant: Id
    file: FileForm = FileForm()
    time: TimeForm
    delay: DelayMs = 0
    readings: Annotated[list[ColumnReading], Field(min_length=1)]

    @model_validator(mode="after")
    def _points_and_intervals(self) -> Self:
        points = [reading.point for reading in self.readings]
        twice = sorted({point for point in points if points.count(point) > 1})
        if twice:
            raise wrong(f"the point '{twice[0]}' is read from two columns", "Keep one of them.")
        if self.time.interval is None and any(r.reads == "interval" for r in self.readings):
            raise wrong(
                "'reads: interval' needs to know the interval",
                "Add 'stamp: end' (or start) and 'interval: 15m' under 'time'.",
            )
        return self


class MappingFaults(FileFaults):
    """A mapping file cannot be used."""

    kind = "mapping file"


def load_mapping(path: Path) -> Mapping:
    """A mapping file's content; raises UsageError with every fault, its line and a proposal."""
    document = read_document(path)
    if document.faults:
        raise MappingFaults(document.file, document.faults)
    mapping, faults = validated(document, Mapping)
    if mapping is None:
        raise MappingFaults(document.file, faults)
    return mapping
