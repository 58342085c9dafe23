"""Means and sums of gauges, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from processors.columns import means
from tests.processors.histories import roster_of
from tests.processors.log_driver import Arrival, Reading, run

HUGE = 2**42 - 1
"""Millionths: the largest value that a gauge may show."""
YEAR_MS = 365 * 86_400_000


def mean_of(total: int, known_ms: int, exponent: int = 0) -> Decimal:
    """One mean, of a sum in two limbs."""
    columns = (np.array([part], np.int64) for part in (total >> 32, total & 0xFFFFFFFF, known_ms, exponent))
    return Decimal(int(means(*columns)[0])).scaleb(-9)


@pytest.mark.parametrize(("total", "wanted"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2), (-5, -2), (7, 4)])
def test_a_mean_between_two_decimals_becomes_the_even_one(total: int, wanted: int) -> None:
    """Halves of the ninth place."""
    assert mean_of(total, 2000) == Decimal(wanted).scaleb(-9)


def test_the_mean_of_a_year_at_the_largest_value_is_that_value() -> None:
    """Its sum takes 77 bits."""
    assert mean_of(HUGE * YEAR_MS, YEAR_MS) == Decimal(HUGE).scaleb(-6)
    assert mean_of(-HUGE * YEAR_MS, YEAR_MS) == -Decimal(HUGE).scaleb(-6)


def test_a_mean_in_watts_is_that_of_kilowatts_a_thousandfold() -> None:
    """Rounded in its own unit, once."""
    assert mean_of(1_000_000, 3000, -3) == Decimal("0.333333333")
    assert mean_of(1_000_000, 3000, 0) == Decimal("0.000333333")


def test_where_nothing_is_known_no_mean_is_said() -> None:
    """Unknown is not zero: nothing divides by no time, and the row's amount is empty."""
    readings = tuple(Reading("p1", "g", minute * 60_000 + 1767225600000, "4") for minute in (0, 600))
    rows = run(roster_of("park"), [Arrival(readings[-1].time_ms, readings)]).tables["interval"]
    amounts = {row["amount"] for row in rows.values() if row["point"] == "g"}
    assert mean_of(0, 0) == 0
    assert None in amounts
    assert Decimal(0) not in amounts


def test_many_values_add_up_to_what_passed() -> None:
    """A second apart, each with a fraction of a millionth: off by less than one for each change of value."""
    values = [Fraction(3 + n % 7, 10) for n in range(3600)]
    readings = [
        Reading("p1", "g", n * 1000 + 1767225600000, str(float(v))) for n, v in enumerate([*values, 0])
    ]
    rows = run(roster_of("park"), [Arrival(readings[-1].time_ms, tuple(readings))]).tables["interval"]
    known = [row["amount"] for row in rows.values() if row["point"] == "g"]
    total = sum((Fraction(amount) for amount in known if amount), Fraction(0))
    assert abs(total - sum(values, Fraction(0)) / 3600) <= Fraction(3600, 10**6)
