"""The readings of a simulated world as a recording: all lines at once, from columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simulators.recording import Message, encode_line, write_recording
from simulators.world import Plant
from simulators.world_flows import Integers

LINES = 20_000
"""Lines made at once: as many as stay in the caches."""
DAY_S = 86_400
DECIMALS = 3
"""Up to so many a fraction is looked up, not put into words."""
POWERS = 10 ** np.arange(19)
FRACTIONS = pa.array([f'{"." * (n > 1)}{str(n)[1:]}"}}}}\n' for n in range(2 * 10**DECIMALS)])
"""Behind the whole digits: of 1034, three decimals behind a 1, ``.034`` and the line's end."""
THOUSANDTHS = pa.array([f".{ms:03}" for ms in range(1_000)])


class Readings:
    """The readings of some plants as columns, by when they are received."""

    def __init__(self) -> None:
        self._topics: list[str] = []
        self._decimals: list[int] = []
        self._columns: list[tuple[Integers, ...]] = []
        self._besides: dict[int, str] = {}

    def add(self, plant: Plant) -> None:
        """What a plant sends."""
        for point, stream in zip(plant.points, plant.streams, strict=True):
            time_ms, value, received_ms, start_ms = stream.sent()
            number = np.full(len(time_ms), len(self._topics), np.int64)
            self._columns.append((number, time_ms, value, received_ms, start_ms))
            self._name(f"{plant.id}/{point.meter.id}", point.meter.decimals)
            for at_ms, name, payload in stream.besides:
                message = Message(at_ms, f"meterflow/v1/{plant.id}/{name}", 1, payload)
                self._besides[len(self._topics)] = encode_line(message).decode()
                one = np.array([at_ms], np.int64)
                self._columns.append((np.array([len(self._topics)], np.int64), one, one * 0, one, one * 0))
                self._name(f"{plant.id}/{name}", 0)

    def _name(self, topic: str, decimals: int) -> None:
        self._topics.append(topic)
        self._decimals.append(decimals)

    def write(self, out: Path) -> int:
        """A recording of them; how many messages it has."""
        with write_recording(out, whole=True) as writer:
            for lines, content in self.lines():
                writer.write_lines(content, lines)
        return writer.messages

    def lines(self) -> Iterator[tuple[int, pa.Buffer]]:
        """How many lines, and their bytes; in the order in which they are received."""
        number, time_ms, value, received_ms, start_ms = (
            np.concatenate(column) for column in zip(*self._columns, strict=True)
        )
        self._columns.clear()
        order = np.lexsort((number, time_ms, received_ms))
        tails = pa.array(
            [f'Z","topic":"meterflow/v1/{topic}","qos":1,"payload":{{' for topic in self._topics]
        )
        decimals, replaced = np.array(self._decimals), np.array(sorted(self._besides), np.int64)
        for begin in range(0, len(order), LINES):
            part = order[begin : begin + LINES]
            which = number[part]
            texts = pc.binary_join_element_wise(
                *_stamps(received_ms[part]),
                tails.take(pa.array(which)),
                _starts(start_ms[part]),
                pa.array(time_ms[part]).cast(pa.string()),
                ',"value":"',
                *_values(value[part], decimals[which]),
                "",
            )
            besides = np.isin(which, replaced)
            if besides.any():
                instead = pa.array([self._besides[n] for n in which[besides].tolist()])
                texts = pc.replace_with_mask(texts, pa.array(besides), instead)
            yield len(part), _bytes(texts)


def _starts(start_ms: Integers) -> pa.Array | str:
    """What stands before a reading's time; most have no start."""
    some = start_ms != 0
    if not some.any():
        return '"time":'
    starts = pc.binary_join_element_wise('"start":', pa.array(start_ms).cast(pa.string()), ',"time":', "")
    return pc.if_else(pa.array(some), starts, '"time":')


def _stamps(received_ms: Integers) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The beginning up to the day, the time of day and thousandths; the instants are in order."""
    seconds, rest = np.divmod(received_ms, 1_000)
    day, second = np.divmod(seconds, DAY_S)
    days = pa.array(np.arange(day[0], day[-1] + 1) * DAY_S).cast(pa.timestamp("s"))
    words = pc.strftime(days, '{"received":"%Y-%m-%dT')
    return (
        words.take(pa.array(day - day[0])),
        _times().take(pa.array(second)),
        THOUSANDTHS.take(pa.array(rest)),
    )


@cache
def _times() -> pa.Array:
    """Each second of a day in words."""
    return pc.strftime(pa.array(np.arange(DAY_S)).cast(pa.timestamp("s")), "%H:%M:%S")


def _values(value: Integers, decimals: NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
    """Whole last digits as the meter shows them, 1234 with two decimals as 12 and .34; none is below zero."""
    scale = POWERS[decimals]
    whole, rest = np.divmod(value, scale)
    words = pa.array(whole).cast(pa.string())
    if decimals.max(initial=0) <= DECIMALS:
        return words, FRACTIONS.take(pa.array(scale + rest))
    digits = pc.utf8_slice_codeunits(pa.array(rest + scale).cast(pa.string()), 1)
    point = pc.if_else(pa.array(decimals > 0), ".", "")
    return words, pc.binary_join_element_wise(point, digits, '"}}\n', "")


def _bytes(texts: pa.Array) -> pa.Buffer:
    """The texts one behind the other: they lie so in memory already."""
    _, offsets, data = texts.buffers()
    edges = np.frombuffer(offsets, np.int32)
    first, last = int(edges[texts.offset]), int(edges[texts.offset + len(texts)])
    return data.slice(first, last - first)
