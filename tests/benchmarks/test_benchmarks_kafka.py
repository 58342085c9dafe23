"""The rolling-intensity job's load and truth: without Kafka, and small."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import intensity
from benchmarks.kafka_load import KIND_OF, KINDS, PARTITIONS, PLANT_NAMES, entries, make, messages, roster
from benchmarks.kafka_truth import check_frames, check_objects, edges, steps
from bus.frames import decode_readings, decode_table, encode_table
from bus.partition import partition_of
from ingest.decode import Delivery
from ingest.kafka_decode import TopicDecoder
from ingest.kafka_fields import JsonFields
from meterflow.benches import BENCHES

READINGS = 150_000
LATER_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What the operators say of the load."""
    site = roster(tmp_path_factory.mktemp("site"))
    shares = intensity.shares_of(make(READINGS))
    return [frame for number, share in enumerate(shares) for frame in intensity.worked(number, share, site)]


def test_every_benchmark_can_be_run() -> None:
    """Each name of ``meterflow bench`` has its module and function."""
    for name in BENCHES:
        assert callable(import_module(f"benchmarks.{name.replace('-', '_')}").run)


def test_all_windows_are_right(results: list[bytes]) -> None:
    """Two ratios of 16 plants, each minute of the load."""
    checked = check_frames(edges(make(READINGS)), results)
    assert (checked.wrong, checked.right) == (0, 2 * 16 * 15)


def test_a_window_that_is_wrong_missing_or_too_many_is_found(results: list[bytes]) -> None:
    """One millionth more in one numerator; one frame less; the truth of a shorter load."""
    truth = edges(make(READINGS))
    tables = [decode_table(frame) for frame in results]
    last = max(i for i, (name, _) in enumerate(tables) if name == "intensity")
    rows = tables[last][1]
    spoiled = pa.array(
        [value + 1 for value in rows["numerator"].to_pylist()], rows.schema.field("numerator").type
    )
    rows = rows.set_column(rows.schema.get_field_index("numerator"), "numerator", spoiled)
    frames = [*results[:last], encode_table("intensity", rows), *results[last + 1 :]]
    assert check_frames(truth, frames).wrong > 0
    assert check_frames(truth, results[:last] + results[last + 1 :]).wrong > 0
    assert check_frames(edges(make(READINGS - 20_000)), results).wrong > 0


def test_the_stream_processors_windows_are_checked_too() -> None:
    """Objects made of the truth are right; one that is off by a step, or gone, is not."""
    truth = steps(make(READINGS))
    said = [
        {"plant": plant, "end": 1_767_225_600_000 + (minute + 1) * 60_000}
        | {kind.name: int(truth.sums[k, p, minute]) for k, kind in enumerate(KINDS)}
        for p, plant in enumerate(PLANT_NAMES)
        for minute in range(truth.final[p])
    ]
    for one in said:
        one["electricity_per_output"] = one["electricity"] / one["output"]  # type: ignore[operator]
        one["water_per_output"] = one["water"] / one["output"]  # type: ignore[operator]
    assert check_objects(truth, _encoded(said)).wrong == 0
    assert check_objects(truth, _encoded(said[1:])).wrong == 1
    said[5]["water"] += 1  # type: ignore[operator]
    assert check_objects(truth, _encoded(said)).wrong == 1


def _encoded(objects: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(one).encode() for one in objects]


def test_the_two_truths_tell_the_same_but_for_the_edges() -> None:
    """No hour of a plant differs by more than its registers rise in two readings' time."""
    load = make(READINGS)
    exact, last = edges(load), steps(load)
    minutes = min(exact.minutes, last.minutes)
    for k, kind in enumerate(KINDS):
        step = 10 ** (6 - kind.decimals)
        apart = np.abs(exact.sums[k, :, :minutes] - last.sums[k, :, :minutes] * step)
        assert 0 < apart.max() <= 2 * kind.rise_max * step * kind.registers


def test_the_json_readings_are_the_same_as_the_columns(tmp_path: Path) -> None:
    """Decoded, they give the same values for the same registers and times, plant by plant in order."""
    load = make(20_000)
    decoder = TopicDecoder(roster(tmp_path), JsonFields(point="meter", time="ts", ignored=("kind",)))
    values = [line for _, _, lines in messages(load) for line in lines]
    decoded = decoder.decode([Delivery(["t"] * len(values), values, LATER_MS)])
    assert decoded.rejected == []
    columns = [decode_readings(entry.value) for entry in entries(load)]
    for readings in decoded.readings:
        mine = [one for one in columns if one.plant == readings.plant]
        for name in ("time", "mantissa", "exponent"):
            assert np.array_equal(
                getattr(readings, name), np.concatenate([getattr(one, name) for one in mine])
            )


def test_plants_are_spread_evenly() -> None:
    """Four on each partition; 60, 30 and 10 registers of the kinds."""
    counts = np.bincount([partition_of(name, PARTITIONS) for name in PLANT_NAMES])
    assert (counts.tolist(), np.bincount(KIND_OF).tolist()) == ([4, 4, 4, 4], [60, 30, 10])
