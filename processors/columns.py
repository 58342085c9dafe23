"""Columns of result rows: codes as words, integers as exact decimals, and the story of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bus.frames import schema
from metering.readings import TIME_FIRST_MS
from metering.tables import POSITION, Table
from metering.units import HOURLY, MICRO
from processors.admission import CAUSES
from processors.kernels.rows import states, wide

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Columns = dict[str, Any]

_QUALITIES = ("valid", "estimated", "suspect", "partial", "missing")
STATES = ("open", "final", "revised")
_FLAGS = ("rounded", "held", "mean", "integrated", "edited", "profile", "replaced")
_NANO_DIGITS = 9
_MICRO_DIGITS = 6
_RATE_DIGITS = 3
_PER_HOUR = {amount: name for name, amount in HOURLY.items()}
_TIME, _AMOUNT = pa.timestamp("ms", tz="UTC"), pa.decimal128(38, _NANO_DIGITS)


class Waiting:
    """Numbers of rows that wait to become a table: columns by name, noted pass by pass."""

    def __init__(self) -> None:
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def note(self, columns: dict[str, NDArray[Any]]) -> None:
        """Takes rows; the arrays must not change any more."""
        size = len(next(iter(columns.values())))
        if size:
            self._parts.append(columns)
            self._size += size

    def tables(self, rows_max: int, *, rest: bool) -> Iterator[dict[str, NDArray[Any]]]:
        """As many rows at a time; fewer only where the ``rest`` is wanted, too."""
        if self._size < rows_max and not (rest and self._size):
            return
        names, size = tuple(self._parts[0]), self._size
        columns = {name: np.concatenate([part[name] for part in self._parts]) for name in names}
        until = size if rest else size - size % rows_max
        self._parts, self._size = [], 0
        self.note({name: column[until:] for name, column in columns.items()})
        for first in range(0, until, rows_max):
            yield {name: column[first : min(first + rows_max, until)] for name, column in columns.items()}


class Vocabulary:
    """Texts by number, made ready once: each different one is said once in a column."""

    def __init__(self, texts: Iterable[str]) -> None:
        numbers: dict[str, int] = {}
        self.number = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int32)
        self.words = pa.array(list(numbers), pa.utf8())

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them, in their order."""
        return tuple(self.words.take(pa.array(self.number)).to_pylist())


def words(texts: Sequence[str] | Vocabulary, codes: Ints) -> Any:
    """A text column of few different words. Few rows take along only the words that are in them."""
    known = texts if isinstance(texts, Vocabulary) else Vocabulary(texts)
    numbers, every = known.number[codes], known.words
    if len(numbers) < len(every):
        used, inverse = np.unique(numbers, return_inverse=True)
        numbers, every = inverse.astype(np.int32), every.take(pa.array(used))
    return pa.DictionaryArray.from_arrays(pa.array(numbers), every, safe=False)


STATE_WORDS, CAUSE_WORDS = Vocabulary(STATES), Vocabulary(CAUSES)
QUALITIES = Vocabulary(_QUALITIES)
FLAGS = Vocabulary(
    [
        "+".join(sorted(word for bit, word in enumerate(_FLAGS) if code >> bit & 1))
        for code in range(1 << len(_FLAGS))
    ]
)
"""By sums of IS_ROUNDED to IS_REPLACED of kernels.rows."""


def times(values: Ints, missing: Bools | None = None) -> Any:
    """UTC milliseconds as instants."""
    return pa.array(values, _TIME, mask=missing)


def amounts(millionths: Ints, unknown: Bools | None = None, exponent: Ints | int = 0) -> Any:
    """Exact decimals: millionths of the canonical unit in units of 10**exponent of it."""
    pairs = wide(millionths, 10 ** (_NANO_DIGITS - _MICRO_DIGITS - exponent))
    return decimals(pairs, None if unknown is None else ~unknown)


def decimals(pairs: Ints, there: Bools | None = None) -> Any:
    """128 bits a row, low half first, as exact decimals with nine places."""
    missing, mask = 0, None
    if there is not None and not there.all():
        missing, mask = int((~there).sum()), pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(_AMOUNT, len(pairs), [mask, pa.py_buffer(pairs)], missing)


def means(total: Ints, rest: Ints, known: Ints, exponent: Ints | int) -> Ints:
    """Means in 10^-9 of units of 10**exponent of the canonical one, rounded once, half to even.

    ``total`` x 2^32 + ``rest``: millionths x milliseconds, of ``known`` milliseconds; none where that is 0.
    """
    power = np.broadcast_to(exponent, known.shape)
    rows = zip(*(column.tolist() for column in (total, rest, known, power)), strict=True)
    nano = [_mean((high << 32) + low, length, 10 ** (3 - power)) for high, low, length, power in rows]
    return np.array(nano, np.int64)


def _mean(total: int, length: int, factor: int) -> int:
    quotient, rest = divmod(total * factor, max(length, 1))
    return quotient + (2 * rest > length or (2 * rest == length and quotient % 2 == 1)) if length else 0


def numbers(values: NDArray[np.float64]) -> Any:
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def table(of: Table, columns: Columns, position: int | Ints, gone: Bools | None = None) -> pa.Table:
    """Rows of a table; ``gone`` rows carry a negative position: since it their key has no row."""
    wanted = schema(of)
    n = len(next(iter(columns.values())))
    positions = np.full(n, position, np.int64)
    if gone is not None:
        positions[gone] = -positions[gone] - 1
    columns[POSITION] = pa.array(positions)
    arrays = [columns[f.name] if f.name in columns else pa.nulls(n, f.type) for f in wanted]
    return pa.table(arrays, names=[f.name for f in wanted])


def story(final: Bools, revision: Ints, cause: Ints, reported: Ints) -> Columns:
    return {
        "state": words(STATE_WORDS, states(final, revision)),
        "revision": pa.array(revision.astype(np.int64)),
        "cause": words(CAUSE_WORDS, cause.astype(np.int64)),
        "reported": times(np.maximum(reported, TIME_FIRST_MS)),
    }


def plain(of: Table, rows: list[dict[str, object]], position: int | Ints, gone: Bools | None) -> pa.Table:
    """A few rows, given as dictionaries."""
    wanted = schema(of)
    columns = {
        f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in wanted if f.name != POSITION
    }
    return table(of, columns, position, gone)


def decimal(value: int, point: Any) -> str:
    """A register value (millionths of the canonical unit) as its meter shows it, as text for evidence; to six
    decimals where the point's unit is no power of ten of the canonical one.
    """
    shown = Fraction(value) / point.unit.factor
    exponent = point.unit.decimal_exponent
    places = _MICRO_DIGITS + (0 if exponent is None else max(exponent, 0))
    exact = Decimal(round(shown * 10 ** (places - _MICRO_DIGITS))).scaleb(-places)
    return f"{exact.normalize():f} {point.unit.name}"


def hourly(per_hour: int, point: Any) -> str:
    """Millionths of the canonical unit in an hour as a site file has them, rounded up to three digits."""
    shown, unit = Fraction(per_hour, MICRO) / point.amount_unit.factor, point.amount_unit.name
    power = len(str(ceil(shown * 100))) - 2 - _RATE_DIGITS if shown >= 1 else -_MICRO_DIGITS
    exact = Decimal(ceil(shown / Fraction(10) ** power)).scaleb(power)
    return f"{exact.normalize():f} {_PER_HOUR.get(unit, f'{unit}/h')}"


def per(amount: int, unit: str) -> str:
    return unit if amount == 1 else f"{amount} {unit}"
