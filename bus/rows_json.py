"""Rows of result tables as JSON objects, a record each: the results for everybody who reads no Arrow.

Column by column: each cell becomes text once, and the texts are joined. An object holds what ``export``
gives (times in RFC 3339, amounts as exact decimal numbers, null for unknown), with ``table`` before
and ``position`` behind it. A negative position, -p - 1, says that the row of this key is no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bus.frames import decode_table
from metering.tables import POSITION, TABLES, Kind

SKIPPED = frozenset({"interval"})
"""Tables that are not written as JSON unless asked for: the rows of every point's every span."""


def as_json(frame: bytes, skipped: Collection[str] = SKIPPED) -> list[bytes]:
    """The JSON objects of a frame of ``rows/1``; none of a skipped table. Raises MeterflowError."""
    name, rows = decode_table(frame)
    if name in skipped or len(rows) == 0:
        return []
    kinds = [(column.name, column.kind) for column in TABLES[name].columns]
    texts: list[Any] = []
    before = f'{{"table":"{name}"'
    for column, kind in [*kinds, (POSITION, Kind.INTEGER)]:
        texts += [f'{before},"{column}":', _TEXTS[kind](rows.column(column).combine_chunks())]
        before = ""
    objects = pc.binary_join_element_wise(*texts, "}", "", null_handling="replace", null_replacement="null")
    return objects.cast(pa.binary()).to_pylist()  # type: ignore[no-any-return]


def as_records(skipped: Collection[str] = SKIPPED) -> Callable[[str, bytes], Sequence[bytes]]:
    """What ``bus.log_kafka.open_kafka`` takes: the objects of a record of the results."""
    return lambda key, frame: () if key in skipped else as_json(frame, skipped)


def _of_words(column: Any, write: Callable[[Any], Any]) -> Any:
    """Text made once of each different value: a column of results repeats few."""
    coded = column.dictionary_encode()
    return pc.take(write(coded.dictionary), coded.indices)


def _text(column: Any) -> Any:
    return _of_words(column, lambda words: pa.array(_quoted(words.to_pylist()), pa.utf8()))


def _quoted(words: Sequence[str]) -> list[str]:
    return [msgspec.json.encode(word).decode() for word in words]


def _time(column: Any) -> Any:
    def write(times: Any) -> Any:
        texts = np.datetime_as_string(times.to_numpy(zero_copy_only=False).astype("datetime64[ms]"))
        return pa.array([f'"{str(text).removesuffix(".000")}Z"' for text in texts], pa.utf8())

    return _of_words(column, write)


def _amount(column: Any) -> Any:
    """Without trailing zeros; Arrow alone writes an exponent for zero and for what is below a millionth."""
    texts = column.cast(pa.utf8())
    odd = pc.fill_null(pc.match_substring(texts, "E"), False)
    if pc.any(odd).as_py():
        zero = pc.fill_null(pc.equal(column, pa.scalar(Decimal(0), column.type)), False)
        texts = pc.if_else(zero, "0.0", texts)
        tiny = pc.and_not(odd, zero)
        plain = [f"{amount:f}" for amount in column.filter(tiny).to_pylist()]
        texts = pc.replace_with_mask(texts, tiny, pa.array(plain, pa.utf8()))
    return pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")


def _integer(column: Any) -> Any:
    return column.cast(pa.utf8())


def _number(column: Any) -> Any:
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64())).cast(pa.utf8())


_TEXTS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _text,
    Kind.TIME: _time,
    Kind.AMOUNT: _amount,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
}
