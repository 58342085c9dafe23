"""Flows: what a point used between two instants, and how that is read off at span edges.

A register's segment between two neighbouring readings and an interval read are the same thing
here: an exact amount between two instants, with a sign (-1 takes back what an earlier step said).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.memory import BY_PERSON, EDITED, ROUNDED
from processors.scaling import spread

Ints = NDArray[np.int64]

LONG_MS = 35 * 86_400_000
"""Beyond it remainder times offset no longer fits 64 bits: Python's integers take over."""


HELD, COUNTED, OFF, BETWEEN = range(4)
"""What becomes of an amount: it is in doubt, it counts, a person wrote it off, no meter could tell it."""
ONE_BETWEEN, ONE_OFF = 1 << 20, 1 << 24
"""Counted beside the milliseconds that are held of a base span, in one number: it has fewer of them. Within a
quarter of an hour a meter is replaced fifteen times at most.
"""
ONE_EDITED = 1 << 16
ONE_SHAPED = 1 << 28
"""Counted beside roundings, in one number. Of a base span two gaps at most have a part."""


AMOUNT_REVISED, QUALITY_REVISED, FRESH = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Flows:
    """Columns of one length n.

    ``amount``: millionths of the canonical unit after the multiplier, all of [start, end).
    ``booked``: HELD, COUNTED, OFF or BETWEEN; amount 0 unless it counts. ``measured``: 1 when it is no
    estimate. ``rounded``: 1 when a reading of it was, and ONE_EDITED more when one was corrected or somebody
    decided about it; ONE_SHAPED more where reference days gave a gap its shape.
    ``suspect``: 0 or 1. ``revised``: AMOUNT_REVISED when it changed the amount of a row that was final,
    QUALITY_REVISED when only its quality, FRESH of a read that came: it revises what was final by then.
    ``record``: number of the log record, in the batch, that brought the change.
    """

    point: Ints
    sign: Ints
    start: Ints
    end: Ints
    amount: Ints
    booked: Ints
    measured: Ints
    rounded: Ints
    suspect: Ints
    revised: Ints
    record: Ints

    def __len__(self) -> int:
        return len(self.point)

    def take(self, mask: NDArray[Any]) -> Flows:
        return Flows(*(getattr(self, f.name)[mask] for f in fields(self)))


def marks(flags: NDArray[Any]) -> Ints:
    """What the flags of readings that are not left out are in ``rounded``."""
    return np.asarray((flags & ROUNDED > 0) + ONE_EDITED * (flags & (EDITED | BY_PERSON) > 0), np.int64)


def join(parts: list[Flows]) -> Flows:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    return Flows(
        *(
            np.concatenate([getattr(part, f.name) for part in parts]) if parts else np.empty(0, np.int64)
            for f in fields(Flows)
        )
    )


def read_off(amount: Ints, length: Ints, offset: Ints) -> Ints:
    """floor(amount * offset / length) for 0 <= offset <= length, exactly, without overflow."""
    quotient, rest = np.divmod(amount, length)
    out = quotient * offset + rest * offset // length
    for i in np.flatnonzero(length > LONG_MS).tolist():
        out[i] = int(amount[i]) * int(offset[i]) // int(length[i])
    return out


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parts of flows in spans: ``flow`` numbers into the flows, [start, end) lies in one span."""

    flow: Ints
    span: Ints
    start: Ints
    end: Ints
    amount: Ints


EdgeOf = Callable[[Ints, Ints], Ints]
"""Where spans start: (flow numbers, span numbers) -> instants."""


def cut(flows: Flows, first: Ints, last: Ints, edge_of: EdgeOf) -> Pieces:
    """Cuts each flow at the edges of its spans first..last.

    The amounts of a flow's pieces add up to the flow's amount exactly: neighbours share edges.
    """
    if (first == last).all():
        return Pieces(np.arange(len(flows)), first, flows.start, flows.end, flows.amount)
    counts = last - first + 1
    flow, ordinal = spread(counts)
    span = first[flow] + ordinal
    start, end, amount = flows.start[flow], flows.end[flow], flows.amount[flow]
    several = np.flatnonzero(counts[flow] > 1)  # most flows lie in one span
    flow_, span_, whole = flow[several], span[several], amount[several]
    origin, length = start[several], end[several] - start[several]
    start[several] = np.maximum(origin, edge_of(flow_, span_))
    end[several] = np.minimum(end[several], edge_of(flow_, span_ + 1))
    until = read_off(whole, length, end[several] - origin)
    amount[several] = until - read_off(whole, length, start[several] - origin)
    return Pieces(flow, span, start, end, amount)


def spans_of(time_ms: Ints, length_ms: Ints) -> Ints:
    """Numbers of spans of these lengths; division by one number is several times faster than by many."""
    if len(length_ms) and (length_ms == length_ms[0]).all():
        return np.asarray(time_ms // int(length_ms[0]))
    return np.asarray(time_ms // length_ms)
