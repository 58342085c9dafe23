"""The readings in memory: sorted runs that are merged as they grow, searched all at once.

A reading's key is its series (a meter's time at a point) and its time; keys are unique. New
readings mostly lie behind everything known, so they go into a run of their own; runs of similar
size are merged, which costs each reading a few copies in its life and keeps searches short.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering.readings import TIME_FIRST_MS

Ints = NDArray[np.int64]

TIME_BITS = 43
_TIME_MASK = (1 << TIME_BITS) - 1
NONE = -1
"""Key of a neighbour that does not exist."""

ROUNDED, CONFLICT, ESTIMATED, OVERLAP, SUSPECT = 1, 2, 4, 8, 16
"""Flags of a reading. CONFLICT: two values for one identity, held until decided. OVERLAP: an
interval read that shares time with another one, held. SUSPECT: a zero between neighbours that
are not."""

FIELDS: dict[str, np.dtype] = {
    "key": np.dtype(np.int64),
    "value": np.dtype(np.int64),
    "start": np.dtype(np.int64),
    "revision": np.dtype(np.int32),
    "flags": np.dtype(np.uint8),
    "changes": np.dtype(np.int32),
    "cause": np.dtype(np.uint8),
    "reported": np.dtype(np.int64),
}


def key_of(series: Ints, time_ms: Ints) -> Ints:
    return (series.astype(np.int64) << TIME_BITS) | (time_ms - TIME_FIRST_MS + 1)


def series_of(key: Ints) -> Ints:
    return key >> TIME_BITS


def time_of(key: Ints) -> Ints:
    return (key & _TIME_MASK) + TIME_FIRST_MS - 1


Run = dict[str, NDArray[Any]]


@dataclass
class _Held:
    run: Run
    name: int
    changed: bool


class Memory:
    """Unique readings by key. Places of readings are (run, index) pairs, valid until the next add."""

    def __init__(self) -> None:
        self._runs: list[_Held] = []
        self._next_name = 0
        self._gone: list[int] = []

    def __len__(self) -> int:
        return sum(len(held.run["key"]) for held in self._runs)

    def add(self, run: Run) -> None:
        """Takes in readings sorted by key, none of them known yet."""
        if len(run["key"]) == 0:
            return
        self._append(run)
        while len(self._runs) > 1 and len(self._runs[-2].run["key"]) < 2 * len(self._runs[-1].run["key"]):
            last, before = self._runs.pop(), self._runs.pop()
            self._gone += [last.name, before.name]
            self._append(_merge(before.run, last.run))

    def _append(self, run: Run) -> None:
        self._runs.append(_Held(run, self._next_name, True))
        self._next_name += 1

    def find(self, keys: Ints) -> tuple[NDArray[np.int32], Ints]:
        """Where each key is: (run number, index), run -1 for unknown keys."""
        runs, places = np.full(len(keys), -1, np.int32), np.zeros(len(keys), np.int64)
        for number, held in enumerate(self._runs):
            known = held.run["key"]
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            hit = known[at] == keys
            runs[hit], places[hit] = number, at[hit]
        return runs, places

    def get(self, field: str, where: tuple[NDArray[np.int32], Ints]) -> NDArray[Any]:
        """A field of found readings; every run number must be valid."""
        runs, places = where
        out = np.zeros(len(runs), FIELDS[field])
        for number, held in enumerate(self._runs):
            mine = runs == number
            out[mine] = held.run[field][places[mine]]
        return out

    def put(self, field: str, where: tuple[NDArray[np.int32], Ints], values: NDArray[Any]) -> None:
        """Overwrites a field of found readings."""
        runs, places = where
        for number, held in enumerate(self._runs):
            mine = runs == number
            if mine.any():
                held.run[field][places[mine]] = values[mine]
                held.changed = True

    def before(self, keys: Ints, skip: int = CONFLICT) -> Ints:
        """The nearest smaller key of the same series without any of the ``skip`` flags, or NONE."""
        return self._neighbour(keys, skip, step=-1)

    def after(self, keys: Ints, skip: int = CONFLICT) -> Ints:
        """The nearest greater key of the same series without any of the ``skip`` flags, or NONE."""
        return self._neighbour(keys, skip, step=1)

    def edges(self, series: Ints) -> tuple[Ints, Ints]:
        """The first and the last key of each series that is not in conflict, NONE for an empty series."""
        return self.after(series << TIME_BITS), self.before((series << TIME_BITS) | _TIME_MASK)

    def _neighbour(self, keys: Ints, skip: int, step: int) -> Ints:
        best = np.full(len(keys), NONE, np.int64)
        series = series_of(keys)
        for held in self._runs:
            known, flags = held.run["key"], held.run["flags"]
            at = np.searchsorted(known, keys) - 1 if step < 0 else np.searchsorted(known, keys, "right")
            inside = (at >= 0) & (at < len(known))
            blocked = np.flatnonzero(inside & ((flags[np.where(inside, at, 0)] & skip) > 0))
            for i in blocked.tolist():
                at[i] = _walk(known, flags, int(at[i]), skip, step)
            inside = (at >= 0) & (at < len(known))
            found = np.where(inside, known[np.where(inside, at, 0)], NONE)
            ok = inside & (series_of(found) == series)
            better = ok & ((best == NONE) | ((found > best) if step < 0 else (found < best)))
            best[better] = found[better]
        return best

    def between(self, series: int, after_ms: int, until_ms: int) -> Run:
        """Readings of a series with after < time <= until, sorted by time (copies)."""
        low = int(key_of(np.array([series]), np.array([max(after_ms, TIME_FIRST_MS - 1)]))[0])
        high = int(key_of(np.array([series]), np.array([min(until_ms, TIME_FIRST_MS + _TIME_MASK)]))[0])
        parts = []
        for held in self._runs:
            known = held.run["key"]
            cut = slice(*np.searchsorted(known, [low, high], "right").tolist())
            if cut.start < cut.stop:
                parts.append({name: column[cut] for name, column in held.run.items()})
        return _merge(*parts) if parts else {name: np.empty(0, kind) for name, kind in FIELDS.items()}

    def total(self, series: int) -> int:
        """Sum of the values of a series that are not in conflict."""
        low, high = series << TIME_BITS, (series << TIME_BITS) | _TIME_MASK
        out = 0
        for held in self._runs:
            cut = slice(*np.searchsorted(held.run["key"], [low, high + 1]).tolist())
            out += int(held.run["value"][cut][held.run["flags"][cut] & CONFLICT == 0].sum())
        return out

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        """Changed runs as chunks, and the names of runs that are no more."""
        chunks = {}
        for held in self._runs:
            if held.changed:
                out = io.BytesIO()
                np.savez(out, **held.run)  # type: ignore[arg-type]
                chunks[str(held.name)] = out.getvalue()
                held.changed = False
        gone, self._gone = [str(name) for name in self._gone], []
        return chunks, gone

    def load(self, chunks: Iterable[tuple[str, bytes]]) -> None:
        """Takes up dumped runs again."""
        for name, chunk in sorted((int(name), chunk) for name, chunk in chunks):
            with np.load(io.BytesIO(chunk), allow_pickle=False) as run:
                self._runs.append(_Held({field: run[field] for field in FIELDS}, name, False))
            self._next_name = max(self._next_name, name + 1)


def _walk(known: Ints, flags: NDArray[np.uint8], at: int, skip: int, step: int) -> int:
    while 0 <= at < len(known) and flags[at] & skip:
        at += step
    return at


def _merge(*runs: Run) -> Run:
    if len(runs) == 1:
        return {name: column.copy() for name, column in runs[0].items()}
    keys = np.concatenate([run["key"] for run in runs])
    order = np.argsort(keys, kind="stable")
    return {name: np.concatenate([run[name] for run in runs])[order] for name in FIELDS}
