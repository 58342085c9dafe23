"""Values taken out of Kafka's batches: by the compiled loop as by aiokafka, and nothing else."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from typing import Literal

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.kafka_records import COMPILED, values_of
from metering.errors import MeterflowError

WAYS = sorted({False, COMPILED})
Record = tuple[int, bytes | None, bytes | None]
"""Number in its batch, key, value."""
RECORDS = st.lists(
    st.tuples(st.integers(1, 300), st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=200)),
    min_size=1,
    max_size=6,
)
CODECS = st.integers(0, 4)
COMMITTED, ABORTED = struct.pack(">HH", 0, 1), struct.pack(">HH", 0, 0)


def batch(
    base: int, records: Sequence[Record], codec: int = 0, producer: int = -1, mark: bytes | None = None
) -> bytes:
    """A batch from offset ``base``, in a transaction where a producer is given; a mark ends one."""
    builder = DefaultRecordBatchBuilder(2, codec, int(producer >= 0), producer, 0, 0, 1 << 30)
    for number, key, value in records if mark is None else [(0, mark, b"")]:
        assert builder.append(number, 1_795_334_400_000 + 7 * number, key, value, [("h", b"x")]) is not None
    return sealed(struct.pack(">q", base) + bytes(builder.build())[8:], 0x20 if mark is not None else 0)


def sealed(raw: bytes, more: int = 0) -> bytes:
    """With these attributes, too, and its checksum put right."""
    (attributes,) = struct.unpack_from(">h", raw, 21)
    body = struct.pack(">h", attributes | more) + raw[23:]
    return raw[:17] + struct.pack(">I", calc_crc32c(body)) + body


def plain(*values: bytes) -> list[Record]:
    """Records numbered one by one."""
    return [(number, b"key", value) for number, value in enumerate(values)]


def taken(
    content: bytes, offset: int = 0, aborted: Sequence[tuple[int, int]] = (), by_loop: bool = COMPILED
) -> tuple[list[bytes], int]:
    """The values, and where to read on."""
    values, behind = values_of(content, offset, aborted, "topic 0", by_loop=by_loop)
    return values.all(), behind


@given(st.lists(st.tuples(RECORDS, CODECS), max_size=4), st.integers(0, 1000), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_every_value_from_an_offset_on_is_taken(
    given_batches: list[tuple[list[Record], int]], offset: int, cut: int
) -> None:
    """However batches are compressed, with gaps between offsets; a batch that is cut off waits."""
    content, base, wanted, behind = b"", 0, list[bytes](), offset
    for records, codec in given_batches:
        numbers = [sum(record[0] for record in records[: i + 1]) - 1 for i in range(len(records))]
        content += batch(
            base, [(n, key, value) for n, (_, key, value) in zip(numbers, records, strict=True)], codec
        )
        wanted += [
            value or b"" for n, (*_, value) in zip(numbers, records, strict=True) if base + n >= offset
        ]
        base += numbers[-1] + 1
        behind = max(offset, base)
    torn = batch(base, plain(b"torn"))[: cut or None][:-1]
    for by_loop in WAYS:
        assert taken(content + torn, offset, by_loop=by_loop) == (wanted, behind)


@pytest.mark.parametrize("by_loop", WAYS)
def test_what_does_not_count_is_left_out(by_loop: bool) -> None:
    """An aborted transaction among a committed one and records of nobody, and the marks of both."""
    content = batch(0, plain(b"a")) + batch(1, plain(b"gone"), producer=7) + batch(2, plain(b"b"), producer=8)
    content += batch(3, [], producer=7, mark=ABORTED) + batch(4, plain(b"c"), producer=7)
    content += batch(5, [], producer=8, mark=COMMITTED) + batch(6, [], producer=7, mark=COMMITTED)
    assert taken(content, 0, [(7, 1)], by_loop) == ([b"a", b"b", b"c"], 7)


@pytest.mark.parametrize("by_loop", WAYS)
def test_a_damaged_batch_is_told_when_its_turn_has_come(by_loop: bool) -> None:
    """What stands before it comes first; then it is an error with its offset, every time."""
    second = bytearray(batch(2, plain(b"c", b"d")))
    second[-3] ^= 1
    content = batch(0, plain(b"a", b"b")) + bytes(second)
    assert taken(content, by_loop=by_loop) == ([b"a", b"b"], 2)
    with pytest.raises(MeterflowError, match=r"damaged \(offset 2\)"):
        taken(bytes(second), 2, by_loop=by_loop)


@pytest.mark.parametrize("length", [-100, -12, 0, 48])
def test_a_length_that_leads_backwards_is_damage(length: int) -> None:
    """No checksum covers it: followed, it would be read for ever."""
    content = bytearray(batch(3, plain(b"a")))
    struct.pack_into(">i", content, 8, length)
    with pytest.raises(MeterflowError, match=r"damaged \(offset 3\)"):
        taken(bytes(content), 3)


@pytest.mark.parametrize("by_loop", WAYS)
@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_what_cannot_be_unpacked_is_damage(codec: int, by_loop: bool) -> None:
    """A writer's mistake under a good checksum: each codec has errors of its own, none of them ours."""
    with pytest.raises(MeterflowError, match=r"damaged \(offset 0\)"):
        taken(sealed(batch(0, plain(b"no such thing")), codec), by_loop=by_loop)


@pytest.mark.parametrize("by_loop", WAYS)
def test_what_cannot_be_unpacked_does_not_hold_up_what_is_before_it(by_loop: bool) -> None:
    """The first batch is taken by itself; the damage is told when its turn has come."""
    good, bad = batch(0, plain(b"a", b"b")), sealed(batch(2, plain(b"no such thing")), 1)
    assert taken(good + bad, by_loop=by_loop) == ([b"a", b"b"], 2)
    with pytest.raises(MeterflowError, match=r"damaged \(offset 2\)"):
        taken(good + bad, offset=2, by_loop=by_loop)


@pytest.mark.parametrize("by_loop", WAYS)
@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_unpacks_to_too_much_is_told_and_not_unpacked(codec: int, by_loop: bool) -> None:
    """A small message can become a thousand times as large; what is before it comes first."""
    good, bomb = batch(0, plain(b"a")), batch(1, plain(*[bytes(4 << 20)] * 9), codec)
    assert len(bomb) < 4 << 20
    assert taken(good + bomb, by_loop=by_loop) == ([b"a"], 1)
    tracemalloc.start()
    try:
        with pytest.raises(MeterflowError, match=r"more than 32 MiB \(offset 1\)"):
            taken(bomb, 1, by_loop=by_loop)
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("by_loop", WAYS)
def test_batches_that_unpack_to_too_much_together_come_one_after_the_other(by_loop: bool) -> None:
    """As many at once as the bound has room for, and where to read on."""
    large = [bytes(5 << 20)] * 3
    content = b"".join(batch(3 * n, plain(*large), 1) for n in range(3))
    assert taken(content, by_loop=by_loop) == (large * 2, 6)
    assert taken(content, 6, by_loop=by_loop) == (large, 9)


@pytest.mark.parametrize("by_loop", WAYS)
@pytest.mark.parametrize("codec", [0, 1, 2])
@pytest.mark.parametrize("form", [0, 1])
def test_small_batches_of_old_formats_are_read(form: Literal[0, 1], codec: int, by_loop: bool) -> None:
    """Shorter than a head of today's format: they would be asked for again and again."""
    assert len(old(form, b"a")) < 61
    assert taken(old(form, b"a", codec=codec), by_loop=by_loop) == ([b"a"], 1)
    content = old(form, b"a", b"b", codec=codec) + batch(2, plain(b"c"))
    assert taken(content, 1, by_loop=by_loop) == ([b"b", b"c"], 3)


@pytest.mark.parametrize("by_loop", WAYS)
def test_an_old_batch_that_unpacks_to_too_much_is_told(by_loop: bool) -> None:
    """As one of today's format."""
    with pytest.raises(MeterflowError, match="more than 32 MiB"):
        taken(old(1, bytes(33 << 20), codec=1), by_loop=by_loop)


def test_a_batch_of_no_known_format_is_damage() -> None:
    """Also one that is shorter than a head."""
    for content in (old(1, b"a"), batch(0, plain(b"a"))):
        other = bytearray(content)
        other[16] = 9
        with pytest.raises(MeterflowError, match=r"damaged \(offset 0\)"):
            taken(bytes(other))


def old(form: Literal[0, 1], *values: bytes, codec: int = 0) -> bytes:
    """A batch of message format 0 or 1 from offset 0."""
    builder = LegacyRecordBatchBuilder(magic=form, compression_type=codec, batch_size=1 << 30)
    for number, value in enumerate(values):
        assert builder.append(number, timestamp=None if form == 0 else 0, key=None, value=value) is not None
    raw = bytes(builder.build())
    return struct.pack(">q", len(values) - 1) + raw[8:] if codec else raw


@pytest.mark.skipif(not COMPILED, reason="make setup found no C compiler, or loops are off")
@given(RECORDS, st.data())
@settings(max_examples=300, deadline=None)
def test_wrong_lengths_are_damage_or_values_within_the_batch(
    records: list[Record], data: st.DataObject
) -> None:
    """A checksum that is right over wrong lengths leads nowhere outside."""
    content = bytearray(batch(0, [(i, key, value) for i, (_, key, value) in enumerate(records)]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(57, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        values, _ = values_of(sealed(bytes(content)), 0, (), "topic 0", by_loop=True)
    except MeterflowError:
        return
    assert all(
        61 <= start <= end <= len(content) for start, end in zip(values.starts, values.ends, strict=True)
    )
