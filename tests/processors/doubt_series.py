"""Series of doubtful readings, by chance and by hand, and what would keep one up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

import numpy as np
from hypothesis import strategies as st

from metering.roster import Multiplier
from processors.allowance import SMOOTH, Allowance, Facts
from processors.anew import Break, Course, stretches
from processors.decided import Decision
from processors.doubt import Region, Verdict, judge
from processors.judging import Readings, as_they_were, judged, places
from processors.lines import posts
from processors.regions import Regions
from processors.slips import pairs_of
from tests.processors.oracle_doubt import DAY, HOUR, MINUTE, Series

KWH = 1_000_000
Rows = list[tuple[int, int]]


def facts_of(series: Series) -> Facts:
    """The same facts as the operators have them."""
    steps = tuple(Multiplier(since, m.numerator, m.denominator) for since, m in series.multipliers)
    return Facts(series.limit, series.width or 0, series.step, steps)


def arrays(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Instants and values as columns."""
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def posts_of(time: np.ndarray, value: np.ndarray, facts: Facts) -> np.ndarray:
    """The instants of the posts of a whole series."""
    pair = pairs_of(time, value, Allowance(facts))
    return posts(time[:-1][pair != SMOOTH])


def regions_of(series: Series) -> list[Region]:
    """The operators' answer for a whole series."""
    time, value = arrays(series.readings)
    facts = facts_of(series)
    right = np.isin(time, list(series.kept))
    return judge(time, value, facts, np.isin(time, posts_of(time, value, facts)) | right, right=right)


def lost(regions: Iterable[Region], time: np.ndarray) -> set[int]:
    """The instants of what was left out."""
    return {at for region in regions for at in region.left_out(time).tolist()}


def said(regions: Iterable[Region], time: np.ndarray) -> tuple[list[tuple[object, ...]], set[int]]:
    """Links as the oracle writes them, and what was left out."""
    links = [link for region in regions for link in region.links]
    rows: list[tuple[object, ...]] = [
        (k.start, k.end, k.verdict.name.lower(), k.decided, k.wrapped, k.left, k.lowest, k.highest)
        for k in links
    ]
    return rows, lost(regions, time)


# -- random series ----------------------------------------------------------------------------------

GAPS_MS = (10_000, MINUTE, MINUTE, MINUTE, 5 * MINUTE, HOUR, 8 * HOUR, 24 * HOUR, 24 * HOUR + 1, 401 * DAY)
LIMIT = 120 * KWH
WIDTH = 1_000 * KWH


def series(size_max: int = 16) -> st.SearchStrategy[Series]:
    """A register that counts on, with events in it; of three one that is read once a day or less."""
    makers = (random_series, random_series, sparse)
    return st.randoms(use_true_random=False).map(lambda chance: chance.choice(makers)(chance, size_max))


def random_series(chance: Random, size_max: int) -> Series:
    """A register that counts on, with events in it: zeros, spikes, falls, standstills, other lines, wraps;
    and its last digit wavers, or creeps back.
    """
    pace = chance.choice([GAPS_MS[:3], GAPS_MS[1:5], GAPS_MS[3:7], GAPS_MS])
    time, value = chance.choice([0, DAY - 5 * MINUTE]), chance.choice([0, 3, 500, 998]) * KWH
    rows, shown = [(time, value)], value
    for _ in range(chance.randint(1, size_max)):
        gap = chance.choice(pace)
        time += gap
        value += min(gap, HOUR) * chance.choice([0, 20, 60, 140]) * KWH // HOUR
        event = chance.choice(_EVENTS)
        if event == "stands":
            time, value = _standing(chance, rows, value)
        value, shown = _event(event, value, shown, chance.randint(1, 40))
        rows.append((time, shown))
        if event == "stands" and chance.random() < 0.7:
            time, value = time + gap, value + 1
            rows.append((time, shown + 1))
    multipliers = chance.choice([[(0, Fraction(1))]] * 4 + [_DATED])
    limit = chance.choice([LIMIT] * 5 + [None, 10 * LIMIT])
    width, step = chance.choice([WIDTH, WIDTH, None]), chance.choice([1, KWH // 10])
    kept = {chance.choice(rows)[0]} if chance.random() < 0.25 else set()
    return Series(rows, limit, width, step, multipliers, kept)


def sparse(chance: Random, size_max: int, longest_ms: int = 150 * DAY) -> Series:
    """A register read once a day, a week or a month, with what may be wrong in that: zeros and other values,
    one or more of them, resets, turns, readings that are missing; and some hours of it minute by minute.
    """
    paces = (13 * HOUR, DAY, DAY, DAY, 7 * DAY, 30 * DAY, 150 * DAY)
    every_ms = chance.choice([one for one in paces if one <= longest_ms])
    width = chance.choice([None, 100_000, 1_000_000, 1_000_000, 10_000_000])
    most = LIMIT * every_ms // HOUR
    value, time, rows = (
        chance.choice([20, 5_000, 5_000, (width or 10**6) - 300]) * KWH,
        0,
        list[tuple[int, int]](),
    )
    pace, wrong = chance.choice([40 * KWH, most // 100, most // 3]), list[int]()
    while len(rows) < size_max:
        happens = chance.choice(_SPARSELY)
        if not wrong:
            other = {
                "zero": 0,
                "high": value + 3 * most,
                "higher": value + most // 2,
                "low": value // 2,
                "like": value - 1,
            }
            wrong = [other[happens]] * chance.choice([1, 1, 1, 2, 2, 3]) if happens in other else []
        if happens == "reset":
            value = chance.choice([0, 0, KWH, pace])
        elif happens == "jump":
            value += 2 * most
        shown = (wrong.pop() + chance.choice([0, 0, 0, KWH]) if wrong else value) % ((width or 10**12) * KWH)
        if happens != "missing":
            rows.append((time + chance.choice([0] * 6 + [-MINUTE, 3 * HOUR]), shown))
        step = chance.choice([every_ms] * 12 + [MINUTE, HOUR, 3 * every_ms])
        time, value = time + step, value + max(1, pace * step // every_ms * chance.choice([0, 1, 1, 2]) // 1)
    rows = sorted(dict(rows).items())
    multipliers = chance.choice([[(0, Fraction(1))]] * 6 + [[(0, Fraction(1)), (2 * DAY, Fraction(40))]])
    kept = {chance.choice(rows)[0]} if chance.random() < 0.2 else set()
    limit = None if chance.random() < 0.05 else LIMIT
    return Series(rows, limit, (width or 0) * KWH or None, chance.choice([1, KWH // 10]), multipliers, kept)


_SPARSELY = ["on"] * 9 + ["zero", "zero", "high", "higher", "low", "like", "reset", "jump", "missing"]


def in_units(chance: Random) -> Series:
    """A register that goes on in another unit, for good or for days, with what else may happen around."""
    rows, value, factor = [], chance.choice([60, 300, 900]) * KWH, Fraction(1)
    time, step = 0, chance.choice([1, KWH // 10])
    for number in range(chance.randint(4, 14)):
        time += chance.choice([MINUTE] * 6 + [HOUR, 30 * HOUR])
        value += chance.choice([0, 1, 1, 2, 2, 500]) * KWH // 2
        if number > 1 and chance.random() < 0.25:
            powers = (10, 100, 1000) if factor == 1 else ()
            factor = Fraction(chance.choice(powers or (1,))) ** chance.choice([1, -1])
        shown = int(value * factor) // step * step
        rows.append((time, chance.choice([shown] * 12 + [0, shown * 3, value])))
    multipliers = chance.choice([[(0, Fraction(1))]] * 3 + [[(0, Fraction(1)), (3 * MINUTE, Fraction(10))]])
    return Series(rows, LIMIT, None, step, multipliers)


def _standing(chance: Random, rows: Rows, value: int) -> tuple[int, int]:
    """A standstill of hours or days behind what was shown last, with what may disturb it; the time and the
    value of the reading behind it, which mostly catches up with more than one reading can rise.
    """
    time, shown = rows[-1]
    start, gap = time, chance.choice([5 * MINUTE, HOUR, 8 * HOUR, 20 * HOUR])
    for _ in range(chance.choice([0, 1, 2, 3, 4, 5, 6])):
        time += gap
        rows.append((time, 0 if chance.random() < 0.05 else shown))
    share = chance.choice([0, 1, 20, 60, 60, 100, 120, 140])
    return time + chance.choice([MINUTE, gap]), value + (time - start) * share * KWH // HOUR


def standing(chance: Random) -> Series:
    """A register that stands still for hours or days, again and again, and mostly catches up; mostly it goes
    on then, or it stands still again at once, or it falls back a day or more later. What it stands at may
    follow zeros, or a fall, and people may say that some of it is right.
    """
    rows, value, time = [(0, chance.choice([500, 500, 0]) * KWH)], 500 * KWH, 0
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.3:
            value = _beginning(chance, rows, value)
        else:
            time, value = rows[-1][0] + HOUR, value + chance.choice([0, 20, 500]) * KWH
            rows.append((time, value))
        shown = value
        for _ in range(chance.choice([1, 1, 2, 3])):
            shown, (time, value) = value, _standing(chance, rows, value)
            if chance.random() < 0.3:  # it catches up in two steps, mostly the first one a single reading
                rows += [(time + k, (shown + value) // 2) for k in range(chance.choice([1, 1, 1, 2]))]
                time += MINUTE
            rows.append((time, value))
        rows.append((time + HOUR, value + chance.choice([KWH, KWH, -KWH])))
        value = rows[-1][1]
        if chance.random() < 0.3:
            value = _falling_back(chance, rows, shown)
    kept = {at for at, _ in chance.sample(rows, 2)} if chance.random() < 0.3 else set()
    return Series(rows, LIMIT, None, 1, kept=kept)


def _falling_back(chance: Random, rows: Rows, shown: int) -> int:
    """What a register rose to stays for a day or more, and it falls back to what it showed before, or to
    nearly that, or elsewhere; the last of these, maybe for a single reading.
    """
    time, value = rows[-1]
    for _ in range(chance.choice([1, 2, 3])):
        time, value = time + chance.choice([20 * HOUR, 26 * HOUR]), value + chance.choice([0, KWH])
        rows.append((time, value))
    low = max(0, chance.choice([shown, shown + KWH, shown - KWH, (shown + value) // 2, value]))
    for _ in range(chance.choice([1, 3])):
        time, low = time + HOUR, low + chance.choice([0, KWH])
        rows.append((time, low))
    return chance.choice([value, low, low])


def _beginning(chance: Random, rows: Rows, value: int) -> int:
    """A register that counts a few values from a zero, or from what it falls or rises to, or from what it
    showed an hour ago; the last of these.
    """
    time, shown = rows[-1][0], chance.choice([0, 0, 50, 5_000, value // KWH]) * KWH
    for _ in range(chance.choice([1, 2, 3, 30])):
        time += chance.choice([MINUTE, HOUR])
        rows.append((time, shown))
    if chance.random() < 0.3:
        shown = value
    for _ in range(chance.randint(0, 6)):
        time, shown = time + HOUR, shown + KWH
        rows.append((time, shown))
    return rows[-1][1]


def swapped(chance: Random) -> tuple[Series, set[int]]:
    """A register, then another one that counts on, with events in it, then the first again; and when it is
    the other one.
    """
    begins, ends = chance.randint(2, 5), chance.randint(12, 20)
    value, other, rows = 100 * KWH, 40_000 * KWH, []
    for at in range(ends + chance.randint(2, 4)):
        value += chance.choice([0, KWH, KWH])
        other += chance.choice([KWH] * 12 + [30 * KWH, -500 * KWH])
        odd = chance.random() < 0.1
        rows.append((at * MINUTE, (0 if odd else other) if begins <= at < ends else value))
    return Series(rows, LIMIT, chance.choice([None, 1_000 * WIDTH])), {
        at * MINUTE for at in range(begins, ends)
    }


def always_broken(chance: Random, size: int) -> Series:
    """A register of which hardly a reading makes sense, for some time or for good: it counts far faster than
    it may, or backwards, or two or any values take turns.
    """
    every_ms, begins = chance.choice([10_000, MINUTE, 20 * MINUTE, HOUR]), chance.choice([0, 1, 4])
    kind, ends = chance.choice(["fast", "back", "torn", "any"]), chance.choice([size, size, size - 3])
    rows, value = [], chance.choice([0, 400, 9_000]) * KWH
    for k in range(size):
        value += every_ms * LIMIT // HOUR // 2
        wild = begins <= k < ends and chance.random() < 0.95
        value += {"fast": 5, "back": -2}.get(kind, 0) * every_ms * LIMIT // HOUR if wild else 0
        other = {"torn": value + chance.randint(0, 1) * 300 * KWH, "any": chance.randint(0, 999) * KWH}
        rows.append((k * every_ms, max(0, other.get(kind, value) if wild else value)))
    return Series(rows, LIMIT, chance.choice([WIDTH, None]), chance.choice([1, KWH // 10]))


_DATED = [(0, Fraction(1)), (3 * MINUTE, Fraction(3, 2)), (DAY, Fraction(40))]
_EVENTS = ["on"] * 5 + [
    "zero",
    "zero",
    "spike",
    "same",
    "same",
    "stands",
    "stands",
    "low",
    "fall",
    "reset",
    "jump",
    "wrap",
    "back",
    "back",
    "creep",
]


def _event(event: str, value: int, shown: int, size: int) -> tuple[int, int]:
    """The register's own value, and what it shows."""
    match event:
        case "zero":
            return value, 0
        case "spike":
            return value, value + size * KWH
        case "low":
            return value, value // 2
        case "same":
            return value, shown
        case "back":
            return value, max(0, value - KWH // 10)
        case "creep":
            value = max(0, value - size % 3 * KWH // 10)
        case "fall":
            value = max(0, value - size * KWH)
        case "jump":
            value += size * 10 * KWH
        case "reset":
            value = 0
        case "wrap":
            value = value % WIDTH if value >= WIDTH else WIDTH - KWH
    return value, value % WIDTH


def minutes(*rows: tuple[float, float], limit: float | None = 120, width: int | None = 1_000_000) -> Series:
    """Minutes and kWh; a register with two decimals."""
    exact = [(round(minute * MINUTE), round(value * KWH)) for minute, value in rows]
    return Series(
        sorted(exact), None if limit is None else round(limit * KWH), (width or 0) * KWH or None, KWH // 100
    )


@dataclass
class Keeper:
    """What an engine would keep of one series, judged anew as little as possible."""

    series: Series
    rows: Rows = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    judged: int = 0
    """How many readings were looked at, each time."""
    made: int = 0
    """How many regions were made that were not there as they are."""

    def change(self, added: Rows, gone: Sequence[int] = ()) -> None:
        """Takes readings in and others out."""
        before = self._course()
        self.rows = sorted([row for row in self.rows if row[0] not in set(gone)] + added)
        changed = np.unique([*(time for time, _ in added), *gone])
        regions = Regions(self.regions)
        anew = stretches(changed, regions, before, self._course())
        lost = [one for span in anew.spans for one in regions.within(*span)]
        found = self._judged(anew.spans, as_they_were(lost, anew.near))
        self.made += sum(all(one is not other for other in lost) for one in found)
        regions.replace(lost, found)
        self.regions = list(regions)

    def _course(self) -> Course:
        time, value = arrays(self.rows)
        pair = pairs_of(time, value, Allowance(facts_of(self.series)))
        breaks = [(time[k], time[k + 1]) for k in np.flatnonzero(pair != SMOOTH)]
        return Course(time, np.array(breaks, np.int64).reshape(-1, 2))

    def _judged(self, spans: list[Break], stays: dict[Break, Region]) -> list[Region]:
        time, value = arrays(self.rows)
        readings = Readings(time, value, np.zeros(len(time), np.uint8))
        pair = pairs_of(time, value, Allowance(facts_of(self.series)))
        self.judged += sum(last - max(0, first) for first, last in places(readings, pair, spans))
        right = [Decision(at, at, Verdict.PLAIN, "li") for at in self.series.kept]
        return judged(readings, pair, spans, Allowance(facts_of(self.series)), right, stays)
