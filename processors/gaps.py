"""Gaps in registers that are too long for a straight line: which stand, and the shape that each was given.

Between the books and the spans: what the books bring or take back as one flow goes on as the flows of its
shape. A reading that changes a reference day of a gap takes back the gap's shape and brings the new one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.flows import COUNTED, ONE_SHAPED, Flows, join
from processors.profiles import BACK_DAYS, LINEAR_MAX_MS, Pending, Profiles, Stretch, edges_of

Ints = NDArray[np.int64]

BLOCK_POINTS = 64
"""Points whose gaps are dumped together."""
_LONGEST_MS = BACK_DAYS * 86_400_000
_NOWHERE_MS = -(2**62)

_Key = tuple[int, int, int, int]
"""Start, end, amount, and whether a reading was rounded."""


@dataclass(slots=True)
class Gap:
    """One that stands. ``low`` to ``until``: where its reference days lie; ``shape``: see Profiles.shape."""

    stretch: Stretch
    rounded: int
    low: int
    until: int
    shape: Ints

    @property
    def key(self) -> _Key:
        """What tells it from others of its point."""
        return self.stretch.start, self.stretch.end, self.stretch.amount, self.rounded


class Gaps:
    """All gaps that stand, by point."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._of: dict[int, dict[_Key, Gap]] = {}
        self._until = np.full(len(profiles.base_ms), _NOWHERE_MS, np.int64)
        """Of every point up to where any of its gaps has reference days."""
        self._changed: set[int] = set()
        """Numbers of blocks that changed since the last dump."""

    def shaped(self, flows: Flows) -> Flows:
        """The flows of a pass, those of gaps in their shapes, and what else they change of these."""
        long, stirring = self._long(flows), self._stirring(flows)
        if len(long) == 0 and len(stirring) == 0:
            return flows
        come, gone = _netted(flows, long)
        plain = np.ones(len(flows), bool)
        plain[[*come, *gone]] = False
        taken_back = [self._taken_back(flows, row) for row in gone]
        settled = join([flows.take(plain), *taken_back])
        pending = Pending(settled, self._profiles.base_ms)
        out = [settled, *self._turned(flows.take(stirring), pending)]
        out += [self._brought(flows, row, pending) for row in come]
        return join(out)

    def _long(self, flows: Flows) -> Ints:
        """Rows that are gaps, or take one back."""
        length = flows.end - flows.start
        if length.max(initial=0) <= LINEAR_MAX_MS:
            return np.empty(0, np.int64)
        rows = np.flatnonzero(length > LINEAR_MAX_MS)
        length = length[rows]
        wanted = (length > self._profiles.linear_max_ms[flows.point[rows]]) & (length <= _LONGEST_MS)
        wanted &= (flows.booked[rows] == COUNTED) & (flows.amount[rows] > 0)
        return np.asarray(rows[wanted])

    def _stirring(self, flows: Flows) -> Ints:
        """Rows that may change reference days of gaps."""
        if not self._of:
            return np.empty(0, np.int64)
        return np.flatnonzero(flows.start < self._until[flows.point])

    def _taken_back(self, flows: Flows, row: int) -> Flows:
        point, key = int(flows.point[row]), _key(flows, row)
        gap = self._of[point].pop(key)
        self._note(point)
        return _flows(gap, -1, int(flows.record[row]))

    def _brought(self, flows: Flows, row: int, pending: Pending) -> Flows:
        point, (start, end, amount, rounded) = int(flows.point[row]), _key(flows, row)
        stretch = Stretch(point, start, end, amount)
        low, until = self._profiles.reach(point, start)
        gap = Gap(stretch, rounded, low, until, self._profiles.shape(stretch, pending))
        mine = self._of.setdefault(point, {})
        assert gap.key not in mine
        mine[gap.key] = gap
        self._note(point)
        return _flows(gap, 1, int(flows.record[row]))

    def _turned(self, stirring: Flows, pending: Pending) -> Iterator[Flows]:
        """What changes of gaps that stand, through flows in days that they may refer to."""
        for point in np.unique(stirring.point).tolist():
            part = stirring.take(stirring.point == point)
            for _, gap in sorted(self._of.get(point, {}).items()):
                touching = (part.start < gap.until) & (part.end > gap.low)
                if touching.any():
                    yield from self._anew(gap, int(part.record[touching].max()), pending)

    def _anew(self, gap: Gap, record: int, pending: Pending) -> list[Flows]:
        shape = self._profiles.shape(gap.stretch, pending)
        if np.array_equal(shape, gap.shape):
            return []
        back = _flows(gap, -1, record)
        gap.shape = shape
        self._changed.add(gap.stretch.point // BLOCK_POINTS)
        return [back, _flows(gap, 1, record)]

    def _note(self, point: int) -> None:
        """After gaps of a point came or went."""
        self._changed.add(point // BLOCK_POINTS)
        mine = self._of.get(point, {})
        self._until[point] = max((gap.until for gap in mine.values()), default=_NOWHERE_MS)
        if not mine:
            self._of.pop(point, None)

    # -- state ------------------------------------------------------------------------------------

    def dump(self) -> dict[str, bytes]:
        """The blocks of points that changed since the last dump, by name."""
        blocks, self._changed = sorted(self._changed), set()
        return {str(block): self._dumped(block) for block in blocks}

    def _dumped(self, block: int) -> bytes:
        points = range(block * BLOCK_POINTS, (block + 1) * BLOCK_POINTS)
        gaps = [gap for point in points for _, gap in sorted(self._of.get(point, {}).items())]
        rows = [(g.stretch.point, *g.key, g.low, g.until, len(g.shape)) for g in gaps]
        shapes = [gap.shape for gap in gaps]
        out = io.BytesIO()
        np.savez(
            out,
            gaps=np.array(rows, np.int64).reshape(-1, 8),
            shapes=np.concatenate([np.empty(0, np.int64), *shapes]),
        )
        return out.getvalue()

    def load(self, chunks: Mapping[str, bytes]) -> None:
        """Takes up dumped blocks again."""
        for chunk in chunks.values():
            with np.load(io.BytesIO(chunk), allow_pickle=False) as columns:
                rows, shapes = columns["gaps"].tolist(), columns["shapes"]
            at = 0
            for point, start, end, amount, rounded, low, until, size in rows:
                shape, at = shapes[at : at + size].copy(), at + size
                gap = Gap(Stretch(point, start, end, amount), rounded, low, until, shape)
                self._of.setdefault(point, {})[gap.key] = gap
                self._until[point] = max(int(self._until[point]), until)


def _key(flows: Flows, row: int) -> _Key:
    return tuple(int(getattr(flows, name)[row]) for name in ("start", "end", "amount", "rounded"))  # type: ignore[return-value]


def _netted(flows: Flows, long: Ints) -> tuple[list[int], list[int]]:
    """Rows of gaps that come, and of those that go; what comes and goes in one pass stays as it is."""
    come: dict[tuple[int, _Key], int] = {}
    gone: list[int] = []
    for row in long.tolist():
        key = int(flows.point[row]), _key(flows, row)
        if flows.sign[row] > 0:
            come[key] = row
        elif key in come:
            del come[key]
        else:
            gone.append(row)
    return list(come.values()), gone


def _flows(gap: Gap, sign: int, record: int) -> Flows:
    """A gap as the flows of its shape: one, or one for each quarter of an hour."""
    one, linear = gap.stretch, len(gap.shape) == 0
    edges = np.array([one.start, one.end]) if linear else edges_of(one.start, one.end)
    size = len(edges) - 1
    zero, full = np.zeros(size, np.int64), np.ones(size, np.int64)
    return Flows(
        np.full(size, one.point),
        np.full(size, sign),
        edges[:-1],
        edges[1:],
        np.full(1, one.amount) if linear else gap.shape,
        booked=full,
        measured=zero,
        rounded=np.full(size, gap.rounded + (0 if linear else ONE_SHAPED)),
        suspect=zero,
        revised=zero,
        record=np.full(size, record),
    )
