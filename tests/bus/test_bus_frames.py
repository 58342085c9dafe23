"""Frames: what goes in comes out, and what is not a frame is refused."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bus.frames import (
    decode_readings,
    decode_table,
    encode_readings,
    encode_rows,
    encode_table,
    schema,
)
from metering.errors import MeterflowError
from metering.readings import (
    DIGEST_BYTES,
    NO_CODE,
    NO_SEQ,
    NO_TIME,
    Dictionary,
    Evidence,
    Readings,
    absent,
    dictionary,
)
from metering.tables import POSITION, TABLES, Kind, Table

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = ("time", "start", "mantissa", "exponent", "revision", "seq", "quality", "flags", "received")
TYPES = {"exponent": np.int8, "revision": np.int32, "quality": np.uint8, "flags": np.uint8}
WORDS = ("point", "unit", "serial", "product")


@st.composite
def dictionaries(draw: st.DrawFn, n: int) -> Dictionary:
    """Text columns with unused words and absent texts."""
    words = tuple(draw(st.lists(TEXTS, max_size=5, unique=True)))
    codes = draw(arrays(np.int32, n, elements=st.integers(NO_CODE, len(words) - 1)))
    return Dictionary(words, codes)


@st.composite
def readings_of_any_kind(draw: st.DrawFn) -> Readings:
    """Readings with any value in any column."""
    n = draw(st.sampled_from([0, 1, 2, 17, 200]))
    numbers: dict[str, Any] = {name: draw(arrays(TYPES.get(name, np.int64), n)) for name in NUMBERS}
    texts: dict[str, Any] = {name: draw(dictionaries(n)) for name in WORDS}
    given_from = draw(st.none() | evidence_of_any_kind(n))
    return Readings(plant=draw(TEXTS), **numbers, **texts, evidence=given_from)


@st.composite
def evidence_of_any_kind(draw: st.DrawFn, n: int) -> Evidence:
    """Any topics and users, also absent ones; messages of no reading, and several of the same bytes."""
    digests = draw(st.integers(1, 5).flatmap(lambda m: arrays(np.uint8, (m, DIGEST_BYTES))))
    message = draw(arrays(np.int32, n, elements=st.integers(0, len(digests) - 1)))
    return Evidence(draw(dictionaries(n)), draw(dictionaries(n)), digests, message, draw(TEXTS))


def rows_of(table: Table) -> st.SearchStrategy[dict[str, object]]:
    """Rows with any value, also unknown, in any column."""
    amount = st.integers(1 - 10**38, 10**38 - 1).map(lambda i: Decimal(i).scaleb(-9, Context(prec=38)))
    kinds: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.TEXT: TEXTS,
        Kind.TIME: st.integers(-(2**53), 2**53),
        Kind.AMOUNT: amount,
        Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
        Kind.NUMBER: st.floats(allow_nan=False),
    }
    return st.fixed_dictionaries({c.name: st.none() | kinds[c.kind] for c in table.columns})


def some(n: int) -> Readings:
    """Readings as they usually are."""
    time = np.arange(n, dtype=np.int64) * 60_000 + 1_763_798_400_000
    return Readings(
        plant="steel-1",
        point=dictionary([f"point-{i % 20}" for i in range(n)]),
        time=time,
        start=np.full(n, NO_TIME),
        mantissa=np.arange(n, dtype=np.int64) * 17,
        exponent=np.full(n, -2, np.int8),
        unit=absent(n),
        serial=dictionary([None if i % 3 else "A-17" for i in range(n)]),
        product=absent(n),
        revision=np.zeros(n, np.int32),
        seq=np.full(n, NO_SEQ),
        quality=np.zeros(n, np.uint8),
        flags=np.zeros(n, np.uint8),
        received=time + 350,
    )


def with_evidence(readings: Readings, each: int = 1) -> Readings:
    """The same of messages of so many readings ``each``: message i says i."""
    n = len(readings)
    count = -(-n // each)
    digests = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(count))
    evidence = Evidence(
        topic=dictionary([f"meterflow/v1/steel-1/point-{i % 20}" for i in range(n)]),
        user=dictionary([None if i % 7 else "hall-3" for i in range(n)]),
        digest=np.frombuffer(digests, np.uint8).reshape(count, DIGEST_BYTES),
        message=(np.arange(n) // each).astype(np.int32),
        site="5e" * 32,
    )
    return replace(readings, evidence=evidence)


def assert_same_evidence(one: Evidence | None, other: Evidence | None) -> None:
    """Both have none, or the same."""
    if one is None or other is None:
        assert one is other
        return
    assert one.site == other.site
    for a, b in ((one.topic, other.topic), (one.user, other.user)):
        assert a.words == b.words
        assert a.codes.tolist() == b.codes.tolist()
    for numbers, others in ((one.digest, other.digest), (one.message, other.message)):
        assert numbers.dtype == others.dtype
        assert numbers.shape == others.shape
        np.testing.assert_array_equal(numbers, others)


def assert_same(one: Readings, other: Readings) -> None:
    """Equal in every value, word and type."""
    assert one.plant == other.plant
    for name in NUMBERS:
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    for name in WORDS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a.words, a.codes.dtype) == (b.words, np.int32)
        np.testing.assert_array_equal(a.codes, b.codes)
    assert_same_evidence(one.evidence, other.evidence)


def values(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as they were given: times as milliseconds."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@given(readings_of_any_kind())
@settings(max_examples=150, deadline=None)
def test_readings_come_back_as_they_went_in(readings: Readings) -> None:
    """Every value, every word, also unused ones, absent texts and extreme numbers."""
    assert_same(decode_readings(encode_readings(readings)), readings)


def test_many_words_come_back() -> None:
    """More than 16 bits of codes hold."""
    texts: list[str | None] = [f"serial-{i}" for i in range(40_000)]
    readings = some(40_000)
    readings = Readings(
        **{name: getattr(readings, name) for name in ("plant", *NUMBERS, "point", "unit", "product")},
        serial=dictionary(texts),
    )
    assert_same(decode_readings(encode_readings(readings)), readings)


def test_many_messages_come_back() -> None:
    """More than 16 bits of messages hold."""
    readings = with_evidence(some(40_000))
    assert_same(decode_readings(encode_readings(readings)), readings)


def test_the_same_readings_give_the_same_bytes() -> None:
    """A frame is a function of its readings."""
    assert encode_readings(some(300)) == encode_readings(some(300))
    assert encode_readings(with_evidence(some(300))) == encode_readings(with_evidence(some(300)))


def test_a_frame_is_an_arrow_stream() -> None:
    """Any Arrow reader opens it: the checksum lies behind the stream's end."""
    with pa.ipc.open_stream(encode_readings(some(300))) as reader:
        table = reader.read_all()
    assert table.column("point")[21].as_py() == "point-1"
    assert table.column("serial").null_count == 200
    assert table.schema.metadata[b"meterflow.format"] == b"readings/1"


@pytest.mark.parametrize("size", [5, 300])
def test_any_arrow_reader_sees_the_evidence(size: int) -> None:
    """Topic, user and the SHA-256 of each reading's message; in the metadata by what site it was taken."""
    with pa.ipc.open_stream(encode_readings(with_evidence(some(size), each=2))) as reader:
        table = reader.read_all()
    digests = table.column("digest").to_pylist()
    assert digests == [hashlib.sha256(b"%d" % (i // 2)).digest() for i in range(size)]
    assert table.column("topic")[3].as_py() == "meterflow/v1/steel-1/point-3"
    assert table.column("user").to_pylist() == [None if i % 7 else "hall-3" for i in range(size)]
    assert table.schema.metadata[b"meterflow.format"] == b"readings/2"
    assert table.schema.metadata[b"meterflow.site"] == b"5e" * 32


def test_a_message_has_its_digest_once() -> None:
    """One of 1,000 readings costs its 32 bytes once, not a thousand times."""
    plain, more = some(1000), with_evidence(some(1000), each=1000)
    assert len(encode_readings(more)) - len(encode_readings(plain)) < 4_000


def test_large_frames_are_compressed() -> None:
    """5,000 readings take less than 20 bytes each."""
    assert len(encode_readings(some(5000))) < 100_000


@pytest.mark.parametrize("size", [1, 300])
def test_a_frame_cut_anywhere_is_refused(size: int) -> None:
    """At every length, by an error that says what to do."""
    frame = encode_readings(with_evidence(some(size)))
    for length in range(0, len(frame), 1 if size == 1 else 37):
        with pytest.raises(MeterflowError, match="checksum") as refused:
            decode_readings(frame[:length])
        assert "restore" in refused.value.hint


@given(st.integers(0), st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_a_frame_with_one_byte_changed_is_refused(place: int, change: int) -> None:
    """Wherever it is."""
    frame = bytearray(encode_readings(with_evidence(some(5))))
    frame[place % len(frame)] ^= change
    with pytest.raises(MeterflowError):
        decode_readings(bytes(frame))


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_bytes_that_are_no_frame_are_refused(content: bytes) -> None:
    """Also with a right checksum."""
    for frame in (content, content + zlib.crc32(content).to_bytes(4, "little")):
        with pytest.raises(MeterflowError):
            decode_readings(frame)
        with pytest.raises(MeterflowError):
            decode_table(frame)


def altered(frame: bytes, old: bytes, new: bytes) -> bytes:
    """A frame with some of its bytes replaced, and the checksum put right."""
    body = frame[:-4].replace(old, new)
    assert body != frame[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_another_version_is_refused_with_what_to_do() -> None:
    """A frame of a newer meterflow is not guessed at."""
    frame = altered(encode_readings(with_evidence(some(5))), b"readings/2", b"readings/3")
    with pytest.raises(MeterflowError, match=re.escape("'readings/3', expected 'readings/2'")) as refused:
        decode_readings(frame)
    assert "newer one" in refused.value.hint


def test_rows_are_not_readings_and_readings_are_not_rows() -> None:
    """The format says which they are."""
    with pytest.raises(MeterflowError, match="expected 'readings/2'"):
        decode_readings(encode_rows("alert", []))
    with pytest.raises(MeterflowError, match="expected 'rows/1'"):
        decode_table(encode_readings(some(1)))


def test_a_frame_with_other_columns_is_refused() -> None:
    """Right format, wrong columns: damaged, not a crash."""
    for old in (b"mantissa", b"meterflow.plant"):
        with pytest.raises(MeterflowError, match="columns"):
            decode_readings(altered(encode_readings(some(5)), old, old[:-1] + b"x"))
    for old in (b"topic", b"user", b"digest", b"meterflow.site"):
        with pytest.raises(MeterflowError, match="columns are not those of readings/2"):
            decode_readings(altered(encode_readings(with_evidence(some(5))), old, old[:-1] + b"x"))
    with pytest.raises(MeterflowError, match="columns are not those of readings/2"):
        decode_readings(altered(encode_readings(some(5)), b"readings/1", b"readings/2"))
    with pytest.raises(MeterflowError, match="columns"):
        decode_table(altered(encode_rows("alert", []), b"threshold", b"threshxld"))


def with_column(name: str, change: Callable[[Any], Any]) -> bytes:
    """A frame as another writer may make it: one column is another."""
    with pa.ipc.open_stream(encode_readings(with_evidence(some(5)))) as reader:
        batch = reader.read_next_batch()
    number = batch.schema.names.index(name)
    changed = batch.set_column(number, name, change(batch.column(number)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, changed.schema) as writer:
        writer.write_batch(changed)
    stream = sink.getvalue().to_pybytes()
    return bytes(stream + zlib.crc32(stream).to_bytes(4, "little"))


def always(column: Any) -> Callable[[Any], Any]:
    """A change of whatever column into the one given."""
    return lambda _: column


@pytest.mark.parametrize("name", ["unit", "user", "digest"])
def test_a_frame_with_codes_of_another_kind_is_refused(name: str) -> None:
    """Unsigned ones: damaged, not a crash."""
    frame = with_column(name, lambda column: column.cast(pa.dictionary(pa.uint16(), column.type.value_type)))
    with pytest.raises(MeterflowError, match="columns"):
        decode_readings(frame)


def test_a_reading_without_a_digest_is_refused() -> None:
    """None in the column, or among the digests: every reading with evidence has that of its message."""
    same = pa.array([0, 1, 2, 3, 4], pa.int16())
    for indices, digests in (
        (pa.array([0, 1, None, 3, 4], pa.int16()), [b"%032d" % i for i in range(5)]),
        (same, [b"x" * 32, None, b"y" * 32, b"z" * 32, b"a" * 32]),
    ):
        column = pa.DictionaryArray.from_arrays(indices, pa.array(digests, pa.binary(32)))
        with pytest.raises(MeterflowError, match="columns"):
            decode_readings(with_column("digest", always(column)))
    right = pa.DictionaryArray.from_arrays(same, pa.array([b"%032d" % i for i in range(5)], pa.binary(32)))
    assert decode_readings(with_column("digest", always(right))).evidence is not None


def test_a_table_of_a_newer_version_is_refused() -> None:
    """By its name."""
    frame = altered(encode_rows("alert", []), b"\5\0\0\0alert", b"\5\0\0\0alarm")
    with pytest.raises(MeterflowError, match="'alarm'"):
        decode_table(frame)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_rows_come_back_as_they_went_in(table: Table) -> None:
    """Every column of every table, unknowns too; the schema is exactly the table's."""

    @given(st.lists(rows_of(table), max_size=5), st.integers(0, 2**62))
    @settings(max_examples=20, deadline=None)
    def round_trip(rows: list[dict[str, object]], position: int) -> None:
        name, found = decode_table(encode_rows(table.name, rows, position))
        assert name == table.name
        assert found.schema.equals(schema(table), check_metadata=True)
        assert values(found) == [row | {POSITION: position} for row in rows]

    round_trip()


def test_absent_cells_are_unknown_and_the_position_is_a_column() -> None:
    """A row names only what it knows."""
    rows = [{"id": "hot", "scope": "plant:a", "at": 5, "value": 1.5}] * 200
    _, found = decode_table(encode_rows("alert", rows, 77))
    assert found.column("threshold").null_count == 200
    assert found.column(POSITION).to_pylist() == [77] * 200


def test_a_column_the_table_has_not_is_a_mistake() -> None:
    """Never dropped in silence."""
    with pytest.raises(AssertionError, match="no such column"):
        encode_rows("alert", [{"id": "hot", "colour": "red"}])


def test_columns_come_in_any_order_and_encoding() -> None:
    """Shuffled, chunked, dictionary-encoded, without position: the decoded table is the same."""
    rows = [{"id": f"hot-{i % 3}", "scope": "plant:a", "at": i, "value": i / 2} for i in range(300)]
    _, plain = decode_table(encode_rows("alert", rows))
    odd = pa.concat_tables([plain.slice(0, 100), plain.slice(100)]).drop_columns([POSITION])
    odd = odd.set_column(0, "id", odd.column("id").dictionary_encode())
    odd = odd.select(sorted(odd.column_names))
    name, found = decode_table(encode_table("alert", odd))
    assert name == "alert"
    assert found.equals(plain)


def test_a_missing_column_is_a_mistake() -> None:
    """Columns are not made up."""
    _, plain = decode_table(encode_rows("alert", []))
    with pytest.raises(KeyError):
        encode_table("alert", plain.drop_columns(["scope"]))


def test_an_amount_beyond_nine_places_is_a_mistake() -> None:
    """It is not rounded in silence."""
    with pytest.raises(pa.ArrowInvalid):
        encode_rows("interval", [{"amount": Decimal("0.0000000001")}])
