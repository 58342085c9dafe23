"""The scale curves, small: over a real Kafka with real copies of ``meterflow process``, not timed."""

from __future__ import annotations

import json

import pytest

from benchmarks import scale
from benchmarks.scale_load import Messages, shape_of
from bus.frames import decode_readings


def test_two_copies_share_the_work_and_one_goes_on_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Every row is right; a copy that is killed is replaced; the figures are those that are printed."""
    figures = scale.run(
        json_output=True, points=[1_000], workers=[2], readings=24_000, recover=1_000, aged_s=0
    )
    assert json.loads(capsys.readouterr().out) == figures
    (one,) = figures["curve"]
    assert (one["points"], one["workers"], one["readings"], one["wrong"]) == (1_000, 2, 18_000, 0)
    assert one["rows_right"] > 24_000
    assert one["cpu_s_per_million"] > 0 < one["kafka_bytes_per_reading"]
    assert 0 < figures["recovery"]["first_new_result_s"] <= figures["recovery"]["caught_up_s"]
    assert scale.table(figures).count("\n") == 2 + len(figures["recovery"])


def test_the_messages_are_the_load_minute_by_minute() -> None:
    """Each reading once, in the order of its minute; a record is what one gateway sends at once."""
    messages = Messages(shape_of(300, 4))
    records = [decode_readings(entry.value) for entry in messages.entries(0, 4)]
    assert [len(one.time) for one in records] == [100] * 12
    times = sorted(int(time) for one in records for time in one.time)
    assert times == sorted(messages.load.times.ravel().tolist())
    assert all(
        min(later.time) >= max(one.time) - 60_000 for one, later in zip(records, records[3:], strict=False)
    )
