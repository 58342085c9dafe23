"""The fields of many readings as arrays.

Each column comes with a mask of the rows that are not plain, or None when all are; what a masked
row holds has no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from ingest.columns import Texts
from ingest.directory import Directory
from ingest.judge import QUALITIES, good_text
from ingest.numbers import Exact, epoch_ms, exact
from metering.readings import (
    MAGNITUDE_MAX_EXPONENT,
    MANTISSA_DIGITS_MAX,
    NO_CODE,
    NO_TIME,
    TIME_FIRST_MS,
    Dictionary,
    dictionary,
)

Mask = NDArray[np.bool_] | None
Longs = NDArray[np.int64]
_COMMA, _DOT, _MINUS = 44, 46, 45
_TIMES_REMEMBERED_MAX = 10_000
_UNITS_AT_ONCE_MAX = 16
_times: dict[str, int] = {}
"""Times seen as texts: many points are read at the same instant. Begins again when it is full."""


def is_utf8(data: bytes) -> bool:
    """Whether bytes are text."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def exact_columns(values: Sequence[Raw]) -> tuple[Longs, NDArray[np.int8], NDArray[np.uint8], Mask]:
    """Mantissa, exponent and flags of JSON numbers and decimal texts.

    Plain digits are read all at once; one value that is not makes all be read one by one.
    """
    found = _plain_numbers(b",".join(values), len(values))
    if found is not None:
        return *found, np.zeros(len(values), np.uint8), None
    numbers = [_exact_of(bytes(value)) for value in values]
    bad = np.array([number is None for number in numbers], np.bool_)
    whole = [number or Exact(0, 0, 0) for number in numbers]
    return (
        np.array([number.mantissa for number in whole], np.int64),
        np.array([number.exponent for number in whole], np.int8),
        np.array([number.flags for number in whole], np.uint8),
        bad,
    )


def _exact_of(raw: bytes) -> Exact | None:
    text = raw.decode("ascii", "replace")
    found = exact(text[1:-1] if text.startswith('"') else text)
    return found if isinstance(found, Exact) else None


def _plain_numbers(joined: bytes, count: int) -> tuple[Longs, NDArray[np.int8]] | None:
    """Numbers of at most eighteen digits without exponent; None when one of them is not such a one."""
    text = joined.replace(b'"', b"")
    if text.translate(None, b"0123456789.,-"):
        return None
    marks = np.frombuffer(b",%b," % text, np.uint8)
    ends = np.flatnonzero(marks == _COMMA)
    dots, signs = np.flatnonzero(marks == _DOT), np.flatnonzero(marks == _MINUS)
    if len(ends) != count + 1 or (marks[signs - 1] != _COMMA).any():
        return None
    decimals, owner = np.zeros(count, np.int64), np.searchsorted(ends, dots) - 1
    if len(dots) and (np.diff(owner) == 0).any():
        return None
    decimals[owner] = ends[owner + 1] - dots - 1
    digits = np.diff(ends) - 1
    digits[owner] -= 1
    digits[np.searchsorted(ends, signs) - 1] -= 1
    if digits.min(initial=1) < 1 or digits.max(initial=0) > MANTISSA_DIGITS_MAX:
        return None
    if (digits - decimals).max(initial=0) > MAGNITUDE_MAX_EXPONENT:
        return None
    mantissa = np.fromstring(text.replace(b".", b"").decode(), np.int64, sep=",")
    return mantissa, (-decimals).astype(np.int8)


def time_column(times: list[Any], latest: Longs) -> tuple[Longs, NDArray[np.bool_]]:
    """Times in milliseconds; not plain: before 2000, after ``latest``, or no time."""
    found = _milliseconds(times)
    return found, (found < TIME_FIRST_MS) | (found > latest)


def start_column(
    starts: list[Any], time: Longs, latest: Longs, intervals: NDArray[np.bool_]
) -> tuple[Longs, Mask]:
    """Starts in milliseconds, ``NO_TIME`` for points that read none; not plain: missing or too many."""
    if starts.count(UNSET) == len(starts):
        return np.full(len(starts), NO_TIME, np.int64), intervals if intervals.any() else None
    found = _milliseconds(starts)
    missing = np.array([start is UNSET or start is None for start in starts], np.bool_)
    fits = (found >= TIME_FIRST_MS) & (found <= latest) & (found < time) & ~missing
    return np.where(missing, NO_TIME, found), np.where(intervals, ~fits, ~missing)


def _milliseconds(times: list[Any]) -> Longs:
    """``NO_TIME`` for what is no time, or is finer or larger than whole milliseconds can be."""
    if list(map(type, times)).count(int) == len(times):
        try:
            return np.array(times, np.int64)
        except OverflowError:
            pass
    known = {time: _millisecond(time) for time in {time for time in times if type(time) is str}}
    return np.array([known[t] if type(t) is str else _millisecond(t) for t in times], np.int64)


def _millisecond(time: object) -> int:
    if type(time) is int:
        return time if abs(time) < 10**15 else NO_TIME
    if type(time) is not str:
        return NO_TIME
    known = _times.get(time)
    if known is not None:
        return known
    found = epoch_ms(time)
    if not isinstance(found, int):
        return NO_TIME
    if len(_times) >= _TIMES_REMEMBERED_MAX:
        _times.clear()
    _times[time] = found
    return found


def unit_column(directory: Directory, units: list[Any], points: Sequence[int]) -> tuple[Texts, Mask]:
    """Units as sent; not plain: unknown, or not convertible to the point's."""
    texts = _texts(units)
    return (None, None) if texts is None else (texts, unit_mask(directory, texts, np.array(points, np.int64)))


def unit_mask(directory: Directory, units: Dictionary, points: Longs) -> Mask:
    """Where a unit is unknown, or not convertible to its point's; None for nowhere."""
    if len(units.words) > _UNITS_AT_ONCE_MAX:
        pairs = zip(units.codes.tolist(), points.tolist(), strict=True)
        return np.array([not _takes(directory, units, code, point) for code, point in pairs], np.bool_)
    anybody = np.ones(len(directory.points), np.bool_)  # takes a reading without a unit: NO_CODE, the last
    wrong = ~np.stack([*map(directory.takers, units.words), anybody])[units.codes, points]
    return wrong if wrong.any() else None


def _takes(directory: Directory, units: Dictionary, code: int, point: int) -> bool:
    return code == NO_CODE or directory.unit_fault(units.words[code], point) is None


def text_column(texts: list[Any]) -> tuple[Texts, Mask]:
    """Optional texts; not plain: too long, or not printable."""
    found = _texts(texts)
    if found is None:
        return None, None
    wrong = np.array([*(not good_text(word) for word in found.words), False], np.bool_)
    return found, wrong[found.codes] if wrong.any() else None


def _texts(texts: list[Any]) -> Texts:
    """Null and the empty text are what devices send for none."""
    if texts.count(UNSET) == len(texts):
        return None
    return dictionary([text if text is not UNSET and text else None for text in texts])


def whole_column(numbers: list[Any], none: int, most: int) -> tuple[Longs, Mask]:
    """Optional whole numbers from 0 to ``most``."""
    count = len(numbers)
    if numbers.count(UNSET) == count:
        return np.full(count, none, np.int64), None
    absent = [number is UNSET or number is None for number in numbers]
    bad = [not gone and not 0 <= number <= most for number, gone in zip(numbers, absent, strict=True)]
    found = [none if gone or wrong else n for n, gone, wrong in zip(numbers, absent, bad, strict=True)]
    return np.array(found, np.int64), np.array(bad, np.bool_)


def quality_column(qualities: list[Any]) -> tuple[NDArray[np.uint8], Mask]:
    """What the meters say of their readings; not plain: another word."""
    if qualities.count(UNSET) == len(qualities):
        return np.zeros(len(qualities), np.uint8), None
    codes = [QUALITIES.get(None if quality is UNSET else quality, -1) for quality in qualities]
    found = np.array(codes, np.int64)
    return np.maximum(found, 0).astype(np.uint8), found < 0
