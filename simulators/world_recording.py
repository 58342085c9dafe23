"""The readings of a simulated world as a recording: all lines at once, from columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simulators.recording import Message, encode_line, write_recording
from simulators.world import Plant
from simulators.world_flows import Integers

LINES = 500_000
"""Lines made at once."""
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
        for begin in range(0, len(order), LINES):
            part = order[begin : begin + LINES]
            texts = _lines(
                pa.array(self._topics).take(pa.array(number[part])),
                _values(value[part], np.array(self._decimals)[number[part]]),
                time_ms[part],
                received_ms[part],
                start_ms[part],
            )
            besides = np.isin(number[part], list(self._besides))
            if besides.any():
                instead = pa.array([self._besides[n] for n in number[part][besides].tolist()])
                texts = pc.replace_with_mask(texts, pa.array(besides), instead)
            yield len(part), _bytes(texts)


def _lines(
    topics: pa.Array, values: pa.Array, time_ms: Integers, received_ms: Integers, start_ms: Integers
) -> pa.Array:
    starts = pc.binary_join_element_wise('"start":', pa.array(start_ms).cast(pa.string()), ",", "")
    starts = pc.if_else(pa.array(start_ms != 0), starts, "")
    return pc.binary_join_element_wise(
        '{"received":"',
        *_stamps(received_ms),
        'Z","topic":"meterflow/v1/',
        topics,
        '","qos":1,"payload":{',
        starts,
        '"time":',
        pa.array(time_ms).cast(pa.string()),
        ',"value":"',
        values,
        '"}}\n',
        "",
    )


def _stamps(received_ms: Integers) -> tuple[pa.Array, pa.Array]:
    """Seconds, each put into words once, and thousandths; the instants are in order."""
    seconds, rest = np.divmod(received_ms, 1_000)
    first = np.concatenate([[True], np.diff(seconds) > 0])
    words = pc.strftime(pa.array(seconds[first]).cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%S")
    return words.take(pa.array(np.cumsum(first) - 1)), THOUSANDTHS.take(pa.array(rest))


def _values(value: Integers, decimals: NDArray[np.int64]) -> pa.Array:
    """Whole last digits as the meter shows them, 1234 with two decimals as 12.34; none is below zero."""
    scale = 10**decimals
    whole, rest = np.divmod(value, scale)
    digits = pa.array(rest + scale).cast(pa.string())
    fraction = pc.utf8_slice_codeunits(digits, 1)
    point = pc.if_else(pa.array(decimals > 0), ".", "")
    return pc.binary_join_element_wise(pa.array(whole).cast(pa.string()), point, fraction, "")


def _bytes(texts: pa.Array) -> pa.Buffer:
    """The texts one behind the other: they lie so in memory already."""
    _, offsets, data = texts.buffers()
    edges = np.frombuffer(offsets, np.int32)
    first, last = int(edges[texts.offset]), int(edges[texts.offset + len(texts)])
    return data.slice(first, last - first)
