"""The policy pack: dated coefficients, tariff bands, power factors, and the steel year's golden numbers."""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal, getcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import UsageError
from metering.policy import Policy, factor_at, power_factor_surcharge
from metering.policy_load import PolicyFaults, load_policy, parse_policy

ROOT = Path(__file__).parents[2]
PACK = ROOT / "metering" / "packs" / "cn-2025.yaml"
STEEL = ROOT.parent / "shared" / "data" / "uci_steel_2018.csv"
needs_steel = pytest.mark.skipif(
    not STEEL.exists(), reason="the steel year is not beside the project: shared/data/uci_steel_2018.csv"
)


OWN = load_policy("cn-2025")


@pytest.fixture
def policy() -> Policy:
    """The pack that comes with meterflow."""
    return OWN


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


@pytest.mark.parametrize(
    ("measure", "at", "value"),
    [
        ("electricity", "2018-06-01T00:00:00+08:00", "0.1229"),
        ("electricity", "2021-03-31T23:59:59+08:00", "0.1229"),
        ("electricity", "2021-04-01T00:00:00+08:00", "0.1229"),
        ("electricity", "2031-01-01T00:00:00+08:00", "0.1229"),
        ("heat", "2024-01-01T00:00:00+08:00", "0.122832"),  # 0.03412 per MJ, 3.6 MJ a kWh
        ("steam", "2020-01-01T00:00:00+08:00", "128.6"),
        ("coal", "2024-01-01T00:00:00+08:00", "714.3"),  # per t
        ("compressed_air", "2024-01-01T00:00:00+08:00", "0.04"),
    ],
)
def test_coefficients_are_the_printed_ones_per_canonical_unit(
    policy: Policy, measure: str, at: str, value: str
) -> None:
    """0.1229 is 0.1229, and not 3.6 / 29.307."""
    factor = factor_at(policy.kgce[measure], _ms(at))
    assert factor is not None
    assert factor.value == Fraction(value)


@pytest.mark.parametrize(
    ("measure", "at"), [("electricity", "2008-05-31T00:00:00+08:00"), ("steam", "2021-04-01T00:00:00+08:00")]
)
def test_outside_its_dates_a_coefficient_is_unknown(policy: Policy, measure: str, at: str) -> None:
    """None, which is not zero."""
    assert factor_at(policy.kgce[measure], _ms(at)) is None


def test_water_and_natural_gas_have_no_coefficient(policy: Policy) -> None:
    """Own water is no energy; natural gas has a range, from which nobody but the user can choose."""
    assert "water" not in policy.kgce
    assert "gas" not in policy.kgce


def test_editions_and_trust_go_with_every_coefficient(policy: Policy) -> None:
    """The edition in force at the time, and whether it was read in a source."""
    before, after = policy.kgce["electricity"]
    assert (before.source, after.source) == ("GB/T 2589-2008", "GB/T 2589-2020")
    assert before.to_ms == after.from_ms == _ms("2021-04-01T00:00:00+08:00")
    assert before.verified
    assert not policy.kgce["steam"][0].verified
    assert all(factor.source for factors in policy.kgce.values() for factor in factors)


@pytest.mark.parametrize(
    ("region", "at", "value"),
    [
        ("national", "2021-12-31T23:59:59+08:00", "0.5568"),
        ("national", "2022-01-01T00:00:00+08:00", "0.5366"),
        ("national", "2023-07-01T00:00:00+08:00", "0.5306"),
        ("national", "2027-01-01T00:00:00+08:00", "0.5306"),
        ("hunan", "2021-07-01T00:00:00+08:00", "0.5138"),
        ("hunan", "2022-07-01T00:00:00+08:00", "0.4900"),
        ("hunan", "2025-07-01T00:00:00+08:00", "0.4976"),
        ("inner-mongolia", "2023-07-01T00:00:00+08:00", "0.6479"),
    ],
)
def test_grid_factors_hold_in_their_year(policy: Policy, region: str, at: str, value: str) -> None:
    """0.5568 is 2021, 0.5366 is 2022, 0.5306 is 2023, and goes on until a newer one is known."""
    factor = factor_at(policy.kgco2e["electricity", region], _ms(at))
    assert factor is not None
    assert factor.value == Fraction(value)


def test_there_is_no_grid_factor_before_2021(policy: Policy) -> None:
    """So the CO2 of 2018 is unknown, not zero."""
    for region in policy.regions:
        assert factor_at(policy.kgco2e["electricity", region], _ms("2018-06-01T00:00:00+08:00")) is None


def test_doubtful_grid_factors_are_marked(policy: Policy) -> None:
    """Hunan 2021 is known only from the trade."""
    hunan = policy.kgco2e["electricity", "hunan"]
    assert [factor.verified for factor in hunan] == [False, True, True]


def test_all_provinces_have_a_factor(policy: Policy) -> None:
    """Thirty of the mainland (Tibet is not published), seven regions, the nation."""
    assert len(policy.regions) == 38


@pytest.mark.parametrize(
    ("month", "clock", "band"),
    [
        (3, "00:00", "valley"),
        (3, "05:59", "valley"),
        (3, "06:00", "flat"),
        (3, "11:59", "flat"),
        (3, "12:00", "valley"),
        (3, "13:59", "valley"),
        (3, "14:00", "flat"),
        (3, "16:00", "peak"),
        (3, "23:59", "peak"),
        (7, "19:59", "peak"),
        (7, "20:00", "sharp"),
        (8, "23:59", "sharp"),
        (9, "20:00", "peak"),
        (1, "18:00", "sharp"),
        (12, "21:59", "sharp"),
        (12, "22:00", "peak"),
    ],
)
def test_hunans_bands_are_those_of_2025(policy: Policy, month: int, clock: str, band: str) -> None:
    """Valley at noon, sharp inside the peak in four months."""
    local = datetime.fromisoformat(f"2025-{month:02}-15T{clock}:00")
    assert policy.tariffs["hunan-2025"].band(local) == band


@given(st.datetimes())
def test_every_instant_has_a_band(local: datetime) -> None:
    """The loader checks it, and so no month or minute is without."""
    tariff = OWN.tariffs["hunan-2025"]
    assert tariff.band(local) in tariff.ratios


@pytest.mark.parametrize(
    ("standard", "factor", "percent"),
    [
        ("0.90", "0.90", "0"),
        ("0.90", "0.94", "-0.60"),
        ("0.90", "0.95", "-0.75"),
        ("0.90", "1", "-0.75"),
        ("0.90", "0.89", "0.5"),
        ("0.90", "0.70", "10"),
        ("0.90", "0.69", "11"),
        ("0.90", "0.65", "15"),
        ("0.90", "0.64", "17"),
        ("0.90", "0.60", "25"),
        ("0.90", "0.8949", "0.5"),
        ("0.90", "0.895", "0"),
        ("0.85", "0.85", "0"),
        ("0.85", "0.90", "-0.5"),
        ("0.85", "0.91", "-0.65"),
        ("0.85", "0.92", "-0.80"),
        ("0.85", "0.93", "-0.95"),
        ("0.85", "0.94", "-1.10"),
        ("0.85", "1", "-1.10"),
        ("0.85", "0.65", "10"),
        ("0.85", "0.60", "15"),
        ("0.85", "0.59", "17"),
        ("0.80", "0.90", "-1.0"),
        ("0.80", "0.91", "-1.15"),
        ("0.80", "0.92", "-1.30"),
        ("0.80", "0.99", "-1.30"),
        ("0.80", "0.60", "10"),
        ("0.80", "0.55", "15"),
        ("0.80", "0.50", "25"),
    ],
)
def test_power_factor_surcharges_follow_the_steps_of_their_standard(
    policy: Policy, standard: str, factor: str, percent: str
) -> None:
    """Costs below the standard, saves above it, up to a limit."""
    assert power_factor_surcharge(policy.power_factor[standard], Decimal(factor)) == Decimal(percent)


@given(st.sampled_from(["0.80", "0.85", "0.90"]), st.integers(0, 99))
def test_a_better_power_factor_never_costs_more(standard: str, hundredths: int) -> None:
    """The surcharge falls with every 0.01."""
    steps = OWN.power_factor[standard]
    worse, better = (Decimal(n) / 100 for n in (hundredths, hundredths + 1))
    assert power_factor_surcharge(steps, better) <= power_factor_surcharge(steps, worse)


def _steel_rows() -> list[tuple[datetime, Decimal, Decimal, Decimal]]:
    """Start of each quarter hour, kWh, lagging and leading kvarh. The file has ends, in order."""
    with STEEL.open() as file:
        rows = [[Decimal(cell) for cell in row[1:4]] for row in list(csv.reader(file))[1:]]
    first = datetime(2018, 1, 1)  # noqa: DTZ001  # the tariff works on local time
    return [(first + i * timedelta(minutes=15), *row) for i, row in enumerate(rows)]  # type: ignore[misc]


@needs_steel
def test_the_steel_year_in_hunans_bands_gives_the_golden_numbers(policy: Policy) -> None:
    """The interval's start decides the band."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for start, kwh, _, _ in _steel_rows():
        sums[policy.tariffs["hunan-2025"].band(start)] += kwh
    expected = {"flat": "498340.92", "peak": "290073.29", "sharp": "41260.83", "valley": "129961.67"}
    assert sums == {band: Decimal(kwh) for band, kwh in expected.items()}


@needs_steel
def test_the_steel_year_in_coal_equivalent_is_the_golden_number(policy: Policy) -> None:
    """959,636.71 kWh at 0.1229."""
    kwh = sum((row[1] for row in _steel_rows()), Decimal())
    factor = factor_at(policy.kgce["electricity"], _ms("2018-06-01T00:00:00+09:00"))
    assert factor is not None
    assert kwh == Decimal("959636.71")
    assert round(float(Fraction(kwh) * factor.value), 2) == 117_939.35


@needs_steel
def test_the_steel_years_power_factors_and_surcharges_are_the_golden_ones(policy: Policy) -> None:
    """P / sqrt(P^2 + (lagging + leading)^2) of each month, at standard 0.90."""
    getcontext().prec = 28
    months: defaultdict[int, list[Decimal]] = defaultdict(lambda: [Decimal(), Decimal()])
    for start, kwh, lagging, leading in _steel_rows():
        months[start.month][0] += kwh
        months[start.month][1] += lagging + leading
    factors = [p / (p * p + q * q).sqrt() for p, q in months.values()]
    golden = ".8858 .8871 .8732 .8596 .8394 .8222 .8550 .8118 .8040 .8294 .8597 .8255"
    assert [round(factor, 4) for factor in factors] == [Decimal(text) for text in golden.split()]
    surcharges = [power_factor_surcharge(policy.power_factor["0.90"], factor) for factor in factors]
    expected = "0.5 0.5 1.5 2.0 3.0 4.0 2.5 4.5 5.0 3.5 2.0 3.5"
    assert surcharges == [Decimal(text) for text in expected.split()]


@pytest.mark.parametrize(
    ("old", "new", "what", "marked"),
    [
        ("edition:", "editoin:", "the key 'editoin' is not known here", "editoin:"),
        ("per: MJ, from: 2021", "per: m3, from: 2021", "not measured in m3", "per: m3"),
        ("from: 2022-01-01\n    to", "from: 2023-01-02\n    to", "before it begins", "to: 2023-01-01"),
        ("to: 2022-01-01", "to: 2022-02-01", "its time overlaps", "factor_year: 2022"),
        ("value: 0.1229", "value: -0.1229", "a coefficient is not negative", "-0.1229"),
        ("from: 2021-01-01", "from: 2021", "is not a date", "from: 2021"),
        ('start: "14:00"', 'start: "14:01"', "no band holds 14:00 in month 1", "bands:"),
        ('start: "14:00"', 'start: "25:00"', "is not a time of day", "25:00"),
        ('start: "00:00", end: "06:00"', 'start: "23:00", end: "06:00"', "ends before it begins", '"23:00"'),
        ('"0.85":', '"0.86":', "'0.86' is no standard", '"0.86"'),
        ("time_zone: Asia/Shanghai", "time_zone: Asia/Shang", "there is no time zone", "time_zone"),
    ],
)
def test_a_faulty_pack_says_which_line(old: str, new: str, what: str, marked: str) -> None:
    """Packs are written by people, too."""
    text = PACK.read_text()
    assert old in text
    text = text.replace(old, new, 1)
    with pytest.raises(PolicyFaults) as caught:
        parse_policy(text.encode(), "cn-2025.yaml")
    fault = next(fault for fault in caught.value.faults if what in fault.what)
    assert marked in text.splitlines()[fault.line - 1]


def test_an_unknown_pack_is_answered_with_those_there_are() -> None:
    """And a path is no name of a pack."""
    for name in ("cn-2024", "../packs/cn-2025", "", "/etc/passwd"):
        with pytest.raises(UsageError, match="there is no policy pack") as caught:
            load_policy(name)
        assert "cn-2025" in caught.value.hint


def test_the_pack_goes_by_its_content(policy: Policy) -> None:
    """Its hash is what versions depend on."""
    assert policy.sha256 == parse_policy(PACK.read_bytes(), "x").sha256
    assert policy.sha256 != parse_policy(PACK.read_bytes() + b"# more\n", "x").sha256
