"""Which readings count: duplicates recognised, corrections applied, conflicts held.

A reading's identity is its series and time. The highest revision counts; the same revision with
another value is a conflict, both held until a higher revision comes. None of it depends on which
came first.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from processors.batch import Batch
from processors.books import Books, as_run
from processors.flows import Flows
from processors.memory import CONFLICT, ESTIMATED, ROUNDED, Memory, Run, time_of
from processors.reads import ReadRows, Reads
from processors.spans import Touches

Ints = NDArray[np.int64]

CAUSES = ("", "neighbour", "late", "correction", "conflict")
"""Why a final row changed: a neighbouring read made it suspect, a reading came late, was corrected, or
another value came for the same instant."""
NEIGHBOUR, LATE, CORRECTION, CONFLICTED = 1, 2, 3, 4
_OWN = ROUNDED | ESTIMATED
"""Flags that a reading brings with it."""


Variant = tuple[int, int, int]
"""Value, start and own flags of a reading: all that two readings of one identity can differ in."""


@dataclass
class Admitted:
    """What admitting one pass of readings changed."""

    flows: list[Flows] = field(default_factory=list)
    rows: list[ReadRows] = field(default_factory=list)
    vanished: list[tuple[int, int]] = field(default_factory=list)
    """(key, start) of interval reads whose span a correction moved."""
    touches: list[Touches] = field(default_factory=list)
    cause: int = NEIGHBOUR
    duplicates: list[Ints] = field(default_factory=list)
    """Points of readings that were there already or were superseded."""


class Admission:
    """Registers and interval reads behind one door.

    ``variants``: key -> the highest revision and all that came with it, where that is more than one.
    """

    def __init__(self, books: Books, reads: Reads, is_read: NDArray[np.bool_]) -> None:
        self.books, self.reads = books, reads
        self._is_read = is_read
        self.variants: dict[int, tuple[int, frozenset[Variant]]] = {}
        self._before = np.empty(0, np.int64)

    def without_duplicates(self, batch: Batch) -> tuple[Batch, Ints]:
        """The batch less exact repetitions, and the points of those that were left out."""
        run = as_run(batch)
        order = np.lexsort((batch.record, batch.flags, batch.start, batch.value, batch.revision, run["key"]))
        same = np.zeros(len(batch), bool)
        if len(batch):
            low, high = order[:-1], order[1:]
            equal = np.ones(len(low), bool)
            for column in (run["key"], batch.revision, batch.value, batch.start, batch.flags):
                equal &= column[low] == column[high]
            same[high[equal]] = True
        for memory, mine in self._sides(batch):
            same[mine] |= self._known(memory, {n: c[mine] for n, c in run.items()})
        return batch.take(~same), batch.point[same]

    def _sides(self, batch: Batch) -> list[tuple[Memory, Ints]]:
        reads = self._is_read[batch.point]
        return [(self.books.memory, np.flatnonzero(~reads)), (self.reads.memory, np.flatnonzero(reads))]

    def _known(self, memory: Memory, run: Run) -> NDArray[np.bool_]:
        out = np.zeros(len(run["key"]), bool)
        where = memory.find(run["key"])
        found = np.flatnonzero(where[0] >= 0)
        if len(found):
            there = (where[0][found], where[1][found])
            out[found] = (
                (memory.get("revision", there) == run["revision"][found])
                & (memory.get("value", there) == run["value"][found])
                & (memory.get("start", there) == run["start"][found])
                & (memory.get("flags", there) & _OWN == run["flags"][found])
            )
            if self.variants:
                for i in found.tolist():
                    revision, variants = self.variants.get(int(run["key"][i]), (0, None))
                    if variants is not None:
                        out[i] = revision == run["revision"][i] and _variant(run, i) in variants
        return out

    def admit(self, batch: Batch, before: Ints, late: bool) -> Admitted:
        """Takes in the readings of one pass (no exact repetitions among them).

        ``before``: per point, up to where its spans are final already. ``late``: a pass of one
        record that may reach behind it.
        """
        self._before = before
        out = Admitted(cause=LATE if late else NEIGHBOUR)
        for memory, mine in self._sides(batch):
            if len(mine):
                part = batch.take(mine)
                run = as_run(part)
                order = np.lexsort((part.record, run["key"]))
                run, record = {n: c[order] for n, c in run.items()}, part.record[order]
                self._admit(memory, run, record, part.point[order], out)
        return out

    def _admit(self, memory: Memory, run: Run, record: Ints, point: Ints, out: Admitted) -> None:
        key = run["key"]
        repeated = np.zeros(len(key), bool)
        repeated[1:] = key[1:] == key[:-1]
        repeated[:-1] |= key[1:] == key[:-1]
        hard = repeated | (memory.find(key)[0] >= 0)
        easy = ~hard
        self._insert(memory, {n: c[easy] for n, c in run.items()}, record[easy], point[easy], out)
        for k in np.unique(key[hard]).tolist():
            rows = np.flatnonzero(key == k)
            self._resolve(memory, k, {n: c[rows] for n, c in run.items()}, record[rows], point[rows], out)

    def _insert(self, memory: Memory, run: Run, record: Ints, point: Ints, out: Admitted) -> None:
        if memory is self.reads.memory:
            final = (time_of(run["key"]) <= self._before[point]).astype(np.int64)
            flows, rows = self.reads.insert(run, record, final)
            out.flows += flows
            out.rows += rows
        else:
            out.flows.append(self.books.insert(run, record))
            out.touches.append(Touches(point, time_of(run["key"]), record))

    def _resolve(self, memory: Memory, key: int, run: Run, record: Ints, point: Ints, out: Admitted) -> None:
        """One identity that came more than once: what counts now, whatever the order it came in."""
        where = memory.find(np.array([key]))
        known = where[0][0] >= 0
        old = (
            {n: int(memory.get(n, where)[0]) for n in ("revision", "value", "start", "flags")}
            if known
            else None
        )
        standing = self._standing(key, old)
        revision, variants = standing[0], set(standing[1])
        contents = {v[:2] for v in variants}
        for i in range(len(record)):
            new, variant = int(run["revision"][i]), _variant(run, i)
            if new > revision:
                out.cause = max(out.cause, CORRECTION) if variants else out.cause
                revision, variants, contents = new, {variant}, {variant[:2]}
            elif new < revision or variant[:2] in contents:
                out.duplicates.append(point[i : i + 1])
                variants.update([variant] if new == revision else [])
            else:
                out.cause = CONFLICTED
                variants.add(variant)
                contents.add(variant[:2])
        settled = (revision, frozenset(variants))
        if settled != standing:
            self._settle(memory, key, old, *settled, record[-1:], point[-1:], out)

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
        if len(variants) > 1:
            self.variants[key] = (revision, variants)
        value, start, _ = min(variants)
        conflict = len({v[:2] for v in variants}) > 1
        flags = CONFLICT if conflict else functools.reduce(operator.and_, (v[2] for v in variants))
        fresh = {"revision": revision, "value": value, "start": start, "flags": flags}
        if old is None:
            self._insert(memory, _single(key, fresh), record, point, out)
        elif any(fresh[name] != old[name] & (CONFLICT | _OWN if name == "flags" else -1) for name in fresh):
            self._replace(memory, key, old, fresh, int(record[0]), out)

    def _replace(
        self, memory: Memory, key: int, old: dict[str, int], fresh: dict[str, int], record: int, out: Admitted
    ) -> None:
        if memory is self.reads.memory:
            out.flows.append(self.reads.toggle(key, record, sign=-1))
        elif not old["flags"] & CONFLICT:
            out.flows.append(self.books.remove(key, record))
        where = memory.find(np.array([key]))
        for name, content in fresh.items():
            memory.put(name, where, np.array([content]))
        if memory is self.reads.memory:
            out.flows.append(self.reads.toggle(key, record, sign=1))
            self.reads.lengthen(key, fresh["start"])
            if fresh["start"] != old["start"]:
                out.vanished.append((key, old["start"]))
            one, number = np.array([key]), np.array([record])
            flows, rows = self.reads.review(one, number)
            out.flows += flows
            out.rows += [ReadRows(one, np.ones(1, np.int64), number), *rows]
        elif not fresh["flags"] & CONFLICT:
            out.flows.append(self.books.restore(key, record))


def _variant(run: Run, i: int) -> Variant:
    return int(run["value"][i]), int(run["start"][i]), int(run["flags"][i])


def _single(key: int, fresh: dict[str, int]) -> Run:
    return {
        "key": np.array([key]),
        "value": np.array([fresh["value"]]),
        "start": np.array([fresh["start"]]),
        "revision": np.array([fresh["revision"]], np.int32),
        "flags": np.array([fresh["flags"]], np.uint8),
        "changes": np.zeros(1, np.int32),
        "cause": np.zeros(1, np.uint8),
        "reported": np.zeros(1, np.int64),
    }
