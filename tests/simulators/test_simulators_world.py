"""Simulated plants: the same from the same seed, in balance, with faults that have one right conclusion."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from metering.errors import UsageError
from metering.site import find_faults
from simulators.world import ALL_KINDS, Plan, Plant, kinds_of, plants, plants_for
from simulators.world_dealing import SWAPPED
from simulators.world_faults import KINDS, VALID
from simulators.world_flow_faults import FLOW_KINDS
from simulators.world_flows import HOUR_MS, MINUTE_MS
from simulators.world_profile import FOLDER, load_profile, shipped
from simulators.world_recording import Readings
from simulators.world_site import site_text
from simulators.world_truth import GroupTruth, Truth

START_MS = round(datetime(2026, 3, 27, tzinfo=UTC).timestamp() * 1_000)
PROFILES = shipped()
SCOPES = ("plant:steel-1", "point:steel-1/main", "point:steel-1/roof")


def plan(seed: int = 1, hours: int = 24, kinds: tuple[str, ...] = (), rate: float = 1.0) -> Plan:
    return Plan(seed, START_MS, START_MS + hours * HOUR_MS, kinds, rate)


def made(profile: str, what: Plan, count: int = 1) -> list[Plant]:
    return list(plants(load_profile(profile), what, count))


def content(some: list[Plant]) -> bytes:
    """The recording of some plants."""
    readings = Readings()
    for plant in some:
        readings.add(plant)
    return b"".join(bytes(lines) for _, lines in readings.lines())


def edges(hours: int = 24) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return START_MS + np.arange(0, hours * 60 + 1, dtype=np.int64) * MINUTE_MS


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_seed_gives_the_same_bytes(profile: str) -> None:
    """And another seed gives others; so do recording and site file."""
    one, again, other = (made(profile, plan(seed, kinds=ALL_KINDS)) for seed in (7, 7, 8))
    assert content(one) == content(again)
    assert content(one) != content(other)
    described = load_profile(profile)
    assert site_text(described, one) == site_text(described, again)


def test_one_more_plant_leaves_the_first_as_it_was() -> None:
    """Each has chances of its own."""
    few, more = (made("food", plan(kinds=ALL_KINDS), count) for count in (1, 3))
    assert content(few) == content(more[:1])
    assert [plant.id for plant in more] == ["food-1", "food-2", "food-3"]


def test_faults_leave_the_truth_as_it_is() -> None:
    """What flows does not depend on what the meters make of it."""
    kinds = tuple(kind for kind in ALL_KINDS if kind not in FLOW_KINDS)
    well, ill = made("textile", plan()), made("textile", plan(kinds=kinds))
    for one, other in zip(well[0].points, ill[0].points, strict=True):
        assert (one.past.edges == other.past.edges).all()


def test_a_leak_flows_by_day_and_by_night() -> None:
    """The same in each of its minutes, and nothing besides; the meter can count it."""
    well, ill = (made("food", plan(kinds=kinds))[0] for kinds in ((), ("leak",)))
    fault = ill.faults[0]
    assert (fault.kind, fault.point, fault.concludes, fault.found_by) == (
        "leak",
        "intake",
        VALID,
        "intensity",
    )
    both = [next(one for one in plant.points if one.meter.id == "intake") for plant in (well, ill)]
    more = np.diff(both[1].past.at(edges())) - np.diff(both[0].past.at(edges()))
    leaking = (edges()[:-1] >= fault.from_ms) & (edges()[1:] <= fault.to_ms)
    other = [each for each in ill.faults if each != fault]
    assert len(set(more[leaking])) == 1
    assert more[leaking][0] > 0
    for each in other:
        leaking |= (edges()[:-1] >= each.from_ms) & (edges()[1:] <= each.to_ms)
    assert not more[~leaking].any()
    assert np.diff(both[1].past.at(edges())).max() * 60 <= both[1].limit


def test_swapped_meters_send_each_others_readings() -> None:
    """Under the two names lies together what was sent without the fault."""
    well, ill = (made("steel", plan(kinds=kinds))[0] for kinds in ((), (SWAPPED,)))
    assert {fault.kind for fault in ill.faults} == {SWAPPED}
    pairs = defaultdict(list)
    for fault in ill.faults:
        pairs[fault.concludes].append(fault.point)
    assert len(pairs["spike"]) == len(pairs["glitch"]) > 2
    one, other = (sorted((at, value) for _, at, value in times_and_values(plant)) for plant in (well, ill))
    assert one == other
    assert set(times_and_values(well)) != set(times_and_values(ill))


def test_main_meter_sub_meters_sun_and_losses_balance() -> None:
    """Exactly, in every minute."""
    past = {one.meter.id: one.past.at(edges()) for one in made("steel", plan())[0].points}
    below = sum(past[name] for name in ("furnace", "ladle-furnace", "caster-drive", "hall-light"))
    losses = np.diff(past["main"] + past["roof"] - below)
    assert (losses >= 0).all()
    assert np.array_equal(losses, np.rint(np.diff(past["furnace"]) * 0.012).astype(np.int64))


def test_a_mill_takes_from_the_grid_or_gives_to_it() -> None:
    """Never both in the same minute; sun and grid together are what it uses, and it does give at noon."""
    past = {one.meter.id: one.past.at(edges(72)) for one in made("textile", plan(hours=72))[0].points}
    taken, given = np.diff(past["main"]), np.diff(past["back"])
    assert not (taken * given).any()
    assert given.any()


@pytest.mark.parametrize("profile", PROFILES)
def test_without_faults_a_meter_sends_what_it_shows(profile: str) -> None:
    """Each reading is what has flowed by then, in whole steps; reports are what flowed in their time."""
    plant = made(profile, plan())[0]
    rows = [json.loads(line) for line in content([plant]).splitlines()]
    points = {f"meterflow/v1/{plant.id}/{one.meter.id}": one for one in plant.points}
    assert {row["topic"] for row in rows} >= {t for t, p in points.items() if p.meter.reads == "register"}
    assert rows == sorted(rows, key=lambda row: row["received"])
    for row in rows:
        one, payload = points[row["topic"]], row["payload"]
        digits = int(payload["value"].replace(".", ""))
        if "start" in payload:
            low, high = one.past.at(np.array([payload["start"], payload["time"]]))
            assert abs(digits * one.step - (high - low)) * 2 <= one.step
        elif one.meter.reads == "gauge":
            minute = payload["time"] // MINUTE_MS * MINUTE_MS
            low, high = one.past.at(np.array([minute, minute + MINUTE_MS]))
            assert abs(digits * one.step - (high - low) * 60) * 2 <= one.step
        else:
            low, high = one.past.at(np.array([START_MS, payload["time"]]))
            assert digits == one.first + (high - low) // one.step


def test_a_shift_is_told_by_the_clock_on_the_wall() -> None:
    """On the night to summer time one shift has seven hours."""
    plant = made("food", plan(hours=72))[0]
    lengths = {
        int(length)
        for one, stream in zip(plant.points, plant.streams, strict=True)
        if one.meter.id == "shift-reports" and stream.start_ms is not None
        for length in (stream.time_ms - stream.start_ms) // HOUR_MS
    }
    assert lengths == {7, 8}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_site_file_has_no_faults(profile: str, tmp_path: Path) -> None:
    """Also with meters that were replaced; not even a warning."""
    some = made(profile, plan(kinds=("replacement", "wrong_multiplier")))
    assert some[0].changes
    assert some[0].factors
    site = tmp_path / "site.yaml"
    site.write_text(site_text(load_profile(profile), some), "utf-8")
    assert find_faults(site) == []


def test_every_kind_of_fault_finds_a_place() -> None:
    """In some profile, by itself; and at most one in six hours of a register."""
    for kind in ALL_KINDS:
        found = [fault for name in PROFILES for fault in made(name, plan(kinds=(kind,)))[0].faults]
        names = {"mixed" if "+" in fault.kind else fault.kind for fault in found}
        assert kind in names, kind
    by_point = defaultdict(list)
    for fault in made("steel", plan(hours=72, kinds=tuple(KINDS)))[0].faults:
        by_point[fault.point].append(fault)
    for faults in by_point.values():
        assert all(
            one.to_ms < other.from_ms for one, other in pairwise(sorted(faults, key=lambda f: f.from_ms))
        )


@pytest.mark.parametrize("every", ["1s", "5s", "15m", "4h"])
def test_meters_may_be_read_at_any_pace(every: str, tmp_path: Path) -> None:
    """Faults that have no room are not there."""
    text = (
        (FOLDER / "textile.yaml").read_text("utf-8").replace("measures:", f"expect_every: {every}, measures:")
    )
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    plant = next(plants(load_profile(str(path)), plan(kinds=ALL_KINDS), 1))
    kinds = {fault.kind for fault in plant.faults}
    assert kinds
    assert bool(kinds & KINDS.keys()) is (every != "4h")
    assert Truth(load_profile(str(path)), plant).intervals().num_rows > 10_000


def test_the_rate_says_how_many_faults_there_are() -> None:
    """None at 0, in about half of all places at 0.5, and only at registers."""
    counts = [len(made("steel", plan(hours=240, kinds=("dropout",), rate=r))[0].faults) for r in (0, 0.5, 1)]
    assert counts[0] == 0
    assert 0.4 < counts[1] / counts[2] < 0.6
    assert counts[2] == 40 * 10


def test_what_is_late_or_missing_is_still_the_same_readings() -> None:
    """Kinds that only move messages leave the set of readings as it is."""
    well = set(times_and_values(made("steel", plan())[0]))
    moved = ("outage", "duplicate", "flood", "out_of_order", "late")
    plant = made("steel", plan(kinds=moved))[0]
    assert {fault.concludes for fault in plant.faults} == {VALID}
    assert set(times_and_values(plant)) == well
    assert content([plant]) != content(made("steel", plan()))


def times_and_values(plant: Plant) -> list[tuple[str, int, int]]:
    """What a plant sends, without when."""
    return [
        (one.meter.id, int(at), int(value))
        for one, stream in zip(plant.points, plant.streams, strict=True)
        for at, value in zip(*stream.sent()[:2], strict=True)
    ]


def test_true_amounts_add_up() -> None:
    """The hours of the days are the days; a plant is its supply and its sun."""
    known = Truth(load_profile("steel"), made("steel", plan(hours=72))[0])
    rows = [row for row in known.rollups().to_pylist() if row["measures"] == "electricity"]
    days = {name: [r for r in rows if (r["scope"], r["span"]) == (name, "day")] for name in SCOPES}
    whole = days["plant:steel-1"]
    hours = [r for r in rows if (r["scope"], r["span"]) == ("plant:steel-1", "hour")]
    begins, ends = whole[0]["start"], whole[-1]["end"]
    inside = [row["amount"] for row in hours if begins <= row["start"] and row["end"] <= ends]
    assert sum(inside) == sum(row["amount"] for row in whole) > 0
    parts = [row["amount"] for name in SCOPES[1:] for row in days[name]]
    assert sum(parts) == sum(inside)


def test_a_group_is_the_sum_of_its_plants() -> None:
    """Of each that is in it, once, whatever other group lies between."""
    described, some = load_profile("steel"), made("steel", plan(hours=4), 3)
    whole: dict[tuple[str, str, datetime], Decimal] = defaultdict(Decimal)
    groups = GroupTruth(described)
    for plant in some:
        known = Truth(described, plant)
        groups.add(known)
        for row in known.rollups().to_pylist():
            if row["scope"] == f"plant:{plant.id}":
                whole[row["measures"], row["span"], row["start"]] += row["amount"]
    for scope in ("group:steel-park", "group:region"):
        rows = [row for row in groups.rollups()[0].to_pylist() if row["scope"] == scope]
        assert {(row["measures"], row["span"], row["start"]): row["amount"] for row in rows} == whole


def test_true_amounts_are_converted_by_the_coefficient_of_their_day() -> None:
    """The printed 0.1229 kgce of a kWh; 0.5366 kg of CO2 in 2022 and 0.5306 from 2023 on, in Beijing."""
    begin_ms = round(datetime(2022, 12, 31, 14, tzinfo=UTC).timestamp() * 1_000)
    of_grid = Plan(1, begin_ms, begin_ms + 4 * HOUR_MS)
    known = Truth(load_profile("steel"), made("steel", of_grid)[0])
    rows = [row for row in known.rollups().to_pylist() if row["span"] == "hour"]
    for row in (row for row in rows if row["scope"] == "plant:steel-1" and row["measures"] == "electricity"):
        factor = Decimal("0.5306" if row["start"].year == 2023 or row["start"].hour >= 16 else "0.5366")
        assert abs(row["kgce"] - row["amount"] * Decimal("0.1229")) <= Decimal("0.000001")
        assert abs(row["kgco2e"] - row["amount"] * factor) <= Decimal("0.000001")
    coke = [row for row in rows if row["scope"] == "point:steel-1/coke-feeder"]
    assert [row["kgco2e"] for row in coke] == [None] * 4
    assert all(abs(row["kgce"] - row["amount"] * Decimal("971.4")) <= Decimal("0.000001") for row in coke)
    assert {row["kgce"] for row in rows if row["measures"] == "water"} == {None}


def test_a_window_over_new_years_eve_takes_each_minute_by_its_own_coefficient() -> None:
    """Half an hour by the old one, half an hour by the new one."""
    begin_ms = round(datetime(2022, 12, 31, 14, tzinfo=UTC).timestamp() * 1_000)
    plant = made("steel", Plan(1, begin_ms, begin_ms + 4 * HOUR_MS))[0]
    turn_ms, half_ms = begin_ms + 2 * HOUR_MS, HOUR_MS // 2
    past = {one.meter.id: one.past.at(np.arange(-1, 2) * half_ms + turn_ms) for one in plant.points}
    old, new = np.diff(past["main"] + past["roof"]).tolist()
    rows = [row for part in Truth(load_profile("steel"), plant).intensities() for row in part.to_pylist()]
    ends = datetime.fromtimestamp((turn_ms + half_ms) / 1_000, UTC)
    (row,) = [r for r in rows if (r["id"], r["window"], r["end"]) == ("kgco2e-per-t", "1h", ends)]
    exact = (old * Decimal("0.5366") + new * Decimal("0.5306")) / 10**6
    assert abs(row["numerator"] - exact) <= Decimal("0.000002")


def test_more_meters_are_more_plants() -> None:
    """As many as it takes."""
    described = load_profile("steel")
    assert [plants_for(described, n) for n in (None, 1, 15, 16, 100)] == [1, 1, 1, 2, 7]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("adds: [sun]", "adds: [moon]", "nothing is called 'moon'"),
        ("follows: heats, base: 0.03", "follows: fires, base: 0.03", "nothing is called 'fires'"),
        ("kind: batches", "kind: bunches", "bunches"),
        ("id: ladle, rate: 5200", "id: ladle, rat: 5200", "rat"),
        ('begins: "08:00"', "begins: noon", "no time of day"),
        ("id: roof, measures", "id: main, measures", "'main' is there twice"),
        ("of: arc, part", "of: cold, part", "no flow 'cold'"),
        ("reads: gauge, unit: m3/h", "reads: gauge, unit: m3", "none that passes in an hour"),
        ("activity: heats, delay", "activity: casting, delay", "reports batches of no activity"),
    ],
)
def test_a_fault_of_a_profile_is_told_with_its_line(
    tmp_path: Path, right: str, wrong: str, words: str
) -> None:
    """Names that lead nowhere, words that are none."""
    text = (FOLDER / "steel.yaml").read_text("utf-8")
    assert right in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(right, wrong, 1), "utf-8")
    with pytest.raises(UsageError, match=r"mine\.yaml:") as caught:
        load_profile(str(path))
    assert words in str(caught.value)


def test_unknown_words_are_told() -> None:
    """A profile or a fault that does not exist, with those that do."""
    with pytest.raises(UsageError, match="steel, textile"):
        load_profile("paper")
    with pytest.raises(UsageError, match="zero_glitch"):
        kinds_of("stuck, zero")
