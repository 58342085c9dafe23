"""The oracle of decisions: docs/books.md ("Decisions") word by word, around that of doubtful readings.

Slow and meant to be obviously right; it shares no code with the operators.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor

from tests.processors.oracle_doubt import Said as Found
from tests.processors.oracle_doubt import Series, found
from tests.processors.oracle_standstill import scale

OUT = ("glitch", "spike", "stuck", "clock_jump")
MOVED = ("reset", "decrease", "spike")


@dataclass(frozen=True)
class Said:
    """What somebody said of what lies between two instants; ``value``: of a conflict, whether it is
    rounded, and from when it was said to count.
    """

    start: int
    end: int
    verdict: str
    by: str
    revision: int
    value: tuple[int, bool, int] = (0, False, 0)


@dataclass(frozen=True)
class Event:
    """What a row of verdicts says: as oracle_doubt's, and what is written off, and who decided."""

    start: int
    end: int
    verdict: str
    decided: bool
    wrapped: bool
    left: int
    lowest: int
    highest: int
    written_off: bool = False
    by: str = ""
    turns: range = range(0)
    """How often the register may have passed its end, where that is not sure."""
    factor: int = 0
    """The power of ten by which it steps into another unit."""
    beyond: tuple[int, int] | None = None
    """Of a rise that the limit does not allow the most that it does, and the limit in an hour that would."""

    @property
    def status(self) -> str:
        if self.by:
            return "refused" if self.verdict == "plain" and not self.turns else "confirmed"
        return "decided" if self.decided else "held"


def that_count(statements: Iterable[Said]) -> list[Said]:
    """The highest revision of the same instants; two of it that differ cancel each other."""
    every = set(statements)
    out = []
    for span in sorted({(one.start, one.end) for one in every}):
        mine = [one for one in every if (one.start, one.end) == span]
        last = [one for one in mine if one.revision == max(other.revision for other in mine)]
        if len({(one.verdict, one.value) for one in last}) == 1:
            out.append(min(last, key=lambda one: one.by))
    return out


def decided(
    series: Series, statements: Iterable[Said]
) -> tuple[list[Event], set[int], list[tuple[int, float]]]:
    """What is not plain, and the instants of all readings that are left out; and from when to when what is
    shown is in another unit.
    """
    force = [one for one in that_count(statements) if _in_force(series, one)]
    right = {at for one in force for at in (one.start, one.end)}
    for one in force:
        right |= {t for t, _ in series.readings if one.verdict == "plain" and one.start < t < one.end}
    gone = {
        t: value
        for t, value in series.readings
        if t not in right and any(one.verdict in OUT and one.start < t < one.end for one in force)
    }
    rest = replace(series, readings=[(t, v) for t, v in series.readings if t not in gone], kept=right)
    links, lost = found(rest)
    steps = _steps(rest, links)
    events = {
        link[:2]: Event(*link, factor=scale(rest, steps[link[:2]]) if link[:2] in steps else 0)
        for link in links
    }
    covered = [(one.start, one.end) for one in force]
    stuck = [span for span, event in events.items() if event.verdict == "stuck"]
    for span in stuck:
        events[span] = replace(events[span], decided=not _comes_back(rest, span, steps, covered))
    line = [number for number, (t, _) in enumerate(rest.readings) if t not in lost]
    for i, j in pairwise(line):
        event = _event(rest, (i, j), gone, force, events)
        span = rest.readings[i][0], rest.readings[j][0]
        if event is not None:
            events[span] = event
        if rest.link(i, j) == "unsure":
            events[span] = replace(events[span], turns=rest.turns(i, j))
    for one in force:
        if one.verdict == "plain" and _between(series, one):
            events[one.start, one.end] = Event(one.start, one.end, "plain", True, False, 0, 0, 0, by=one.by)
    units = _in_another_unit(rest, steps, covered)
    said = [replace(events[span], beyond=_beyond(series, events[span], units)) for span in sorted(events)]
    return said, lost | set(gone), units


def _beyond(series: Series, event: Event, units: list[tuple[int, float]]) -> tuple[int, int] | None:
    """Of what was left out, of steps into another unit and of what is in one, nothing is said."""
    if not event.by and any(low <= event.start < high for low, high in units):
        return None
    at = [t for t, _ in series.readings]
    i, j = at.index(event.start), at.index(event.end)
    rise, possible = series.readings[j][1] - series.readings[i][1], series.possible(i, j)
    if series.limit is None or event.left or event.factor or rise <= possible:
        return None
    besides = 2 * series.step
    return floor(possible), ceil(series.limit * (rise - besides) / (possible - besides))


def _steps(rest: Series, links: list[Found]) -> dict[tuple[int, int], int]:
    """Broken pairs that stay on the line, by their instants: the number of the first reading."""
    times = [t for t, _ in rest.readings]
    broken = [link for link in links if link[2] in MOVED and not link[5]]
    return {link[:2]: times.index(link[0]) for link in broken}


def _comes_back(
    rest: Series, span: tuple[int, int], steps: dict[tuple[int, int], int], said: list[tuple[int, int]]
) -> bool:
    """Whether a broken pair behind a standstill that was caught up with, of which nobody said anything, ends
    lower than what that rose to, and the link to there from where it began is smooth.
    """
    times = [t for t, _ in rest.readings]
    s, risen = times.index(span[0]), rest.readings[times.index(span[1])][1]
    return any(
        start >= span[1]
        and rest.readings[k + 1][1] < risen
        and rest.link(s, k + 1) == "smooth"
        and not any(a <= start and end <= b for a, b in said)
        for (start, end), k in steps.items()
    )


def _in_another_unit(
    rest: Series, steps: dict[tuple[int, int], int], said: list[tuple[int, int]]
) -> list[tuple[int, float]]:
    """From when to when: from a step that nobody decided about until one that leads back to the line."""
    out: list[tuple[int, float]] = []
    since = None
    for (start, end), i in sorted(steps.items()):
        if since is not None and rest.link(since, i + 1) == "smooth":
            out.append((rest.readings[since + 1][0], end))
            since = None
        elif since is None and scale(rest, i) and not any(a <= start and end <= b for a, b in said):
            since = i
    return out if since is None else [*out, (rest.readings[since + 1][0], float("inf"))]


def _between(series: Series, one: Said) -> bool:
    return any(one.start < t < one.end for t, _ in series.readings)


def _in_force(series: Series, one: Said) -> bool:
    times = [t for t, _ in series.readings]
    if one.start not in times or one.end not in times:
        return False
    if _between(series, one):
        return one.verdict in (*OUT, "plain")
    return one.verdict in (*MOVED, "plain", "rollover")


def _event(
    rest: Series,
    ends: tuple[int, int],
    gone: dict[int, int],
    force: list[Said],
    events: dict[tuple[int, int], Event],
) -> Event | None:
    """What people make of a link of the line; None: it is as the rule has it."""
    (start, first), (end, last) = (rest.readings[number] for number in ends)
    kind = rest.link(*ends)
    values = [value for t, value in gone.items() if start < t < end]
    if values:
        around = [one for one in force if one.verdict in OUT and one.start <= start and end <= one.end]
        who = min(around, key=lambda one: (one.end - one.start, one.start))
        seen = (len(values), min(values), max(values))
        if (start, end) not in events and kind == "broken":
            return Event(start, end, who.verdict, True, False, *seen, by=who.by)  # a slip
        if kind in ("smooth", "wrap", "unsure"):  # unsure: as seldom over its end as can be
            return Event(start, end, who.verdict, True, last < first, *seen, by=who.by)
        rule = events[start, end]
        return replace(rule, left=seen[0], lowest=seen[1], highest=seen[2], factor=0)
    exact = [one for one in force if (one.start, one.end) == (start, end)]
    if not exact:
        return None
    (who,), nothing = exact, (0, 0, 0)
    if who.verdict in MOVED:
        return Event(start, end, who.verdict, False, False, *nothing, written_off=True, by=who.by)
    if who.verdict == "plain" and kind in ("broken", "unsure") and last >= first:
        return Event(start, end, "plain", True, False, *nothing, by=who.by)
    turned = last < first <= last + (rest.width or 0)
    if who.verdict == "rollover" and (kind == "unsure" or (kind != "gap" and turned)):
        return Event(start, end, "rollover", True, True, *nothing, by=who.by)
    return None
