"""Record batches are Kafka's: aiokafka reads back what was given."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.kafka_batches import Block, Numbers, Raw, batch, blocks, blocks_of_values

_STAMPS = st.integers(0, 7_952_342_400_000)
_RECORDS = st.lists(st.tuples(st.binary(max_size=200), st.none() | st.binary(max_size=300), _STAMPS))


def read(blocks_: list[Block], numbers: Numbers | None = None) -> list[tuple[Any, ...]]:
    """Offset in the batch, key, value and stamp of all records, every checksum seen to be right."""
    found = []
    for block in blocks_:
        (one,) = _batches(batch(block, numbers or Numbers()))
        assert one.validate_crc()
        found += [(r.offset, r.key, r.value, r.timestamp) for r in one]
    return found


def _batches(content: bytes) -> list[Any]:
    records, found = MemoryRecords(content), []
    while records.has_next():
        found.append(records.next_batch())
    return found


@settings(deadline=None)
@given(_RECORDS, st.integers(1, 1000))
def test_records_come_back_in_their_order(records: list[Raw], bytes_max: int) -> None:
    """Any keys, values and stamps, cut anywhere; a missing value is not an empty one."""
    cut = list(blocks(records, bytes_max))
    assert [record[1:] for record in read(cut)] == records
    assert sum(block.rows for block in cut) == len(records)
    assert all(block.last_ms >= block.first_ms for block in cut if block.rows == 1)


@settings(deadline=None)
@given(st.binary(max_size=80), st.lists(st.binary(max_size=400)), _STAMPS, st.integers(1, 2000))
def test_a_column_of_values_gives_the_same_bytes_as_its_records(
    key: bytes, values: list[bytes], stamp_ms: int, bytes_max: int
) -> None:
    """To the last byte, at the same cuts when keys and values are counted."""
    column = pa.array([b"before", *values], pa.binary()).slice(1)
    coded = [batch(block, Numbers()) for block in blocks_of_values(key, column, stamp_ms, bytes_max)]
    records = [(key, value, stamp_ms) for value in values]
    assert coded == [batch(block, Numbers()) for block in blocks(records, bytes_max)]


@pytest.mark.parametrize("size", [63, 64, 8191, 8192, (1 << 20) - 1, 1 << 20])
def test_lengths_at_the_edges_of_their_bytes(size: int) -> None:
    """A length's varint grows at 64, 8,192, 1,048,576: in both ways of coding."""
    value = b"x" * size
    (column,) = blocks_of_values(b"k", pa.array([value], pa.binary()), 5, 1 << 30)
    (alone,) = blocks([(b"k", value, 5)])
    assert read([column]) == read([alone]) == [(0, b"k", value, 5)]


def test_ten_thousand_values_are_numbered_through() -> None:
    """The numbers of records grow by a byte at 64 and at 8,192."""
    column = pa.array([str(i).encode() for i in range(10_000)], pa.binary())
    (block,) = blocks_of_values(b"", column, 0)
    assert [int(value) for _, _, value, _ in read([block])] == list(range(10_000))
    assert [offset for offset, *_ in read([block])] == list(range(10_000))


def test_a_batch_says_whose_it_is() -> None:
    """Producer, epoch, sequence, and whether it waits for the end of a transaction."""
    (block,) = blocks([(b"k", b"v", 7), (b"k", None, 3)])
    (one,) = _batches(batch(block, Numbers(True, 1 << 40, 12, 2_000_000_000)))
    assert (one.is_transactional, one.producer_id) == (True, 1 << 40)
    assert (one.first_timestamp, one.max_timestamp, one.last_offset_delta) == (7, 7, 1)
    (plain,) = _batches(batch(block, Numbers()))
    assert not plain.is_transactional
