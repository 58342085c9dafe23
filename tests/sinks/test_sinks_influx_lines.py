"""Line protocol: what is written is what is read back, by a parser of our own and by InfluxDB itself."""

from __future__ import annotations

import os
import re
import time
import timeit
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from bus.frames import schema
from metering.query import Query
from metering.tables import POSITION, TABLES, Kind, Table
from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_layout import NO_MORE, UNKNOWN, Field, field_name, measurement
from sinks.influx_lines import doubles, lines
from sinks.influx_points import Points, points
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, table_of

EXAMPLES = 2000 if os.environ.get("METERFLOW_LONG") else 60
Parsed = tuple[str, dict[str, str], dict[str, tuple[str, Any]], int]


def parsed(line: str) -> Parsed:
    """A tiny parser, by the reference alone: measurement, tags, fields as (type, value), nanoseconds."""
    head, rest = re.fullmatch(r"((?:\\.|[^\\ ]|\\(?=[^,= ]))+) (.*)\n", line, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = re.split(r"(?<!\\),", head)
    pairs = [re.split(r"(?<!\\)=", part) for part in parts[1:]]
    tags = {_unescaped(name): _unescaped(value) for name, value in pairs}
    fields, at = dict[str, tuple[str, Any]](), 0
    while found := re.compile(r'([^=]+)=("(?:[^"\\]|\\.)*"|[^, ]+)(,?)', re.DOTALL).match(rest, at):
        fields[found[1]] = _value(found[2])
        at = found.end()
        if not found[3]:
            break
    return parts[0], tags, fields, int(rest[at:])


def _instant(text: str) -> int | None:
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def _value(text: str) -> tuple[str, Any]:
    if text.startswith('"'):
        return "string", re.sub(r'\\(["\\])', r"\1", text[1:-1])
    return ("integer", int(text[:-1])) if text.endswith("i") else ("float", float(text))


_TAGS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=6).filter(
    lambda text: not text.endswith("\\") and "\\" not in text
)
_TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
_MS = st.integers(-(10**12), 4 * 10**12)
_VALUES = {
    Kind.TEXT: st.none() | _TEXTS,
    Kind.TIME: st.none() | _MS,
    Kind.INTEGER: st.none() | st.integers(-(2**63), 2**63 - 1),
    Kind.AMOUNT: st.none()
    | st.decimals(-(10**18), 10**18, places=9, allow_nan=False)
    | st.decimals(-(10**6), 10**6, places=6, allow_nan=False),
    Kind.NUMBER: st.none() | st.floats(),
}


@st.composite
def rows_of(draw: st.DrawFn) -> tuple[Table, list[dict[str, Any]]]:
    table = draw(st.sampled_from(list(TABLES.values())))
    layout = measurement(table.name)
    strategies = {column.name: _VALUES[column.kind] for column in table.columns}
    strategies |= {name: st.none() | (_MS if name in layout.instants else _TAGS) for name in layout.tags}
    strategies |= {name: _MS for name in (layout.time, layout.begins) if name is not None}
    if "revision" in table.names:
        strategies["revision"] = st.integers(0, 10**7)
    strategies[POSITION] = st.integers(-(2**40), 2**40)
    return table, draw(st.lists(st.fixed_dictionaries(strategies), min_size=1, max_size=5))


@given(rows_of())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_a_line_says_is_the_row(drawn: tuple[Table, list[dict[str, Any]]]) -> None:
    """Tags, typed fields and milliseconds of every table; what is unknown is named, NaN and infinity are."""
    table, rows = drawn
    layout, frame = measurement(table.name), table_of(table.name, rows)[1]
    made = lines(layout, frame, points(layout, frame))
    for i, row in enumerate(rows):
        name, tags, fields, at = parsed(made.body(i, i + 1).decode())
        assert name == table.name
        for tag in layout.tags:
            text = tags.get(tag, "")
            found = _instant(text) if tag in layout.instants else text
            assert (found or None) == (row[tag] or None)
        assert fields == expected(table, row)
        if layout.time is not None:
            assert at // 1_000_000 == row[layout.time]


def expected(table: Table, row: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """An empty text is a blank: InfluxDB gives other rows' texts for empty ones."""
    found: dict[str, tuple[str, Any]] = {POSITION: ("integer", row[POSITION])}
    lacking = list[str]()
    for column in measurement(table.name).columns:
        value, name = row[column.name], field_name(column.name)
        if column.kind is Kind.TEXT:
            text = value or ""
            found[name] = "string", text if text.strip(" ") else text + " "
        elif value is None or not np.isfinite(float(value)):
            lacking.append(name)
        elif column.kind in {Kind.AMOUNT, Kind.NUMBER}:
            found[name] = "float", float(value)
        else:
            found[name] = "integer", value
    named = NO_MORE if row[POSITION] < 0 else ",".join(lacking) or " "
    return found | {UNKNOWN: ("string", named)}


@given(st.lists(st.none() | st.decimals(-(10**28), 10**28, places=9, allow_nan=False), max_size=5))
@settings(max_examples=EXAMPLES, deadline=None)
def test_an_amount_is_the_nearest_double(amounts: list[Decimal | None]) -> None:
    """As Python rounds a decimal, at any size; a multiplication by 1e-9 would be off by one place in ten."""
    found = doubles(pa.array(amounts, pa.decimal128(38, 9))).to_pylist()
    assert found == [None if amount is None else float(amount) for amount in amounts]


def test_a_point_with_only_nan_does_not_vanish() -> None:
    """The trap: such a Point of influxdb-client serialises to nothing. Here the row stands, unknown."""
    layout = measurement("intensity")
    frame = table_of(
        "intensity", [{"scope": "plant:p", "id": "x", "end": 0, "value": float("nan"), POSITION: 1}]
    )[1]
    _, _, fields, _ = parsed(lines(layout, frame, points(layout, frame)).body(0, 1).decode())
    assert "value" not in fields
    assert fields[POSITION] == ("integer", 1)
    assert "value" in fields[UNKNOWN][1].split(",")


@pytest.mark.parametrize("table", list(TABLES))
def test_int_or_float_is_fixed_for_every_field(table: str) -> None:
    """The trap: the first writer's type wins in a shard. A whole amount is still a float, by the layout."""
    layout = measurement(table)
    whole = {c.name: 1 for c in TABLES[table].columns if c.kind is not Kind.TEXT}
    frame = table_of(table, [whole | {POSITION: 1}])[1]
    _, _, fields, _ = parsed(lines(layout, frame, points(layout, frame)).body(0, 1).decode())
    assert {name: Field(kind) for name, (kind, _) in fields.items()} == layout.fields
    assert fields[UNKNOWN] == ("string", " ")


@pytest.mark.parametrize("table", [name for name, table in TABLES.items() if table.key])
def test_a_point_is_a_key_and_a_key_is_a_point(table: str) -> None:
    """Whichever column of the key differs, by a millisecond even, it is another point; others make none."""
    layout, key = measurement(table), TABLES[table].key
    base: dict[str, Any] = {
        c.name: FIRST_MS if c.kind is Kind.TIME else "a" if c.kind is Kind.TEXT else 0
        for c in TABLES[table].columns
    } | {POSITION: 5}
    others = [base | {name: base[name] - 1 if isinstance(base[name], int) else "b"} for name in key]
    others += [base | {name: ""} for name in key if base[name] == "a"]
    same = [base | {"reported": 7}, base | {POSITION: 9}]
    assert len(places(layout.name, [base, *others])) == 1 + len(others)
    assert len(places(layout.name, [base, *same])) == 1
    if layout.revised:
        revisions = [base | {"revision": revision} for revision in (0, 1, 999, 1000, 1001, 2_000_000)]
        assert len(places(layout.name, revisions, history=True)) == len(revisions)
        assert len(places(layout.name, revisions)) == 1


def places(table: str, rows: list[dict[str, Any]], *, history: bool = False) -> set[tuple[Any, int]]:
    its: Points = points(measurement(table), table_of(table, rows)[1], history=history)
    return {(its.tags[s], t) for s, t in zip(its.series.tolist(), its.times.tolist(), strict=True)}


def test_what_a_stranger_can_choose_makes_no_series() -> None:
    """The trap: each tag set is a series in memory. A thousand unknown topics and points are one series."""
    rows = [
        {
            "received": i,
            "topic": f"t/{i}",
            "point": f"p/{i}",
            "reason": "unknown_point",
            "detail": str(i),
            POSITION: i,
        }
        for i in range(1000)
    ]
    its = points(measurement("rejected"), table_of("rejected", rows)[1], topic="rejected")
    assert len(its.tags) == 1


def test_equal_rejected_rows_are_points_of_their_own() -> None:
    """The same nonsense twice in a message, and in two, in one millisecond; a replay is the same points."""
    rows = [{"received": 1, "reason": "not_json", POSITION: position} for position in [7] * 2500 + [8] * 2]
    frame = table_of("rejected", rows)[1]
    its = points(measurement("rejected"), frame, topic="rejected")
    assert len(set(zip(its.series.tolist(), its.times.tolist(), strict=True))) == 2502
    assert max(its.times) < 2_000_000
    assert np.array_equal(points(measurement("rejected"), frame, topic="rejected").times, its.times)


@pytest.mark.parametrize("text", ["a\\", "a\nb", "a\r"])
def test_a_tag_that_no_line_can_hold_is_not_storable(text: str) -> None:
    """It is refused before it makes a line of something else."""
    frame = table_of("interval", [{"plant": text, "point": "p", "end": 0, "start": 0, POSITION: 1}])[1]
    assert points(measurement("interval"), frame).storable.tolist() == [False]


@pytest.mark.parametrize("year", [1600, 2262, 2300])
def test_a_time_beyond_nanoseconds_is_not_storable(year: int) -> None:
    """InfluxDB counts nanoseconds in 64 bits: 1677 to 2262."""
    end = int(datetime(year, 6, 1, tzinfo=UTC).timestamp() * 1000)
    frame = table_of("interval", [{"plant": "p", "point": "p", "end": end, "start": 0, POSITION: 1}])[1]
    assert points(measurement("interval"), frame).storable.tolist() == [False]


def test_influxdb_reads_what_was_written(influxdb: Influx) -> None:
    """The real one as the oracle, with texts that ought to break a line."""
    settings_of = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
    client, results = InfluxClient(settings_of), InfluxResults(settings_of)
    odd = ['a b,c=d"e', "ü\u3000語", "\\x", "C:\\dir\\x", "a\\ b", "a\\,b", "$\\{x}", "'", "null"]
    rows = [
        {
            "plant": text,
            "point": text,
            "serial": "" if i % 2 else text,
            "from": FIRST_MS - 1,
            "to": FIRST_MS + i,
            "by": text + '\n"quoted"\\',
            "evidence": '{"a": "\\"\\\\\\n"}\t',
            "revision": i,
            POSITION: i,
        }
        for i, text in enumerate(odd)
    ]
    layout, frame = measurement("verdict"), table_of("verdict", rows)[1]
    client.write(lines(layout, frame, points(layout, frame)).body(0, len(rows)))
    found = results.rows(Query("verdict"))
    names = ("plant", "point", "serial", "from", "to", "by", "evidence", "revision")
    assert [[row[n] or "" for n in names if n != "revision"] for row in found] == [
        [row[n] or "" for n in names if n != "revision"] for row in rows
    ]
    client.close()
    results.close()


def test_numbers_come_back_bit_for_bit(influxdb: Influx) -> None:
    """Doubles of all sizes, and 64-bit integers to their ends."""
    settings_of = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
    client, results = InfluxClient(settings_of), InfluxResults(settings_of)
    numbers = [0.1, 1e300, 5e-324, -1 / 3, 2.0**53 + 2, 1.7976931348623157e308, 1e21, 123456789.12345679]
    rows = [
        {
            "id": "a",
            "scope": "s",
            "at": FIRST_MS + i,
            "value": value,
            "revision": i - 2**63,
            POSITION: 2**63 - 1 - i,
        }
        for i, value in enumerate(numbers)
    ]
    layout, frame = measurement("alert"), table_of("alert", rows)[1]
    client.write(lines(layout, frame, points(layout, frame)).body(0, len(rows)))
    found = results.rows(Query("alert"))
    assert [row["value"] for row in found] == numbers
    assert [row["revision"] for row in found] == [row["revision"] for row in rows]
    client.close()
    results.close()


def test_a_frame_of_no_rows_has_no_lines() -> None:
    """Nothing to say is no error."""
    for table in TABLES.values():
        frame = schema(table).empty_table()
        its = points(measurement(table.name), frame)
        assert len(lines(measurement(table.name), frame, its)) == 0


def test_lines_are_made_several_times_faster_than_points() -> None:
    """The trap: a Point costs what InfluxDB itself does. CPU time, best of five."""
    count = 2000
    frame = table_of(
        "interval",
        [
            {"plant": "p", "point": f"q{i % 20}", "end": i, "start": 0, "amount": i, POSITION: i}
            for i in range(count)
        ],
    )[1]
    layout = measurement("interval")

    def ours() -> None:
        lines(layout, frame, points(layout, frame))

    def theirs() -> None:
        for i in range(count):
            made: Any = Point("interval")  # type: ignore[no-untyped-call]
            made = made.tag("plant", "p").tag("point", f"q{i % 20}").field("amount", float(i))
            made.field(POSITION, i).field("start", 0).field("unit", "").time(i).to_line_protocol()

    spent = [min(timeit.repeat(each, timer=time.thread_time, number=1, repeat=5)) for each in (ours, theirs)]
    assert spent[1] > 3 * spent[0]
