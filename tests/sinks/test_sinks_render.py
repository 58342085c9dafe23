"""Files of result rows, character by character."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.errors import Unavailable, UsageError
from metering.query import Query
from sinks.render import table_chunks, write_table
from sinks.store_duckdb import DuckStore

Builder = Callable[..., Any]
NOON_MS = 1_767_268_800_000
HEADER = (
    "plant,point,measures,start,end,amount,unit,quality,flags,measured_share,state,revision,cause,reported\n"
)


def rendered(table: tuple[str, pa.Table], format: Any) -> str:
    return b"".join(table_chunks(*table, format)).decode()


def line(**changes: str) -> str:
    """The CSV line of a plain interval row with some cells changed."""
    cells = {
        "plant": "steel-1",
        "point": "main",
        "measures": "electricity",
        "start": "2026-01-01T11:59:00Z",
        "end": "2026-01-01T12:00:00Z",
        "amount": "1",
        "unit": "kWh",
        "quality": "measured",
        "flags": "",
        "measured_share": "1.0",
        "state": "final",
        "revision": "0",
        "cause": "readings",
        "reported": "2026-01-01T12:00:01Z",
    }
    return ",".join((cells | changes).values()) + "\n"


def test_a_csv_file_is_a_header_and_a_line_a_row(interval: Builder, frame: Builder) -> None:
    """In the order of time, then key, whatever order they came in; without the hidden position."""
    rows = [interval("b"), interval("a", end=NOON_MS + 60_000, start=NOON_MS), interval("a")]
    later = line(
        point="a", start="2026-01-01T12:00:00Z", end="2026-01-01T12:01:00Z", reported="2026-01-01T12:01:01Z"
    )
    wanted = HEADER + line(point="a") + line(point="b") + later
    assert rendered(frame("interval", rows), "csv") == wanted


def test_an_empty_table_has_a_header_in_csv_and_is_an_empty_array_in_json(frame: Builder) -> None:
    """No rows are no error."""
    assert rendered(frame("interval", []), "csv") == HEADER
    assert json.loads(rendered(frame("interval", []), "json")) == []


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("3.170000000", "3.17"),
        ("0", "0"),
        ("-0.5", "-0.5"),
        ("100", "100"),
        ("0.000000001", "0.000000001"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        (None, ""),
    ],
)
def test_csv_writes_amounts_exactly(interval: Builder, frame: Builder, amount: str | None, text: str) -> None:
    """All digits that count, none that do not, nothing where nothing is known."""
    assert rendered(frame("interval", [interval(amount=amount)]), "csv") == HEADER + line(amount=text)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-7, "1e-07"),
        (3.0, "3.0"),
        (None, ""),
        (float("nan"), ""),
        (float("inf"), ""),
    ],
)
def test_csv_writes_numbers_as_their_shortest_text(
    interval: Builder, frame: Builder, share: float | None, text: str
) -> None:
    """The shortest that gives the same double again; what is no number is empty, never 0."""
    written = rendered(frame("interval", [interval(measured_share=share)]), "csv")
    assert written == HEADER + line(measured_share=text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1_514_765_700_000, "2018-01-01T00:15:00Z"),
        (1_514_765_700_500, "2018-01-01T00:15:00.500Z"),
        (1_514_765_700_007, "2018-01-01T00:15:00.007Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (None, ""),
        (2**62, ""),
    ],
)
def test_csv_writes_times_in_utc(interval: Builder, frame: Builder, ms: int | None, text: str) -> None:
    """RFC 3339 with Z, with milliseconds only where there are some; ever is empty."""
    assert rendered(frame("interval", [interval(reported=ms)]), "csv") == HEADER + line(reported=text)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("plain text", "plain text"),
        ("a,b", '"a,b"'),
        ('6" main', '"6"" main"'),
        ("two\nlines", '"two\nlines"'),
        ("carriage\rreturn", '"carriage\rreturn"'),
        ("=SUM(A1)", "=SUM(A1)"),
        ("电表 №1", "电表 №1"),
        ("", ""),
        (None, ""),
    ],
)
def test_csv_quotes_only_what_must_be_quoted(
    interval: Builder, frame: Builder, text: str | None, cell: str
) -> None:
    """By RFC 4180; texts are not tampered with for the sake of a spreadsheet."""
    assert rendered(frame("interval", [interval(cause=text)]), "csv") == HEADER + line(cause=cell)


def test_csv_is_read_back_by_an_ordinary_reader(frame: Builder) -> None:
    """A payload of any nonsense stays one cell."""
    payload = '{"a": "b,c"}\r\n"\x00";\'=1+1'
    row = {"received": NOON_MS, "topic": "t", "reason": "no JSON", "payload": payload}
    text = rendered(frame("rejected", [row]), "csv")
    (found,) = csv.DictReader(io.StringIO(text, newline=""))
    assert found["payload"] == payload


def test_json_is_an_array_of_objects_with_exact_amounts(interval: Builder, frame: Builder) -> None:
    """Amounts are numbers written with all their digits; unknowns are null, texts are escaped."""
    row = interval(amount="12345678901234567890.123456789", cause='a "quoted"\nline\x01', measured_share=None)
    wanted = (
        '[\n{"plant":"steel-1","point":"main","measures":"electricity","start":"2026-01-01T11:59:00Z",'
        '"end":"2026-01-01T12:00:00Z","amount":12345678901234567890.123456789,"unit":"kWh",'
        '"quality":"measured","flags":"","measured_share":null,"state":"final","revision":0,'
        '"cause":"a \\"quoted\\"\\nline\\u0001","reported":"2026-01-01T12:00:01Z"}\n]\n'
    )
    written = rendered(frame("interval", [row]), "json")
    assert written == wanted
    (found,) = json.loads(written, parse_float=Decimal)
    assert found["amount"] == Decimal("12345678901234567890.123456789")


def test_json_of_many_chunks_is_one_array(interval: Builder, frame: Builder) -> None:
    """Rows are read in pieces; the commas between the pieces are there, once."""
    rows = [interval(f"{i:06}") for i in range(50_000)]
    found = json.loads(rendered(frame("interval", rows), "json"))
    assert [row["point"] for row in found] == [row["point"] for row in rows]


def test_parquet_keeps_the_types(interval: Builder, frame: Builder, tmp_path: Path) -> None:
    """Times with their zone, amounts as decimals, no position."""
    name, rows = frame("interval", [interval(amount="3.17", cause=None)])
    write_table(name, rows, tmp_path / "i.parquet", "parquet")
    found = pq.read_table(tmp_path / "i.parquet")
    assert found.schema.field("end").type == pa.timestamp("ms", "UTC")
    assert found.schema.field("amount").type == pa.decimal128(38, 9)
    assert found.column_names == HEADER.strip().split(",")
    (row,) = found.to_pylist()
    assert (row["end"], row["amount"]) == (datetime(2026, 1, 1, 12, tzinfo=UTC), Decimal("3.17"))


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_the_store_exports_what_compute_writes(
    store: DuckStore, interval: Builder, frame: Builder, tmp_path: Path, format: Any
) -> None:
    """One path for both: the same rows are the same bytes."""
    rows = [interval(f"p{i % 7}", str(i), end=NOON_MS + i * 60_000) for i in range(300)]
    store.write([frame("interval", rows[200:]), frame("interval", rows[:200])], 1)
    name, table = frame("interval", rows)
    write_table(name, table, tmp_path / "file", format)
    assert b"".join(store.export(Query("interval"), format)) == (tmp_path / "file").read_bytes()


def test_a_file_that_cannot_be_written_says_where(interval: Builder, frame: Builder, tmp_path: Path) -> None:
    """A missing folder is a fault of the environment."""
    name, rows = frame("interval", [interval()])
    with pytest.raises(Unavailable, match="no-such-folder"):
        write_table(name, rows, tmp_path / "no-such-folder" / "f.csv", "csv")


def test_an_unknown_format_is_a_usage_error(frame: Builder) -> None:
    """The formats are named."""
    with pytest.raises(UsageError, match="csv, json and parquet"):
        rendered(frame("interval", []), "xml")
