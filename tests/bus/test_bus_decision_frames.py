"""Frames of decisions: what goes in comes out, anything else is an error of ours."""

from __future__ import annotations

import pytest

from bus.decision_frames import decode_decisions, encode_decisions
from bus.frames import encode_rows
from metering.decisions import Decision
from metering.errors import MeterflowError

DECISIONS = [
    Decision("main", None, 1_700_000_000_000, 1_700_000_060_000, "reset", "li.wei", 3, "", 1_700_000_100_000),
    Decision("feeder", "", 5, 5, "conflict", "王芳", 0, "12.50", 7),
]


def test_a_frame_gives_back_its_decisions() -> None:
    """Plant, every field, an absent serial and an empty one."""
    assert decode_decisions(encode_decisions("steel-1", DECISIONS)) == ("steel-1", DECISIONS)
    assert decode_decisions(encode_decisions("steel-1", [])) == ("", [])


@pytest.mark.parametrize("frame", [b"", b"decisions", encode_rows("ledger", [])])
def test_other_bytes_are_an_error(frame: bytes) -> None:
    """Torn bytes, and frames of another format."""
    with pytest.raises(MeterflowError):
        decode_decisions(frame)


def test_an_altered_frame_is_an_error() -> None:
    """A flipped bit anywhere is found."""
    frame = bytearray(encode_decisions("steel-1", DECISIONS))
    frame[len(frame) // 2] ^= 1
    with pytest.raises(MeterflowError):
        decode_decisions(bytes(frame))
