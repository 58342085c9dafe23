"""A site compiled: signs, exact numbers, installations, defaults, version."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from metering.roster import FOR_EVER_MS, FROM_EVER_MS, GAUGE, Point, Roster
from metering.site import Site, compile_roster, load_site

EXAMPLES = Path(__file__).parents[2] / "examples"

WORKS = """\
meterflow: 1
groups:
  - {id: hunan, kind: province}
  - {id: park, within: [hunan], intensity: [{id: books, per: value_added}]}
plants:
  - id: works
    within: [park]
    time_zone: Asia/Shanghai
    grid: HUNAN
    patience: 1h
    energies: [natural_gas, electricity, electricity]
    products: [{id: billet, unit: t}]
    points:
      - id: main
        measures: electricity
        reads: register
        unit: kWh
        limit: 500 kW
        installations:
          - {serial: A, to: 2025-06-01T10:00:00+08:00, digits: 6, decimals: 2, final: 812345.10}
          - serial: B
            from: 2025-06-01T02:20:00Z
            digits: 8
            decimals: 2
            multiplier: [{value: 40}, {from: 2026-01-01T00:00:00+08:00, value: "0.1"}]
            initial: 3.50
      - {id: peak, measures: electricity, reads: register, unit: kWh, part_of: main}
      - {id: sun, measures: electricity, reads: register, unit: kWh, role: generation}
      - {id: back, measures: electricity, reads: register, unit: kWh, role: feed_in, patience: 30s}
      - {id: hall, measures: electricity, reads: register, unit: MWh, role: submeter, line: melt, base: 5s}
      - {id: kvarh, measures: reactive_energy, reads: register, unit: kvarh}
      - {id: intake, measures: water, reads: register, unit: L, limit: 80 m3/h, expect_every: 1d}
      - {id: count, measures: output, reads: register, unit: kg, limit: 5 t/h}
      - {id: books, measures: value_added, reads: interval, unit: 10kCNY, limit: 7 CNY/d}
      - {id: heat, measures: heat, reads: register, unit: GJ}
      - {id: volts, measures: voltage, reads: gauge, unit: V}
    meters:
      - serial: M
        multiplier: 200
        registers: {sun: {digits: 6, decimals: 1}, kvarh: {rolls_at: 65536}, heat: {digits: 6, decimals: 2}}
    intensity:
      - {id: kwh}
      - {id: kgce, unit: kgce, per: billet, windows: [1h, 1h]}
      - {id: all, of: energy, per: value_added}
    targets:
      - {metric: kwh, base: {year: 2020, value: 28.4}, change: -16%, by: 2025}
      - {metric: kwh, value: 600}
    alerts:
      - {id: hot, when: kwh, above: 620}
      - {id: low, when: kwh, window: 1h, below: 5, clear_above: 7.5, for: 10m, severity: info}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The works above, loaded."""
    path = tmp_path / "site.yaml"
    path.write_text(WORKS)
    return load_site(path)


@pytest.fixture
def roster(site: Site) -> Roster:
    """The works above, compiled."""
    return compile_roster(site)


def _point(roster: Roster, name: str) -> Point:
    point = roster.find("works", name)
    assert point is not None
    return point


def test_supply_and_generation_add_and_feed_in_takes_away(roster: Roster) -> None:
    """Sub-meters, parts of a point and gauges count for nothing; output and value added for one."""
    signs = {point.id: point.sign for point in roster.points}
    expected = {"main": 1, "peak": 0, "sun": 1, "back": -1, "hall": 0, "kvarh": 1, "intake": 1}
    assert signs == {**expected, "count": 1, "books": 1, "heat": 1, "volts": 0}


def test_installations_are_in_millionths_of_the_canonical_unit(roster: Roster) -> None:
    """Step, width, initial and final of two meters that followed each other."""
    first, second = _point(roster, "main").installations
    assert (first.serial, first.from_ms, first.to_ms) == ("A", FROM_EVER_MS, 1_748_743_200_000)
    assert (first.step, first.width, first.final) == (10_000, 10**12, 812_345_100_000)
    assert (second.from_ms, second.to_ms, second.initial) == (1_748_744_400_000, FOR_EVER_MS, 3_500_000)
    assert second.width == 10**14


def test_multipliers_are_exact_fractions_with_their_dates(roster: Roster) -> None:
    """A tenth is a tenth."""
    second = _point(roster, "main").installations[1]
    assert [(one.from_ms, one.numerator, one.denominator) for one in second.multipliers] == [
        (FROM_EVER_MS, 40, 1),
        (1_767_196_800_000, 1, 10),
    ]


def test_the_registers_of_a_meter_become_installations_of_their_points(roster: Roster) -> None:
    """With the meter's serial and multiplier and each register's own face."""
    sun, kvarh = (_point(roster, name).installations[0] for name in ("sun", "kvarh"))
    assert (sun.serial, sun.step, sun.width, sun.multipliers[0].numerator) == ("M", 100_000, 10**12, 200)
    assert (kvarh.serial, kvarh.step, kvarh.width) == ("M", 1, 65_536_000_000)


def test_a_step_that_is_no_whole_number_of_millionths_is_one(roster: Roster) -> None:
    """A hundredth of a GJ is 2.7 recurring kWh."""
    assert _point(roster, "heat").installations[0].step == 1


def test_a_point_without_installations_has_one_for_ever(roster: Roster) -> None:
    """Multiplier 1, no width, a step of one millionth."""
    (only,) = _point(roster, "intake").installations
    assert (only.serial, only.from_ms, only.to_ms, only.step, only.width) == (
        *("", FROM_EVER_MS, FOR_EVER_MS),
        *(1, None),
    )
    assert [(one.numerator, one.denominator) for one in only.multipliers] == [(1, 1)]


def test_limits_are_millionths_in_an_hour(roster: Roster) -> None:
    """Of the canonical unit, whatever unit the limit has; rounded up."""
    limits = {point.id: point.limit_per_hour for point in roster.points if point.limit_per_hour}
    assert limits == {"main": 500_000_000, "intake": 80_000_000, "count": 5_000_000, "books": 291_667}


def test_defaults_are_those_that_are_documented(roster: Roster) -> None:
    """Registers and gauges: every 15 minutes, base 1 minute; interval reads: no rhythm, no base."""
    main, books, volts = (_point(roster, name) for name in ("main", "books", "volts"))
    assert (main.expect_ms, main.base_ms, main.patience_ms, main.role) == (
        900_000,
        60_000,
        3_600_000,
        "supply",
    )
    assert (books.expect_ms, books.base_ms) == (0, 0)
    assert (volts.reads, volts.expect_ms, volts.base_ms) == (GAUGE, 900_000, 60_000)
    assert (_point(roster, "back").patience_ms, _point(roster, "hall").base_ms) == (30_000, 5_000)
    assert _point(roster, "intake").expect_ms == 86_400_000


def test_points_are_expected_while_a_meter_stands_there(tmp_path: Path) -> None:
    """From the first installation's begin to the last one's end."""
    path = tmp_path / "site.yaml"
    path.write_text(
        WORKS.replace("{serial: A, to:", "{serial: A, from: 2018-01-01T00:00:00+08:00, to:").replace(
            "digits: 8", "to: 2030-01-01T00:00:00+08:00\n            digits: 8"
        )
    )
    main = _point(compile_roster(load_site(path)), "main")
    assert (main.expected_from_ms, main.expected_to_ms) == (1_514_736_000_000, 1_893_427_200_000)


def test_the_only_product_is_what_an_output_point_counts(roster: Roster) -> None:
    """And what a ratio per output is about."""
    assert _point(roster, "count").product == "billet"
    kwh = roster.intensities[0]
    assert (kwh.per, kwh.product, kwh.per_unit, kwh.per_amount) == ("output", "billet", "t", 1)


def test_intensities_have_the_units_and_windows_that_go_without_saying(roster: Roster) -> None:
    """kWh of electricity, kgce of all energies, ten thousand yuan of value added."""
    kwh, kgce, energy, books = roster.intensities
    assert (kwh.of, kwh.unit, kwh.windows) == (
        *("electricity", "kWh"),
        ("15m", "1h", "8h", "24h", "day", "month", "year"),
    )
    assert (kgce.unit, kgce.windows) == ("kgce", ("1h",))
    assert (energy.unit, energy.per_unit, energy.per_amount, energy.product) == ("kgce", "CNY", 10_000, "")
    assert (books.scope, books.unit, books.windows) == ("group:park", "kWh", ("day", "month", "year"))


def test_a_relative_target_is_computed_exactly_before_it_becomes_a_number(roster: Roster) -> None:
    """28.4 less 16 % is 23.856."""
    relative, absolute = roster.targets
    assert (relative.value, relative.by, relative.text) == (23.856, 2025, "-16 % on 28.4 of 2020 by 2025")
    assert (absolute.scope, absolute.metric, absolute.value, absolute.text) == (
        *("plant:works", "kwh", 600.0),
        "at most 600",
    )


def test_alerts_clear_at_their_threshold_if_nothing_else_is_said(roster: Roster) -> None:
    """In the shortest window of the intensity, at once, as a warning."""
    hot, low = roster.alerts
    assert (hot.window, hot.above, hot.threshold, hot.clear) == ("15m", True, 620.0, 620.0)
    assert (hot.for_ms, hot.severity) == (0, "warning")
    assert (low.window, low.above, low.threshold, low.clear) == ("1h", False, 5.0, 7.5)
    assert (low.for_ms, low.severity) == (600_000, "info")


def test_an_alert_without_a_window_takes_the_shortest_in_whatever_order_they_stand(tmp_path: Path) -> None:
    """Calendar windows come last: alerts are not evaluated on them."""
    path = tmp_path / "site.yaml"
    path.write_text(WORKS.replace("- {id: kwh}", "- {id: kwh, windows: [month, 8h, 1h, day]}"))
    assert [alert.window for alert in compile_roster(load_site(path)).alerts] == ["1h", "1h"]


def test_plants_and_groups_know_each_other(roster: Roster) -> None:
    """Through groups within groups, each plant once; the region as the pack spells it."""
    (works,) = roster.plants
    assert (works.groups, works.grid, works.energies) == (("hunan", "park"), "hunan", ("gas", "electricity"))
    assert [(group.id, group.plants, group.time_zone) for group in roster.groups] == [
        ("hunan", (0,), "Asia/Shanghai"),
        ("park", (0,), "Asia/Shanghai"),
    ]


def test_the_version_is_of_the_content_not_of_the_writing(site: Site, tmp_path: Path) -> None:
    """Comments and order of keys do not count; a coefficient, a limit, a policy do."""
    first = compile_roster(site).version
    path = tmp_path / "other.yaml"
    path.write_text(
        "# a comment\n" + WORKS.replace("{id: hunan, kind: province}", "{kind: province, id: hunan}")
    )
    other = load_site(path)
    assert compile_roster(other).version == first
    path.write_text(WORKS.replace("500 kW", "501 kW"))
    assert compile_roster(load_site(path)).version != first
    assert compile_roster(replace(other, policy=replace(other.policy, sha256="0"))).version != first


def test_a_policy_beside_the_site_file_goes_before_the_packages_own(tmp_path: Path) -> None:
    """And policy_dir before both."""
    pack = (Path(__file__).parents[2] / "metering/packs/cn-2025.yaml").read_text()
    path = tmp_path / "site.yaml"
    path.write_text(WORKS)
    (tmp_path / "cn-2025.yaml").write_text(pack.replace("value: 0.1229", "value: 0.3"))
    policy = load_site(path).policy
    assert policy.kgce["electricity"][0].value == Fraction(3, 10)
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "cn-2025.yaml").write_text(pack)
    assert load_site(path, tmp_path / "packs").policy.kgce["electricity"][0].value == Fraction(1229, 10_000)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/site.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_have_no_fault_and_compile(path: Path) -> None:
    """They are what people start from."""
    site = load_site(path)
    assert not site.warnings
    assert compile_roster(site).points


def test_the_park_has_three_plants_with_everything_the_page_shows() -> None:
    """Electricity, water, output and value added of each; targets; an alert to be provoked."""
    roster = compile_roster(load_site(EXAMPLES / "park" / "site.yaml"))
    assert [plant.id for plant in roster.plants] == ["steel-1", "dye-1", "food-1"]
    for plant in roster.plants:
        measured = {roster.points[i].measures for i in plant.points}
        assert measured >= {"electricity", "water", "output", "value_added"}
        metrics = {target.metric for target in roster.targets if target.scope == f"plant:{plant.id}"}
        assert metrics == {"kwh-per-t", "m3-per-t"}
    assert ("plant:steel-1", "hot", "15m") in [(one.scope, one.id, one.window) for one in roster.alerts]


def test_exact_numbers_never_pass_through_a_float(tmp_path: Path) -> None:
    """A multiplier of 20 digits keeps them all."""
    path = tmp_path / "site.yaml"
    path.write_text(WORKS.replace('value: "0.1"', "value: 0.12345678901234567891"))
    step = load_site(path).model.plants[0].points[0].installations[1].multiplier
    assert step is not None
    assert step[1].value == Decimal("0.12345678901234567891")


def test_an_instant_is_taken_as_finely_as_it_is_written(tmp_path: Path) -> None:
    """What other programs write with micro- or nanoseconds is a time, as it is in a reading."""
    (tmp_path / "site.yaml").write_text(WORKS.replace("02:20:00Z", "02:20:00.123456789Z"))
    points = compile_roster(load_site(tmp_path / "site.yaml")).points
    since = next(point.installations[1].from_ms for point in points if point.id == "main")
    assert since % 60_000 == 123


def test_the_unit_one_may_stand_without_quotes_and_a_base_beside_interval_reads(tmp_path: Path) -> None:
    """YAML reads the unit of a power factor as a number; interval reads keep their own length."""
    path = tmp_path / "site.yaml"
    points = (
        "{id: pf, measures: power_factor, reads: gauge, unit: 1, expect_every: 60s},"
        " {id: e, measures: electricity, reads: interval, unit: kWh, base: 15m}"
    )
    path.write_text(
        f"meterflow: 1\nplants: [{{id: p, time_zone: UTC, points: [{points}]}}]\n", encoding="utf-8"
    )
    site = load_site(path)
    assert ["keeps their own length" in fault.what for fault in site.warnings] == [True]
    points_read = [(one.unit.name, one.base_ms) for one in compile_roster(site).points]
    assert points_read == [("1", 60_000), ("kWh", 0)]
