"""The load of the operators' benchmark and its truth, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import core
from benchmarks.core_load import BATCH_READINGS, Load, Shape, roster, write_site
from benchmarks.core_truth import Checked, Results, registers_at_edges
from bus.frames import decode_readings, decode_table
from bus.log import RESULTS
from metering.site_compile import compile_roster
from metering.site_load import load_site
from processors.operators import Plants

SHAPE = Shape(points=200, plants=2, minutes=90, late_share=0.1)


def said(load: Load, kind: str, folder: Path) -> list[bytes]:
    """What the operators say of a load."""
    operators = Plants(roster(load.shape, write_site(folder)))
    records = load.frames() if kind == "frames" else load.stream()
    return [
        entry.value
        for batch in core.takes(records, operators.batch_bytes_max)
        for entry in operators.take(batch)[RESULTS]
    ]


def checked(load: Load, frames: list[bytes]) -> tuple[Checked, Checked]:
    """Intervals and roll-ups."""
    results = Results(load)
    for frame in frames:
        results.add(frame)
    return results.intervals(), results.rollups()


@pytest.mark.parametrize("kind", ["frames", "stream"])
def test_every_interval_and_roll_up_is_right(kind: str, tmp_path: Path) -> None:
    """A tenth of the readings is late; each minute of 200 points, and six quarters, two hours and so on."""
    load = Load(SHAPE)
    intervals, rollups = checked(load, said(load, kind, tmp_path))
    assert (intervals.wrong, intervals.right) == (0, 90 * 200)
    assert (rollups.wrong, rollups.right) == (0, (200 + 2 * 2) * (6 + 2 + 1 + 1 + 1))


def test_a_row_that_is_wrong_or_missing_is_found(tmp_path: Path) -> None:
    """Another load's truth; a frame of intervals and one of roll-ups less."""
    load = Load(SHAPE)
    frames = said(load, "frames", tmp_path)
    other = Load(SHAPE, seed=2)
    assert min(part.wrong for part in checked(other, frames)) > 0
    names = [decode_table(frame)[0] for frame in frames]
    for number, name in enumerate(("interval", "rollup")):
        last = len(names) - 1 - names[::-1].index(name)
        assert checked(load, frames[:last] + frames[last + 1 :])[number].wrong > 0


def test_a_register_at_an_edge_is_on_the_line_between_its_neighbours() -> None:
    """By fractions of whole numbers, each by itself."""
    load = Load(Shape(points=5, plants=1, minutes=4))
    edges = registers_at_edges(load)
    for point in range(5):
        for minute in range(1, 4):
            (start, end), unit = (
                load.times[minute - 1 : minute + 1, point].tolist(),
                int(load.millionths[point]),
            )
            low, high = (load.values[minute - 1 : minute + 1, point] * unit).tolist()
            at_ms = start - start % 60_000 + 60_000
            assert edges[minute, point] == low + (high - low) * (at_ms - start) // (end - start)


def test_both_kinds_of_records_hold_the_same_readings_in_the_order_of_their_arrival() -> None:
    """Frames of one plant with 4,096 readings, and batches of so many cut by plant."""
    load = Load(SHAPE)
    kinds = [list(load.frames()), list(load.stream())]
    for records in kinds:
        assert [record.offset for record in records] == list(range(len(records)))
        stamps = [record.stamp_ms for record in records]
        assert stamps == sorted(stamps)
    sizes = [[len(decode_readings(record.value)) for record in records] for records in kinds]
    assert max(sizes[0]) == BATCH_READINGS > max(sizes[1])
    assert sum(sizes[0]) == sum(sizes[1]) == len(load) == 90 * 200


def test_the_site_in_code_is_what_a_file_would_give(tmp_path: Path) -> None:
    """One plant's two points are those of the file but for their names."""
    one = write_site(tmp_path)
    made = roster(Shape(points=2, plants=1, minutes=2), one)
    assert compile_roster(load_site(tmp_path / "site.yaml")).points == one.points
    for point in made.points:
        like = next(other for other in one.points if other.measures == point.measures)
        assert (point.installations, point.expect_ms, point.limit_per_hour) == (
            like.installations,
            like.expect_ms,
            like.limit_per_hour,
        )
    assert made.names["plant-00000"] == {"meter-0000000": 0, "meter-0000001": 1}


def test_a_load_comes_from_its_seed() -> None:
    """Twice the same, and another one from another seed."""
    one, same, other = Load(SHAPE), Load(SHAPE), Load(SHAPE, seed=2)
    assert np.array_equal(one.times, same.times)
    assert np.array_equal(one.values, same.values)
    assert not np.array_equal(one.times, other.times)


def test_the_measurement_counts_and_checks() -> None:
    """All figures of a small load; nothing is wrong."""
    figures = core.measured(Shape(points=100, plants=1, minutes=20), "frames")
    assert (figures["wrong"], figures["readings"], figures["intervals_right"]) == (0, 2000, 2000)
    assert figures["cpu_s_per_million"] > 0
