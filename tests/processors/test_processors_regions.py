"""Regions of a series, found by their times."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.doubt import Link, Region, Verdict, calm
from processors.regions import Regions
from tests.processors.histories import examples


def some(chance: Random) -> list[Region]:
    """Regions of breaks that do not overlap, calm and not."""
    edges = sorted(chance.sample(range(200), 2 * chance.randint(0, 12)))
    out = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        link = Link(start, end, 0, 0, Verdict.RESET, decided=False)
        reach = (start - chance.randint(1, 30), end + chance.randint(1, 30))
        wide = Region(start - chance.randint(0, 5), end, (start, end), reach, (link,))
        out.append(chance.choice([calm(link), wide]))
    return out


@given(st.randoms(use_true_random=False))
@examples(2)
def test_regions_are_those_that_a_look_at_all_of_them_finds(chance: Random) -> None:
    """Whatever came and went before."""
    every = some(chance)
    regions = Regions(chance.sample(every, len(every)))
    lost = [one for one in every if chance.random() < 0.3]
    back = [one for one in lost if chance.random() < 0.5]
    regions.replace(lost, [])
    regions.replace([], back)
    every = [one for one in every if one not in lost or one in back]
    low, high = sorted(chance.choices(range(-10, 210), k=2))
    assert list(regions) == every
    assert len(regions) == len(every)
    times = sorted(chance.sample(range(-10, 210), chance.randint(0, 3)))
    for spans in ([], [(low, high)]):
        near = [*((at, at) for at in times), *spans]
        reached = [one for one in every if any(one.reach[0] <= b and a <= one.reach[1] for a, b in near)]
        found = regions.reached(np.array(times, np.int64), np.array(spans, np.int64).reshape(-1, 2))
        assert sorted(found, key=every.index) == reached
    sharing = [one for one in every if one.start < high and one.end > low]
    assert sorted(regions.sharing(low, high), key=every.index) == sharing
    within = [one for one in every if low <= one.breaks[0] and one.breaks[1] <= high]
    assert sorted(regions.within(low, high), key=every.index) == within
    wide = [one for one in every if not one.is_calm]
    assert regions.reach == max((one.reach[1] for one in wide), default=None)
    assert regions.last_break == max((one.breaks[1] for one in wide), default=None)
