"""Meter exports become recordings with exactly the digits and the instants they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import UsageError
from metering.faults import FileFaults
from metering.site import compile_roster, load_site
from simulators.convert import convert, json_number
from simulators.convert_map import FileForm, load_mapping
from simulators.recording import Message, read_recording
from tests.simulators.convert_helper import ENDS, MAP, converted, decoded, instants

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_steel_year_is_converted_to_the_last_digit(
    data_file: Callable[[str], Path], tmp_path: Path
) -> None:
    """Golden sums, one message a row, and an axis of 35,040 quarters from 2018-01-01 00:15 on."""
    out = tmp_path / "steel.ndjson.zst"
    summary = convert(data_file("uci_steel_2018.csv"), EXAMPLES / "steel/map.yaml", out)
    messages = list(read_recording(out))
    rows = decoded(messages)
    assert (summary.rows, summary.messages, summary.readings) == (35_040, 35_040, 105_120)
    assert {message.topic for message in messages} == {"meterflow/v1/steel-kr"}
    sums = {point: str(sum(row["values"][point] for row in rows)) for point in ("main", "lagging", "leading")}
    assert sums == {"main": "959636.71", "lagging": "456759.84", "leading": "135638.04"}
    first = int(datetime(2017, 12, 31, 15, 15, tzinfo=UTC).timestamp() * 1000)
    assert [m.received_ms for m in messages] == [first + i * 900_000 for i in range(35_040)]
    assert rows[0]["start"] == "2017-12-31T15:00:00Z"
    assert rows[-1]["time"] == "2018-12-31T15:00:00Z"


def test_the_water_register_is_converted_to_the_last_digit(
    data_file: Callable[[str], Path], tmp_path: Path
) -> None:
    """17,520 hourly readings from local midnight on, each with the digits of the file."""
    source, out = data_file("ampds2_water_hourly.csv"), tmp_path / "water.ndjson"
    summary = convert(source, EXAMPLES / "water/map.yaml", out)
    messages = list(read_recording(out))
    texts = [line.split(",")[1] for line in source.read_text().splitlines()[1:]]
    assert (summary.readings, summary.cells_unreadable) == (17_520, 0)
    assert [m.payload.decode().partition('"value":')[2] for m in messages] == [f"{t}}}" for t in texts]
    assert instants(messages)[0] == "2012-04-01T07:00:00Z"
    assert np.unique(np.diff([m.received_ms for m in messages])).tolist() == [3_600_000]


@pytest.mark.parametrize("name", ["steel", "water"])
def test_an_example_map_names_the_points_of_its_site_file(name: str) -> None:
    """What the map sends is what the site file knows, and reads it in the same way."""
    mapping = load_mapping(EXAMPLES / name / "map.yaml")
    roster = compile_roster(load_site(EXAMPLES / name / "site.yaml"))
    for reading in mapping.readings:
        point = roster.find(mapping.plant, reading.point)
        assert point is not None
        assert point.reads == reading.reads


def test_several_quantities_of_a_row_are_one_message(tmp_path: Path) -> None:
    """In the form of gateways, with the interval they all belong to."""
    mapping = MAP % ENDS + "  - {point: back, column: out, reads: interval}\n"
    mapping = mapping.replace("reads: register", "reads: interval")
    messages, _ = converted(tmp_path, "at,kWh,out\n2018-01-01 00:15,1.50,2\n", mapping)
    assert messages == [
        Message(
            1_514_733_300_000,
            "meterflow/v1/p",
            1,
            b'{"time":"2017-12-31T15:15:00Z","start":"2017-12-31T15:00:00Z","values":{"main":1.50,"back":2}}',
        )
    ]


def test_what_needs_words_of_its_own_is_an_array(tmp_path: Path) -> None:
    """Units, products and a start for some only: every reading names its point."""
    mapping = MAP % ENDS + "  - {point: made, column: out, reads: interval, unit: kg, product: billet}\n"
    messages, _ = converted(tmp_path, "at,kWh,out\n2018-01-01 00:15,1,2\n", mapping)
    assert messages[0].topic == "meterflow/v1/p"
    assert decoded(messages)[0] == [
        {"point": "main", "time": "2017-12-31T15:15:00Z", "value": 1},
        {
            "point": "made",
            "time": "2017-12-31T15:15:00Z",
            "start": "2017-12-31T15:00:00Z",
            "value": 2,
            "unit": "kg",
            "product": "billet",
        },
    ]


def test_one_quantity_goes_to_its_points_topic_and_may_come_later(tmp_path: Path) -> None:
    """The message is received ``delay`` after the reading."""
    mapping = MAP % "UTC" + "delay: 90s\n"
    messages, _ = converted(tmp_path, "at,kWh\n2018-01-01 00:15:00.250,1\n", mapping)
    payload = b'{"time":"2018-01-01T00:15:00.250Z","value":1}'
    assert messages == [Message(1_514_765_790_250, "meterflow/v1/p/main", 1, payload)]


def test_what_cannot_be_read_is_counted_with_its_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A wrong stamp costs the row, a wrong value the cell, an empty one nothing."""
    mapping = MAP % "UTC" + "  - {point: back, column: out, reads: register}\n"
    table = "at,kWh,out\nnever,1,2\n2018-01-01,x,2\n2018-01-02,,3\n2018-01-03,NaN,\n2018-01-04,5\n\n"
    messages, summary = converted(tmp_path, table, mapping)
    assert [row["values"] for row in decoded(messages)] == [{"back": 2}, {"back": 3}, {"main": 5}]
    assert [(u.line, u.column, u.text) for u in summary.unreadable] == [(2, "at", "never"), (3, "kWh", "x")]
    assert summary.rows == summary.messages + summary.rows_empty + summary.rows_unreadable == 5
    assert (summary.readings, summary.cells_empty, summary.cells_unreadable) == (3, 4, 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3.170", "3.170"),
        ("45294.78058333333", "45294.78058333333"),
        ("-0", "-0"),
        ("1e-05", "1e-05"),
        ("+3", "3"),
        ("007", "7"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("00.10", "0.10"),
        ("", ""),
        (".", ""),
        ("e5", ""),
        ("0x1F", ""),
        ("1_000", ""),
        ("1,5", ""),
        ("Infinity", ""),
        ("٣", ""),
        ("\u22123.5", "-3.5"),
    ],
)
def test_a_number_keeps_its_digits(text: str, number: str) -> None:
    """As JSON writes it, and never through a float."""
    assert json_number(text, FileForm()) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.234.567,80", "1234567.80"), ("0,5", "0.5"), ("1.5", ""), ("12.34,5", ""), ("1.234", "1234")],
)
def test_marks_of_thousands_must_stand_where_they_belong(text: str, number: str) -> None:
    """1.5 in a file with decimal commas is a mistake, not 15."""
    assert json_number(text, FileForm(decimal=",", thousands=".")) == number


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_decimal_comes_out_as_the_same_decimal(value: Decimal) -> None:
    """Whatever the number of digits and the exponent."""
    number = json_number(str(value), FileForm())
    assert Decimal(number).as_tuple() == value.as_tuple()
    json.loads(number)


def _as_excel(path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["some works"])
    sheet.append(["at", "kWh"])
    for stamp, value in ROWS:
        sheet.append([stamp, value])
    book.save(path)


def _as_parquet(path: Path) -> None:
    stamps = pa.array([stamp for stamp, _ in ROWS], pa.timestamp("ns"))
    pq.write_table(pa.table({"at": stamps, "kWh": pa.array([v for _, v in ROWS], pa.float64())}), path)


ROWS = [
    (datetime(2018, 1, 1, 0, 15), 0.1),  # noqa: DTZ001  what files hold has no zone
    (datetime(2018, 1, 1, 0, 30), 3.0),  # noqa: DTZ001
    (datetime(2018, 1, 1, 0, 45), None),  # noqa: DTZ001
    (datetime(2018, 1, 1, 1, 0), 45294.78058333333),  # noqa: DTZ001
]


@pytest.mark.parametrize(
    ("name", "write", "form"), [("t.xlsx", _as_excel, "header_line: 2"), ("t.parquet", _as_parquet, "")]
)
def test_excel_and_parquet_give_the_shortest_digits_of_their_floats(
    tmp_path: Path, name: str, write: Callable[[Path], None], form: str
) -> None:
    """Stamps as the file's own type, in the zone of the mapping; empty cells are no readings."""
    write(tmp_path / name)
    (tmp_path / "map.yaml").write_text(MAP % "Asia/Seoul" + f"file: {{{form}}}\n")
    summary = convert(tmp_path / name, tmp_path / "map.yaml", tmp_path / "r.ndjson")
    messages = list(read_recording(tmp_path / "r.ndjson"))
    assert [str(row["value"]) for row in decoded(messages)] in (
        ["0.1", "3", "45294.78058333333"],
        ["0.1", "3.0", "45294.78058333333"],
    )
    assert instants(messages)[-1] == "2017-12-31T16:00:00Z"
    assert (summary.rows, summary.cells_empty, summary.rows_empty) == (4, 1, 1)


def test_parquet_of_narrow_floats_decimals_and_zoned_stamps_is_exact(tmp_path: Path) -> None:
    """0.1 of 32 bits is 0.1, and a stamp with a zone needs no other."""
    stamps = pa.array([1_514_733_300_000], pa.timestamp("ms", "UTC"))
    values = {
        "kWh": pa.array([0.1], pa.float32()),
        "out": pa.array([Decimal("7.10")], pa.decimal128(9, 2)),
    }
    pq.write_table(pa.table({"at": stamps, **values}), tmp_path / "t.parquet")
    mapping = MAP % "Asia/Seoul" + "  - {point: back, column: out, reads: register}\n"
    (tmp_path / "map.yaml").write_text(mapping)
    convert(tmp_path / "t.parquet", tmp_path / "map.yaml", tmp_path / "r.ndjson")
    payload = next(read_recording(tmp_path / "r.ndjson")).payload
    assert payload == b'{"time":"2017-12-31T15:15:00Z","values":{"main":0.1,"back":7.10}}'


def test_a_table_of_another_country_is_read(tmp_path: Path) -> None:
    """GB 18030, semicolons, decimal commas, two columns for the stamp, titles above the header."""
    (tmp_path / "t.csv").write_bytes("某厂\n日期;时间;电量\n01.02.2018;08:30;1.234,50\n".encode("gb18030"))
    (tmp_path / "map.yaml").write_text(
        "map: 1\nplant: p\n"
        'file: {encoding: gb18030, delimiter: ";", decimal: ",", thousands: ".", header_line: 2}\n'
        'time: {column: [日期, 时间], format: "%d.%m.%Y %H:%M", zone: Asia/Shanghai}\n'
        "readings: [{point: main, column: 电量, reads: register}]\n"
    )
    convert(tmp_path / "t.csv", tmp_path / "map.yaml", tmp_path / "r.ndjson")
    payload = next(read_recording(tmp_path / "r.ndjson")).payload
    assert payload == b'{"time":"2018-02-01T00:30:00Z","value":1234.50}'


def test_a_header_that_comes_again_is_called_so(tmp_path: Path) -> None:
    """As where exports were joined."""
    _, summary = converted(tmp_path, "at,kWh\n2018-01-01,1\nat,kWh\n2018-01-02,2\n", MAP % "UTC")
    assert [(bad.line, bad.reason) for bad in summary.unreadable] == [(3, "is the header again")]


def test_what_programs_print_for_no_value_is_empty(tmp_path: Path) -> None:
    """In whatever case; a word that may mean something is not."""
    words = ["Null", "NAN", "---", "?", "#VALUE!", "n.a.", "NaT"]
    table = "at,kWh\n" + "".join(f"2018-01-0{i + 1},{word}\n" for i, word in enumerate([*words, "full"]))
    messages, summary = converted(tmp_path, table, MAP % "UTC")
    assert (messages, summary.cells_empty) == ([], 7)
    assert [bad.text for bad in summary.unreadable] == ["full"]


def test_several_meters_below_each_other_are_told_apart_by_a_column(tmp_path: Path) -> None:
    """Each row is of the points whose texts it has; rows of other meters are empty ones."""
    (tmp_path / "map.yaml").write_text(
        "map: 1\nplant: p\ntime: {column: at, zone: UTC}\nreadings:\n"
        "  - {point: a, column: kWh, reads: register, where: {id: '07'}}\n"
        "  - {point: b, column: kWh, reads: register, where: {id: '8', unit: kWh}}\n"
    )
    table = (
        "id,at,unit,kWh\n07,2018-01-01,kWh,1\n8,2018-01-01,kWh,2\n8,2018-01-01,V,230\n9,2018-01-01,kWh,3\n"
    )
    messages, summary = converted(tmp_path, table, (tmp_path / "map.yaml").read_text())
    assert [row["values"] for row in decoded(messages)] == [{"a": 1}, {"b": 2}]
    assert (summary.rows_empty, summary.cells_empty) == (2, 0)


def test_a_mean_is_of_the_beginning_of_its_interval(tmp_path: Path) -> None:
    """A gauge's value holds from its instant on: kW beside the kWh of the same quarter of an hour."""
    mapping = MAP.replace("register", "interval") % ENDS + "  - {point: power, column: kW, reads: gauge}\n"
    messages, _ = converted(tmp_path, "at,kWh,kW\n2018-01-01 00:15,1,4\n", mapping)
    assert decoded(messages)[0] == [
        {"point": "main", "time": "2017-12-31T15:15:00Z", "start": "2017-12-31T15:00:00Z", "value": 1},
        {"point": "power", "time": "2017-12-31T15:00:00Z", "value": 4},
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("map: 1", "map: 2", 1, "format 2"),
        ("plant: p", "plant: a/b", 2, "topics cannot hold"),
        ("zone: UTC", "zone: Mars/Base", 3, "no time zone"),
        ("zone: UTC", "zone: UTC, interval: 15m", 3, "interval belongs to"),
        ("zone: UTC", "zone: UTC, stemp: end", 3, "Did you mean 'stamp'"),
        ("column: kWh, ", "", 5, "'column' is missing"),
        ("reads: register", "reads: meter", 5, "not a known way of reading"),
        ("reads: register", "reads: interval", 1, "needs to know the interval"),
        ("reads: register", "reads: register, unit: kwh", 5, "Did you mean 'kWh'"),
        ("readings:", "readings: [", 5, ""),
    ],
)
def test_a_fault_of_a_mapping_file_is_shown_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    """And with what to do about it."""
    path = tmp_path / "map.yaml"
    path.write_text((MAP % "UTC").replace(old, new))
    with pytest.raises(FileFaults) as caught:
        load_mapping(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert words in str(caught.value)


def test_all_faults_of_a_mapping_file_are_shown_at_once(tmp_path: Path) -> None:
    """Not just the first."""
    path = tmp_path / "map.yaml"
    path.write_text((MAP % "Nowhere").replace("register", "meter").replace("plant: p", "plant: a/b"))
    with pytest.raises(FileFaults) as caught:
        load_mapping(path)
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"at,other\n", "no column 'kWh'"),
        ("t.csv", b"at,kWh,kWh\n", "2 times"),
        ("t.csv", b"", "no column 'at'"),
        ("t.csv", b"at,kWh\n\xff\xfe,1\n", "t.csv:2: .*\n.*file.encoding.*gb18030"),
        ("t.csv", "at,kWh\n".encode("utf-16"), "t.csv:1: .*\n.*file.encoding.*utf-16"),
        ("t.csv", b"at;kWh\n2018-01-01;1\n", "t.csv:1: .*\n.*file.delimiter: ';'"),
        ("t.csv", b"at\tkWh\n2018-01-01\t1\n", "file.delimiter: 'tab'"),
        ("t.pdf", b"", "cannot be converted"),
        ("t.xlsx", b"no zip", "not an Excel workbook"),
        ("t.parquet", b"no parquet", "not Parquet"),
        ("none.csv", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_converted_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    """A mistake of the user, never a traceback; and no half recording is left."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "map.yaml").write_text(MAP % "UTC")
    with pytest.raises(UsageError, match=words):
        convert(tmp_path / name, tmp_path / "map.yaml", tmp_path / "r.ndjson")
    assert not (tmp_path / "r.ndjson").exists()


def test_progress_ends_with_the_whole(tmp_path: Path) -> None:
    """It goes up, and says how much there is."""
    (tmp_path / "t.csv").write_text("at,kWh\n" + "2018-01-01,1\n" * 5_000)
    (tmp_path / "map.yaml").write_text(MAP % "UTC")
    told: list[tuple[int, int]] = []
    convert(tmp_path / "t.csv", tmp_path / "map.yaml", tmp_path / "r.ndjson", lambda *a: told.append(a))
    assert len(told) == 3
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] == (tmp_path / "t.csv").stat().st_size
