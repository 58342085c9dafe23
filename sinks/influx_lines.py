"""Line protocol for whole tables of rows: column by column, each distinct text escaped once.

See https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/ for what a line is, and
influx_layout.py for what is a tag, a field, the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.tables import POSITION, Kind
from sinks.influx_layout import BLANK, NO_MORE, UNKNOWN, Measurement, field_name
from sinks.influx_points import Points, prefix, series

_COMBINED_MAX = 1 << 12
_EXACT_MAX = 1 << 53
_NANO, _MICRO = 10**9, 10**6
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"'})
_INTEGERS = frozenset((Kind.TIME, Kind.INTEGER))


@dataclass(frozen=True)
class Lines:
    """Lines in one buffer; line i is ``data[offsets[i]:offsets[i + 1]]``, with its line feed."""

    data: memoryview
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def body(self, first: int, last: int) -> bytes:
        """Lines ``first`` to before ``last``, as they are sent."""
        return bytes(self.data[self.offsets[first] : self.offsets[last]])

    @classmethod
    def of(cls, lines: list[bytes]) -> Lines:
        """Lines that are there already, each with its line feed."""
        sizes = np.fromiter(map(len, lines), np.int64, len(lines))
        return cls(memoryview(b"".join(lines)), np.concatenate([[0], np.cumsum(sizes)]))

    @classmethod
    def together(cls, parts: Sequence[Lines]) -> Lines:
        """The lines of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        data = b"".join(part.data[part.offsets[0] : part.offsets[-1]] for part in parts)
        return cls(memoryview(data), np.concatenate([[0], np.cumsum(sizes)]))


def lines(layout: Measurement, rows: pa.Table, points: Points, *, history: bool = False) -> Lines:
    """A line for each row, which must be storable; rows have the columns of ``bus.frames.schema``."""
    name = layout.history if history else layout.name
    head = prefix(name, ())
    beginnings = pa.array([f"{head}{series(tags)} {POSITION}=" for tags in points.tags], pa.utf8())
    pieces: list[Any] = [
        beginnings.take(pa.array(points.series)),
        _plain(rows[POSITION].cast(pa.int64())),
        "i",
    ]
    kinds = {column.name: column.kind for column in layout.columns}
    pieces += _texts(rows, tuple(n for n, kind in kinds.items() if kind is Kind.TEXT))
    numbers = {field_name(n): _number(k, rows[n]) for n, k in kinds.items() if k is not Kind.TEXT}
    for number, values in numbers.items():
        pieces += _written(number, values)
    pieces += _unknown(numbers, rows[POSITION].to_numpy())
    pieces += [" ", pa.array(points.times).cast(pa.utf8()), "\n"]
    return _joined(pieces)


def doubles(amounts: Any) -> Any:
    """The nearest double of each exact decimal of 9 places."""
    array = amounts.combine_chunks() if isinstance(amounts, pa.ChunkedArray) else amounts
    pairs = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    low, high = pairs[::2], pairs[1::2]
    coarse = low // 1000  # amounts have six places but for odd units: then this is all of it
    whole = np.array_equal(coarse * 1000, low)
    digits, scale = (coarse, _MICRO) if whole else (low, _NANO)
    if np.array_equal(high, low >> 63) and (len(low) == 0 or np.abs(digits).max() < _EXACT_MAX):
        # both sides are exact, so the quotient is the nearest double
        mask = None if array.null_count == 0 else np.asarray(array.is_null())
        return pa.array(digits / scale, pa.float64(), mask=mask)
    return array.cast(pa.utf8()).cast(pa.float64())


def _plain(column: Any) -> Any:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(pa.utf8())


def _finite(column: Any) -> Any:
    """Line protocol has no NaN and no infinity: they are unknown."""
    finite = pc.is_finite(column)
    return column if pc.all(finite, min_count=0).as_py() else pc.if_else(finite, column, None)


def _number(kind: Kind, column: Any) -> Any:
    """What a field of this kind holds; null where that is unknown."""
    array = column.combine_chunks()
    if kind in _INTEGERS:
        return array.cast(pa.int64())
    return _finite(array if pa.types.is_floating(array.type) else doubles(array))


def _written(name: str, values: Any) -> list[Any]:
    suffix = "i" if pa.types.is_integer(values.type) else ""
    if values.null_count == len(values):
        return []
    if values.null_count == 0:
        return [f",{name}=", values.cast(pa.utf8()), suffix]
    texts = pc.binary_join_element_wise(pa.scalar(f",{name}="), values.cast(pa.utf8()), pa.scalar(suffix), "")
    return [pc.fill_null(texts, "")]


def _unknown(numbers: Mapping[str, Any], positions: NDArray[np.int64]) -> list[Any]:
    """The field that says which numbers are unknown, or that there is no row."""
    lacking = np.zeros(len(positions), np.int64)
    for i, values in enumerate(numbers.values()):
        if values.null_count:
            lacking |= np.asarray(values.is_null()).astype(np.int64) << i
    lacking[positions < 0] = -1
    encoded = pa.array(lacking).dictionary_encode()
    said = [f',{UNKNOWN}="{_named(bits, tuple(numbers))}"' for bits in encoded.dictionary.to_pylist()]
    return said if len(said) == 1 else [pa.array(said, pa.utf8()).take(encoded.indices)]


def _named(bits: int, names: Sequence[str]) -> str:
    if bits < 0:
        return NO_MORE
    return ",".join(name for i, name in enumerate(names) if bits >> i & 1) or BLANK


def _texts(rows: pa.Table, names: tuple[str, ...]) -> list[Any]:
    """Texts as pieces; those of few different words are put together before they are dealt out."""
    pieces: list[Any] = []
    together, codes = [""], np.zeros(len(rows), np.int64)
    for name in names:
        encoded = rows[name].combine_chunks().dictionary_encode(null_encoding="encode")
        its = [_text(name, word) for word in encoded.dictionary.to_pylist()]
        mine = encoded.indices.to_numpy()
        if len(its) * len(together) <= _COMBINED_MAX:
            codes = codes * len(its) + mine
            together = [one + other for one in together for other in its]
        else:
            pieces.append(pa.array(its, pa.utf8()).take(pa.array(mine)))
    return [pa.array(together, pa.utf8()).take(pa.array(codes)), *pieces]


@lru_cache(maxsize=1 << 14)
def _text(name: str, word: str | None) -> str:
    stored = word if word and word.strip(BLANK) else (word or "") + BLANK
    return f',{field_name(name)}="{stored.translate(_ESCAPED)}"'


def _joined(pieces: list[Any]) -> Lines:
    merged: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        elif not (isinstance(piece, str) and not piece):
            merged.append(piece)
    arrays = [pa.scalar(piece) if isinstance(piece, str) else piece for piece in merged]
    joined = pc.binary_join_element_wise(*arrays, "")
    assert joined.null_count == 0
    offsets = np.frombuffer(joined.buffers()[1], np.int32)[joined.offset : joined.offset + len(joined) + 1]
    return Lines(memoryview(joined.buffers()[2] or b""), offsets.astype(np.int64))
