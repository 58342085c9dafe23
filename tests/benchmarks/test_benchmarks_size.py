"""The calculation of what many meters need, and the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import size
from meterflow.benches import BENCHES

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Constants and both sites, to the character."""
    size.run()
    assert capsys.readouterr().out in DOCUMENT.read_text(encoding="utf-8")


def test_every_constant_says_how_it_was_measured() -> None:
    """By a benchmark that there is, or that it is planned."""
    for one in size.CONSTANTS.values():
        assert one.how == size.PLANNED or one.how.removeprefix("bench ") in BENCHES
        assert one.value > 0


def test_ten_times_the_meters_need_ten_times_as_much(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is not rounded up; as JSON, too."""
    (province,) = size.run(json_output=True, sites=[(10_000_000, 900)])
    assert json.loads(capsys.readouterr().out) == [province]
    assert (province["readings_per_s"], province["influxdb_series"]) == (11_111, 60_000_000)
    large = size.size(100_000_000, 900)
    for name in ("readings_per_s", "process_memory_gb", "kafka_gb", "influxdb_rows_per_s"):
        assert large[name] == pytest.approx(10 * province[name], rel=0.02)


def test_a_site_that_says_more_than_a_copy_takes_gets_more_partitions() -> None:
    """A reading a second of each point."""
    assert size.size(100_000, 900)["process_partitions"] == 1
    assert size.size(100_000, 1)["process_partitions"] > 1
