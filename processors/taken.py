"""Readings of several records of the log as columns, one after the other, and what is refused of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metering.readings import NO_CODE, Dictionary, Readings
from processors.decisions import Refused

if TYPE_CHECKING:
    from processors.batch import SeriesIndex

Ints = NDArray[np.int64]


class Source(Protocol):
    """Columns of readings, joined."""

    def of(self, name: str) -> NDArray[Any]:
        """A column of numbers."""

    def named(self, name: str) -> bool:
        """Whether any reading may have a text in this column."""

    def text(self, name: str) -> Dictionary:
        """A column of texts."""

    def points(self, names: Mapping[str, Mapping[str, int]]) -> Ints:
        """The numbers of all readings' points, by the names of each plant; -1 of unknown ones."""

    def plant_and_point(self, row: int) -> tuple[str, str]:
        """Whose reading it is."""


class Parts:
    """The columns of several ``Readings``, joined once, so that many small ones cost little more than one."""

    def __init__(self, parts: Sequence[Readings]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *map(len, parts)])

    def of(self, name: str) -> NDArray[Any]:
        """A column of numbers."""
        return np.concatenate([getattr(readings, name) for readings in self._parts])

    def named(self, name: str) -> bool:
        """Whether any reading may have a text in this column."""
        return any(getattr(readings, name).words for readings in self._parts)

    def text(self, name: str) -> Dictionary:
        """A column of texts, with the words of all."""
        known: dict[tuple[str, ...], Ints] = {}
        words: dict[str, int] = {}
        out = []
        for readings in self._parts:
            text: Dictionary = getattr(readings, name)
            if text.words not in known:
                codes = [words.setdefault(word, len(words)) for word in text.words]
                known[text.words] = np.array([*codes, NO_CODE], np.int64)  # NO_CODE is the last one's place
            out.append(known[text.words][text.codes])
        return Dictionary(tuple(words), np.concatenate(out))

    def points(self, names: Mapping[str, Mapping[str, int]]) -> Ints:
        """The numbers of all readings' points, by the names of each plant; -1 of unknown ones."""
        known: dict[tuple[str, tuple[str, ...]], Ints] = {}
        out = []
        for readings in self._parts:
            plant, words = readings.plant, readings.point.words
            if (plant, words) not in known:
                of_plant = names.get(plant, {})
                known[plant, words] = np.array([of_plant.get(word, -1) for word in words] or [-1], np.int64)
            out.append(known[plant, words][readings.point.codes])
        return np.concatenate(out)

    def plant_and_point(self, row: int) -> tuple[str, str]:
        """Whose reading it is."""
        part = int(np.searchsorted(self._first, row, "right")) - 1
        readings = self._parts[part]
        return readings.plant, readings.point.text(row - int(self._first[part])) or ""


class Taken:
    """The readings of a source that are not refused yet. Refused rows stay in place, not kept."""

    def __init__(self, source: Source, record: Ints, index: SeriesIndex, refused: list[Refused]) -> None:
        self.index, self._refused, self._source = index, refused, source
        self.of, self.text, self.named = source.of, source.text, source.named
        self.record = record.astype(np.int64, copy=False)
        self.point = source.points(index.roster.names)
        self.keep = np.ones(len(record), bool)

    def refuse(self, bad: NDArray[np.bool_], reason: str, detail: str) -> None:
        """Leaves out what is ``bad`` and not refused already."""
        if bad.any():
            for row in np.flatnonzero(bad & self.keep).tolist():
                plant, point = self._source.plant_and_point(row)
                time_ms = int(self.of("time")[row])
                self._refused.append(Refused(int(self.record[row]), plant, point, time_ms, reason, detail))
            self.keep &= ~bad
