"""InfluxDB's CSV answers as columns of a result table."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from bus.frames import schema
from metering.errors import MeterflowError, Unavailable
from metering.tables import POSITION, Kind, Table
from sinks.influx_layout import BLANK, UNKNOWN, Measurement, field_name
from sinks.store_influx_flux import FREE_TEXTS

_PLACE, _DIGITS = Decimal("1e-9"), Context(prec=38, rounding=ROUND_HALF_EVEN)
_NANOSECONDS = pa.timestamp("ns", tz="UTC")
_TYPES = {
    Kind.TEXT: pa.utf8(),
    Kind.TIME: pa.int64(),
    Kind.AMOUNT: pa.utf8(),  # the shortest decimal of the double, as InfluxDB writes it
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
}
_BETWEEN_TABLES = b"\r\n\r\n"


def rows(layout: Measurement, body: bytes) -> Any:
    """The rows of an answer, with the columns of ``bus.frames.schema``; ``position`` is negative where a key
    has none.

    Raises Unavailable for an error that came in place of rows, or behind some; MeterflowError for rows
    that are none of ours.
    """
    wanted = schema(layout.table)
    try:
        found = _read(layout, _checked(body))
        arrays = [_column(layout.table, found, layout, field) for field in wanted]
    except (pa.ArrowException, ArithmeticError) as error:
        raise MeterflowError(
            f"the measurement {layout.name} holds what meterflow does not write: {error}",
            where="InfluxDB",
            hint="Give meterflow a bucket of its own.",
        ) from error
    return pa.Table.from_arrays(arrays, schema=wanted)


def first_instant(body: bytes) -> int | None:
    """The millisecond of the ``_time`` in an answer's first row; None when it has no row."""
    text = _first(body, b"_time")
    return None if text is None else _epoch_ms(text)


def first_number(body: bytes) -> int:
    """The ``_value`` in an answer's first row; 0 when it has no row."""
    return int(_first(body, b"_value") or 0)


def _first(body: bytes, name: bytes) -> str | None:
    lines = _checked(body).split(b"\r\n")
    if len(lines) < 2 or not lines[1]:
        return None
    return dict(zip(lines[0].split(b","), lines[1].split(b","), strict=True))[name].decode()


def _checked(body: bytes) -> bytes:
    """The one table of an answer. InfluxDB has said 200 before it fails on the way."""
    head, _, tail = body.strip(b"\r\n").partition(_BETWEEN_TABLES)
    for part in (head, tail):
        if part.startswith((b"error,reference", b",error,reference")):
            why = part.partition(b"\r\n")[2].decode(errors="replace").strip(",")
            raise Unavailable(
                f"InfluxDB failed on a query: {why}", hint="It is asked again; see its log if that goes on."
            )
    assert not tail, "a query of ours gave two tables"
    return head


def _read(layout: Measurement, body: bytes) -> Any:
    """The columns of the answer as they are; those that no row has are null."""
    types = {field_name(column.name): _TYPES[column.kind] for column in layout.columns}
    types |= dict.fromkeys((*layout.tags, UNKNOWN), pa.utf8()) | {"_time": _NANOSECONDS, POSITION: pa.int64()}
    if not body:
        return pa.Table.from_pydict({name: pa.nulls(0, kind) for name, kind in types.items()})
    convert = pc_csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        include_missing_columns=True,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    parse = pc_csv.ParseOptions(newlines_in_values=True)
    read = pc_csv.ReadOptions(use_threads=False, block_size=max(1 << 20, len(body) + 1))
    return pc_csv.read_csv(io.BytesIO(body), read, parse, convert)


def _column(table: Table, found: Any, layout: Measurement, field: Any) -> Any:
    """A column of the result table in its own type."""
    if field.name == layout.time:
        return _milliseconds(found["_time"])
    if field.name in layout.instants:
        texts = found[field.name].to_pylist()
        return pa.array([None if text is None else _epoch_ms(text) for text in texts], field.type)
    array = _known(found, field_name(field.name))
    if field.name in FREE_TEXTS.get(table.name, ()):
        return pa.array([_text(text and json.loads(text)) for text in array.to_pylist()], pa.utf8())
    if pa.types.is_string(field.type):
        return pc.if_else(pc.equal(array, BLANK), None, array)
    if pa.types.is_decimal(field.type):
        return _amounts(array, field.type)
    return array.cast(field.type)


def _known(found: Any, name: str) -> Any:
    """A field without what ``unknown`` says does not count; there is none in rows of earlier versions."""
    array = found[name].combine_chunks()
    said = found[UNKNOWN].combine_chunks().dictionary_encode()
    lacking = [name in words.split(",") for words in said.dictionary.to_pylist()]
    if not any(lacking):
        return array
    return pc.if_else(pc.fill_null(pa.array(lacking).take(said.indices), False), None, array)


def _milliseconds(times: Any) -> Any:
    """What stands below the millisecond only tells points apart; rounded down, also before 1970."""
    return pc.floor_temporal(times.combine_chunks(), unit="millisecond").cast(pa.timestamp("ms", tz="UTC"))


def _text(text: str | None) -> str | None:
    """What was written is one blank longer where it is nothing but blanks."""
    return text if text is None or text.strip(BLANK) else text.removesuffix(BLANK) or None


def _amounts(texts: Any, kind: Any) -> Any:
    """Exact decimals of the shortest text of each double, rounded to the places that amounts have."""
    longest = pc.max(pc.utf8_length(texts)).as_py() or 0
    if longest <= kind.precision:  # of much longer ones Arrow makes 0, without a word
        with suppress(pa.ArrowInvalid):  # one of them has more places
            return texts.cast(kind)
    return pa.array(map(_amount, texts.to_pylist()), kind)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text).quantize(_PLACE, context=_DIGITS)


def _epoch_ms(text: str) -> int:
    """RFC 3339 with up to nine places, as InfluxDB writes it."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00") - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return (seconds.days * 86_400 + seconds.seconds) * 1000 + int(fraction.ljust(3, "0")[:3])
