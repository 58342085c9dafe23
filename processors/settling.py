"""Registers in doubt: their regions, and what a change of readings turns of their lines.

Only series whose readings do not all count on come here. What is judged anew is a day or two around the
change (processors.anew says how much); of that the links that are not as they were are taken back and said
anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS
from processors import verdicts
from processors.allowance import GAP_MAX_MS, SMOOTH, Kinds
from processors.anew import Break, stretches
from processors.decided import Decided, Decision, marks, said_of
from processors.doubt import FOR_EVER, FROM_EVER, Link, Region, calm
from processors.fallbacks import CaughtUp
from processors.judging import Readings, as_they_were, is_enough, judged, known_back
from processors.lines import FEW, RUN_MAX_MS
from processors.memory import CONFLICT, LEFT_OUT, TIME_MASK, Memory, key_of, series_of, time_of
from processors.regions import Regions
from processors.runs import NONE
from processors.scales import Step, noted, steps, turned, within
from processors.segments import BOOKED, BRIDGED, DECIDED, SHAPELESS, WRAPPED, WRITTEN_OFF, Segments, differing
from processors.slips import SLIP_MAX_MS, pairs_of
from processors.verdicts import Ratings

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Turned:
    """What a change of readings turns: links taken back and links that come, what is left out now and what is
    no more (instants), verdicts by the instants of their links (None: it is no more).
    """

    back: Segments
    come: Segments
    left: Ints
    kept: Ints
    verdicts: dict[Break, Link | None]


_NOTHING = Decided()


class Doubts:
    """The regions of all series. ``watched``: of each the greatest key that the reach of a region goes to
    which is not calm; ``unruly``: up to which key a break that comes may have a broken pair around it.
    """

    def __init__(self, memory: Memory, ratings: Ratings) -> None:
        self._memory, self._ratings = memory, ratings
        self.regions: dict[int, Regions] = {}
        self.decided: dict[int, Decided] = {}
        self._other_unit: dict[int, tuple[Step, ...]] = {}
        """The times in which what a series shows is in another unit, and held."""
        self._steps: Counter[int] = Counter()
        """How many links of a series step into another unit."""
        self._caught_up = CaughtUp()
        self._simple = ratings.facts.simple.copy()
        self.watched, self.unruly = (np.full(len(memory.newest), NONE, np.int64) for _ in range(2))

    def put(self, series: int, lost: Iterable[Region], found: Iterable[Region]) -> None:
        """Regions of a series that are no more, and others that are."""
        lost, found = list(lost), list(found)
        regions = self.regions.setdefault(series, Regions())
        regions.replace(lost, found)
        self._steps[series] += _steps(found) - _steps(lost)
        self._caught_up.put(series, lost, found)
        if not len(regions):
            del self.regions[series]
        self.watch(series)

    def resume(self) -> None:
        """Goes on from regions and decisions that are there."""
        for series in self.regions:
            self._note_units(series, self._units(series, [], [], self.decided.get(series, _NOTHING).force))

    def _units(
        self, series: int, lost: list[Region], found: list[Region], force: list[Decision]
    ) -> tuple[Step, ...]:
        """The times in which a series is in another unit once it has other regions and decisions."""
        if not self._steps[series] + _steps(found):
            return ()
        links = [link for one in (*lost, *found) for link in one.links]
        known = self._other_unit.get(series, ())
        if series in self.decided or not known or not links:
            known, low = (), FROM_EVER
        else:  # what lies before the first link that changes is as it was
            low = min(link.start for link in links)
            known = tuple(one for one in known if one.since.start < low)
        gone = {one.breaks for one in lost}
        regions = self.regions.get(series, Regions()).sharing(low, FOR_EVER)
        every = [one for one in regions if one.breaks not in gone] + found
        links = [link for one in every for link in one.links if link.start >= low]
        spans = [one.span for one in force]
        return steps(links, spans, self._ratings.allowance(series), low, known)

    def _note_units(self, series: int, known: tuple[Step, ...]) -> None:
        """The compiled loop books what is plain; it is not to see a series of which some is held."""
        if known or series in self._other_unit:
            self._other_unit[series] = known
            self._ratings.facts.simple[series] = self._simple[series] and not known
        if not known:
            self._other_unit.pop(series, None)

    def _held(self, series: int) -> tuple[Break, ...]:
        """From when to when what a series shows is in another unit."""
        return tuple(one.span for one in self._other_unit.get(series, ()))

    def hold(self, part: Segments) -> None:
        """Holds what is in another unit of links that are as the rule has them."""
        for series in self._other_unit.keys() & set(part.series.tolist() if self._other_unit else ()):
            mine = np.flatnonzero(part.series == series)
            _hold(part, mine[within(part.start[mine], self._held(series))])

    def add(self, series: int, link: Link) -> None:
        """A break with nothing doubtful around it, behind all that is known of a series."""
        self.regions.setdefault(series, Regions()).replace((), [calm(link)])

    def watch(self, series: int) -> None:
        """Notes from where on the readings of a series cannot change what is in doubt, or decided; and from
        where on a break has no broken pair around it.
        """
        regions = self.regions.get(series, Regions())
        until = [] if regions.reach is None else [regions.reach]
        until += [end for _, end in self.decided.get(series, _NOTHING).every]
        self.watched[series] = _key(series, max(until)) if until else NONE
        last = regions.last_break
        self.unruly[series] = NONE if last is None else _key(series, last + RUN_MAX_MS)

    def revision(self, series: int, span: Break) -> int | None:
        """Of the last decision on what lies between two instants of a series; None: there is none."""
        return self.decided.get(series, _NOTHING).revision(span)

    def links(self, series: int) -> dict[Break, Link]:
        """All that is not plain, by its instants."""
        return _links(self.regions.get(series, ())) | self.decided.get(series, _NOTHING).said

    def repeating(self, key: Ints, value: Ints) -> Bools:
        """Readings of series of which all, behind what is known, show what the last three of it did, and that
        nobody decided of: they settle nothing (processors.unsettled).
        """
        memory, series = self._memory, series_of(key)
        same = (key > memory.newest[series]) & (value == memory.newest_value[series])
        same &= ~np.isin(series, list(self.decided))
        some = np.setdiff1d(series[same], series[~same])
        some = some[memory.newest_flags[some] & CONFLICT == 0]
        last, shown = memory.newest[some], memory.newest_value[some]
        for _ in range(2):
            before = memory.before(last, skip=CONFLICT)
            stood = before != NONE
            stood[stood] = memory.get("value", memory.find(before[stood])) == shown[stood]
            some, shown, last, before = (column[stood] for column in (some, shown, last, before))
            kinds = verdicts.judge(some, time_of(before), time_of(last), shown, shown, self._ratings)
            some, shown, last = (column[kinds == SMOOTH] for column in (some, shown, before))
        return np.isin(series, some)

    def change(self, series: int, fresh: Readings, gone: Ints, record: int) -> Turned:
        """Readings of a series come and go; those in memory are still as they were."""
        times = np.union1d(fresh.time, gone)
        touched = self.decided.get(series, _NOTHING).touched(times, [])
        return self._change(series, fresh, gone, record, touched)

    def decide(self, series: int, one: Decision, record: int) -> Turned | None:
        """Somebody decided; None where that changes nothing."""
        known = self.decided.setdefault(series, Decided())
        counts = known.take(one)
        self.watch(series)
        if not counts:
            return None
        empty = np.empty(0, np.int64)
        fresh = Readings(empty, empty, empty.astype(np.uint8))
        turned = self._change(series, fresh, empty, record, known.touched(empty, [one.span]))
        row = self.links(series).get(one.span)  # said anew in any case: its evidence names the decision
        return turned if row is None else replace(turned, verdicts={one.span: row, **turned.verdicts})

    def _change(self, series: int, fresh: Readings, gone: Ints, record: int, touched: list[Break]) -> Turned:
        allowance, known = self._ratings.allowance(series), self.decided.get(series, _NOTHING)
        times, regions = np.union1d(fresh.time, gone), self.regions.get(series, Regions())
        low, high = self._hull(series, times, touched)
        old = self._around(series, *self._beyond(series, (low, high), FEW + 1))
        new = old.changed(fresh, gone)
        force = known.standing(touched, new.time)
        course = (old.without(known.force).course(allowance), new.without(force).course(allowance))
        anew, lost, found = stretches(times, regions, *course, touched), list[Region](), list[Region]()
        between, units = (low, high), self._held(series)
        if anew.spans:
            between = min(anew.spans[0][0], low), max(anew.spans[-1][1], high)
            lost = [one for span in anew.spans for one in regions.within(*span)]
            stays = {} if touched else as_they_were(lost, anew.near)
            around = known_back(lost, between[0]), between[1]
            readings, pair = self._reaching_back(series, around, (fresh, gone), anew.spans, force)
            found = judged(readings, pair, anew.spans, allowance, force, stays)
            spans = [one.span for one in force]
            lost, found = self._caught_up.settled(series, (lost, found), regions, allowance, spans)
            found = [noted(one, units) for one in found]
            if known is _NOTHING:  # nobody said anything, of what did not change either
                changed, between = times.tolist(), (low, high)
                lost, found = _other(lost, found, changed), _other(found, lost, changed)
            self._note_units(series, self._units(series, lost, found, force))
            now = self._held(series)
            lost, found = turned((lost, found), regions, units, now)
            between = _extent([between, *({*units} ^ {*now})], [*lost, *found])
            old = self._around(series, *between)
            new = old.changed(fresh, gone)
        if known is _NOTHING:
            old, new = old.part(*between), new.part(*between)
        is_, was = _left(found, new, force), _left(lost, old, known.force)
        marked = new.marked(np.setdiff1d(was, is_), 0).marked(is_, LEFT_OUT)
        was_links = _links(_along(regions, old))
        if lost or found:
            self.put(series, lost, found)
        links = _links(_along(self.regions.get(series, Regions()), new))
        before, after = (
            known.said_between(old.time, new.time),
            said_of(marked.line(force), force, links, allowance),
        )
        back = _line(series, old, was_links | known.said, record, -1, units)
        come = _line(series, marked, links | after, record, 1, self._held(series))
        if known is not _NOTHING:
            known.force = force
            known.said = {s: one for s, one in known.said.items() if s not in before} | after
        said = _turned(_links(lost) | before, _links(found) | after)
        return Turned(*differing(back, come), *_newly(new, marked), said)

    def _reaching_back(
        self,
        series: int,
        ends: Break,
        change: tuple[Readings, Ints],
        spans: list[Break],
        force: list[Decision],
    ) -> tuple[Readings, Kinds]:
        """Readings between two instants and around them once they changed, and what each is to the one before
        it; from before any standstill that ends in one of some stretches in a rise that cannot be.
        """
        (low, high), back_ms = self._beyond(series, ends, FEW + 1), RUN_MAX_MS
        while True:
            every = self._around(series, low, high)
            readings = every.changed(*change).without(force)
            pair = pairs_of(readings.time, readings.value, self._ratings.allowance(series))
            if is_enough(readings, pair, spans, low) or self._begins_with(series, every):
                return readings, pair
            low, back_ms = low - back_ms, back_ms * 4

    def _begins_with(self, series: int, readings: Readings) -> bool:
        """Whether there are no readings of a series before some."""
        first = readings.time[:1]
        before = self._memory.before(key_of(np.full(len(first), series), first), skip=CONFLICT)
        return bool((before == NONE).all())

    def _hull(self, series: int, times: Ints, touched: list[Break]) -> Break:
        """From when to when something may change, with the readings next to it."""
        ends = [at for span in touched for at in span]
        ends += self._neighbours(series, times) if len(times) else ()
        return min(ends), max(ends)

    def _neighbours(self, series: int, times: Ints) -> tuple[int, int]:
        """From when to when the readings next to changed ones are, all that count."""
        ends = key_of(np.full(2, series), times[[0, -1]])
        before = self._memory.before(ends[:1], skip=CONFLICT)[0]
        after = self._memory.after(ends[1:], skip=CONFLICT)[0]
        low = times[0] if before == NONE else time_of(before)
        high = times[-1] if after == NONE else time_of(after)
        return int(low), int(high)

    def _around(self, series: int, low_ms: int, high_ms: int) -> Readings:
        """Readings between two instants and those of whole days (UTC) around the day before and behind them,
        and of what says which of their falls are slips; to the second one of the line on either side.
        """
        low = (low_ms - RUN_MAX_MS) // _DAY_MS * _DAY_MS - SLIP_MAX_MS
        high = -(-(high_ms + RUN_MAX_MS) // _DAY_MS) * _DAY_MS + SLIP_MAX_MS
        low, high = self._beyond(series, (low, high), 2)
        run = self._memory.between(series, low - 1, high)
        counts = run["flags"] & CONFLICT == 0
        return Readings(time_of(run["key"][counts]), run["value"][counts], run["flags"][counts])

    def _beyond(self, series: int, ends: Break, steps: int) -> Break:
        """The instants so many readings of the line before and behind two; these where there are none."""
        edges = np.clip(np.array(ends), TIME_FIRST_MS, TIME_FIRST_MS + TIME_MASK - 1)
        low, high = np.split(key_of(np.full(2, series), edges), 2)
        for _ in range(steps):
            before, after = self._memory.before(low), self._memory.after(high)
            low, high = np.where(before == NONE, low, before), np.where(after == NONE, high, after)
        return int(time_of(low)[0]), int(time_of(high)[0])


def _other(some: list[Region], others: list[Region], changed: list[int]) -> list[Region]:
    """Those that are not among others, or lead over readings from, to or past what changed: what is next to
    that is then not next to it on the line.
    """
    known = {one.breaks: one for one in others}
    return [one for one in some if known.get(one.breaks) != one or _leads_over(one, changed)]


def _leads_over(region: Region, times: list[int]) -> bool:
    return any(
        one.left and bisect_left(times, one.start) < bisect_right(times, one.end) for one in region.links
    )


def _extent(spans: list[Break], regions: list[Region]) -> Break:
    """From when to when some spans, some regions and all of their links are."""
    starts = [min(one.start, link.start) for one in regions for link in one.links]
    ends = [one.end for one in regions]
    return min([low for low, _ in spans] + starts), max([high for _, high in spans] + ends)


def _left(regions: list[Region], readings: Readings, decisions: list[Decision]) -> Ints:
    """Instants of what is left out, by rule or by people."""
    by_rule = [one.left_out(readings.time) for one in regions]
    return np.concatenate([*by_rule, readings.time[marks(readings.time, decisions)[0]]])


def _newly(before: Readings, after: Readings) -> tuple[Ints, Ints]:
    """Instants of readings that are left out now, and of those that are no more."""
    turned = (before.flags ^ after.flags) & LEFT_OUT > 0
    is_out = after.flags & LEFT_OUT > 0
    return after.time[turned & is_out], after.time[turned & ~is_out]


def _along(regions: Regions, readings: Readings) -> list[Region]:
    """Those that readings of a stretch may lie in."""
    return regions.sharing(int(readings.time[0]), int(readings.time[-1])) if len(readings) else []


def _key(series: int, time_ms: int) -> int:
    """The key of an instant, or the nearest there is."""
    at = min(max(time_ms, TIME_FIRST_MS - 2), TIME_FIRST_MS + TIME_MASK - 1)
    return int(key_of(np.array([series]), np.array([at]))[0])


def _steps(regions: list[Region]) -> int:
    return sum(link.scale != 0 for one in regions for link in one.links)


def _links(regions: Iterable[Region]) -> dict[Break, Link]:
    return {(link.start, link.end): link for one in regions for link in one.links}


def _turned(old: dict[Break, Link], new: dict[Break, Link]) -> dict[Break, Link | None]:
    """What was said and is not any more, and what is said now, where that is not the same."""
    return {span: new.get(span) for span in sorted(old | new) if old.get(span) != new.get(span)}


def _line(
    series: int, readings: Readings, links: dict[Break, Link], record: int, sign: int, units: Sequence[Break]
) -> Segments:
    """The links along the line of some readings; ``links``: those that are not plain; ``units``: from when to
    when it is in another unit.
    """
    line = readings.take(np.flatnonzero(readings.flags & LEFT_OUT == 0))
    size = max(len(line) - 1, 0)
    outcome, start, end = np.full(size, BOOKED), line.time[:-1], line.time[1:]
    for span, link in links.items():
        at = int(np.searchsorted(start, span[0]))
        if at < size and (start[at], end[at]) == span:
            outcome[at] = _outcome(link)
    flags = ((line.flags[:-1] | line.flags[1:]) & ~np.uint8(LEFT_OUT)).astype(np.int64)
    numbers, signs, records = (np.full(size, number) for number in (series, sign, record))
    part = Segments(numbers, signs, start, end, line.value[:-1], line.value[1:], flags, records, outcome)
    _hold(part, np.flatnonzero(within(start, units)))
    return part


def _hold(part: Segments, some: Ints) -> None:
    """Books nothing of some links, but what people decided of."""
    some = some[~part.has(DECIDED)[some]]
    part.outcome[some] &= ~(BOOKED | WRAPPED)


def _outcome(link: Link) -> int:
    bits = {
        BOOKED: link.decided,
        WRAPPED: link.wrapped,
        BRIDGED: link.left > 0 or link.by != "",
        SHAPELESS: link.end - link.start > GAP_MAX_MS,
        WRITTEN_OFF: link.written_off,
        DECIDED: link.by != "",
    }
    return sum(bit for bit, is_set in bits.items() if is_set)
