"""Plain JSON readings read by the compiled loop: what it takes, and what it leaves to a parser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.directory import Directory
from ingest.kafka_fields import JsonFields
from ingest.kafka_plain import COMPILED, Plain
from ingest.kafka_values import Values
from metering.roster import REGISTER
from metering.units import UNITS
from tests.ingest.ingest_builders import NOW_MS, roster

pytestmark = pytest.mark.skipif(not COMPILED, reason="make setup found no C compiler, or loops are off")

READING = f'{{"plant":"steel","point":"main","time":{NOW_MS},"value":1.5,"unit":"kWh"}}'


def bad_ones(*values: bytes) -> list[bool]:
    """Which of them the loop leaves to a parser."""
    received = np.full(len(values), NOW_MS, np.int64)
    bad: list[bool] = (
        Plain(Directory(roster()), JsonFields()).columns(Values.of(values), received)[1].tolist()
    )
    return bad


def changed(old: str, new: str) -> bytes:
    """The reading with one thing in it changed."""
    assert old in READING
    return READING.replace(old, new, 1).encode()


def test_values_are_read_to_the_last_digit() -> None:
    """Mantissa and exponent are the digits as they were sent; signs and zeros, too."""
    sent = ["0", "-0", "-1.50", "999999999999999.999", "0.12345678901234567", "123456789012345"]
    values = Values.of([changed("1.5", one) for one in sent])
    columns, bad = Plain(Directory(roster()), JsonFields()).columns(values, np.full(len(sent), NOW_MS))
    assert not bad.any()
    assert list(zip(columns.mantissa.tolist(), columns.exponent.tolist(), strict=True)) == [
        *((0, 0), (0, 0), (-150, -2), (999_999_999_999_999_999, -3)),
        *((12_345_678_901_234_567, -17), (123_456_789_012_345, 0)),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"plant":"steel","point":"main"', '"point":"main","plant":"steel"'),
        ('"unit":"kWh"', '"unit":""'),
        ('"unit"', '"colour":null,"n":-7.25,"ok":true,"unit"'),
        ("{", " { \t"),
        ("}", " }\r\n"),
        (':1.5,"', ' : 1.5 , "'),
        ("kWh", "MWh"),
        ("1.5", '"-1.50"'),
        (str(NOW_MS), '"2026-11-22T15:59:59.250+08:00"'),
        ('"unit":"kWh"', '"serial":"A","product":"bar","seq":3,"revision":1,"quality":"good","start":null'),
    ],
)
def test_what_is_one_plain_reading_is_taken(old: str, new: str) -> None:
    """Beside others that are written in another way."""
    assert bad_ones(READING.encode(), changed(old, new), READING.encode()) == [False] * 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(
            ("1.5", value)
            for value in ["1e3", "01", ".5", "5.", "1" * 16, "0." + "1" * 18, '"+1"', '"1', "null", ""]
        ),
        *((str(NOW_MS), time) for time in ['"now"', "-1", f"{NOW_MS}.0", str(NOW_MS + 600_001), "1"]),
        *(("kWh", unit) for unit in ["k\\u0057h", "kW\th", "m³", "m3", "furlong"]),
        *(
            ('"unit":', key)
            for key in [
                '"start":',
                '"seq":',
                '"quality":',
                '"time":',
                '"UNIT":1,"UNIT":',
                '"x":[],"unit":',
                '"x"',
            ]
        ),
        *(("main", "boiler"), ("main", "books"), ("steel", "paper "), ("steel", ""), ('"plant"', '"Plant"')),
        *(("{", "[{"), ("}", "}]"), ("}", "}}"), ("}", ""), (",", ",,"), ("}", ",}"), ("{", "{,"), (":", "")),
    ],
)
def test_anything_else_is_left_alone(old: str, new: str) -> None:
    """And its neighbours are taken all the same."""
    assert bad_ones(READING.encode(), changed(old, new), READING.encode()) == [False, True, False]


def test_values_are_read_up_to_their_ends() -> None:
    """A value that breaks off is not completed by what lies behind it."""
    text = READING.encode()
    ends = np.arange(len(text) + 1)
    values = Values(text, np.zeros(len(ends), np.int64), ends)
    bad = Plain(Directory(roster()), JsonFields()).columns(values, np.full(len(ends), NOW_MS))[1]
    assert bad.tolist() == [True] * len(text) + [False]


def test_more_units_than_can_be_told_at_once_are_left_to_a_parser() -> None:
    """The seventeenth and those behind it; the ones before are taken."""
    units = [name for name, unit in UNITS.items() if unit.dimension == UNITS["kWh"].dimension]
    words = [*units, *(f"unit-{i}" for i in range(17 - len(units)))]
    bad = bad_ones(*(changed("kWh", word) for word in words), READING.encode())
    assert bad[: len(units)] == [False] * len(units)
    assert bad[16:] == [True, "kWh" not in words[:16]]


@given(st.dictionaries(st.text("ab-é", max_size=20), st.sets(st.text("xy_é", max_size=12)), max_size=9))
@settings(max_examples=60, deadline=None)
def test_every_point_of_a_roster_is_found(plants: dict[str, set[str]]) -> None:
    """Names of any length that differ in little; those beyond ASCII are left to a parser."""
    points = {plant: dict.fromkeys(names, (REGISTER, "kWh")) for plant, names in plants.items()}
    site = roster({**points, "last": {"main": (REGISTER, "kWh")}})
    wanted = [(plant, name, index) for plant, names in site.names.items() for name, index in names.items()]
    fields: dict[str, Any] = {"time": NOW_MS, "value": 1}
    sent = [json.dumps({"plant": p, "point": n, **fields}, ensure_ascii=False).encode() for p, n, _ in wanted]
    received = np.full(len(sent), NOW_MS)
    columns, bad = Plain(Directory(site), JsonFields()).columns(Values.of(sent), received)
    plain = [f"{plant}{name}".isascii() for plant, name, _ in wanted]
    assert (~bad).tolist() == plain
    assert columns.point[~bad].tolist() == [
        index for (*_, index), is_plain in zip(wanted, plain, strict=True) if is_plain
    ]
