"""Groups: the portions of all partitions added up, and what is divided of them.

The second stage. Its state is what each partition last said of each cell, so that adding up is the same
in any order and however often something is said: a partition that lost its state says everything once
more, and what is older than what is there changes nothing. Windows of groups are calendar spans, and have
no alerts.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.roster import FOR_EVER_MS, Roster
from metering.roster_share import GROUP
from processors.accounts import Accounts
from processors.cells import Cells, Grouping
from processors.dumped import Under
from processors.group_rows import GroupRows
from processors.portions import CELL, FRONTIER, READ, SUMS, Portions
from processors.progress import NEVER
from processors.rollup_rows import Sums
from processors.room import IN_MEMORY, Room
from processors.spans import CLASSES, GRID, Spans

Ints = NDArray[np.int64]

FORMAT = 3
_CALENDAR = np.array([cls for cls in range(CLASSES) if cls != GRID], np.int64)
_FIELDS = {**dict.fromkeys(SUMS, np.int64), "cause": np.uint8, "reported": np.int64}


@dataclass(frozen=True, slots=True)
class PortionRecord:
    """A record of the portions topic, decoded."""

    offset: int
    stamp_ms: int
    partition: int
    portions: Portions


Stretch = tuple[int, int, int, int, int]
"""Partition, account, the partition's point, start and end of an interval read."""


class Groups:
    """The state of the second stage; ``step(records)`` gives table rows."""

    def __init__(self, roster: Roster, partition_of_plant: Sequence[int], room: Room = IN_MEMORY) -> None:
        self.roster = roster
        self.accounts = Accounts(roster)
        self.spans = Spans(self.accounts)
        self.partitions = max(partition_of_plant, default=0) + 1
        self._count = len(self.accounts)
        self.cells = Cells(_FIELDS, room=room)
        """Series: (partition * accounts + account) * CLASSES + class."""
        self.frontier = np.full((self.partitions, self._count), FOR_EVER_MS, np.int64)
        self._index = {a.name: a.index for a in self.accounts.of_several()}
        for account in self.accounts.of_several():
            if account.scope.startswith(GROUP):
                plants = {roster.points[p].plant for p in account.members}
                self.frontier[[partition_of_plant[plant] for plant in plants], account.index] = NEVER
        self.reads: dict[Stretch, tuple[bool, int]] = {}
        """Whether it is there, and the log time at which that was said."""
        self.rows = GroupRows(roster, self.accounts, self.spans, self.known)

    def step(self, records: Sequence[PortionRecord]) -> list[tuple[str, pa.Table]]:
        """Takes records in their order, pass by pass; (table, rows) of what is to be said anew."""
        out: list[tuple[str, pa.Table]] = []
        for record in records:
            portions = record.portions
            account = np.array([self._index.get(name, -1) for name in portions.names], np.int64)
            for number in np.unique(portions.step).tolist():
                part = portions.take(portions.step == number)
                part.account = account[part.account]
                out += self._pass(record, part.take(part.account >= 0))
        return [(name, rows) for name, rows in out if len(rows)]

    # -- what comes in ----------------------------------------------------------------------------

    def _pass(self, record: PortionRecord, part: Portions) -> list[tuple[str, pa.Table]]:
        if len(part) == 0 or record.partition >= self.partitions:
            return []
        before = self.frontier.min(axis=0)
        cells = self._take_cells(record.partition, part.take(part.kind == CELL))
        stretches = self._take_reads(record.partition, part.take(part.kind == READ))
        moved = part.take(part.kind == FRONTIER)
        np.maximum.at(self.frontier[record.partition], moved.account, moved.span)
        after = self.frontier.min(axis=0)
        touched = self._touched(cells, before, after)
        rolled = self.rows.rollup(*touched, self._sums(*touched), after[touched[0]], record.offset)
        windows = self.rows.windows(touched, stretches, before, after)
        intensities = [
            self.rows.intensity(
                one,
                [self._of(account, one.cls, one.span) for account in one.accounts],
                self._coarse(one.denominator, one.start, one.end),
                after,
                record.offset,
            )
            for one in windows
        ]
        return [("rollup", rolled), *(("intensity", rows) for rows in intensities)]

    def _series(self, partition: int, account: Ints, cls: Ints) -> Ints:
        return (partition * self._count + account) * CLASSES + cls

    def _take_cells(self, partition: int, part: Portions) -> Portions:
        """The cells that are none of before what is there."""
        series = self._series(partition, part.account, part.cls)
        fresh = self._fresh(series, part)
        part, series = part.take(fresh), series[fresh]
        index = self.cells.at(series, part.span)
        for name in _FIELDS:
            self.cells[name][index] = getattr(part, name)
        return part

    def _fresh(self, series: Ints, part: Portions) -> NDArray[np.bool_]:
        """A partition's log time ascends from change to change, and so does a cell's revision.

        Of changes at one and the same log time the last that is said counts: some have no revision.
        """
        index = self.cells.find(series, part.span)
        reported, revision = self.cells["reported"][index], self.cells["revision"][index]
        tied = (part.reported == reported) & (part.revision < revision)
        return np.asarray((index < 0) | ~((part.reported < reported) | tied))

    def _take_reads(self, partition: int, part: Portions) -> list[tuple[int, int, int]]:
        """Accounts and stretches whose long reads changed."""
        out = []
        names = ("account", "measured", "span", "amount", "known", "reported")
        rows = zip(*(getattr(part, name).tolist() for name in names), strict=True)
        for account, point, start, end, sign, reported in rows:
            key = (partition, account, point, start, end)
            there, said_ms = self.reads.get(key, (False, NEVER))
            if reported < said_ms or sign == 0:
                continue
            self.reads[key] = (sign > 0, reported)
            if there != (sign > 0):
                out.append((account, start, end))
        return out

    # -- what is to be said -----------------------------------------------------------------------

    def _touched(self, cells: Portions, before: Ints, after: Ints) -> tuple[Ints, Ints, Ints]:
        """Account, class and span of rows whose content changed or that became final."""
        parts = [(cells.account, cells.cls, cells.span), self._flipped(before, after)]
        every = [np.concatenate([part[i] for part in parts]) for i in range(3)]
        account, cls, span = Grouping(*every).keys
        return account, cls, span

    def _flipped(self, before: Ints, after: Ints) -> tuple[Ints, Ints, Ints]:
        account, cls, span = self._there(np.flatnonzero(after > before), _CALENDAR)
        end = self.spans.edges(account * CLASSES + cls, span)[1]
        final = (end > before[account]) & (end <= after[account])
        return account[final], cls[final], span[final]

    def known(self, accounts: Ints, cls: int) -> Ints:
        """The spans of a class in which any partition has said anything of any of the accounts."""
        return np.unique(self._there(accounts, np.array([cls]))[2])

    def _there(self, accounts: Ints, classes: Ints) -> tuple[Ints, Ints, Ints]:
        """Account, class and span of the cells of any partition, as often as partitions have said them."""
        account, cls = np.repeat(accounts, len(classes)), np.tile(classes, len(accounts))
        every = [self._series(partition, account, cls) for partition in range(self.partitions)]
        series = np.sort(np.concatenate(every))
        series, span, _ = self.cells.between(series, *self.cells.extents(series))
        return series // CLASSES % self._count, series % CLASSES, span

    def _of(self, account: int, cls: int, span: Ints) -> Sums:
        return self._sums(np.full(len(span), account), np.full(len(span), cls), span)

    def _sums(self, account: Ints, cls: Ints, span: Ints) -> Sums:
        """What all partitions together hold in cells."""
        out = {name: np.zeros(len(span), np.int64) for name in _FIELDS}
        for partition in range(self.partitions):
            index = self.cells.find(self._series(partition, account, cls), span)
            there = np.flatnonzero(index >= 0)
            found = {name: self.cells[name][index[there]].astype(np.int64) for name in _FIELDS}
            for name in SUMS:
                out[name][there] += found[name]
            newer = found["reported"] > out["reported"][there]
            for name in ("cause", "reported"):
                out[name][there[newer]] = found[name][newer]
        return Sums(**out, rest=np.zeros(len(span), np.int64))

    def _coarse(self, account: int, start: Ints, end: Ints) -> NDArray[np.bool_]:
        """Whether any member is only known for longer than a window, anywhere in it."""
        out = np.zeros(len(end), bool)
        for (_, other, _, first, last), (there, _) in self.reads.items():
            if there and other == account:
                out |= (last - first > end - start) & (first < end) & (last > start)
        return out

    # -- state ------------------------------------------------------------------------------------

    def dump(self) -> tuple[dict[str, bytes], list[str]]:
        """Changed chunks by name, and names of chunks that are no more."""
        head = {
            "format": FORMAT,
            "roster": self.roster.version,
            "reads": sorted((*key, *said) for key, said in self.reads.items()),
        }
        out = io.BytesIO()
        np.savez(out, head=np.frombuffer(json.dumps(head).encode(), np.uint8), frontier=self.frontier)
        chunks = {f"cells/{name}": chunk for name, chunk in self.cells.dump().items()}
        return chunks | {"small": out.getvalue()}, []

    def put_out(self) -> None:
        """What is old leaves memory, where the room is for that."""
        self.cells.put_out()

    def fits(self, chunks: Mapping[str, bytes]) -> bool:
        """Whether a dump is of this format and of exactly this roster (no dump at all fits any)."""
        if not chunks:
            return True
        head, frontier = _small(chunks)
        same = head["format"] == FORMAT and head["roster"] == self.roster.version
        return bool(same and frontier.shape == self.frontier.shape)

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Brings a fresh stage of the same roster to the dumped state; nothing to do without chunks."""
        if not chunks:
            return
        head, self.frontier = _small(chunks)
        self.reads = {tuple(key): (there, said) for *key, there, said in head["reads"]}
        self.cells.load(Under(chunks, "cells"))


def _small(chunks: Mapping[str, bytes]) -> tuple[dict[str, Any], Ints]:
    with np.load(io.BytesIO(chunks["small"]), allow_pickle=False) as small:
        return json.loads(bytes(small["head"])), small["frontier"]
