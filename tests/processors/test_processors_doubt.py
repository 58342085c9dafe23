"""Doubtful readings: as the oracle has them, however they came, and never further than need be."""

from __future__ import annotations

from dataclasses import astuple, replace
from fractions import Fraction
from itertools import pairwise
from math import floor, inf
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import lines
from processors.allowance import Allowance
from processors.doubt import FOR_EVER, Verdict
from processors.kernels.lines import cheapest_twin
from processors.scales import steps
from tests.processors import doubt_series, oracle_decided
from tests.processors.doubt_series import (
    KWH,
    LIMIT,
    WIDTH,
    Keeper,
    arrays,
    facts_of,
    minutes,
    posts_of,
    regions_of,
    said,
    series,
)
from tests.processors.histories import examples
from tests.processors.oracle_doubt import DAY, HOUR, MINUTE, Series, found


@given(series())
@examples(4)
def test_the_line_is_that_of_the_oracle(one: Series) -> None:
    """Links, findings and what is left out are what trying every run in exact fractions gives."""
    assert said(regions_of(one), arrays(one.readings)[0]) == found(one)


@given(series(24))
@examples(3)
def test_nothing_is_lost_on_the_way_along_the_line(one: Series) -> None:
    """Booked, held and written off add up to last less first, and the ends are always on the line."""
    links = [link for region in regions_of(one) for link in region.links]
    gone = doubt_series.lost(regions_of(one), arrays(one.readings)[0])
    line = [row for row in one.readings if row[0] not in gone]
    assert (line[0], line[-1]) == (one.readings[0], one.readings[-1])
    booked = held = written_off = 0
    by_ends = {(link.start, link.end): link for link in links}
    for (start, first), (end, last) in pairwise(line):
        link = by_ends.pop((start, end), None)
        wrap = (one.width or 0) if link and link.wrapped else 0
        if link is None or link.decided:
            booked, written_off = booked + last - first + wrap, written_off - wrap
            assert last - first + wrap >= -max(2 * one.step, first >> 23)  # a slip
        else:
            held += last - first
    assert by_ends == {}
    assert booked + held + written_off == line[-1][1] - line[0][1]


@given(series(24))
@examples(3)
def test_regions_share_no_more_than_an_end(one: Series) -> None:
    """Regions follow each other in time, and hold every reading that was left out and every link."""
    regions = regions_of(one)
    for region, next_ in pairwise(regions):
        assert region.end <= next_.start
    for region in regions:
        assert region.reach[0] <= region.start < region.end <= region.reach[1]
        assert region.start <= region.breaks[0] < region.breaks[1] <= region.end
        begins = [link.start for link in region.links if link.verdict != Verdict.STUCK]
        assert all(region.start <= start for start in begins)
        assert all(link.start < link.end <= region.end for link in region.links)


@given(st.data())
@examples(3)
def test_judging_as_readings_come_in_any_order_gives_the_same(data: st.DataObject) -> None:
    """Whatever the order and the cut, and whatever goes again: as judged whole, after every step."""
    one = data.draw(series(20))
    keeper = Keeper(one)
    coming = list(data.draw(st.permutations(one.readings)))
    while coming:
        size = data.draw(st.sampled_from([1, 1, 1, 2, 5]))
        part, coming = coming[:size], coming[size:]
        gone = []
        if keeper.rows and data.draw(st.integers(0, 5)) == 0:
            gone = [data.draw(st.sampled_from(keeper.rows))[0]]
        again = [
            (time, value + KWH) for time, value in keeper.rows if time in gone and data.draw(st.booleans())
        ]
        keeper.change([*part, *again], gone)
        whole = Series(keeper.rows, one.limit, one.width, one.step, one.multipliers, one.kept)
        assert keeper.regions == regions_of(whole)


@given(st.randoms(use_true_random=False))
@examples(1)
def test_a_standstill_is_looked_back_over_to_its_beginning(chance: Random) -> None:
    """Of days, in any order, with readings that come again: as the oracle has it, and as judged whole."""
    one = doubt_series.standing(chance)
    keeper = Keeper(one)
    for row in chance.sample(one.readings, len(one.readings)):
        gone = [chance.choice(keeper.rows)] if keeper.rows and chance.random() < 0.1 else []
        keeper.change([row, *gone], [time for time, _ in gone])
        so_far = Series(keeper.rows, one.limit, one.width, one.step, kept=one.kept)
        assert keeper.regions == regions_of(so_far)
    assert said(keeper.regions, arrays(one.readings)[0]) == found(one)


COUNTED = [(k * 60, k * 8) for k in range(5)]
SPIKES = [(0, 1_039), *((k * 60, 5_000) for k in range(1, 19)), (1_140, 1_040)]


@pytest.mark.parametrize("before", [COUNTED, SPIKES])
@pytest.mark.parametrize("late", [True, False])
def test_what_came_days_before_standstills_says_what_they_are(
    before: list[tuple[int, int]], *, late: bool
) -> None:
    """Of two within a day the first is caught up with, or what follows it is left out, as a late reading of
    days before, or one that goes, has it.
    """
    first = 40 if before is COUNTED else 1_040
    stood = [(at, first) for at in [*range(1_200, 6_000, 60), *range(6_000, 6_500, 30)]]
    again = [(at, first + 200) for at in range(6_500, 6_770, 30)]
    one = minutes(*before, *stood, *again, (6_770, first + 400), (6_800, first + 401))
    gone = one.readings[1] if before is COUNTED else one.readings[0]
    rest = [row for row in one.readings if row != gone]
    keeper = Keeper(one)
    keeper.change(rest if late else one.readings)
    keeper.change([gone] if late else [], [] if late else [gone[0]])
    assert keeper.regions == regions_of(one if late else replace(one, readings=rest))
    verdicts = [link.verdict for region in keeper.regions for link in region.links][-2:]
    assert verdicts == [Verdict.STUCK] * 2 if late else verdicts[-1:] == [Verdict.SPIKE]


@given(st.randoms(use_true_random=False))
@examples(5)
def test_a_step_into_another_unit_is_that_of_the_oracle(chance: Random) -> None:
    """By which power of ten, and from when to when what is shown is in another unit."""
    one = doubt_series.in_units(chance)
    links = [link for region in regions_of(one) for link in region.links]
    events, _, units = oracle_decided.decided(one, [])
    assert [link.scale for link in links] == [event.factor for event in events]
    spans = [step.span for step in steps(links, [], Allowance(facts_of(one)))]
    assert [(low, high if high < FOR_EVER else inf) for low, high in spans] == units


@given(st.randoms(use_true_random=False))
@examples(0.5)
def test_a_register_that_is_always_broken_is_as_the_oracle_has_it(chance: Random) -> None:
    """In any order, as judged whole after every step; and at the end link by link."""
    one = doubt_series.always_broken(chance, 28)
    keeper, rows = Keeper(one), chance.sample(one.readings, len(one.readings))
    for row in rows if chance.random() < 0.5 else one.readings:
        keeper.change([row])
        assert keeper.regions == regions_of(Series(keeper.rows, one.limit, one.width, one.step))
    assert said(keeper.regions, arrays(one.readings)[0]) == found(one)


@given(st.randoms(use_true_random=False))
@examples(1)
def test_another_register_is_left_out_whatever_happened_to_it(chance: Random) -> None:
    """Rises that cannot be, falls, zeros: in any order, and as the oracle has it."""
    one, its = doubt_series.swapped(chance)
    keeper, rows = Keeper(one), chance.sample(one.readings, len(one.readings))
    for row in rows if chance.random() < 0.5 else one.readings:
        keeper.change([row])
        assert keeper.regions == regions_of(Series(keeper.rows, one.limit, one.width, one.step))
    assert said(keeper.regions, arrays(one.readings)[0]) == found(one)
    assert doubt_series.lost(keeper.regions, arrays(one.readings)[0]) >= its


def unruly(seed: int, every_ms: int, size: int) -> Series:
    """A register that shows something else than it should at two readings in five."""
    chance = np.random.default_rng(seed)
    values = np.where(chance.random(size) < 0.4, chance.integers(0, 3, size) * 300, np.arange(size)) * KWH
    return Series([(k * every_ms, int(value)) for k, value in enumerate(values)], 60 * LIMIT, WIDTH)


@given(st.integers(0, 1 << 30), st.sampled_from([MINUTE, 20 * MINUTE, HOUR]))
@examples(0.1)
def test_unruly_days_are_judged_as_they_come_as_well(seed: int, every_ms: int) -> None:
    """Many breaks in a day, with posts among them: the same as judged whole."""
    one, chance = unruly(seed, every_ms, 260), np.random.default_rng(seed)
    keeper, rows, order = Keeper(one), one.readings, list(range(260))
    for k in chance.integers(0, 250, 20):
        order[k : k + 9] = order[k : k + 9][::-1]
    keeper.change([rows[k] for k in order[:200]])
    for k in range(200, 260):
        keeper.change([rows[order[k]]], [rows[order[k - 190]][0]] if k % 7 == 0 else [])
    assert keeper.regions == regions_of(Series(keeper.rows, one.limit, WIDTH))


def test_a_plain_reading_behind_a_settled_region_is_not_judged() -> None:
    """A glitch is settled by the third reading behind it; from then on nothing is judged any more."""
    keeper = Keeper(Series([(0, 0)], LIMIT, WIDTH))
    for minute, value in enumerate([100, 101, 0, 102, 103, 104]):
        keeper.change([(minute * MINUTE, value * KWH)])
    settled = keeper.judged
    for minute in range(6, 30):
        keeper.change([(minute * MINUTE, (99 + minute) * KWH)])
    assert len(keeper.regions) == 1
    assert keeper.regions[0].reach[1] < FOR_EVER
    assert keeper.judged == settled


@given(st.integers(0, 1 << 30))
@examples(0.3)
def test_posts_are_those_of_the_oracle(seed: int) -> None:
    """Before the first break of an unruly day, and before every 200th behind it."""
    one = unruly(seed, 2 * MINUTE, 700)
    assert set(posts_of(*arrays(one.readings), facts_of(one)).tolist()) == one.posts
    assert len(one.posts) > 1


@given(st.integers(0, 1 << 30), st.sampled_from([MINUTE, 40 * MINUTE]))
@examples(0.3)
def test_the_line_of_an_unruly_day_is_that_of_the_oracle(seed: int, every_ms: int) -> None:
    """Also where there are posts in it."""
    one = unruly(seed, every_ms, 48)
    assert said(regions_of(one), arrays(one.readings)[0]) == found(one)


@given(
    limit=st.integers(1, 1 << 55),
    length_ms=st.integers(1, 500 * DAY),
    start_ms=st.integers(-DAY, DAY),
    multipliers=st.lists(st.fractions(Fraction(1, 1000), 5000, max_denominator=1000), min_size=1, max_size=3),
    step=st.sampled_from([1, 10_000]),
)
@examples(3)
def test_what_a_register_can_have_risen_is_exact(
    limit: int, length_ms: int, start_ms: int, multipliers: list[Fraction], step: int
) -> None:
    """To the last millionth, however large or long, and where the multiplier changes on the way."""
    times = [(k * 8 * HOUR, one) for k, one in enumerate(multipliers)]
    one = Series([(start_ms, 0), (start_ms + length_ms, 0)], limit, None, step, times)
    allowed = Allowance(facts_of(one)).over(*(np.array([time]) for time, _ in one.readings))
    assert int(allowed[0]) == min(floor(one.possible(0, 1)), 2**62)


@pytest.mark.parametrize("seed", range(40))
def test_what_a_change_can_reach_ends_at_posts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With posts every few breaks, so that most changes meet some: step by step as judged whole."""
    monkeypatch.setattr(lines, "POST_EVERY", 4)
    monkeypatch.setattr(lines, "UNRULY_BREAKS", 2)
    chance = np.random.default_rng(seed)
    one = unruly(seed, (20 * MINUTE, HOUR, 5 * HOUR)[seed % 3], 40)
    one.limit = (1, 60)[seed % 2] * LIMIT
    keeper = Keeper(one)
    for k in chance.permutation(len(one.readings)).tolist():
        gone = keeper.rows[int(chance.integers(len(keeper.rows)))][0] if keeper.rows else None
        keeper.change([one.readings[k]], [gone] if gone is not None and chance.random() < 0.1 else [])
        assert keeper.regions == regions_of(Series(keeper.rows, one.limit, WIDTH))


@given(series(24), st.booleans())
@examples(3)
def test_the_loop_finds_the_runs_and_the_line_that_numpy_does(one: Series, dense: bool) -> None:
    """Every run with its cost, and the cheapest line through them."""
    if dense:
        one = unruly(one.readings[-1][1], 20 * MINUTE, 60)
    time, value = arrays(one.readings)
    readings = lines.Readings(time, value, Allowance(facts_of(one)), np.isin(time, [*one.kept]))
    runs = lines.runs_of(readings)
    twin = lines.runs_by_numpy(readings, lines.described(readings))
    assert [column.tolist() for column in astuple(runs)] == [column.tolist() for column in astuple(twin)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "cheapest", cheapest_twin)
        slow = [lines.left_out(readings, part) for part in lines.components(runs)]
    assert [lines.left_out(readings, part) for part in lines.components(runs)] == slow


BROKEN_FOR_EVER = {
    "limit_too_small": lambda k: 1000 + 20 * k,
    "backwards": lambda k: 9_000_000 - k,
    "torn_words": lambda k: k + 65_536 * (k * 7919 % 13 % 2),
    "anything": lambda k: k * k * 7919 % 999_983,
}


@pytest.mark.parametrize("kind", BROKEN_FOR_EVER)
def test_a_register_that_is_always_broken_is_judged_a_bounded_part_at_a_time(kind: str) -> None:
    """What a reading, in order or late, has looked at and made anew does not grow with what came before."""
    rows = [(k * 5 * MINUTE, BROKEN_FOR_EVER[kind](k) * KWH) for k in range(800)]
    for k in range(0, 797, 7):
        rows[k], rows[k + 3] = rows[k + 3], rows[k]
    keeper, judged = Keeper(Series([], LIMIT, None)), [0]
    for row in rows:
        keeper.change([row])
        judged.append(keeper.judged)
    assert np.diff(judged).max() <= 600
    assert keeper.made <= 6 * len(rows)
