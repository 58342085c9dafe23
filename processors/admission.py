"""Which readings count: duplicates recognised, corrections applied, conflicts held.

A reading's identity is its series and time. The highest revision counts; the same revision with
another value is a conflict, both held until a higher revision comes. None of it depends on which
came first.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from metering.decisions import CONFLICT as CONFLICT_WORD
from metering.readings import NO_TIME
from processors.batch import Batch, SeriesIndex
from processors.books import Books, as_run
from processors.changes import Touches
from processors.choices import Choice, Choices, Variant
from processors.decided import Decision
from processors.decisions import Placed
from processors.doubt import Link, Verdict
from processors.flows import Flows
from processors.gauges import Gauges
from processors.kernels.memory import doubtful
from processors.memory import (
    CONFLICT,
    EDITED,
    ESTIMATED,
    ROUNDED,
    TIME_BITS,
    Memory,
    Places,
    doubled,
    key_of,
    time_of,
)
from processors.reads import ReadRows, Reads
from processors.runs import Run
from processors.scaling import distinct

Ints = NDArray[np.int64]

CAUSES = ("", "neighbour", "verdict", "late", "correction", "conflict", "decision")
"""Why a final row changed: a neighbouring read made it suspect, what was doubted was settled (or doubted), a
reading came late, was corrected, another value came for the same instant, or somebody decided."""
NEIGHBOUR, VERDICT, LATE, CORRECTION, CONFLICTED, DECIDED = 1, 2, 3, 4, 5, 6
_OWN = ROUNDED | ESTIMATED | EDITED
"""Flags that a reading brings with it."""


Contents = tuple[tuple[int, int], ...]
"""Values and starts of what came for one identity."""
Contest = tuple[Contents, Choice | None]
"""What is in conflict, and which of it somebody said counts."""


@dataclass
class Admitted:
    """What admitting one pass of readings changed."""

    flows: list[Flows] = field(default_factory=list)
    rows: list[ReadRows] = field(default_factory=list)
    vanished: list[tuple[int, int]] = field(default_factory=list)
    """(key, start) of interval reads whose span a correction moved."""
    touches: list[Touches] = field(default_factory=list)
    duplicates: list[Ints] = field(default_factory=list)
    """Points of readings that were there already or were superseded."""


class Admission:
    """Registers, interval reads and gauges behind one door.

    ``variants``: key -> the highest revision and all that came with it, where that is more than one, or where
    somebody said what counts.
    """

    def __init__(
        self, books: Books, reads: Reads, gauges: Gauges, index: SeriesIndex, choices: Choices
    ) -> None:
        self.books, self.reads, self.gauges = books, reads, gauges
        every = (
            (books.memory, index.register),
            (reads.memory, index.interval),
            (gauges.memory, index.gauge),
        )
        self._of_kind = [(memory, kind) for memory, kind in every if kind.any()]
        self.variants: dict[int, tuple[int, frozenset[Variant]]] = {}
        self.choices = choices
        self._contested: dict[int, Contest] = {}
        self._before = self._causes = np.empty(0, np.int64)

    def repeated(self, batch: Batch) -> NDArray[np.bool_]:
        """Exact repetitions, in a batch sorted by key and record: all copies but the first; and what a higher
        revision of an earlier record has made void: whether it had come before is not remembered.
        """
        same = np.zeros(len(batch), bool)
        for memory, side in self._sides(batch):
            mine = side[doubtful(batch.key if len(side) == len(batch) else batch.key[side], memory.newest)]
            key = batch.key[mine]
            again, (runs, places) = np.flatnonzero(doubled(key)), memory.find(key)
            if len(again):
                copies = batch.take(mine[again])
                same[mine[again]] = self._repeated(copies, key[again]) | _void(copies, key[again])
            found = np.flatnonzero(runs >= 0)
            if len(found):
                run = as_run(batch.take(mine[found]))
                there = (runs[found], places[found])
                void = memory.get("revision", there) > run["revision"]
                same[mine[found]] |= void | self._known(memory, there, run)
        return same

    def _repeated(self, batch: Batch, key: Ints) -> NDArray[np.bool_]:
        order = np.lexsort((batch.record, batch.flags, batch.start, batch.value, batch.revision, key))
        low, high = order[:-1], order[1:]
        equal = np.ones(len(low), bool)
        for column in (key, batch.revision, batch.value, batch.start, batch.flags):
            equal &= column[low] == column[high]
        same = np.zeros(len(batch), bool)
        same[high[equal]] = True
        return same

    def _sides(self, batch: Batch) -> list[tuple[Memory, Ints]]:
        """What is for the registers, what for the interval reads, and what for the gauges."""
        if len(self._of_kind) == 1:
            return [(self._of_kind[0][0], np.arange(len(batch)))] if len(batch) else []
        sides = [(memory, np.flatnonzero(kind[batch.point])) for memory, kind in self._of_kind]
        return [(memory, mine) for memory, mine in sides if len(mine)]

    def _known(self, memory: Memory, there: Places, run: Run) -> NDArray[np.bool_]:
        """Which readings are exactly those that lie there."""
        out: NDArray[np.bool_] = (
            (memory.get("revision", there) == run["revision"])
            & (memory.get("value", there) == run["value"])
            & (memory.get("start", there) == run["start"])
            & (memory.get("flags", there) & _OWN == run["flags"])
        )
        if self.variants:
            for i, key in enumerate(run["key"].tolist()):
                revision, variants = self.variants.get(key, (0, None))
                if variants is not None:
                    out[i] = revision == run["revision"][i] and _variant(run, i) in variants
        return out

    def admit(self, batch: Batch, before: Ints, causes: Ints, decisions: Sequence[Placed] = ()) -> Admitted:
        """Takes in the readings of one pass, sorted by key and record, no exact repetitions among them, and
        before them what people decided.

        ``before``: per point, up to where its spans are final already. ``causes``: per record, why
        final rows change by it; raised where it corrects, contradicts or decides.
        """
        self._before, self._causes = before, causes
        out = Admitted()
        for one in decisions:
            self._caused(one.record, DECIDED)
            self._decide(one, out)
        for memory, mine in self._sides(batch):
            part = batch if len(mine) == len(batch) else batch.take(mine)
            self._admit(memory, as_run(part), part.record, part.point, out)
        out.flows += self.books.between.flows()
        return out

    def _admit(self, memory: Memory, run: Run, record: Ints, point: Ints, out: Admitted) -> None:
        key = run["key"]
        rows = doubtful(key, memory.newest)
        rows = rows[doubled(key[rows]) | (memory.find(key[rows])[0] >= 0)]
        rows = np.union1d(rows, self.choices.rows(key))
        if len(rows) == 0:
            self._insert(memory, run, record, point, out)
            return
        hard = np.zeros(len(key), bool)
        hard[rows] = True
        easy = ~hard
        self._insert(memory, {n: c[easy] for n, c in run.items()}, record[easy], point[easy], out)
        for k in distinct(key[hard]).tolist():
            rows = np.arange(*np.searchsorted(key, [k, k + 1]))
            self._resolve(memory, k, {n: c[rows] for n, c in run.items()}, record[rows], point[rows], out)

    def _decide(self, one: Placed, out: Admitted) -> None:
        said, index = one.said, self.books.index
        if said.verdict == CONFLICT_WORD:
            self._choose(one, out)
            return
        if not index.register[index.point[one.series]]:
            self._rule(one, out)
            return
        word = Verdict[said.verdict.upper()]
        decision = Decision(said.from_ms, said.to_ms, word, said.by, said.revision)
        out.flows.append(self.books.decide(one.series, decision, one.record))
        self._judged()

    def _rule(self, one: Placed, out: Admitted) -> None:
        """Somebody says whether a reading counts, of a gauge or of what reads intervals."""
        if self.books.index.gauge[self.books.index.point[one.series]]:
            out.flows.append(self.gauges.decide(one))
            return
        flows, rows = self.reads.decide(one)
        out.flows += flows
        out.rows += rows

    def _choose(self, one: Placed, out: Admitted) -> None:
        """Somebody says which value counts: of a reading that is there, or will be."""
        key, point = self.choices.take(one), self.books.index.point[one.series]
        memory = next(memory for memory, kind in self._of_kind if kind[point])
        old = None if key is None else self._old(memory, key)
        if key is not None and old is not None:
            standing = self._standing(key, old)
            self._settle(memory, key, old, *standing, np.array([one.record]), np.array([point]), out)

    def _old(self, memory: Memory, key: int) -> dict[str, int] | None:
        """What is in memory at a key."""
        where = memory.find(np.array([key]))
        if where[0][0] < 0:
            return None
        return {n: int(memory.get(n, where)[0]) for n in ("revision", "value", "start", "flags")}

    def _insert(self, memory: Memory, run: Run, record: Ints, point: Ints, out: Admitted) -> None:
        if memory is self.reads.memory:
            final = (time_of(run["key"]) <= self._before[point]).astype(np.int64)
            flows, rows = self.reads.insert(run, record, final)
            out.flows += flows
            out.rows += rows
        elif memory is self.gauges.memory:
            out.flows.append(self.gauges.insert(run, record))
            out.touches.append(Touches(point, time_of(run["key"]), record))
        else:
            out.flows.append(self.books.insert(run, record))
            self._judged()
            out.touches.append(Touches(point, time_of(run["key"]), record))

    def _resolve(self, memory: Memory, key: int, run: Run, record: Ints, point: Ints, out: Admitted) -> None:
        """One identity that came more than once: what counts now, whatever the order it came in."""
        old = self._old(memory, key)
        standing = self._standing(key, old)
        revision, variants = standing[0], set(standing[1])
        contents = {v[:2] for v in variants}
        for i in range(len(record)):
            new, variant = int(run["revision"][i]), _variant(run, i)
            if new > revision:
                self._caused(record[i], CORRECTION if variants else 0)
                revision, variants, contents = new, {variant}, {variant[:2]}
            elif new < revision or variant[:2] in contents:
                out.duplicates.append(point[i : i + 1])
                variants.update([variant] if new == revision else [])
            else:
                self._caused(record[i], CONFLICTED)
                variants.add(variant)
                contents.add(variant[:2])
        settled = (revision, frozenset(variants))
        if settled != standing:
            self._settle(memory, key, old, *settled, record[-1:], point[-1:], out)

    def _judged(self) -> None:
        """Final rows that change by a verdict say so, where nothing else is the record's doing."""
        for record in self.books.turned:
            self._caused(record, VERDICT)
        self.books.turned.clear()

    def _caused(self, record: int, cause: int) -> None:
        self._causes[record] = max(int(self._causes[record]), cause)

    def _standing(self, key: int, old: dict[str, int] | None) -> tuple[int, frozenset[Variant]]:
        if key in self.variants:
            return self.variants[key]
        if old is None:
            return -1, frozenset()
        return old["revision"], frozenset({(old["value"], old["start"], old["flags"] & _OWN)})

    def _settle(
        self,
        memory: Memory,
        key: int,
        old: dict[str, int] | None,
        revision: int,
        variants: frozenset[Variant],
        record: Ints,
        point: Ints,
        out: Admitted,
    ) -> None:
        self.variants.pop(key, None)
        if len(variants) > 1 or key in self.choices.every:
            self.variants[key] = (revision, variants)
        said, now = self._contested.pop(key, _CALM), self._contest(key)
        if said != now:
            self._say(key, said, int(record[0]), there=False)
        if now != _CALM:
            self._contested[key] = now
        value, start, flags = self._counts(key, variants)
        fresh = {"revision": revision, "value": value, "start": start, "flags": flags}
        if old is None:
            self._insert(memory, _single(key, fresh), record, point, out)
        elif (said != now and memory is self.gauges.memory) or any(
            fresh[name] != old[name] & (CONFLICT | _OWN if name == "flags" else -1) for name in fresh
        ):
            self._replace(memory, key, old, fresh, int(record[0]), out)
        if said != now:
            self._say(key, now, int(record[0]), there=True)

    def _counts(self, key: int, variants: frozenset[Variant]) -> Variant:
        """What counts of all that came of one identity."""
        choice = self.choices.of(key)
        if choice is not None:
            return choice.among(variants)
        value, start, _ = min(variants)
        conflict = len({v[:2] for v in variants}) > 1
        return (
            value,
            start,
            CONFLICT if conflict else functools.reduce(operator.and_, (v[2] for v in variants)),
        )

    def _contest(self, key: int) -> Contest:
        """The values (and starts) that are in conflict at a key, in their order; and who decided."""
        choice = self.choices.of(key)
        contents = tuple(sorted({variant[:2] for variant in self.variants.get(key, (0, frozenset()))[1]}))
        there = len(contents) > 1 or (choice is not None and contents)
        return (contents, choice) if there else _CALM

    def _say(self, key: int, contest: Contest, record: int, *, there: bool) -> None:
        """Notes that there is a conflict at an instant, or that there is none of these any more."""
        if contest != _CALM:
            link = _link(key, contest)
            self.books.say((key >> TIME_BITS, link.start, link.end), link if there else None, record)

    def resume(self) -> None:
        """Goes on from variants and choices that are there."""
        every = {key: self._contest(key) for key in self.variants}
        self._contested = {key: contest for key, contest in every.items() if contest != _CALM}

    def links(self) -> list[tuple[Link, int]]:
        """The verdicts on conflicts, each with its series."""
        return [(_link(key, contest), key >> TIME_BITS) for key, contest in self._contested.items()]

    def contest_at(self, series: int, time_ms: int) -> Contest:
        """What is in conflict at an instant, in millionths before the multiplier."""
        return self._contested.get(int(key_of(np.array([series]), np.array([time_ms]))[0]), _CALM)

    def _replace(
        self, memory: Memory, key: int, old: dict[str, int], fresh: dict[str, int], record: int, out: Admitted
    ) -> None:
        if memory is self.books.memory:
            out.flows.append(self.books.replace(key, fresh, record))
            self._judged()
            return
        if memory is self.gauges.memory:
            out.flows.append(self.gauges.replace(key, fresh, record))
            return
        if fresh["start"] != old["start"]:
            out.vanished.append((key, old["start"]))
        flows, rows = self.reads.replace(key, fresh, record)
        out.flows += flows
        out.rows += rows


_CALM: Contest = ((), None)


def _void(batch: Batch, key: Ints) -> NDArray[np.bool_]:
    """Readings of a lower revision than one of the same identity in an earlier record has."""
    out = np.zeros(len(batch), bool)
    if (batch.revision == batch.revision[0]).all():
        return out
    highest: dict[int, int] = {}
    rows = zip(key.tolist(), batch.record.tolist(), batch.revision.tolist(), strict=True)
    at = 0
    for (identity, _), same in groupby(rows, lambda row: row[:2]):
        revisions = [row[2] for row in same]
        before = highest.get(identity, 0)
        out[at : at + len(revisions)] = [one < before for one in revisions]
        highest[identity], at = max(before, *revisions), at + len(revisions)
    return out


def _link(key: int, contest: Contest) -> Link:
    """The verdict on a conflict: of an instant, or of an interval read; of an instant where it is decided."""
    (contents, choice), end = contest, int(time_of(np.array([key]))[0])
    (first, start), (last, _) = contents[0], contents[-1]
    if choice is not None:
        return Link(end, end, first, last, Verdict.CONFLICT, decided=True, by=choice.by)
    start = end if start == NO_TIME else start
    return Link(start, end, first, last, Verdict.CONFLICT, decided=False)


def _variant(run: Run, i: int) -> Variant:
    return int(run["value"][i]), int(run["start"][i]), int(run["flags"][i])


def _single(key: int, fresh: dict[str, int]) -> Run:
    return {
        "key": np.array([key]),
        "value": np.array([fresh["value"]]),
        "start": np.array([fresh["start"]]),
        "revision": np.array([fresh["revision"]], np.int32),
        "flags": np.array([fresh["flags"]], np.uint8),
    }
