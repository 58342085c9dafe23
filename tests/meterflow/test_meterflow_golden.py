"""Real meters: the golden numbers, by compute and by a replay into the running service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import sqrt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from metering.policy import power_factor_surcharge
from metering.site import compile_roster, load_site
from tests.meterflow.conftest import shared_data
from tests.meterflow.helper import EXAMPLES, Row, Service, done, of_set, rows_of

SEOUL = ZoneInfo("Asia/Seoul")
SURCHARGES = "0.5 0.5 1.5 2 3 4 2.5 4.5 5 3.5 2 3.5".split()
FACTORS = [0.8858, 0.8871, 0.8732, 0.8596, 0.8394, 0.8222, 0.8550, 0.8118, 0.8040, 0.8294, 0.8597, 0.8255]
BANDS = {"flat": "498340.92", "peak": "290073.29", "sharp": "41260.83", "valley": "129961.67"}
TABLES = ("interval", "rollup", "ledger", "verdict", "intensity", "alert", "rejected")


@dataclass
class Computed:
    """A recording, its site, and what compute made of them."""

    recording: Path
    site: Path
    folder: Path

    def rows(self, table: str) -> list[Row]:
        return rows_of((self.folder / f"{table}.csv").read_text())


def computed(folder: Path, example: str, file: str) -> Computed:
    source, site = shared_data(file), EXAMPLES / example / "site.yaml"
    recording, out = folder / f"{example}.ndjson", folder / example
    done("convert", source, "--map", EXAMPLES / example / "map.yaml", "--out", recording)
    done("compute", recording, "--site", site, "--out", out, "--format", "csv")
    return Computed(recording, site, out)


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """A small steel works' year."""
    return computed(tmp_path_factory.mktemp("steel"), "steel", "uci_steel_2018.csv")


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """Two years of a house's water register."""
    return computed(tmp_path_factory.mktemp("water"), "water", "ampds2_water_hourly.csv")


def amounts(rows: list[Row], **where: str) -> list[tuple[datetime, Decimal]]:
    """(start, amount) of the rows that have all these values; but for spans of which nothing is known yet."""
    return [
        (datetime.fromisoformat(row["start"]), Decimal(row["amount"]))
        for row in rows
        if row["amount"] and all(row[name] == value for name, value in where.items())
    ]


def total(rows: list[Row], **where: str) -> Decimal:
    return sum((amount for _, amount in amounts(rows, **where)), Decimal(0))


@pytest.mark.parametrize(
    ("point", "golden"), [("main", "959636.71"), ("lagging", "456759.84"), ("leading", "135638.04")]
)
def test_the_steel_years_amounts_are_exact(steel: Computed, point: str, golden: str) -> None:
    """The sum over interval.csv is the golden number to the last digit."""
    assert total(steel.rows("interval"), point=point) == Decimal(golden)


@pytest.mark.parametrize("span", ["15m", "hour", "day", "month", "year"])
def test_every_rollup_of_the_steel_year_holds_all_of_it(steel: Computed, span: str) -> None:
    """Spans telescope: whatever their length, nothing is lost between them."""
    rows = steel.rows("rollup")
    assert total(rows, scope="plant:steel-kr", measures="electricity", span=span) == Decimal("959636.71")


def test_the_steel_years_coal_equivalent(steel: Computed) -> None:
    """117,939.35 kgce at 0.1229."""
    wanted = ("plant:steel-kr", "electricity", "year")
    (row,) = (r for r in steel.rows("rollup") if (r["scope"], r["measures"], r["span"]) == wanted)
    assert Decimal(row["kgce"]).quantize(Decimal("0.01")) == Decimal("117939.35")


def test_maximum_demand_is_four_times_the_highest_quarter_of_an_hour(steel: Computed) -> None:
    """628.72 kW, in November."""
    start, highest = max(amounts(steel.rows("interval"), point="main"), key=lambda row: row[1])
    assert highest * 4 == Decimal("628.72")
    assert start.astimezone(SEOUL).month == 11


def test_monthly_power_factors_and_their_surcharges(steel: Computed) -> None:
    """P / sqrt(P**2 + (lag + lead)**2) of the months, and what each costs at a standard of 0.90."""
    steps = compile_roster(load_site(EXAMPLES / "park" / "site.yaml")).policy.power_factor["0.90"]
    rows = steel.rows("rollup")
    months = {
        start.astimezone(SEOUL).month: (float(active), float(reactive))
        for (start, active), (_, reactive) in zip(
            sorted(amounts(rows, scope="plant:steel-kr", measures="electricity", span="month")),
            sorted(amounts(rows, scope="plant:steel-kr", measures="reactive_energy", span="month")),
            strict=True,
        )
    }
    factors = [active / sqrt(active**2 + reactive**2) for _, (active, reactive) in sorted(months.items())]
    assert [round(factor, 4) for factor in factors] == pytest.approx(FACTORS, abs=1e-9)
    assert [power_factor_surcharge(steps, Decimal(str(factor))) for factor in factors] == list(
        map(Decimal, SURCHARGES)
    )


def test_tariff_bands_of_the_steel_year(steel: Computed) -> None:
    """An interval's start decides the band; the local time is taken as it is given."""
    tariff = next(
        tariff
        for name, tariff in compile_roster(load_site(EXAMPLES / "park" / "site.yaml")).policy.tariffs.items()
        if "hunan" in name
    )
    bands: defaultdict[str, Decimal] = defaultdict(Decimal)
    for start, amount in amounts(steel.rows("interval"), point="main"):
        bands[tariff.band(start.astimezone(SEOUL))] += amount
    assert bands == {band: Decimal(amount) for band, amount in BANDS.items()}


def test_water_from_the_first_reading_to_the_last(water: Computed) -> None:
    """548,869.236 L, and the ledger's books balance."""
    assert total(water.rows("interval"), point="intake") == Decimal("548869.236")
    (ledger,) = water.rows("ledger")
    assert Fraction(int(ledger["last"]) - int(ledger["first"]), 1000) == Fraction("548869.236")
    assert (ledger["held"], ledger["written_off"], ledger["balance"]) == ("0", "0", "0")
    assert water.rows("verdict") == []


def test_water_never_flows_backwards(water: Computed) -> None:
    """The register never falls: no span is negative, and hours are known to their quarters."""
    rows = amounts(water.rows("interval"), point="intake")
    assert min(amount for _, amount in rows) >= 0
    assert {b - a for (a, _), (b, _) in pairwise(rows)} == {timedelta(minutes=15)}


@pytest.mark.parametrize("name", ["steel", "water"])
def test_a_replay_gives_the_same_tables_as_compute(
    serve: Callable[..., Service], request: pytest.FixtureRequest, name: str
) -> None:
    """Row by row, in all columns that are functions of the set of readings."""
    wanted: Computed = request.getfixturevalue(name)
    service = serve(wanted.site)
    service.start()
    done("replay", wanted.recording, "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(sum(int(row["accepted"]) for row in wanted.rows("hop")), 120)
    service.stop()
    for table in TABLES:
        assert of_set(table, service.export(table)) == of_set(table, wanted.rows(table)), table
