"""Recordings give back what was written, byte for byte, and say where a line is wrong."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import MeterflowError, UsageError
from simulators.recording import Message, encode_line, read_recording, write_recording

NAMES = ("r.ndjson", "r.ndjson.gz", "r.ndjson.zst")
LINE = '{"received":"2026-11-22T08:00:00.123Z","topic":"t","qos":1,"payload":%s}\n'

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_payloads = (
    st.binary()
    | st.text().map(str.encode)
    | _json_values.map(lambda value: json.dumps(value).encode())
    | _json_values.map(lambda v: json.dumps(v, separators=(",", ":"), ensure_ascii=False).encode())
)
_messages = st.builds(
    Message,
    received_ms=st.integers(-(10**12), 10**14),
    topic=st.text(),
    qos=st.integers(0, 2),
    payload=_payloads,
    retain=st.booleans(),
)


def _written(folder: Path, text: str | bytes, name: str = "r.ndjson") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _payload_read(folder: Path, payload: str) -> bytes:
    return next(read_recording(_written(folder, LINE % payload))).payload


@given(messages=st.lists(_messages, max_size=5))
def test_what_is_written_is_read_again_byte_for_byte(
    messages: list[Message], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any payload, topic, QoS and instant comes back, from plain and compressed files."""
    for name in NAMES:
        path = tmp_path_factory.mktemp("recordings") / name
        with write_recording(path) as recording:
            recording.write_all(messages)
        assert list(read_recording(path)) == messages


@given(message=_messages)
def test_a_line_is_one_line_of_json(message: Message) -> None:
    """Any JSON reader can take it apart, and there is one line feed, at the end."""
    line = encode_line(message)
    assert line.count(b"\n") == 1
    assert json.loads(line)["topic"] == message.topic


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b'{"value":3.17}', "payload"),
        (b"null", "payload"),
        (b'{"value": 3.17}', "payload_text"),
        (b'{"value":0.10}', "payload_text"),
        (b'{"value":NaN}', "payload_text"),
        (b'{"a":1,"a":2}', "payload_text"),
        (b"", "payload_text"),
        (b"[" * 100_000, "payload_text"),
        (b"\xff\x00", "payload_base64"),
    ],
)
def test_a_payload_is_kept_in_the_form_that_keeps_its_bytes(payload: bytes, field: str) -> None:
    """JSON only when compact encoding gives the bytes again; else text, else base64."""
    fields = json.loads(encode_line(Message(0, "t", 1, payload)))
    assert {name for name in fields if name.startswith("payload")} == {field}


def test_a_line_has_the_documented_form() -> None:
    """The stamp has milliseconds and Z; retain is there only when set."""
    line = encode_line(Message(1_795_334_400_123, "meterflow/v1/p/q", 1, b'{"value":1}', True))
    assert line == (
        b'{"received":"2026-11-22T08:00:00.123Z","topic":"meterflow/v1/p/q","qos":1,'
        b'"payload":{"value":1},"retain":true}\n'
    )


def test_lines_of_other_writers_may_have_white_space(tmp_path: Path) -> None:
    """The payload is the compact encoding; digits stay as they are."""
    assert _payload_read(tmp_path, ' { "value" : 0.10,\t"a b" : "c d" } ') == b'{"value":0.10,"a b":"c d"}'


def test_empty_lines_and_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    """Files put together by hand are read."""
    line = LINE.replace('"qos"', '"client":"x","qos"') % "1"
    assert len(list(read_recording(_written(tmp_path, f"\n{line}  \n{line}\n")))) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense\n", "malformed"),
        (LINE.replace(',"payload":%s', ""), "exactly one"),
        (LINE.replace("}", ',"payload_text":"x"}') % "1", "exactly one"),
        (LINE.replace('"qos":1', '"qos":3') % "1", "qos"),
        (LINE.replace("123Z", "123") % "1", "timezone"),
        (LINE.replace("2026-11", "2026-13") % "1", "RFC3339"),
        (LINE.replace("%s", "NaN"), "malformed"),
        (LINE.replace('"payload":%s', '"payload_base64":"&"'), "base64"),
        (LINE.replace("%s", "[" * 100_000 + "]" * 100_000), "recursion"),
        ("[]\n", "object"),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    """Its place, what is wrong, and what a line looks like."""
    path = _written(tmp_path, LINE % "1" + line)
    with pytest.raises(UsageError, match=reason) as caught:
        list(read_recording(path))
    assert caught.value.where == f"{path}:2"
    assert "received, topic, qos" in caught.value.hint


def test_a_last_line_that_was_cut_off_is_said_to_be_so(tmp_path: Path) -> None:
    """A recorder that was killed leaves half a line: the hint says what to do."""
    path = _written(tmp_path, LINE % "1" + (LINE % "1")[:40])
    with pytest.raises(UsageError) as caught:
        list(read_recording(path))
    assert "cut off" in caught.value.hint


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_compressed_file_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    """No half recording is taken for a whole one."""
    content = (LINE % "1").encode() * 2000
    packed = gzip.compress(content) if name.endswith(".gz") else zstandard.compress(content)
    path = _written(tmp_path, packed[:-20], name)
    with pytest.raises(UsageError) as caught:
        list(read_recording(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["r.ndjson.gz", "r.ndjson.zst"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    """A plain file with a compressed name is a mistake, not an empty recording."""
    with pytest.raises(UsageError, match="cannot be read to its end"):
        list(read_recording(_written(tmp_path, LINE % "1", name)))


def test_a_recording_that_is_not_there_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    """It says which."""
    with pytest.raises(UsageError, match="No such file") as caught:
        list(read_recording(tmp_path / "none"))
    assert caught.value.where.endswith("none")


def test_minus_is_standard_input_and_output(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Recordings go through pipes."""
    message = Message(0, "t", 1, b"{}")
    with write_recording("-") as recording:
        recording.write(message)
    written = capsysbinary.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written)))
    assert list(read_recording("-")) == [message]


def test_a_whole_recording_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    """What was there before stays when writing fails, and nothing half is left."""
    path = _written(tmp_path, "before")
    with pytest.raises(AttributeError), write_recording(path, whole=True) as recording:
        recording.write_all([Message(0, "t", 1, b"1"), cast(Message, None)])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_said_to_be_the_trouble(tmp_path: Path) -> None:
    """Writing where nothing can be written raises no bare OSError."""
    with pytest.raises(MeterflowError, match="cannot be written"), write_recording(tmp_path / "no" / "r"):
        pass


def test_a_year_of_quarter_hours_is_read_whole(tmp_path: Path) -> None:
    """35,040 lines, each once and in order."""
    payload = b'{"time":"2018-01-01T00:15:00Z","start":"2018-01-01T00:00:00Z","values":{"a":3.17,"b":2.9}}'
    path = tmp_path / "year.ndjson"
    with write_recording(path) as recording:
        recording.write_all(Message(i * 900_000, "meterflow/v1/p", 1, payload) for i in range(35_040))
    assert [message.received_ms for message in read_recording(path)] == [i * 900_000 for i in range(35_040)]
