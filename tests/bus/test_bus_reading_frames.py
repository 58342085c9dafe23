"""Many frames of readings at once: exactly what Arrow makes of them one by one, or left to it."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.frames import decode_readings, encode_readings, encode_rows
from bus.kernels import LIBRARY
from bus.reading_frames import Frames, Stack
from metering.errors import MeterflowError
from metering.readings import Readings
from tests.bus.test_bus_frames import altered, readings_of_any_kind, some, with_evidence

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the loops are not built: make setup")
NUMBERS = ("time", "start", "mantissa", "exponent", "revision", "quality", "flags")
TEXTS = ("point", "unit", "serial", "product")


def read(frames: list[bytes]) -> Stack:
    """All that frames hold."""
    looked = Frames.of(frames)
    assert looked is not None
    stack = looked.read(0, len(frames))
    assert stack is not None
    return stack


def texts(column: Any) -> list[str | None]:
    """What each row says."""
    return [column.text(row) for row in range(len(column.codes))]


def assert_same(stack: Stack, parts: list[Readings]) -> None:
    """Column by column, in type and content."""
    assert stack.plants == [part.plant for part in parts]
    assert stack.lengths.tolist() == [len(part) for part in parts]
    for name in NUMBERS:
        wanted = np.concatenate([getattr(part, name) for part in parts])
        assert stack.of(name).dtype == wanted.dtype
        assert stack.of(name).tolist() == wanted.tolist()
    for name in TEXTS:
        assert texts(stack.text(name)) == [word for part in parts for word in texts(getattr(part, name))]
        assert stack.named(name) == any(getattr(part, name).words for part in parts)


@settings(max_examples=40)
@given(st.lists(readings_of_any_kind(), min_size=1, max_size=3))
def test_frames_are_read_as_arrow_reads_them(parts: list[Readings]) -> None:
    """Any values, any texts, none at all; few rows and many, which are compressed."""
    frames = [encode_readings(part) for part in parts]
    assert_same(read(frames), [decode_readings(frame) for frame in frames])


def test_rows_of_many_words_are_read() -> None:
    """More words than 16 bits count; blocks of more than LZ4 takes at once."""
    parts = [some(200_000), some(5)]
    names = tuple(f"meter-{number}" for number in range(40_000))
    codes = np.arange(200_000, dtype=np.int32) * 7 % 40_000
    columns = {name: getattr(parts[0], name) for name in Readings.__dataclass_fields__}
    columns["point"] = type(parts[0].point)(names, codes)
    parts[0] = Readings(**columns)
    assert_same(read([encode_readings(part) for part in parts]), parts)


def test_a_part_of_the_frames_is_read() -> None:
    """From one frame up to another; names of points are those of the plant of their frame."""
    frames = Frames.of([encode_readings(some(size)) for size in (3, 200, 4)])
    assert frames is not None
    assert frames.lengths == [3, 200, 4]
    stack = frames.read(1, 3)
    assert stack is not None
    assert_same(stack, [some(200), some(4)])
    numbers = stack.points({"steel-1": {f"point-{number}": number for number in range(10)}, "other": {}})
    assert numbers[200:].tolist() == [0, 1, 2, 3]
    assert numbers[:12].tolist() == [*range(10), -1, -1]
    assert stack.plant_and_point(201) == ("steel-1", "point-1")


def test_what_is_no_frame_of_readings_is_left_to_arrow() -> None:
    """Rows of results, a torn frame, nothing at all."""
    whole = encode_readings(some(5))
    assert Frames.of([whole]) is not None
    for other in (encode_rows("hop", [{"plant": "steel-1"}]), whole[:-1], b"", b"1234"):
        assert Frames.of([whole, other]) is None
    assert Frames.of([]) is None


def test_evidence_is_passed_over() -> None:
    """The columns are those of the same readings without it, of small and of compressed frames."""
    parts = [some(3), some(200), some(40_000), some(0)]
    frames = [encode_readings(with_evidence(part, each=2)) for part in parts]
    assert_same(read(frames), parts)
    mixed = [frames[0], encode_readings(parts[1]), frames[2]]
    assert_same(read(mixed), parts[:3])


def test_evidence_that_is_not_as_it_is_written_is_left_to_arrow() -> None:
    """Columns of other names, no version of the site, a format that has none, or has it."""
    whole = encode_readings(with_evidence(some(5)))
    assert Frames.of([whole]) is not None
    for old in (b"topic", b"user", b"digest", b"meterflow.site", b"readings/2"):
        assert Frames.of([altered(whole, old, old[:-1] + b"1")]) is None
    assert Frames.of([altered(encode_readings(some(5)), b"readings/1", b"readings/2")]) is None


@settings(max_examples=600)
@example(5, False, 744, 128)
@example(5, False, 1123, 95)
@given(st.sampled_from([0, 5, 200]), st.booleans(), st.integers(0), st.integers(1, 255))
def test_an_altered_frame_with_a_right_checksum_does_no_harm(
    size: int, evidence: bool, at: int, by: int
) -> None:
    """It is left to Arrow, or read as something that Arrow reads, too, or refuses for what it holds."""
    body = bytearray(encode_readings(with_evidence(some(size)) if evidence else some(size))[:-4])
    body[at % len(body)] ^= by
    frame = bytes(body) + zlib.crc32(body).to_bytes(4, "little")
    looked = Frames.of([frame])
    stack = None if looked is None else looked.read(0, 1)
    try:
        wanted = decode_readings(frame)
    except MeterflowError:
        return
    if stack is not None:
        assert len(stack.of("time")) == len(wanted)
