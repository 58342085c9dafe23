"""Plain messages read by the compiled loop: what it takes, and what it leaves to the parser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.columns import Columns
from ingest.decode_plain import COMPILED, decode_plain
from ingest.directory import Directory
from ingest.kafka_values import Values
from ingest.numbers import epoch_ms
from tests.ingest.ingest_builders import NOW, NOW_MS, TOPIC, reading, roster

pytestmark = pytest.mark.skipif(not COMPILED, reason="the loops are not built: make setup")
STEEL, BOOKS = "meterflow/v1/steel", "meterflow/v1/steel/books"
MANY = 3000


def read(*payloads: bytes, topic: str = TOPIC, received_ms: int = NOW_MS) -> tuple[Columns, list[int]]:
    """What is taken of messages on one topic, and the numbers of the others."""
    directory = Directory(roster())
    codes = np.full(len(payloads), directory.codes.get(topic, Directory.UNKNOWN))
    received = np.full(len(payloads), received_ms)
    columns, left = decode_plain(directory, codes, Values.of(payloads), received)
    return columns, left.tolist()


def text(column: Any, row: int) -> str | None:
    """What a row says in a column of texts that may be missing altogether."""
    return None if column is None else column.text(row)


def test_every_field_is_read() -> None:
    """In any order, beside fields that nobody knows."""
    full = {"seq": 17, "quality": "bad", "serial": "A-1", "product": "bar", "revision": 2, "unit": "MWh"}
    columns, left = read(
        reading(1.5, NOW_MS, **full),
        b' {"value":"-7.250","rssi":-70,"ok":true,"time":"%s"}\n' % NOW.encode(),
        reading(
            1, NOW_MS, seq=None, quality=None, serial=None, product="", revision=None, unit="", start=None
        ),
        reading(1, NOW_MS, quality="estimated", product="A-1"),
    )
    assert left == []
    assert columns.mantissa.tolist() == [15, -7250, 1, 1]
    assert columns.exponent.tolist() == [-1, -3, 0, 0]
    assert columns.time.tolist() == [NOW_MS] * 4
    assert columns.seq.tolist() == [17, -1, -1, -1]
    assert columns.quality.tolist() == [2, 0, 0, 3]
    assert columns.revision.tolist() == [2, 0, 0, 0]
    assert [text(columns.serial, i) for i in range(4)] == ["A-1", None, None, None]
    assert [text(columns.product, i) for i in range(4)] == ["bar", None, None, "A-1"]
    assert [text(columns.unit, i) for i in range(4)] == ["MWh", None, None, None]


@pytest.mark.parametrize(
    "odd",
    [
        *({"value": value} for value in ("1e3", "+1", " 1", "1 ", "", "01", None, True, "1" * 19, [1])),
        *({"time": time} for time in (5, -1, NOW_MS + 700_000, "2026-11-22", "2026-11-22T08:00:00", None)),
        *(
            {key: value}
            for key in ("serial", "product")
            for value in (1, "x" * 201, "\x7f", "a\nb", "\u00e9")
        ),
        *({"quality": value} for value in ("", "GOOD", "goo", 1)),
        *({key: value} for key in ("seq", "revision") for value in (-1, 1.5, "1", 2**63, True)),
        *({"revision": 2**31}, {"unit": "m3"}, {"unit": 1}, {"point": "main"}, {"plant": "steel"}),
        *({"start": NOW_MS - 1}, {"note": {}}, {"note": 1e30}),
    ],
    ids=str,
)
def test_anything_else_is_left_alone(odd: dict[str, Any]) -> None:
    """And its neighbours are taken all the same."""
    fields = {"time": NOW_MS, "value": 1, "serial": "B"} | odd
    columns, left = read(reading(), json.dumps(fields, ensure_ascii=False).encode(), reading(2))
    assert (columns.order.tolist(), left) == ([0, 2], [1])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"[" + reading() + b"]",
        reading()[:-1],
        reading() + b"}",
        b'{"time":1,"time":2,"value":1}',
    ],
)
def test_what_is_no_single_reading_is_left_alone(payload: bytes) -> None:
    """Arrays, torn text, a key twice."""
    assert read(reading(), payload)[1] == [1]


@pytest.mark.parametrize("topic", [STEEL, BOOKS, "meterflow/v1/steel/none", "a/b", ""])
def test_topics_that_are_no_registers_are_left_alone(topic: str) -> None:
    """Plants, points that read intervals, topics that nobody knows."""
    assert read(reading(), reading(2), topic=topic)[1] == [0, 1]


DIGITS = st.integers(0, 99).map("{:02d}".format)
TIMES = st.builds(
    "{:04d}-{}-{}T{}:{}:{}{}{}".format,
    st.sampled_from([2000, 2001, 2023, 2024, 2026, 2100, 1999]),
    *(st.integers(0, 13).map("{:02d}".format), st.integers(0, 32).map("{:02d}".format)),
    *(st.integers(0, 25).map("{:02d}".format), st.integers(0, 61).map("{:02d}".format)),
    st.integers(0, 61).map("{:02d}".format),
    st.sampled_from(["", ".", ".1", ".12", ".123", ".1239", ".000000000", ".x"]),
    st.sampled_from(["Z", "+08:00", "-11:30", "+23:59", "+24:00", "z", "", "+0800", "Z "]),
)


@given(TIMES)
@example("2024-02-29T23:59:59.999+08:00")
@example("2023-02-29T00:00:00Z")
@example("2000-02-29T00:00:00Z")
@example("2100-02-29T00:00:00Z")
@example("2026-11-22T24:00:00Z")
@settings(max_examples=1500, deadline=None)
def test_a_time_as_text_is_the_same_instant(time: str) -> None:
    """As the exact way reads it, or left to it."""
    columns, left = read(reading(1, time), received_ms=10**13)
    if not left:
        assert columns.time.tolist() == [epoch_ms(time)]


def test_usual_times_as_text_are_taken() -> None:
    """Else the law above would say nothing: every day of some years, in zones east and west."""
    dates = np.arange("1999-12-30", "2029-01-02", 37, dtype="datetime64[D]").astype(str).tolist()
    ends = ["T00:00:00Z", "T23:59:59.5+08:00", "T12:30:00.250-03:30"]
    times = [date + ends[i % 3] for i, date in enumerate([*dates, "2024-02-29", "2000-02-29", "2026-12-31"])]
    columns, left = read(*(reading(1, time) for time in times), received_ms=2 * 10**12)
    assert left == [0]
    assert columns.time.tolist() == [epoch_ms(time) for time in times[1:]]


def test_many_words_are_told_apart() -> None:
    """Thousands of serial numbers and products, those of one among the other's."""
    payloads = [reading(1, NOW_MS, serial=f"s{i % 1999}", product=f"s{i * 7 % 2503}") for i in range(MANY)]
    columns, left = read(*payloads)
    assert left == []
    assert [text(columns.serial, i) for i in range(MANY)] == [f"s{i % 1999}" for i in range(MANY)]
    assert [text(columns.product, i) for i in range(MANY)] == [f"s{i * 7 % 2503}" for i in range(MANY)]


def test_messages_are_read_up_to_their_ends() -> None:
    """One that breaks off is not completed by what lies behind it, at any byte of it."""
    whole = reading("1.5", NOW, serial="A", quality="good", seq=3, product=None)
    ends = np.arange(len(whole) + 1)
    values = Values(whole, np.zeros(len(ends), np.int64), ends)
    codes, received = np.zeros(len(ends), np.int64), np.full(len(ends), NOW_MS)
    columns, left = decode_plain(Directory(roster()), codes, values, received)
    assert columns.order.tolist() == [len(whole)]
    assert left.tolist() == list(range(len(whole)))
