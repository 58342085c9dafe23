"""The simulated park: registers that never fall, and plants that behave like plants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metering.roster import Roster
from metering.site import compile_roster, load_site
from simulators.park import BOOKS_LATENCY_MS, DAY_MS, EPOCH_MS, MINUTE_MS, Meter, Park, Reading

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PARK = compile_roster(load_site(EXAMPLES / "park/site.yaml"))
SIMULATED = Park(PARK, 7)
NOW_MS = 1_795_356_000_000
WEEK = np.arange(NOW_MS - 7 * DAY_MS, NOW_MS, MINUTE_MS)
PLANTS = SIMULATED.plants
OTHER = """\
meterflow: 1
plants:
  - id: works
    time_zone: America/Vancouver
    products: [{id: part, unit: pcs}]
    points:
      - {id: one, measures: electricity, reads: register, unit: MWh, expect_every: 60s, limit: 100 kW}
      - {id: two, measures: electricity, reads: register, unit: MJ, expect_every: 60s}
      - {id: parts, measures: output, reads: register, unit: pcs, expect_every: 60s,
         installations: [{digits: 3, decimals: 0}]}
      - {id: gas, measures: gas, reads: register, unit: m3, expect_every: 1h}
      - {id: volts, measures: voltage, reads: gauge, unit: V}
      - id: water
        measures: water
        reads: register
        unit: m3
        expect_every: 60s
        installations:
          - {serial: A, to: 2026-11-22T00:00:00+08:00, digits: 8, decimals: 2}
          - serial: B
            from: 2026-11-22T00:00:00+08:00
            digits: 8
            decimals: 1
            initial: 3.5
            multiplier:
              - {from: 2026-11-22T00:00:00+08:00, value: 10}
              - {from: 2026-11-22T05:00:00+08:00, value: 20}
"""

_instants = st.integers(EPOCH_MS + 1_000_000, NOW_MS)


@pytest.fixture
def other(tmp_path: Path) -> Roster:
    path = tmp_path / "site.yaml"
    path.write_text(OTHER)
    return compile_roster(load_site(path))


def _meters(plant: str) -> dict[str, Meter]:
    return {meter.point.id: meter for meter in SIMULATED.meters(plant)}


def _flows(plant: str, *points: str) -> NDArray[np.float64]:
    """What flowed through points together in every minute of the week, in canonical units."""
    meters = _meters(plant)
    flows = [np.diff(meters[point].amount(WEEK)) / 1e6 for point in points]
    return np.asarray(np.sum(flows, axis=0))


def _used(plant: str, *points: str) -> NDArray[np.float64]:
    """What a plant used: what it fed in is not its own."""
    back = ("feed-in",) if "solar" in points else ()
    return np.asarray(_flows(plant, *points) - (_flows(plant, *back) if back else 0.0))


def _rolling(flows: NDArray[np.float64], minutes: int) -> NDArray[np.float64]:
    return np.convolve(flows, np.ones(minutes), "valid")


def _ratio(plant: str, minutes: int, *points: str) -> NDArray[np.float64]:
    return _rolling(_used(plant, *points), minutes) / _rolling(_flows(plant, "count"), minutes)


@settings(max_examples=50)
@given(first=_instants, spans_ms=st.lists(st.integers(0, 600_000), min_size=2, max_size=4))
def test_readings_do_not_depend_on_how_time_is_cut(first: int, spans_ms: list[int]) -> None:
    """Asked for at once, or in pieces, by this run or by one that started later."""
    later = Park(PARK, 7)
    edges = [first, *(first + np.cumsum(spans_ms)).tolist()]
    for plant in PLANTS:
        pieces = [
            reading for after, until in pairwise(edges) for reading in later.readings(plant, after, until)
        ]
        whole = SIMULATED.readings(plant, edges[0], edges[-1])
        assert sorted(pieces, key=_order) == sorted(whole, key=_order)


def _order(reading: Reading) -> tuple[str, int]:
    return reading.point, reading.time_ms


@settings(max_examples=50)
@given(at=st.lists(_instants, min_size=2, max_size=20))
def test_a_register_never_falls(at: list[int]) -> None:
    """At any instants since the beginning, in any seed's park."""
    instants = np.array(sorted(at))
    for plant in PLANTS:
        for meter in SIMULATED.meters(plant):
            assert (np.diff(meter.amount(instants)) >= 0).all()
            assert (np.diff(meter.register(meter.point.installations[0], instants)) >= 0).all()


@pytest.mark.parametrize("plant", PLANTS)
def test_a_meter_stays_within_its_limit_and_moves(plant: str) -> None:
    """In every minute of a week."""
    for meter in SIMULATED.meters(plant):
        limit, flows = meter.point.limit_per_hour, np.diff(meter.amount(WEEK))
        assert flows.sum() > 0
        assert limit is None or flows.max() * 60 <= limit


@pytest.mark.parametrize("plant", PLANTS)
def test_something_is_made_in_every_quarter_of_an_hour(plant: str) -> None:
    """So that every rolling window has a value."""
    assert _rolling(_flows(plant, "count"), 15).min() > 0


@pytest.mark.parametrize(
    ("plant", "points", "low", "high"),
    [
        ("steel-1", ("main",), 590, 660),
        ("dye-1", ("main", "solar"), 1_000, 1_150),
        ("food-1", ("main",), 240, 260),
        ("steel-1", ("intake",), 1.4, 1.6),
        ("dye-1", ("river", "town"), 85, 95),
        ("food-1", ("intake",), 4.7, 5.3),
    ],
)
def test_a_plant_uses_per_tonne_what_such_plants_use(
    plant: str, points: tuple[str, ...], low: float, high: float
) -> None:
    """Over any 24 hours, as the example's site file says."""
    ratio = _ratio(plant, 1_440, *points)
    assert low < ratio.min() <= ratio.max() < high


def test_the_sun_feeds_the_dye_works_and_sometimes_the_grid() -> None:
    """By day only, and load = supply + generation - feed-in."""
    meters = _meters("dye-1")
    local_hour = (WEEK[:-1] - meters["solar"].day_zero_ms) % DAY_MS // 3_600_000
    solar, back = _flows("dye-1", "solar"), _flows("dye-1", "feed-in")
    assert solar[(local_hour < 6) | (local_hour >= 18)].max() == 0
    assert solar[local_hour == 12].min() > 0
    assert 0 < back.sum() < 0.2 * solar.sum()
    assert ((_flows("dye-1", "main") == 0) | (back == 0) | (solar > 0)).all()


def test_the_steel_works_raises_its_alert_every_hour_and_clears_it() -> None:
    """Above 680 kWh/t in a 15 minute window, below 640 in between; at most 85 minutes apart."""
    rule = next(rule for rule in PARK.alerts if rule.scope == "plant:steel-1" and rule.id == "hot")
    assert (rule.window, rule.above) == ("15m", True)
    ratio = _ratio("steel-1", 15, "main")
    firing, starts = False, []
    for minute, value in enumerate(ratio.tolist()):
        if not firing and value > rule.threshold:
            starts.append(minute)
        firing = value > rule.threshold or (firing and value >= rule.clear)
    assert 23 * 7 <= len(starts) <= 25 * 7
    assert np.diff(starts).max() <= 85


@pytest.mark.parametrize("plant", ["dye-1", "food-1"])
def test_the_other_works_are_quiet(plant: str) -> None:
    """No alert of theirs fires in a week."""
    points = {"dye-1": (("main", "solar"), ("river", "town")), "food-1": (("main",), ("intake",))}[plant]
    for rule in (rule for rule in PARK.alerts if rule.scope == f"plant:{plant}"):
        ratio = _ratio(plant, 60, *points[rule.when == "m3-per-t"])
        assert rule.above
        assert ratio.max() < rule.threshold


def test_readings_come_as_often_as_they_are_expected() -> None:
    """Of a day every one, or every second, always the same instants."""
    every = [r for r in SIMULATED.readings("steel-1", NOW_MS - DAY_MS, NOW_MS) if r.point == "main"]
    second = [r for r in SIMULATED.readings("steel-1", NOW_MS - DAY_MS, NOW_MS, 2) if r.point == "main"]
    assert np.unique(np.diff([r.time_ms for r in every])).tolist() == [5_000]
    assert np.unique(np.diff([r.time_ms for r in second])).tolist() == [10_000]
    assert set(second) < set(every)


def test_a_reading_has_the_decimals_of_its_register_before_the_multiplier() -> None:
    """10 GWh through a multiplier of 4,000 move the register by 2,500.00."""
    meter = _meters("steel-1")["main"]
    first, *_, last = [r for r in SIMULATED.readings("steel-1", NOW_MS - DAY_MS, NOW_MS) if r.point == "main"]
    assert all(len(reading.value.partition(".")[2]) == 2 for reading in (first, last))
    moved = np.diff(meter.amount(np.array([first.time_ms, last.time_ms])))[0] / 1e6
    assert float(last.value) - float(first.value) == pytest.approx(moved / 4_000, abs=0.02)


def test_value_added_comes_once_a_day_for_the_local_day() -> None:
    """A minute after midnight in Shanghai, in yuan and fen."""
    midnight_ms = NOW_MS // DAY_MS * DAY_MS + 16 * 3_600_000 - DAY_MS
    after_ms = midnight_ms - DAY_MS + BOOKS_LATENCY_MS
    books = [r for r in SIMULATED.readings("steel-1", after_ms, NOW_MS) if r.point == "books"]
    assert [(r.start_ms, r.time_ms) for r in books] == [(midnight_ms - DAY_MS, midnight_ms)]
    assert 3_000_000 < float(books[0].value) < 6_000_000
    assert len(books[0].value.partition(".")[2]) == 2


def test_another_seed_is_another_park() -> None:
    """And the same seed the same."""
    span = ("food-1", NOW_MS - 60_000, NOW_MS)
    assert Park(PARK, 7).readings(*span) == SIMULATED.readings(*span)
    assert Park(PARK, 8).readings(*span) != SIMULATED.readings(*span)


def test_any_site_file_has_a_park(other: Roster) -> None:
    """Other units, several supplies, unknown decimals; gauges are left out."""
    park = Park(other, 1)
    readings = park.readings("works", NOW_MS - 3_600_000, NOW_MS)
    assert {r.point for r in readings} == {"one", "two", "parts", "gas", "water"}
    assert len(next(r for r in readings if r.point == "one").value.partition(".")[2]) == 3
    limited = next(meter for meter in park.meters("works") if meter.point.id == "one")
    assert np.diff(limited.amount(WEEK)).max() * 60 <= 100_000_000


def test_a_register_rolls_over_where_it_has_no_more_digits(other: Roster) -> None:
    """Three digits: 999 is followed by 0."""
    shown = [
        int(r.value)
        for r in Park(other, 1).readings("works", NOW_MS - 5 * DAY_MS, NOW_MS)
        if r.point == "parts"
    ]
    assert 0 <= min(shown) < max(shown) <= 999
    assert (np.diff(shown) < 0).any()


def test_a_meter_that_is_replaced_begins_at_its_initial_value(other: Roster) -> None:
    """Each installation with its own register, and each multiplier from its instant on."""
    park = Park(other, 1)
    meter = next(meter for meter in park.meters("works") if meter.point.id == "water")
    new = meter.point.installations[1]
    at = new.from_ms + np.array([0, 5, 7]) * 3_600_000
    flowed = np.diff(meter.amount(at))
    shown = meter.register(new, at)
    assert shown[0] == 35
    assert np.diff(shown) / 10 == pytest.approx(flowed / 1e6 / np.array([10, 20]), abs=0.11)


def test_a_day_of_the_whole_park_is_some_150_000_readings() -> None:
    """All plants of the park are in it, each with what its meters send."""
    each = [len(Park(PARK, 1).readings(plant, NOW_MS - DAY_MS, NOW_MS)) for plant in PLANTS]
    assert min(each) > 0
    assert 140_000 < sum(each) < 160_000
