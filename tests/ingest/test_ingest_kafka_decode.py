"""JSON readings of a Kafka topic: what is taken, what is refused, and that bulk and exact agree."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.columns import by_plant, from_readings
from ingest.decode import Decoded, Delivery
from ingest.directory import Directory
from ingest.judge import Reading
from ingest.kafka_alike import Alike
from ingest.kafka_decode import TopicDecoder
from ingest.kafka_exact import read_value
from ingest.kafka_fields import JsonFields
from ingest.kafka_layout import NotAlike
from ingest.kafka_plain import COMPILED
from ingest.kafka_values import Values
from metering.errors import UsageError
from tests.ingest.ingest_builders import NOW_MS, reasons, roster, rows

WAYS = sorted({False, COMPILED})
"""Whether plain readings are read by the compiled loop: it may not be built here."""
THEIRS = JsonFields(point="meter", time="ts", ignored=("kind",))
KEYS = st.sampled_from(
    "plant meter ts value unit kind start serial seq revision quality point x v\\u0061lue".split()
)
SCALARS = st.sampled_from(
    [
        *("1", "-0.5", "7.0", "1e3", "9" * 30, str(NOW_MS), str(NOW_MS - 1), "NaN", "null", "true", '""'),
        *(
            '"12.50"',
            '"steel"',
            '"paper"',
            '"main"',
            '"kWh"',
            '"m3"',
            '"\\ud800"',
            '"a\\"b"',
            "[]",
            '{"a":"b"}',
        ),
    ]
)
PLAIN = [("plant", '"steel"'), ("meter", '"main"'), ("ts", str(NOW_MS)), ("value", "1.5")]
OBJECTS = st.builds(
    lambda base, more: "{" + ",".join(f'"{key}":{value}' for key, value in [*base, *more]) + "}",
    st.just(PLAIN) | st.just(PLAIN[1:]) | st.just(PLAIN[:3]) | st.just([]),
    st.lists(st.tuples(KEYS, SCALARS), max_size=3),
)
TEXTS = OBJECTS | st.lists(OBJECTS, max_size=3).map(lambda some: f"[{','.join(some)}]")
VALUES = (
    TEXTS.map(str.encode)
    | st.binary(max_size=40)
    | st.builds(lambda text, at: text[:at].encode(), TEXTS, st.integers(0, 60))
    | st.builds(lambda one, other: f"{one}\n{other}".encode(), TEXTS, TEXTS)
)
NUMBERS = st.sampled_from(
    [
        *("1", "0", "0.50", "12.345", "999999999999999", "0.0", "7.25", str(NOW_MS), str(NOW_MS - 1)),
        *("00", "01.5", ".5", "5.", "1.2.3", "-1", "-0", "1e3", "1" * 16, "1" * 40, "", "x", "null", '"7"'),
        *('1,"value":2', '1}\n{"plant":"steel"', "1 ", " 1", "[1]", "1\t"),
    ]
)
TEXTS_ALIKE = st.sampled_from(
    ["steel", "main", "paper", "kWh", "m3", "", "a-rather-long-name-it-is", "é", "a\\n", "\x01"]
)
LAYOUTS = st.sampled_from(
    [
        '{{"plant":"steel","meter":"main","ts":{},"value":{},"unit":"{}"}}',
        '{{"plant": "{2}", "meter": "main", "value": {1}, "ts": {0}, "kind": "{2}"}}',
        '{{ "value":{1},"meter":"{2}","plant":"steel","x":{1},"ts":{0} }}',
        '{{"plant":"steel","meter":"main","ts":{},"value":{},"serial":"{}"}}',
        '{{"plant":"steel","meter":"main","ts":{0},"value":{1},"value":{1},"unit":"{2}"}}',
        '{{"plant":"steel","meter":"books","ts":{},"value":{},"unit":"{}"}}',
    ]
)
ALIKE = st.builds(
    lambda layout, filled: [layout.format(*some).encode() for some in filled],
    LAYOUTS,
    st.lists(st.tuples(NUMBERS | st.just(str(NOW_MS)), NUMBERS, TEXTS_ALIKE), min_size=1, max_size=5),
)
PLAIN_NUMBERS = st.integers(0, 999_999).map(lambda n: f"{n // 100}.{n % 100:02d}")
PLAINLY_ALIKE = st.builds(
    lambda layout, filled: [layout.format(*some).encode() for some in filled],
    LAYOUTS,
    st.lists(
        st.tuples(
            st.integers(NOW_MS - 9, NOW_MS), PLAIN_NUMBERS, st.sampled_from(["main", "kWh", "MWh", "m3"])
        ),
        min_size=1,
        max_size=5,
    ),
)


def value(**fields: Any) -> bytes:
    """A record's value: a reading of steel's main meter, in the names of others."""
    fields = {"plant": "steel", "meter": "main", "ts": NOW_MS, "value": 1.5} | fields
    return json.dumps({name: given for name, given in fields.items() if given is not ...}).encode()


def decode(*values: bytes, names: JsonFields = THEIRS, by_loop: bool = COMPILED) -> Decoded:
    """Values of one topic, received at NOW."""
    return TopicDecoder(roster(), names, by_loop=by_loop).decode([Delivery(["t"], values, NOW_MS)])


def times(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """When as many values were received."""
    return np.full(count, NOW_MS, np.int64)


@given(st.lists(VALUES, max_size=5) | ALIKE | PLAINLY_ALIKE, st.sampled_from(WAYS))
@settings(max_examples=300, deadline=None)
def test_a_batch_is_what_its_values_are_alone(values: list[bytes], by_loop: bool) -> None:
    """Everything is accounted for, nothing crashes, and no value is read with its neighbour."""
    whole, alone = decode(*values, by_loop=by_loop), [decode(one, by_loop=False) for one in values]
    assert whole.received == sum(map(len, whole.readings)) + len(whole.rejected)
    assert all(one.received >= 1 for one in alone)
    assert "not_decoded" not in reasons(whole)
    assert whole.rejected == [rejected for one in alone for rejected in one.rejected]
    by_value = [row for one in alone for row in rows(one)]
    assert rows(whole) == sorted(by_value, key=lambda row: row["plant"] == "paper")


@given(st.lists(TEXTS.map(str.encode), min_size=1, max_size=4) | ALIKE | PLAINLY_ALIKE, st.sampled_from(WAYS))
@settings(max_examples=300, deadline=None)
def test_bulk_takes_exactly_what_the_exact_way_takes(values: list[bytes], by_loop: bool) -> None:
    """Whatever is taken at once is taken one by one, wholly and as the same readings."""
    directory, decoder = Directory(roster()), TopicDecoder(roster(), THEIRS, by_loop=by_loop)
    columns, others = decoder.in_bulk(Values.of(values), times(len(values)))
    taken: list[Reading] = []
    order: list[int] = []
    for i in sorted(set(range(len(values))) - set(others)):
        readings, refused = read_value(directory, THEIRS, values[i], NOW_MS)
        assert refused == []
        taken += readings
        order += [i] * len(readings)
    wanted = by_plant(directory, from_readings(taken, order), times(len(values)))
    got = by_plant(directory, columns, times(len(values)))
    assert rows(Decoded(got, [], 0)) == rows(Decoded(wanted, [], 0))


def test_plain_readings_go_as_lines() -> None:
    """Else the laws above would say nothing of them."""
    plain = [
        value(),
        value(value="1.50", unit="MWh", kind="electricity"),
        value(plant="paper", kind={"a": "b"}),
    ]
    pool = TopicDecoder(roster(), THEIRS).as_lines(plain)
    assert (pool.owners, pool.points) == ([0, 1, 2], [0, 0, 3])


def test_readings_laid_out_alike_are_read_without_a_parser() -> None:
    """Else the laws above would say nothing of them: other plants, lengths, decimals and units."""
    some = [
        value(unit="kWh", kind="electricity"),
        value(plant="paper", meter="rolls", ts=NOW_MS - 1, value=100.125, unit="t", kind="output"),
        value(plant="steel", meter="intake", value=7, unit="m3", kind=""),
        value(plant="glass", unit="kWh", kind="x"),
    ]
    columns, bad = Alike(Directory(roster()), THEIRS).columns(Values.of(some), times(4))
    assert bad.tolist() == [False, False, False, True]
    assert columns.point.tolist()[:3] == [0, 4, 1]
    assert list(zip(columns.mantissa.tolist(), columns.exponent.tolist(), strict=True))[:3] == [
        (15, -1),
        (100_125, -3),
        (7, 0),
    ]


@pytest.mark.parametrize(
    "more", [{"serial": "A"}, {"value": "1.5"}, {"value": -1}, {"ts": "2026-11-22T08:00:00Z"}]
)
def test_what_is_not_of_the_usual_kind_is_left_to_the_parser(more: dict[str, Any]) -> None:
    """And taken by it."""
    with pytest.raises(NotAlike):
        Alike(Directory(roster()), THEIRS).columns(Values.of([value(**more)]), times(1))
    assert len(rows(decode(value(**more)))) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(('"meter"', '"mater"'), ('":1.5', '";1.5'), ("1.5,", "1.5;"), ("1.5", "01.5"), ("1.5", ".25")),
        *(("1.5", "2."), ("1.5", "1..5"), ("1.5", "-1.5"), ("1.5", "1e5"), ("1.5", "1 5"), ("1.5", '"1"')),
        *(('"kWh"', '"k\\u0057h"'), ('"kWh"', '"k\x01h"'), ('"kWh"}', '"kWh"]'), ('{"plant', '["plant')),
        *(('"ts":1', '"ts":01'), ('"ts":1', '"ts":-1'), ('"ts":', '"ts":0.'), ("{", "{ "), ("}", "} ")),
        *(("}", "}}"), ('"unit":"kWh"', '"UNIT":"kWh"'), ('"unit"', '"plant"'), ('"main"', '"Main"')),
        ('"steel"', '"glass"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_loop", WAYS)
def test_one_record_that_differs_is_not_read_as_the_others_are(old: str, new: str, by_loop: bool) -> None:
    """Alike but for one byte or some, it is taken, or refused, as if it were alone; so are its neighbours."""
    text = f'{{"plant":"steel","meter":"main","ts":{NOW_MS},"value":1.5,"unit":"kWh"}}'
    assert old in text
    values = [text.encode(), text.replace(old, new, 1).encode(), text.replace("1.5", "2.5").encode()]
    whole, alone = decode(*values, by_loop=by_loop), [decode(one, by_loop=by_loop) for one in values]
    assert rows(whole) == [row for one in alone for row in rows(one)]
    assert whole.rejected == alone[1].rejected
    exact, refused = read_value(Directory(roster()), THEIRS, values[1], NOW_MS)
    assert (len(rows(alone[1])), len(alone[1].rejected)) == (len(exact), len(refused))


def test_arrays_and_readings_with_more_fields_are_taken_in_bulk_too() -> None:
    """One array, one reading with a serial number, one with a field nobody knows."""
    some = [b"[" + value() + b"," + value(ts=NOW_MS - 1) + b"]", value(serial="A"), value(colour="red")]
    columns, others = TopicDecoder(roster(), THEIRS).in_bulk(Values.of(some), times(3))
    assert (len(columns), others) == (4, [])


def test_our_own_names_are_the_defaults() -> None:
    """A reading as interface.md has it, with its plant and point, of a point that reads intervals."""
    own = {"plant": "steel", "point": "books", "time": NOW_MS, "start": NOW_MS - 60_000, "value": "2.50"}
    decoded = decode(json.dumps(own | {"revision": 1}).encode(), names=JsonFields())
    (row,) = rows(decoded)
    assert (row["point"], row["value"], row["start"], row["revision"]) == (
        "books",
        (250, -2),
        NOW_MS - 60_000,
        1,
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([b""], "empty"),
        ([b"[]"], "empty"),
        ([b"\xff{}"], "not_utf8"),
        ([b"{"], "not_json"),
        ([value() + value()], "not_json"),
        ([b"7"], "wrong_shape"),
        ([value(plant=...)], "wrong_shape"),
        ([value(plant=3)], "wrong_shape"),
        ([value(meter=None)], "wrong_shape"),
        ([value(plant="glass")], "unknown_plant"),
        ([value(meter="boiler")], "unknown_point"),
        ([value(meter="rolls")], "point_of_other_plant"),
        ([value(ts=...)], "time_missing"),
        ([value(ts=NOW_MS + 3_600_000)], "time_in_future"),
        ([value(value=...)], "value_missing"),
        ([value(value=float("nan"))], "value_not_finite"),
        ([value(unit="m3")], "unit_not_convertible"),
        ([value()[:-1] + b',"meter":"main"}'], "duplicate_key"),
        ([value(kind="a")[:-1] + b',"kind":"b"}'], "duplicate_key"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_loop", WAYS)
def test_what_is_no_reading_is_refused_with_its_reason(
    values: list[bytes], reason: str, by_loop: bool
) -> None:
    """Among plain ones, which are taken."""
    decoded = decode(value(), *values, value(ts=NOW_MS - 1), by_loop=by_loop)
    assert reasons(decoded) == [reason]
    assert [row["time"] for row in rows(decoded)] == [NOW_MS, NOW_MS - 1]
    assert decoded.rejected[0].row["topic"] == "t"


def test_a_value_that_breaks_off_is_not_completed_by_the_next() -> None:
    """Joined by a line end, the two would be one reading."""
    whole = value()
    cut = whole.index(b'"ts"')
    decoded = decode(whole[:cut], whole[cut:], whole)
    assert (reasons(decoded), len(rows(decoded))) == (["not_json", "not_json"], 1)


def test_one_bad_reading_of_an_array_costs_only_itself() -> None:
    """The others are taken; the row holds its own text."""
    decoded = decode(b"[" + value() + b", " + value(meter="boiler") + b"]")
    assert (reasons(decoded), len(rows(decoded))) == (["unknown_point"], 1)
    assert decoded.rejected[0].plant == "steel"
    assert json.loads(str(decoded.rejected[0].row["payload"]))["meter"] == "boiler"


def test_many_readings_of_a_plant_make_records_of_bearable_size() -> None:
    """None of more than 20,000 readings, together all of them in order."""
    decoded = decode(*(value(ts=NOW_MS - i) for i in range(45_000)))
    assert [len(one) for one in decoded.readings] == [20_000, 20_000, 5_000]
    assert [row["time"] for row in rows(decoded)] == [NOW_MS - i for i in range(45_000)]


@pytest.mark.parametrize("names", [{"point": "plant"}, {"ignored": ("unit",)}, {"time": ""}])
def test_fields_need_a_name_each(names: dict[str, Any]) -> None:
    """A name twice would make a reading ambiguous."""
    with pytest.raises(UsageError, match="each another one"):
        JsonFields(**names)
