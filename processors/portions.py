"""Portions: what the plants of one partition add to the groups (parks, provinces) they belong to.

A group's plants may lie on several partitions. Each partition's operators add up its own; what changed
travels as whole cells, frontiers and long interval reads to the one stage that adds the portions up
(processors.groups). Cells come whole, not as changes, and reads as there or not, so that one that comes
twice does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bus.frames import decode_batch, encode_batch
from metering.civil import HOUR_MS, QUARTER_MS
from metering.roster_share import GROUP
from processors.cells import Grouping
from processors.engine import Engine, Step
from processors.progress import NEVER
from processors.shapes import standing
from processors.spans import CLASSES, GRID

Ints = NDArray[np.int64]

FORMAT = b"portions/1"
CELL, READ, FRONTIER = range(3)
FRAME_ROWS_MAX = 20_000
"""Some 14 bytes a row, and up to 100 where nothing repeats."""
LONG_READ_MS = 20 * HOUR_MS
"""No calendar window is shorter: shorter reads fit into every one."""
SUMS = ("amount", "known", "measured", "held", "suspect", "revision")
_SEPARATOR = "\0"

Name = tuple[str, str, str]
"""Of an account: scope, measure, product."""


@dataclass
class Portions:
    """Rows of one length. ``step``: numbers the passes of a batch; ``account`` into ``names``.

    A CELL has its class and span and all it holds now; a READ of the partition's point ``measured`` begins at
    ``span``, ends at ``amount`` and is there or not by ``known`` (1, -1); a FRONTIER stands at
    ``span``, full quarters of an hour.
    """

    names: tuple[Name, ...]
    step: Ints
    kind: Ints
    account: Ints
    cls: Ints
    span: Ints
    amount: Ints
    known: Ints
    measured: Ints
    held: Ints
    suspect: Ints
    revision: Ints
    cause: Ints
    reported: Ints

    def __len__(self) -> int:
        return len(self.step)

    def take(self, mask: NDArray[np.bool_]) -> Portions:
        return Portions(self.names, *(getattr(self, name)[mask] for name in _COLUMNS))


_COLUMNS = tuple(field.name for field in fields(Portions))[1:]


class Portioner:
    """Watches the group accounts of one partition's engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        accounts = engine.accounts
        several = list(accounts.of_several())
        self._group = np.zeros(len(accounts), bool)
        self._group[[account.index for account in several if account.scope.startswith(GROUP)]] = True
        self._first = accounts.points
        """The first account that has a name in portions: those of single points have none."""
        self._names = tuple(a.name for a in several)
        self._told = np.full(len(accounts), NEVER, np.int64)
        self._parts: list[dict[str, Ints]] = []
        self._steps = 0

    def add(self, step: Step) -> None:
        """Notes what a pass changed."""
        if not self._group.any():
            return
        self._cells(step)
        self._reads(step)
        self._frontiers(step)
        self._steps += 1

    def take(self) -> list[bytes]:
        """Frames of all that was noted since the last time."""
        parts, self._parts, self._steps = self._parts, [], 0
        if not parts:
            return []
        columns = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
        edges = [0, *_cuts(columns["step"]), len(columns["step"])]
        return [
            self._frame({name: values[low:high] for name, values in columns.items()})
            for low, high in pairwise(edges)
        ]

    def _frame(self, columns: dict[str, Ints]) -> bytes:
        account = (columns.pop("account") - self._first).astype(np.int32)
        words = pa.array([_SEPARATOR.join(name) for name in self._names])
        arrays = [pa.DictionaryArray.from_arrays(pa.array(account), words), *map(pa.array, columns.values())]
        return encode_batch(FORMAT, pa.RecordBatch.from_arrays(arrays, names=["account", *columns]))

    def _note(self, kind: int, account: Ints, **columns: Ints) -> None:
        zero = np.zeros(len(account), np.int64)
        part = {name: columns.get(name, zero).astype(np.int64) for name in _COLUMNS}
        part |= {"account": account, "kind": zero + kind, "step": zero + self._steps}
        self._parts.append(part)

    def _cells(self, step: Step) -> None:
        touched, cells = step.cells.derived, self._engine.spans.derived
        account, cls = touched.series // CLASSES, touched.series % CLASSES
        mine = self._group[account] & (cls != GRID)
        if mine.any():
            index = touched.index[mine]
            values = {name: cells.read(name, index) for name in (*SUMS, "cause", "reported")}
            self._note(CELL, account[mine], cls=cls[mine], span=touched.span[mine], **values)

    def _reads(self, step: Step) -> None:
        reads = step.cells.reads
        reads = reads.take(reads.end - reads.start > LONG_READ_MS)
        if len(reads) == 0:
            return
        point, start, end = Grouping(reads.point, reads.start, reads.end).keys
        there = standing(self._engine.reads, point, start, end)
        row, account, _ = self._engine.accounts.memberships(point)
        mine = self._group[account]
        row, account = row[mine], account[mine]
        if len(row):
            self._note(
                READ,
                account,
                span=start[row],
                amount=end[row],
                known=np.where(there, 1, -1)[row],
                measured=point[row],
                reported=np.full(len(row), step.log_time),
            )

    def _frontiers(self, step: Step) -> None:
        frontier = step.of_accounts
        full = np.where(frontier == NEVER, NEVER, frontier // QUARTER_MS * QUARTER_MS)
        moved = np.flatnonzero(self._group & (full > self._told))
        if len(moved):
            self._told[moved] = full[moved]
            self._note(FRONTIER, moved, span=full[moved], reported=np.full(len(moved), step.log_time))


def _cuts(step: Ints) -> list[int]:
    """Where frames of many rows end: between passes, or where a pass alone is too long for one.

    Of a pass, cells come before frontiers: nothing is said to be final of which a part is still to come.
    """
    cuts: list[int] = []
    first = before = 0
    for end in (*(np.flatnonzero(np.diff(step)) + 1).tolist(), len(step)):
        if end - first > FRAME_ROWS_MAX and before > first:
            cuts.append(first := before)
        while end - first > FRAME_ROWS_MAX:
            cuts.append(first := first + FRAME_ROWS_MAX)
        before = end
    return cuts


def decode(frame: bytes) -> Portions:
    """The portions of a frame. Raises MeterflowError on any other bytes."""
    batch = decode_batch(frame, FORMAT)
    account = batch.column("account")
    names = tuple(tuple(word.split(_SEPARATOR)) for word in account.dictionary.to_pylist())
    columns = {name: batch.column(name).to_numpy() for name in _COLUMNS if name != "account"}
    return Portions(names, account=account.indices.to_numpy().astype(np.int64), **columns)
