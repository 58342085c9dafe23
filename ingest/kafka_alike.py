"""Readings of records that are laid out alike: their columns, without a parser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.columns import Columns, Texts, plain_columns
from ingest.directory import Directory
from ingest.fast_fields import unit_mask
from ingest.kafka_fields import UNITS_MAX, USUAL, JsonFields
from ingest.kafka_layout import Layout, NotAlike, Words, words_of
from ingest.kafka_values import Values
from metering.readings import FUTURE_MAX_MS, NO_CODE, TIME_FIRST_MS, Dictionary

Ints = NDArray[np.int64]

_MIX = [
    np.uint64(m) for m in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)
]
_Pair = tuple[Words, Words]


class Alike:
    """Reads batches of one topic; knows the points of one roster by their words."""

    def __init__(self, directory: Directory, names: JsonFields) -> None:
        self._directory, self._names = directory, names.names
        keys = [
            (*plant_words, *point_words, index)
            for plant, points in directory.names.items()
            for point, index in points.items()
            if (plant_words := words_of(plant)) and (point_words := words_of(point))
        ]
        columns = np.array([key[:4] for key in keys], np.uint64).reshape(-1, 4).T
        mixed = _mixed(*columns)
        order = np.argsort(mixed)
        self._mixed, self._keys = mixed[order], columns[:, order]
        self._index = np.array([key[4] for key in keys], np.int64)[order]

    def columns(self, values: Values, received: Ints) -> tuple[Columns, NDArray[np.bool_]]:
        """One reading a value, and which of them are not plain; those hold nonsense.

        Raises NotAlike where the values are to be read by a parser.
        """
        if not len(values):
            raise NotAlike
        layout = Layout(values.all())
        self._check_fields(layout)
        time, behind = layout.numbers(self._names["time"])
        mantissa, decimals = layout.numbers(self._names["value"])
        if behind.any():
            raise NotAlike
        point = self._points(layout.words(self._names["plant"]), layout.words(self._names["point"]))
        bad = (point < 0) | (time < TIME_FIRST_MS) | (time > received + FUTURE_MAX_MS)
        point = np.maximum(point, 0)
        bad |= self._directory.reads_intervals[point]
        unit = self._units(layout)
        wrong = None if unit is None else unit_mask(self._directory, unit, point)
        bad = bad if wrong is None else bad | wrong
        return plain_columns(point, time, mantissa, (-decimals).astype(np.int8), unit), bad

    def _check_fields(self, layout: Layout) -> None:
        """The usual fields are there, of their kinds, none else of ours; other numbers are numbers."""
        texts, names = layout.texts, self._names
        usual = {names[name] for name in USUAL}
        others = layout.columns.keys() - usual
        kinds = [names["plant"] in texts, names["point"] in texts]
        kinds += [name in layout.columns and name not in texts for name in (names["time"], names["value"])]
        kinds.append(names["unit"] not in layout.columns or names["unit"] in texts)
        if not all(kinds) or others & set(names.values()):
            raise NotAlike
        for name in others - texts:
            layout.numbers(name)

    def _points(self, plant: _Pair, point: _Pair) -> Ints:
        """Roster indices, -1 for what the roster does not have."""
        if not len(self._index):
            raise NotAlike
        words = (*plant, *point)
        at = np.minimum(np.searchsorted(self._mixed, _mixed(*words)), len(self._index) - 1)
        same = np.logical_and.reduce(
            [known[at] == word for known, word in zip(self._keys, words, strict=True)]
        )
        return np.where(same, self._index[at], -1)

    def _units(self, layout: Layout) -> Texts:
        """Each unit found is looked for in all readings; there are few."""
        name = self._names["unit"]
        if name not in layout.columns:
            return None
        low, high = layout.words(name)
        codes = np.full(len(low), NO_CODE, np.int32)
        left, words = (low != 0) | (high != 0), list[str]()
        while left.any():
            if len(words) == UNITS_MAX:
                raise NotAlike
            i = int(left.argmax())
            mine = (low == low[i]) & (high == high[i])
            codes[mine] = len(words)
            words.append((int(low[i]) | int(high[i]) << 64).to_bytes(16, "little").rstrip(b"\0").decode())
            left &= ~mine
        return Dictionary(tuple(words), codes)


def _mixed(*words: Words) -> Words:
    """One word of four, different for different ones, mostly: whoever uses it compares them, too."""
    out = words[0] * _MIX[0]
    for word, factor in zip(words[1:], _MIX[1:], strict=True):
        out = (out ^ (out >> np.uint64(29))) + word * factor
    return out
