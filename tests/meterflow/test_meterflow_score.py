"""simulate, compute and score: nothing false, nothing wrong, nothing missing; and a score that can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from meterflow.scores import Run, run
from meterflow.scoring import Scored, scored
from simulators.world import ALL_KINDS
from simulators.world_gauges import GAUGE_KINDS
from simulators.world_profile import shipped
from simulators.world_report_faults import REPORT_KINDS
from tests.meterflow.helper import LONG, ROOT, done, meterflow, mistake

SEEDS = (*range(1, 21),) if LONG else (1, 2)
ONCE = {"mixed", "swapped", "restart", "summer_time", "wrong_multiplier", "leak", "burst", *GAUGE_KINDS}
"""Kinds whose tests take longest: of one seed, but for long runs."""
OF_REGISTERS = [
    (kind, seed)
    for kind in ALL_KINDS
    if kind not in REPORT_KINDS
    for seed in SEEDS
    if LONG or seed == 1 or kind not in ONCE
]
Alter = Callable[[pa.Table], pa.Table]


def told(found: Scored) -> list[str]:
    """What is not as it should be."""
    false = [f"{row.table} {row.name}: {row.false_final} false" for row in found.figures if row.false_final]
    return false + [one.text() for one in found.faults if one.outcome in {"wrong", "missing", "held"}]


@pytest.mark.parametrize(("kind", "seed"), OF_REGISTERS)
@pytest.mark.parametrize("profile", shipped())
def test_each_fault_has_its_right_conclusion(profile: str, kind: str, seed: int, tmp_path: Path) -> None:
    """No figure is false, no verdict wrong, missing, or left to a person that a rule can decide."""
    found = run(Run(profile, (kind,), seed, hours=2), tmp_path)
    assert told(found) == []
    assert found.measured > 300


@pytest.mark.parametrize("kind", REPORT_KINDS)
@pytest.mark.parametrize(("profile", "hours"), [("steel", 6), ("food", 34)])
def test_each_fault_of_a_report_has_its_right_conclusion(
    profile: str, hours: int, kind: str, tmp_path: Path
) -> None:
    """Of heats and of shifts: what is doubtful is held, what is late or corrected counts."""
    found = run(Run(profile, (kind,), 1, hours), tmp_path)
    assert told(found) == []
    assert found.verdicts["right"] > 0


@pytest.mark.parametrize("profile", shipped())
def test_all_faults_together_have_their_right_conclusions(profile: str, tmp_path: Path) -> None:
    """Mixed, several at each register."""
    found = run(Run(profile, ALL_KINDS, 5, hours=7), tmp_path)
    assert told(found) == []
    assert found.verdicts["right"] > 4


def test_a_rollover_while_a_gateway_is_out_is_its_own_verdict(tmp_path: Path) -> None:
    """The outage's readings are valid all the same."""
    found = run(Run("textile", ALL_KINDS, 9101, hours=24), tmp_path)
    assert told(found) == []
    assert {"rollover", "outage"} <= {one.kind for one in found.faults if one.point == "count-cotton"}


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recording, truth and results of some hours of a steel works."""
    folder = tmp_path_factory.mktemp("steel")
    kinds = ("spike", "reset", "standstill", "late")
    assert told(run(Run("steel", kinds, 3, hours=6), folder)) == []
    return folder


def altered(steel: Path, tmp_path: Path, table: str, alter: Alter) -> Scored:
    """The score where one table of the results is another one."""
    for path in (steel / "D").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = pq.read_table(tmp_path / f"{table}.parquet")
    changed = alter(rows)
    assert changed != rows
    pq.write_table(changed, tmp_path / f"{table}.parquet")
    return scored(steel / "T", tmp_path)


def replaced(
    name: str, value: Callable[[dict[str, Any]], Any], where: Callable[[dict[str, Any]], bool]
) -> Alter:
    """Sets a column of the first row that fits."""

    def alter(rows: pa.Table) -> pa.Table:
        every = rows.to_pylist()
        one = next(row for row in every if where(row))
        one[name] = value(one)
        return pa.Table.from_pylist(every, schema=rows.schema)

    return alter


def measured(row: dict[str, Any]) -> bool:
    return bool(
        row["state"] != "open" and row["measured_share"] == 1 and row.get("quality", "valid") == "valid"
    )


@pytest.mark.parametrize(
    ("table", "name", "scope"),
    [
        ("interval", "amount", {"point": "hall-light"}),
        ("rollup", "amount", {"scope": "plant:steel-1", "span": "hour"}),
        ("intensity", "numerator", {"id": "kwh-per-t"}),
        ("intensity", "denominator", {"id": "kwh-per-t"}),
        ("intensity", "value", {"id": "kwh-per-t"}),
        ("interval", "amount", {"point": "bath-heat"}),
        ("rollup", "amount", {"scope": "point:steel-1/arc-power", "span": "hour"}),
        ("rollup", "kgce", {"scope": "plant:steel-1", "span": "hour"}),
        ("rollup", "kgco2e", {"scope": "point:steel-1/furnace", "span": "15m"}),
        ("rollup", "amount", {"scope": "group:region", "span": "hour"}),
        ("intensity", "value", {"id": "kgce-per-t"}),
        ("intensity", "numerator", {"id": "kgco2e-per-t"}),
    ],
)
def test_a_figure_that_is_off_is_false(
    steel: Path, tmp_path: Path, table: str, name: str, scope: dict[str, str]
) -> None:
    """One amount or ratio twice as large is one false final figure."""

    def fits(row: dict[str, Any]) -> bool:
        return measured(row) and row[name] is not None and all(row[k] == v for k, v in scope.items())

    found = altered(steel, tmp_path, table, replaced(name, lambda row: row[name] * 2, fits))
    assert found.false_final == 1
    assert not found.good


def test_what_has_no_coefficient_is_false_in_kgce(steel: Path, tmp_path: Path) -> None:
    """Water is no energy: whatever is said of it in kgce."""
    water = replaced("kgce", lambda _: Decimal(1), lambda row: measured(row) and row["measures"] == "water")
    assert altered(steel, tmp_path, "rollup", water).false_final == 1


def test_coefficients_that_change_in_a_window_are_right(tmp_path: Path) -> None:
    """Two works in a park on New Year's Eve, when the grid's factor changes."""
    found = run(Run("steel", (), 3, hours=5, start="2022-12-31T14:00:00Z", plants=2), tmp_path)
    assert told(found) == []
    figures = {row.name: row for row in found.figures}
    for name in (
        "plant:steel-2 kgco2e-per-t 1h",
        "plant:steel-1 kgce-per-t 1h",
        "group:region electricity  hour",
    ):
        assert figures[name].measured > figures[name].rows // 2, name


@pytest.mark.parametrize("profile", shipped())
def test_a_flow_that_is_added_up_is_as_near_as_its_values_can_be(profile: str, tmp_path: Path) -> None:
    """An estimate, yet within what the values between two minutes leave open, in every whole span."""
    assert told(run(Run(profile, (), 2, hours=3), tmp_path)) == []
    keys = ["plant", "point", "start", "end"]
    both = (pq.read_table(tmp_path / name) for name in ("D/interval.parquet", "T/true_interval.parquet"))
    given, known = ({tuple(row[key] for key in keys): row for row in rows.to_pylist()} for rows in both)
    some = [key for key, row in given.items() if "integrated" in row["flags"].split("+") and key in known]
    whole = [key for key in some if given[key]["quality"] != "partial"]
    assert len(whole) > 170
    for key in whole:
        assert abs(given[key]["amount"] - known[key]["amount"]) <= known[key]["uncertainty"], key
        assert given[key]["measured_share"] == 0
    assert any(known[key]["uncertainty"] < known[key]["amount"] / 100 for key in whole)


MILL = """
profile: 1
plant: mill
time_zone: Asia/Shanghai
energies: [electricity, heat]
flows: [{id: drive, rate: 300, noise: 0.1}, {id: warm, rate: 200, noise: 0.1}, {id: added, rate: 9000}]
points:
  - {id: main, measures: electricity, unit: kWh, expect_every: 15m, limit: 900 kW, adds: [drive]}
  - {id: heat, measures: heat, unit: MWh, expect_every: 15m, limit: 900 kW, decimals: 3, adds: [warm]}
  - {id: books, measures: value_added, reads: interval, unit: CNY, adds: [added], reports: {per: day}}
intensity: [{id: all, of: energy, per: value_added, windows: [day]}]
groups:
  - {id: region}
  - id: park
    within: [region]
    intensity: [{id: kgce, of: electricity, unit: kgce, per: value_added, windows: [day]}]
"""


def test_a_day_of_a_park_is_right(tmp_path: Path) -> None:
    """All energies of a mill, and electricity of two of them, per 10,000 yuan: a figure each."""
    profile = tmp_path / "mill.yaml"
    profile.write_text(MILL, "utf-8")
    found = run(Run(str(profile), (), 1, hours=41, plants=2), tmp_path)
    assert told(found) == []
    ratios = {row.name: row.measured for row in found.figures if row.table == "intensity"}
    assert ratios == {"plant:mill-1 all day": 1, "plant:mill-2 all day": 1, "group:park kgce day": 1}


def test_an_estimate_called_measured_is_false(steel: Path, tmp_path: Path) -> None:
    """The minutes over spikes, each with nothing used, and said to be measured."""

    def alter(rows: pa.Table) -> pa.Table:
        measured_zero = {"amount": Decimal(0), "quality": "valid", "measured_share": 1.0}
        every = [row | (measured_zero if row["quality"] == "estimated" else {}) for row in rows.to_pylist()]
        return pa.Table.from_pylist(every, schema=rows.schema)

    assert altered(steel, tmp_path, "interval", alter).false_final > 2


def test_what_no_reading_shows_is_not_held_against_it(steel: Path, tmp_path: Path) -> None:
    """A figure that is off where a meter stood still unseen is unobservable, not false."""
    still = next(one for one in scored(steel / "T", steel / "D").faults if one.outcome == "unobservable")

    def inside(row: dict[str, Any]) -> bool:
        stamps = (f"{row['start']:%Y-%m-%dT%H:%M:%SZ}", f"{row['end']:%Y-%m-%dT%H:%M:%SZ}")
        return bool(row["point"] == still.point and still.at < stamps[0] and stamps[1] < still.to)

    off = replaced("amount", lambda row: row["amount"] + 10**6, inside)
    found = altered(steel, tmp_path, "interval", off)
    assert found.false_final == 0
    assert sum(row.unobservable for row in found.figures if row.table == "interval") > 0


@pytest.mark.parametrize(
    ("alter", "outcome"),
    [
        (replaced("verdict", lambda _: "rollover", lambda row: row["verdict"] == "spike"), "wrong"),
        (replaced("status", lambda _: "held", lambda row: row["verdict"] == "spike"), "held"),
        (replaced("status", lambda _: "decided", lambda row: row["verdict"] == "reset"), "wrong"),
        (lambda rows: rows.slice(1), "missing"),
        (replaced("point", lambda _: "books", lambda row: row["verdict"] == "spike"), "wrong"),
    ],
    ids=["another word", "held", "decided", "none", "of another point"],
)
def test_a_verdict_that_is_not_right_is_told(steel: Path, tmp_path: Path, alter: Alter, outcome: str) -> None:
    """Each way in which one can be wrong has its word."""
    found = altered(steel, tmp_path, "verdict", alter)
    assert found.verdicts[outcome] == 1
    assert found.verdicts["right"] == scored(steel / "T", steel / "D").verdicts["right"] - 1


def test_spans_that_should_be_valid_and_are_not_are_told(steel: Path, tmp_path: Path) -> None:
    """Of readings that came late: their minutes called an estimate, or not said at all."""
    late = next(one for one in scored(steel / "T", steel / "D").faults if one.kind == "late")

    def of_it(row: dict[str, Any]) -> bool:
        return bool(row["point"] == late.point and f"{row['start']:%Y-%m-%dT%H:%M:%SZ}" > late.at)

    estimated = replaced("quality", lambda _: "estimated", of_it)
    assert altered(steel, tmp_path, "interval", estimated).verdicts["wrong"] == 1

    def without(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.not_equal(rows["point"], late.point))

    found = altered(steel, tmp_path, "interval", without)
    assert found.verdicts["missing"] >= 1
    assert sum(row.unsaid for row in found.figures) > 0


def test_the_command_line_does_it_all(tmp_path: Path) -> None:
    """The same bytes twice, a score of zeros, and a file of your own as profile."""
    names = ("--profile", "steel", "--seed", 11, "--duration", "4h", "--faults", "all", "--meters", 16)
    for name in ("A", "B"):
        out = ("--out", tmp_path / f"{name}.ndjson", "--truth", tmp_path / name, "--json")
        said = json.loads(done("simulate", *names, *out).stdout)
        assert said["plants"] == 2
        assert said["faults"]
    for one in ["", *(path.name for path in (tmp_path / "A").iterdir())]:
        paths = [tmp_path / name / one if one else tmp_path / f"{name}.ndjson" for name in ("A", "B")]
        assert paths[0].read_bytes() == paths[1].read_bytes(), one
    done(
        "compute",
        tmp_path / "A.ndjson",
        "--site",
        tmp_path / "A/site.yaml",
        "--out",
        tmp_path / "D",
        "--format",
        "csv",
    )
    score = json.loads(done("score", tmp_path / "A", tmp_path / "D", "--json").stdout)
    assert score["false_final"] == 0
    assert score["verdicts"].keys() == {"right", "wrong", "missing", "held", "unobservable"}
    assert (score["verdicts"]["wrong"], score["verdicts"]["missing"]) == (0, 0)
    assert score["verdicts"]["right"] > 0


def test_the_table_of_scores_has_every_kind() -> None:
    """And nothing in it is wrong, missing or false."""
    lines = (ROOT / "docs/scores.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == [*ALL_KINDS, "all"]
    assert {(row[2], row[3], row[4], row[7]) for row in rows} == {("0", "0", "0", "0")}


def test_what_cannot_be_simulated_or_scored_is_told(tmp_path: Path) -> None:
    """With what to do instead."""
    mistake(meterflow("simulate", "--faults", "all"), 2, "--faults needs a profile", "--profile")
    mistake(meterflow("simulate", "--profile", "food", "--site", tmp_path / "s"), 2, "a profile has its own")
    out = ("simulate", "--out", tmp_path / "R.ndjson")
    mistake(meterflow(*out, "--profile", "paper"), 2, "no profile 'paper'", "textile")
    mistake(meterflow(*out, "--speed", "1"), 2, "a recording has no speed", "replay")
    mistake(meterflow(*out, "--faults", "rust"), 2, "no fault 'rust'", "rollover")
    mistake(meterflow(*out, "--duration", "1 day"), 2, "--duration", "6h or 7d")
    mistake(meterflow(*out, "--start", "2026-01-05"), 2, "no zone")
    mistake(meterflow(*out, "--start", "2026-01-05T00:00:30Z"), 2, "full minute")
    mistake(meterflow("score", tmp_path, tmp_path), 2, "there is no true_interval.parquet")
    assert not (tmp_path / "R.ndjson").exists()
