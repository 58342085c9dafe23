"""The oracle of doubtful readings: the definition of docs/books.md, word by word, one reading at a time.

Slow and meant to be obviously right: every run between any two readings is tried, in plain Python and exact
fractions. It is written from the definition and shares no code with the operators.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from tests.processors.oracle_clock import clock_is_off
from tests.processors.oracle_standstill import stood_still

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
Said = tuple[int, int, str, bool, bool, int, int, int]
"""A link: start, end, finding, decided, wrapped, how many left out, the lowest and the highest of them."""


@dataclass
class Series:
    """Readings (instant, value) in their order. ``multipliers``: from when, how much; the first from ever."""

    readings: list[tuple[int, int]]
    limit: int | None = None
    width: int | None = None
    step: int = 1
    multipliers: list[tuple[int, Fraction]] = field(default_factory=lambda: [(0, Fraction(1))])
    kept: set[int] = field(default_factory=set)
    """Instants of readings that a person said are right."""

    def __post_init__(self) -> None:
        self._links: dict[tuple[int, int], str] = {}
        self._pairs: dict[int, str] = {}
        self.posts = _posts(self)

    def possible(self, i: int, j: int) -> Fraction:
        """The most that the register can have risen from reading i to reading j."""
        start, end = self.readings[i][0], self.readings[j][0]
        edges = [start, *(since for since, _ in self.multipliers[1:] if start < since < end), end]
        multiplied = sum(self.multiplier(low) * (high - low) for low, high in pairwise(edges))
        mean = Fraction(multiplied, end - start)
        return (
            Fraction(self.limit or 0) * Fraction(12, 10) * Fraction(end - start, HOUR) / mean + 2 * self.step
        )

    def multiplier(self, at: int) -> Fraction:
        """The multiplier in force."""
        found = self.multipliers[0][1]
        for since, one in self.multipliers[1:]:
            found = one if since <= at else found
        return found

    def link(self, i: int, j: int) -> str:
        """smooth, wrap, broken, gap; unsure where a turn of the register more would be possible, too."""
        if (i, j) not in self._links:
            self._links[i, j] = self._link(i, j)
        return self._links[i, j]

    def _link(self, i: int, j: int) -> str:
        (start, first), (end, last) = self.readings[i], self.readings[j]
        if end - start > 400 * DAY:
            return "gap"
        could_be = self.turns(i, j)
        if self.limit is not None and self.width:
            if len(could_be) > 1:
                return "unsure"
            return {(): "broken", (0,): "smooth", (1,): "wrap"}[tuple(could_be)]
        return "smooth" if last >= first and (self.limit is None or could_be) else "broken"

    def turns(self, i: int, j: int) -> range:
        """How often the register can have passed its end from reading i to reading j, if it rose no more than
        is possible; a fall by more than its width is none of that.
        """
        rise, width, possible = self.readings[j][1] - self.readings[i][1], self.width, self.possible(i, j)
        fewest = 0 if rise >= 0 else 1
        if not width:
            return range(int(fewest == 0 and rise <= possible))
        most = (possible - rise) // width
        return range(fewest, most + 1) if rise + fewest * width >= 0 else range(0)

    def pair(self, k: int) -> str:
        """The link from reading k to the next; smooth where it is a slip."""
        if k not in self._pairs:
            self._pairs[k] = "smooth" if self._is_slip(k) else self.link(k, k + 1)
        return self._pairs[k]

    def _resolution(self, k: int) -> Fraction:
        """How far readings may be apart for how exactly they are read."""
        return max(Fraction(2 * self.step), Fraction(self.readings[k][1], 2**23))

    def _is_small(self, k: int) -> bool:
        """Whether from reading k to the next is a small fall."""
        (_, first), (_, last) = self.readings[k], self.readings[k + 1]
        if self.limit is None or self.link(k, k + 1) != "broken" or last >= first:
            return False
        return first - last <= self._resolution(k) and first - last <= Fraction(last, 100)

    def _is_slip(self, k: int) -> bool:
        """Whether a small fall is all that the register falls before and behind it, with no break over it."""
        if not self._is_small(k):
            return False
        (start, first), (end, last) = self.readings[k], self.readings[k + 1]
        before, behind = [first], [last]
        i = k - 1
        while i >= 0 and self.readings[i][0] >= end - DAY // 2:
            if not self._leads_on(i):
                if self.readings[i][1] <= last:
                    return False
                break
            if self.readings[i][1] <= last:
                break
            before.append(self.readings[i][1])
            i -= 1
        j = k + 2
        while j < len(self.readings) and self.readings[j][0] <= start + DAY // 2:
            if not self._leads_on(j - 1):
                if self.readings[j][1] >= first:
                    return False
                break
            if self.readings[j][1] >= first:
                break
            behind.append(self.readings[j][1])
            j += 1
        return max(before) - min(behind) <= self._resolution(k)

    def _leads_on(self, k: int) -> bool:
        return self.link(k, k + 1) == "smooth" or self._is_small(k)

    def breaks(self, i: int, j: int) -> list[str]:
        """The links of consecutive readings from i to j that are not smooth."""
        links = [self.pair(k) for k in range(i, j)]
        return [link for link in links if link != "smooth"]

    def pieces(self, low: int, high: int) -> list[list[int]]:
        """Values of the readings low..high, cut at breaks."""
        out = [[self.readings[low][1]]]
        for k in range(low + 1, high + 1):
            if self.pair(k - 1) == "smooth":
                out[-1].append(self.readings[k][1])
            else:
                out.append([self.readings[k][1]])
        return out

    def may_be_left_out(self, i: int, j: int) -> bool:
        """Whether the readings between i and j may be: the three conditions, and what a standstill says."""
        if j - i < 2 or (self.readings[j][0] - self.readings[i][0] > DAY and j - i - 1 > 2):
            return False
        if any(self.readings[k][0] in self.kept | self.posts for k in range(i + 1, j)):
            return False
        link, breaks = self.link(i, j), self.breaks(i, j)
        if link not in ("smooth", "wrap") or "broken" not in breaks or len(breaks) > 100:
            return False
        caught_up = self.readings[j][1] >= self.readings[i + 1][1] and stood_still(self, i)
        if caught_up or (self.counts_on(i, j) and not self.told_apart(i, j)):
            return False
        cut_before, cut_behind = self.pair(i) != "smooth", self.pair(j - 1) != "smooth"
        if cut_before and cut_behind:
            return True
        pieces, before, behind = self.pieces(i + 1, j - 1), self.readings[i][1], self.readings[j][1]
        if link != "smooth" or not (cut_before or cut_behind):
            return False
        if cut_before:  # a dip
            return len(set(pieces[-1])) == 1 and pieces[-1][0] < before and behind != pieces[-1][0]
        return len(pieces[0]) == 1 and pieces[0][0] > behind  # a bump

    def counts_on(self, i: int, j: int) -> bool:
        """Whether a piece between i and j shows more than five values."""
        return any(_shown(piece) > 5 for piece in self.pieces(i + 1, j - 1))

    def stands(self, i: int, j: int) -> bool:
        """Whether a piece between i and j shows one value more than five times, which the register can have
        counted on to from i, and is above what it shows at j.
        """
        first, found = i + 1, False
        for piece in self.pieces(i + 1, j - 1):
            stood = len(piece) > 5 and len(set(piece)) == 1 and piece[0] > self.readings[j][1]
            found = found or (stood and self.link(i, first) == "smooth")
            first += len(piece)
        return found

    def told_apart(self, i: int, j: int) -> bool:
        """Smooth, and cut off on both sides by more than the register can have risen from i to j."""
        value = [value for _, value in self.readings]
        bounded = self.limit is not None  # else any rise is possible
        return (
            bounded
            and self.link(i, j) == "smooth"
            and all(
                self.pair(k) != "smooth" and abs(value[k + 1] - value[k]) > self.possible(i, j)
                for k in (i, j - 1)
            )
        )

    def cost(self, i: int, j: int) -> tuple[int, int, int, int]:
        """What leaving out the readings between i and j costs: events, readings, those not zero, wraps."""
        shown = [_shown(piece) for piece in self.pieces(i + 1, j - 1)]
        events = sum(2 if values == 1 else 3 if values <= 5 else 5 for values in shown)
        values = [value for _, value in self.readings[i + 1 : j]]
        return events, len(values), sum(value != 0 for value in values), int(self.link(i, j) == "wrap")


def _shown(piece: list[int]) -> int:
    """How many values a piece shows, one after the other: one that it slips back to is another."""
    return 1 + sum(before != after for before, after in pairwise(piece))


def _posts(series: Series) -> set[int]:
    """On a day with more than 20 breaks the reading before the first, and before every 200th behind it."""
    days: dict[int, list[int]] = {}
    for k in range(len(series.readings) - 1):
        if series.pair(k) != "smooth":
            days.setdefault(series.readings[k][0] // DAY, []).append(series.readings[k][0])
    return {time for times in days.values() if len(times) > 20 for time in times[::200]}


def line(series: Series) -> list[int]:
    """The readings that the line keeps: of all chains the cheapest."""
    n = len(series.readings)
    best: list[tuple[tuple[int, ...], list[int]]] = [((0, 0, 0, 0), [n - 1])] * n
    for i in range(n - 2, -1, -1):
        chains = []
        for j in range(i + 1, n):
            if j == i + 1:
                link = series.pair(i)
                cost: tuple[int, ...] = (3 * (link == "broken"), 0, 0, int(link == "wrap"))
            elif series.may_be_left_out(i, j):
                cost = series.cost(i, j)
            else:
                continue
            further, chain = best[j]
            chains.append((tuple(a + b for a, b in zip(cost, further, strict=True)), [i, *chain]))
        # of equally cheap chains that which keeps the earlier reading where they differ is the smaller list
        best[i] = min(chains)
    return _without_others(series, best[0][1])


def _without_others(series: Series, chain: list[int]) -> list[int]:
    """Without what is told apart by two broken pairs that stay and may be left out, the shortest first."""
    n = len(series.readings)
    pairs = [(i, j) for i in range(n) for j in range(i + 2, n)]
    for i, j in sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair)):
        ends = {i, i + 1, j - 1, j} <= {*chain} and series.pair(i) == series.pair(j - 1) == "broken"
        if ends and series.told_apart(i, j) and series.may_be_left_out(i, j):
            chain = [k for k in chain if not i < k < j]
    return chain


def found(series: Series) -> tuple[list[Said], set[int]]:
    """What is not plain, in order; and the instants of all readings that are left out."""
    if len(series.readings) < 2:
        return [], set()
    chain = line(series)
    regions = _regions(series)
    said = []
    for i, j in pairwise(chain):
        if j > i + 1:
            off = clock_is_off(series, chain, _region_of(regions, i, j), (i, j))
            said.append(_bridge(series, i, j, off))
        elif series.pair(i) != "smooth":
            said.append(stood_still(series, i) or _pair(series, i))
            if series.link(i, j) == "wrap" and _is_in_doubt(series, i, chain, regions):
                said[-1] = (*said[-1][:3], False, False, 0, 0, 0)
    lost = {time for one in said for time, _ in series.readings if one[5] and one[0] < time < one[1]}
    return said, lost


def _pair(series: Series, i: int) -> Said:
    (start, first), (end, last) = series.readings[i], series.readings[i + 1]
    match series.link(i, i + 1):
        case "wrap":
            return start, end, "rollover", True, True, 0, 0, 0
        case "gap":
            return start, end, "gap", False, False, 0, 0, 0
        case "unsure":
            return start, end, "plain" if last >= first else "rollover", False, False, 0, 0, 0
    if last > first:
        return start, end, "spike", False, False, 0, 0, 0
    counted = series.limit is not None and 0 <= last <= series.possible(i, i + 1)
    return start, end, "reset" if counted else "decrease", False, False, 0, 0, 0


def _is_in_doubt(series: Series, i: int, chain: list[int], regions: list[tuple[int, int]]) -> bool:
    """Whether the wrap from reading i to the next may be chance, and a broken pair beside it stays, both
    within a day: on the line, of the same region; of another, or of none, where nothing that begins (ends)
    where they meet can be left out for less than the broken pairs in it cost.
    """
    if int(series.possible(i, i + 1)) * 10 <= (series.width or 0):
        return False
    for before, broken in ((i - 1, i - 1), (i, i + 1)):
        if before < 0 or before + 2 >= len(series.readings) or series.pair(broken) != "broken":
            continue
        (start, _), (middle, _), (end, _) = series.readings[before : before + 3]
        if end - start > DAY or middle in series.kept | series.posts:
            continue
        together = [(a, b) for a, b in regions if a <= i < b and a <= broken < b]
        stays = {broken, broken + 1} <= {*chain} if together else not _goes(series, i, broken)
        if stays:
            return True
    return False


def _goes(series: Series, i: int, broken: int) -> bool:
    n = len(series.readings)
    runs = [(broken, j) for j in range(n)] if broken > i else [(j, i) for j in range(n)]
    return any(
        series.may_be_left_out(*run) and series.cost(*run)[0] < 3 * series.breaks(*run).count("broken")
        for run in runs
    )


def _bridge(series: Series, i: int, j: int, clock_is_off: bool) -> Said:
    values = [value for _, value in series.readings[i + 1 : j]]
    below = any(value < series.readings[i][1] for value in values)
    finding = "clock_jump" if clock_is_off else "glitch" if below else "spike"
    wrapped, times = series.link(i, j) == "wrap", (series.readings[i][0], series.readings[j][0])
    doubtful = series.counts_on(i, j) or series.stands(i, j)
    if wrapped:
        doubtful = int(series.possible(i, j)) * 10 > (series.width or 0)
    decided = series.limit is not None and (clock_is_off or not doubtful)
    return *times, finding, decided, decided and wrapped, len(values), min(values), max(values)


def _regions(series: Series) -> list[tuple[int, int]]:
    """Runs that may be left out, joined where they overlap."""
    n = len(series.readings)
    out: list[tuple[int, int]] = []
    for i, j in sorted((i, j) for i in range(n) for j in range(n) if series.may_be_left_out(i, j)):
        if out and i < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], j))
        else:
            out.append((i, j))
    return out


def _region_of(regions: list[tuple[int, int]], i: int, j: int) -> tuple[int, int]:
    return next(one for one in regions if one[0] <= i and j <= one[1])
