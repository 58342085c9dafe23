"""What a person's decision makes of a register's readings: by hand, and as the oracle has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.allowance import Allowance
from processors.decided import Decision, Line, in_force, marks, said_of, settled
from processors.doubt import Link, Verdict, judge
from processors.fallbacks import CaughtUp
from processors.regions import Regions
from processors.scales import noted, steps
from tests.processors import doubt_series, oracle_decided
from tests.processors.doubt_series import arrays, facts_of, in_units, minutes, posts_of, series, standing
from tests.processors.histories import chances, examples
from tests.processors.oracle_doubt import MINUTE, Series


def links_of(one: Series, decisions: Sequence[Decision]) -> tuple[list[Link], set[int]]:
    """All links of a whole series that are not plain, and instants of what is left out."""
    time, value = arrays(one.readings)
    every = sorted({d.span for d in decisions})
    found = [settled([d for d in decisions if d.span == span]) for span in every]
    force = in_force([d for d in found if d is not None], time)
    out, right = marks(time, force)
    rest, facts = ~out, facts_of(one)
    kept = right[rest] | np.isin(time[rest], posts_of(time[rest], value[rest], facts))
    regions = judge(time[rest], value[rest], facts, kept, right=right[rest])
    spans, allowance = [one.span for one in force], Allowance(facts)
    _, regions = CaughtUp().settled(0, ([], regions), Regions(), allowance, spans)
    units = steps((link for one in regions for link in one.links), spans, allowance)
    regions = [noted(one, [unit.span for unit in units]) for one in regions]
    rule = {(link.start, link.end): link for region in regions for link in region.links}
    lost = doubt_series.lost(regions, time[rest])
    on = rest & ~np.isin(time, list(lost))
    line = Line(time[on], value[on], time[out], value[out])
    links = rule | said_of(line, force, rule, allowance)
    return [links[span] for span in sorted(links)], lost | set(time[out].tolist())


def decided(one: Series, *decisions: Decision) -> list[tuple[float, float, str, str, int]]:
    """From, to (minutes), finding, status, how many left out."""
    links, _ = links_of(one, decisions)
    rows = [(k.start / MINUTE, k.end / MINUTE, k.verdict.name.lower(), k.status, k.left) for k in links]
    return sorted(rows)


RESET = minutes((0, 500), (1, 501), (2, 0), (3, 1), (4, 2))
FALL = minutes((0, 999980), (1, 999990), (2, 5), (3, 15), limit=None)
RISE = minutes((0, 10), (1, 11), (2, 100), (3, 101))
ZERO = minutes((0, 100), (1, 101), (2, 0), (3, 103))
TOP = minutes((0, 999998), (1, 999999), (2, 999999.5), (3, 2))
LINE = minutes((0, 100), (1, 101), (2, 101.5), (3, 103))


@pytest.mark.parametrize(
    ("one", "said_by", "wanted"),
    [
        (RESET, [(1, 2, "RESET", 0)], [(1, 2, "reset", "confirmed", 0)]),
        (RESET, [(1, 2, "PLAIN", 0)], [(1, 2, "reset", "held", 0)]),
        (RESET, [(1, 3, "RESET", 0)], [(1, 2, "reset", "held", 0)]),
        (FALL, [(1, 2, "ROLLOVER", 0)], [(1, 2, "rollover", "confirmed", 0)]),
        (FALL, [(1, 2, "RESET", 0), (1, 2, "ROLLOVER", 1)], [(1, 2, "rollover", "confirmed", 0)]),
        (FALL, [(1, 2, "RESET", 0), (1, 2, "ROLLOVER", 0)], [(1, 2, "decrease", "held", 0)]),
        (RISE, [(1, 2, "PLAIN", 0)], [(1, 2, "plain", "refused", 0)]),
        (RISE, [(1, 2, "SPIKE", 0)], [(1, 2, "spike", "confirmed", 0)]),
        (ZERO, [(1, 3, "GLITCH", 0)], [(1, 3, "glitch", "confirmed", 1)]),
        (
            ZERO,
            [(1, 3, "PLAIN", 0)],
            [(1, 2, "reset", "held", 0), (1, 3, "plain", "refused", 0), (2, 3, "spike", "held", 0)],
        ),
        (LINE, [(1, 3, "PLAIN", 0)], [(1, 3, "plain", "refused", 0)]),
        (LINE, [(1, 3, "RESET", 0)], []),
        (LINE, [(1, 2, "GLITCH", 0)], []),
        (LINE, [(1, 2, "PLAIN", 0)], []),
        (LINE, [(1, 2, "SPIKE", 0)], [(1, 2, "spike", "confirmed", 0)]),
        (LINE, [(0, 3, "GLITCH", 0), (1, 2, "RESET", 0)], [(1, 2, "reset", "confirmed", 0)]),
        (
            LINE,
            [(0, 3, "GLITCH", 0), (1, 3, "SPIKE", 0)],
            [(1, 3, "spike", "confirmed", 1)],
        ),
        (LINE, [(0, 2.5, "GLITCH", 0)], []),
        (LINE, [(1, 3, "GLITCH", 0)], [(1, 3, "glitch", "confirmed", 1)]),
        (RESET, [(1, 3, "SPIKE", 0)], [(1, 3, "reset", "held", 1)]),
        (TOP, [(1, 3, "GLITCH", 0)], [(1, 3, "glitch", "confirmed", 1)]),
    ],
)
def test_a_decision_says_what_happened(
    one: Series,
    said_by: list[tuple[int, int, str, int]],
    wanted: list[tuple[float, float, str, str, int]],
) -> None:
    """Links with their status under a person's decisions; one that cannot be changes nothing."""
    decisions = [Decision(a * MINUTE, b * MINUTE, Verdict[name], "li", n) for a, b, name, n in said_by]
    assert decided(one, *decisions) == wanted


@st.composite
def said_of_series(draw: st.DrawFn) -> tuple[Series, list[Decision]]:
    """A series, and what people said of it: of neighbours, of stretches, twice, or one against another."""
    one = draw(series(12) | chances().map(standing) | chances().map(in_units))
    times = [time for time, _ in one.readings]
    out = []
    for _ in range(draw(st.integers(1, 5))):
        first = draw(st.integers(0, len(times) - 1))
        last = min(first + draw(st.sampled_from([1, 1, 2, 2, 3, 5, 9])), len(times) - 1)
        word = draw(st.sampled_from([v for v in Verdict if v not in (Verdict.GAP, Verdict.REPLACEMENT)]))
        if first < last:
            by, revision = draw(st.sampled_from(["li", "wang"])), draw(st.integers(0, 1))
            out.append(Decision(times[first], times[last], word, by, revision))
    return one, out


@given(said_of_series())
@examples(10)
def test_what_people_say_is_as_the_oracle_has_it(both: tuple[Series, list[Decision]]) -> None:
    """Links, who decided, what is written off, and what is left out, for any readings and decisions."""
    one, decisions = both
    one.kept = set()
    links, lost = links_of(one, decisions)
    statements = [
        oracle_decided.Said(d.start, d.end, d.verdict.name.lower(), d.by, d.revision) for d in decisions
    ]
    events, left_out, _ = oracle_decided.decided(one, statements)
    rows = [
        oracle_decided.Event(
            link.start,
            link.end,
            link.verdict.name.lower(),
            link.decided,
            link.wrapped,
            link.left,
            link.lowest,
            link.highest,
            link.written_off,
            link.by,
            range(int(link.last < link.first), link.most_turns + 1) if link.most_turns else range(0),
            0 if link.left or link.by else link.scale,
            link.beyond(Allowance(facts_of(one))),
        )
        for link in links
    ]
    assert rows == events
    assert lost == left_out
