"""What has to be written, and in which order, when new rows of a table come. No I/O here.

Rows of one key are ordered by their version: position, then revision, then reported before open; see
store_merge.py, which does the same for the embedded store. After any batch

- the table has the row with the highest version, also where that says that the key has none any more;
- its history has every reported row that is not that one and differs from the next reported row in
  revision, and every row that says that there is none.

InfluxDB overwrites field by field and knows nothing of versions. So what stands there has to be known
first. It is, without asking, of a key that is newer than all its series has, and of open rows that were
written by this process; for all others it is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bus.frames import schema
from metering.tables import POSITION
from sinks.influx_layout import TIME_MIN_NS, Measurement
from sinks.influx_points import Points, Tags, series
from sinks.influx_stored import Found, Key
from sinks.store_layout import OPEN

REMEMBERED_MAX = 50_000
"""Open rows whose state is kept in memory, some 300 bytes each; others are looked up."""
Version = tuple[int, int, bool]
Ints = NDArray[np.int64]
Find = Callable[[Measurement, Sequence[tuple[Tags, int]]], Found]


@dataclass(slots=True)
class Standing:
    """What stands in the table: its version, and its place among the looked up where it is a row that a
    newer one supersedes.
    """

    version: Version
    row: int | None = None


@dataclass
class Memory:
    """Of one table. ``last``: the newest time of each series; ``unsettled``: versions of rows that may
    still be overwritten without history.
    """

    last: dict[str, int]
    unsettled: dict[Key, Version] = field(default_factory=dict)

    def remember(self, key: Key, version: Version | None) -> None:
        """Takes note of what stands there now; None: it is reported."""
        self.unsettled.pop(key, None)
        if version is not None:
            self.unsettled[key] = version
            if len(self.unsettled) > REMEMBERED_MAX:
                del self.unsettled[next(iter(self.unsettled))]


@dataclass(frozen=True)
class Versions:
    """Of each row: its position (without a sign), revision, whether it is reported, whether it says gone."""

    position: Ints
    revision: Ints
    reported: NDArray[np.bool_]
    gone: NDArray[np.bool_]

    def of(self, i: int) -> Version:
        return int(self.position[i]), int(self.revision[i]), bool(self.reported[i])


@dataclass
class Change:
    """What to write: first ``superseded`` into the history, then the rows ``newest``.

    ``newest`` are indices of the rows given; ``learnt`` is for the memory, when all that is done.
    """

    superseded: pa.Table
    newest: Ints
    learnt: list[tuple[Key, Version | None]]
    last: dict[str, int]


def versions(layout: Measurement, rows: pa.Table) -> Versions:
    """The versions of rows; a table without states has reported rows only."""
    position = rows[POSITION].to_numpy()
    revision = np.zeros(len(rows), np.int64)
    if layout.revised:
        revision = pc.fill_null(rows["revision"], 0).to_numpy()
    reported = np.ones(len(rows), bool)
    if layout.fills:
        reported = pc.not_equal(pc.fill_null(rows["state"], ""), OPEN).to_numpy()
    return Versions(np.maximum(position, -position - 1), revision, reported, position < 0)


def change(layout: Measurement, rows: pa.Table, its: Points, memory: Memory, find: Find) -> Change:
    """The change that these rows make. All must be storable."""
    return _Merge(layout, rows, its, memory).change(find)


class _Merge:
    """The work on one batch of rows."""

    def __init__(self, layout: Measurement, rows: pa.Table, its: Points, memory: Memory) -> None:
        self.layout, self.rows, self.points, self.memory = layout, rows, its, memory
        self.versions = versions(layout, rows)
        self.names = [series(tags) for tags in its.tags]
        self.newest: list[int] = []
        self.learnt: list[tuple[Key, Version | None]] = []
        self.staged: list[int] = []
        self.stored: list[int] = []

    def change(self, find: Find) -> Change:
        order, starts, sizes = self._chains()
        lasts = order[starts + sizes - 1]
        fresh = self._is_fresh(lasts)
        plain = fresh & (sizes == 1) & ~self.versions.gone[lasts]
        refilled = self._refilled(lasts, ~fresh & (sizes == 1) & ~self.versions.gone[lasts])
        others = np.flatnonzero(~plain & ~refilled).tolist()
        keys = {int(lasts[g]): self._key(int(lasts[g])) for g in others}
        found = self._found(find, [int(lasts[g]) for g in others if not fresh[g]], keys)
        for g in others:
            chain = order[starts[g] : starts[g] + sizes[g]].tolist()
            self._settle(chain, keys[chain[-1]], None if fresh[g] else self._standing(keys[chain[-1]], found))
        simple = lasts[plain]
        self._learn_plain(simple)
        newest = np.sort(np.concatenate([simple, np.array(self.newest, np.int64)]))
        return Change(self._superseded(found), newest, self.learnt, self._last(newest))

    def _chains(self) -> tuple[Ints, Ints, Ints]:
        """Rows ordered by key and version, where each key's begin, and how many they are.

        Open rows that a newer one of the batch replaces are left out: they leave no trace.
        """
        its, by = self.points, self.versions
        count = np.arange(len(self.rows))
        order = np.lexsort((count, by.reported, by.revision, by.position, its.times, its.series))
        series, times = its.series[order], its.times[order]
        last = np.ones(len(order), bool)
        last[:-1] = (series[1:] != series[:-1]) | (times[1:] != times[:-1])
        kept = last | by.reported[order] if self.layout.revised else last
        ends = np.flatnonzero(last[kept]) + 1
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        return order[kept], starts, ends - starts

    def _is_fresh(self, lasts: Ints) -> NDArray[np.bool_]:
        """Newer than all that its series has."""
        known_ns = np.array([self.memory.last.get(name, TIME_MIN_NS) for name in self.names], np.int64)
        fresh: NDArray[np.bool_] = self.points.times[lasts] > known_ns[self.points.series[lasts]]
        return fresh

    def _refilled(self, lasts: Ints, alone: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Settles rows that take the place of one that this process wrote as open: most of every batch.

        As ``_settle`` does: what is remembered was never reported, so that it leaves no history.
        """
        done = np.zeros(len(lasts), bool)
        its, by, unsettled = self.points, self.versions, self.memory.unsettled
        where = np.flatnonzero(alone)
        rows = lasts[where]
        columns = (its.series, its.times, by.position, by.revision, by.reported)
        for g, i, of, time, *version in zip(
            where.tolist(), rows.tolist(), *(column[rows].tolist() for column in columns), strict=True
        ):
            key = self.names[of], time
            now = tuple(version)
            if key not in unsettled or unsettled[key] > now:
                continue
            done[g] = True
            self.newest.append(i)
            self.learnt.append((key, None if self.layout.revised and now[2] else now))
        return done

    def _key(self, i: int) -> Key:
        return self.names[self.points.series[i]], int(self.points.times[i])

    def _found(self, find: Find, touched: Sequence[int], keys: dict[int, Key]) -> Found:
        asked = [i for i in touched if keys[i] not in self.memory.unsettled]
        if not asked:
            return Found(schema(self.layout.table).empty_table(), {})
        tags = self.points.tags
        found = find(self.layout, [(tags[self.points.series[i]], int(self.points.times[i])) for i in asked])
        self._found_versions = versions(self.layout, found.rows)
        return found

    def _standing(self, key: Key, found: Found) -> Standing | None:
        remembered = self.memory.unsettled.get(key)
        if remembered is not None:
            return Standing(remembered)
        row = found.where.get(key)
        if row is None:
            return None
        told = self._found_versions.reported[row] and not self._found_versions.gone[row]
        return Standing(self._found_versions.of(row), row if told else None)

    def _settle(self, chain: list[int], key: Key, standing: Standing | None) -> None:
        """Works out one key from its rows of the batch, in the order of versions, and what stands."""
        newest = chain[-1]
        stands = standing is not None and standing.version > self.versions.of(newest)
        if self.layout.revised:
            self._history(chain, standing, newest_stands=stands)
        if not stands:
            self.newest.append(newest)
            self.learnt.append((key, self._unsettled(newest)))

    def _history(self, chain: list[int], standing: Standing | None, *, newest_stands: bool) -> None:
        """Which reported rows of a key are superseded. A row is (version, gone, index, is it stored)."""
        by = self.versions
        told = [(by.of(i), bool(by.gone[i]), i, False) for i in chain if by.reported[i]]
        if standing is not None and standing.row is not None:
            told = [row for row in told if row[0] != standing.version or row[2] == chain[-1]]
            if standing.version not in {row[0] for row in told}:
                told.append((standing.version, False, standing.row, True))
                told.sort(key=lambda row: row[0])
        top = standing.version if newest_stands and standing is not None else by.of(chain[-1])
        for row, after in zip_longest(told, told[1:]):
            version, gone, index, stored = row
            if version == top and not gone:
                continue
            if after is not None and (after[0][1], after[1]) == (version[1], gone):
                continue
            (self.stored if stored else self.staged).append(index)

    def _unsettled(self, i: int) -> Version | None:
        return None if self.layout.revised and self.versions.reported[i] else self.versions.of(i)

    def _learn_plain(self, simple: Ints) -> None:
        unsettled = simple if not self.layout.revised else simple[~self.versions.reported[simple]]
        self.learnt += [(self._key(i), self._unsettled(i)) for i in unsettled.tolist()]

    def _last(self, newest: Ints) -> dict[str, int]:
        """The newest time of each series that was written."""
        last = np.full(len(self.names), TIME_MIN_NS, np.int64)
        np.maximum.at(last, self.points.series[newest], self.points.times[newest])
        return {name: t for name, t in zip(self.names, last.tolist(), strict=True) if t > TIME_MIN_NS}

    def _superseded(self, found: Found) -> pa.Table:
        parts: Iterable[Any] = (
            self.rows.take(pa.array(self.staged, pa.int64())),
            found.rows.take(pa.array(self.stored, pa.int64())),
        )
        return pa.concat_tables([part for part in parts if len(part)] or [self.rows.slice(0, 0)])
