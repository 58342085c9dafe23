"""How far back a reading matters to a standstill that is caught up with: one each.

Each history is told with one reading missing, which comes then, or goes: what is judged anew is what the
whole would be. Hours and kWh.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.doubt import Region, Verdict
from tests.processors.doubt_series import KWH, LIMIT, Keeper, Rows, regions_of
from tests.processors.oracle_doubt import HOUR, Series

COUNTED = [(0.0, 0.0), (1, 8), (2, 16), (3, 24), (4, 32)]
"""With what follows, six values from a zero on: a register that counts; without one of them five."""


def stands(since: float, until: float, value: float, every: float = 2) -> list[tuple[float, float]]:
    """Shows a value, from one hour to before another."""
    count = round((until - since) / every)
    return [(since + k * every, value) for k in range(count)]


THIRD = [
    *COUNTED, *stands(20, 142, 40), (140.5, 140), (141, 140), *stands(141.5, 193.5, 5_140), (194, 6_140),
    (195, 6_141),
]  # fmt: skip
"""It stands still three times in a row: only since the first can it have caught up to the third."""
SECOND = [*COUNTED, *stands(20, 142, 40), *stands(142.5, 192.5, 5_040), (193, 6_040), (194, 6_041)]
"""It stands still twice, for more than a day each."""
BESIDE_A_SPIKE = [
    (25.0, 4.0), (27, 5), (28, 100), (30, 250), (31, 260), (48.8, 0), (49.5, 200), *stands(50, 72.5, 5, 1.5),
    (72.9, 405), (73.5, 406),
]  # fmt: skip
"""It comes back from a spike to where it was 23 hours ago, and stands still there: one region, by what can be
left out from the spike on, of which only the last rise is caught up with.
"""
A_DAY_BEFORE = [
    (10.0, 970.0), (15, 980), (20, 990), (26.5, 1_000), (27, 1_010), (28, 1_011), (29, 1_012), (49.5, 0),
    *stands(50, 79, 1_005), (80, 1_705), (81, 1_706),
]  # fmt: skip
"""It shows a single zero, and comes back to what it can have counted to from one reading of that day."""


def last(regions: list[Region]) -> Verdict:
    """What the last link that is not plain is."""
    return [link for region in regions for link in region.links][-1].verdict


@pytest.mark.parametrize(
    ("rows", "hour"),
    [(THIRD, 1), (SECOND, 1), (BESIDE_A_SPIKE, 27), (A_DAY_BEFORE, 26.5)],
    ids=["third", "second", "beside a spike", "a day before"],
)
@pytest.mark.parametrize("late", [True, False], ids=["comes", "goes"])
def test_a_reading_of_days_ago_says_that_a_standstill_is_caught_up_with(
    rows: list[tuple[float, float]], hour: float, *, late: bool
) -> None:
    """It makes no break, and the last rise is stuck with it, and a spike without."""
    exact: Rows = [(round(at * HOUR), round(value * KWH)) for at, value in rows]
    whole = Series(exact, LIMIT, None, 1)
    one = next(row for row in exact if row[0] == hour * HOUR)
    rest = replace(whole, readings=[row for row in exact if row != one])
    keeper = Keeper(whole)
    keeper.change(rest.readings if late else exact)
    keeper.change([one] if late else [], [] if late else [one[0]])
    assert [last(regions_of(some)) for some in (whole, rest)] == [Verdict.STUCK, Verdict.SPIKE]
    assert keeper.regions == regions_of(whole if late else rest)
