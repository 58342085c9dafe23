"""Faults between a meter and the service: a gateway's clock, its topics, and several faults at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulators.world_faults import FEW_VALUES, HELD, KINDS, REJECTED, Fault, Kind, Place
from simulators.world_flows import HOUR_MS, MINUTE_MS

AHEAD_MS = 10 * MINUTE_MS
"""A stamp that is further ahead of its arrival is refused (docs/formats.md, rejected)."""
SWAPPED = (20, 90)
MIXED = ("zero_glitch", "spike", "stuck", "wrong_unit", "clock_jump", "conflict", "standstill", "drift")
UNDER = ("late", "outage", "out_of_order", "duplicate", "flood")
"""What becomes of messages on their way changes nothing of what is to be concluded of their values."""


def summer_time(place: Place) -> Fault | None:
    """A gateway's stamps are an hour off for hours: it has changed its clock, and should not have.

    Ahead: nothing is taken of that, and the line leads over it. Behind: what it says of the hour before is in
    conflict with what is known; nothing can tell that the rest has wrong stamps (``hidden``).
    """
    i, stream, every_ms, room = place.index, place.stream, place.every_ms, place.room_ms
    count = int(place.random.integers(room // 4, room)) // every_ms
    ahead = bool(place.random.integers(2))
    if HOUR_MS % every_ms or count < 2 or i + count + 1 >= len(stream.time_ms):
        return None
    here = slice(i, i + count)
    names = ("summer_time", place.point.plant, place.point.meter.id)
    if ahead:
        came = stream.received_ms[here]
        if (stream.time_ms[here] + HOUR_MS <= came + AHEAD_MS).any():
            return None
        stream.time_ms[here] += HOUR_MS
        return Fault(*names, int(came.min()), int(came.max()), REJECTED, "time_in_future")
    back = HOUR_MS // every_ms
    first, shared = i - back, min(back, count)
    if first < 1 or not _disagree(place, np.arange(i, i + shared), back):
        return None
    steep = place.rise(first - 1, i + shared) if shared < count else place.rise(first - 1, i)
    if steep > place.point.possible(HOUR_MS):
        return None
    stream.time_ms[here] -= HOUR_MS
    began_ms, ends_ms = int(stream.time_ms[i]), int(stream.time_ms[i + count])
    last_ms = int(stream.time_ms[i + shared - 1])
    hidden = (began_ms - every_ms, ends_ms) if shared < count else None
    return Fault(*names, began_ms, last_ms, "conflict", HELD, hidden=hidden)


def _disagree(place: Place, which: np.ndarray[tuple[int], np.dtype[np.int64]], back: int) -> bool:
    """Whether each of these shows another value than the reading whose stamp it takes."""
    values = place.stream.value
    return bool((values[which] != values[which - back]).all())


def swapped(one: Place, other: Place) -> tuple[Fault, Fault] | None:
    """Two meters send under each other's names for a while.

    Each line is left and come back to: what another register counts there is left out, and held.
    """
    count = one.count(*SWAPPED)
    places = (one, other)
    cuts = [slice(place.index, place.index + count) for place in places]
    if not all(_is_another(*pair, count) for pair in ((one, other), (other, one))):
        return None
    for name in ("time_ms", "value", "received_ms"):
        columns = [getattr(place.stream, name) for place in places]
        kept = columns[0][cuts[0]].copy()
        columns[0][cuts[0]] = columns[1][cuts[1]]
        columns[1][cuts[1]] = kept
    more = int(one.stream.value[one.index]) > int(other.stream.value[other.index])
    words = ("spike", "glitch") if more else ("glitch", "spike")
    both = [
        place.fault("swapped", place.index - 1, place.index + count, word, HELD)
        for place, word in zip(places, words, strict=True)
    ]
    return both[0], both[1]


def _is_another(place: Place, other: Place, count: int) -> bool:
    """Whether what the other shows counts on as this one could, and far from where this one stands."""
    i, end = place.index, place.index + count
    own, shown = place.stream, other.stream.value[other.index : other.index + count]
    if i < 1 or end >= len(own.time_ms) or len(shown) < count or place.point.width != other.point.width:
        return False
    far = place.point.possible((count + 2) * place.every_ms)
    apart = np.abs(shown - own.value[[i - 1, end]][:, None])
    near = (apart <= far) | (place.point.width - apart <= far)
    steep = int(np.diff(shown).max()) > place.point.possible(place.every_ms)
    back = int(np.diff(shown).min()) < 0 or place.rise(i - 1, end) > far
    return not (near.any() or steep or back) and len(np.unique(shown)) > max(FEW_VALUES)


def mixed(place: Place) -> Fault | None:
    """A fault of values or stamps, and of the same readings one or two of how they arrive."""
    count = int(place.random.integers(1, 3))
    kind = MIXED[int(place.random.integers(len(MIXED)))]
    under = [UNDER[int(k)] for k in place.random.permutation(len(UNDER))[:count]]
    fault = KINDS[kind](place)
    if fault is None:
        return None
    for name in under:
        KINDS[name](place)
    return replace(fault, kind="+".join([kind, *sorted(under)]))


GATEWAY_KINDS: dict[str, Kind] = {"summer_time": summer_time, "mixed": mixed}
"""Those of one register; ``swapped`` is of two."""
