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


class JsonRows:
    """What ``bus.log_kafka.open_kafka`` takes: which records of results become JSON, and how."""

    def __init__(self, skipped: Collection[str] = SKIPPED) -> None:
        self._skipped = skipped

    def wanted(self, table: str) -> bool:
        """Whether there are objects of a table."""
        return table not in self._skipped

    def objects(self, frame: bytes) -> Any:
        """The objects of a frame's rows, an Arrow array of texts; none of a skipped table.

        Raises MeterflowError.
        """
        name, rows = decode_table(frame)
        if not self.wanted(name) or len(rows) == 0:
            return pa.array([], pa.utf8())
        pieces = _Pieces(f'{{"table":"{name}"')
        for column in TABLES[name].columns:
            pieces.add(column.name, column.kind, rows.column(column.name).combine_chunks())
        pieces.add(POSITION, Kind.INTEGER, rows.column(POSITION).combine_chunks())
        return pieces.joined(len(rows))


def as_json(frame: bytes, skipped: Collection[str] = SKIPPED) -> list[bytes]:
    """The JSON objects of a frame of ``rows/1``; none of a skipped table. Raises MeterflowError."""
    return JsonRows(skipped).objects(frame).cast(pa.binary()).to_pylist()  # type: ignore[no-any-return]


class _Pieces:
    """What is joined, cell by cell: columns of texts, and between them text that is the same in all rows.

    Fewer and longer pieces join faster: a column of few words has its name before each of them, and one
    of a single word is no column.
    """

    def __init__(self, begin: str) -> None:
        self._same = begin
        self._pieces: list[Any] = []

    def add(self, name: str, kind: Kind, column: Any) -> None:
        """A field of the objects."""
        label = f',"{name}":'
        if column.null_count == len(column):
            self._same += f"{label}null"
        elif kind in _WORDS:
            self._add_words(label, kind, column)
        else:
            self._add_texts(label, _TEXTS[kind](column))

    def joined(self, rows: int) -> Any:
        """The objects."""
        if not self._pieces:
            return pa.repeat(f"{self._same}}}", rows)
        pieces = [*self._pieces, f"{self._same}}}"]
        return pc.binary_join_element_wise(*pieces, "", null_handling="replace", null_replacement="null")

    def _add_words(self, label: str, kind: Kind, column: Any) -> None:
        """Text made once of each different value: a column of results repeats few."""
        coded = column.dictionary_encode()
        words = _WORDS[kind](coded.dictionary)
        if column.null_count:
            self._add_texts(label, pc.take(pa.array(words, pa.utf8()), coded.indices))
        elif len(words) == 1:
            self._same += label + words[0]
        else:
            before, self._same = self._same + label, ""
            self._pieces.append(
                pc.take(pa.array([before + word for word in words], pa.utf8()), coded.indices)
            )

    def _add_texts(self, label: str, texts: Any) -> None:
        self._pieces += [self._same + label, texts]
        self._same = ""


def _text(words: Any) -> list[str]:
    return _quoted(words.to_pylist())


def _quoted(words: Sequence[str]) -> list[str]:
    return [msgspec.json.encode(word).decode() for word in words]


def _time(times: Any) -> list[str]:
    texts = np.datetime_as_string(times.to_numpy(zero_copy_only=False).astype("datetime64[ms]"))
    return [f'"{text.removesuffix(".000")}Z"' for text in texts.tolist()]


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


_WORDS: dict[Kind, Callable[[Any], list[str]]] = {Kind.TEXT: _text, Kind.TIME: _time}
_TEXTS: dict[Kind, Callable[[Any], Any]] = {
    Kind.AMOUNT: _amount,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
}
