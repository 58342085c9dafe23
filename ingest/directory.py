"""The roster as ingest looks things up in it: topics to points, and what a point takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.numbers import Fault, shown
from ingest.reasons import Reason
from metering.roster import INTERVAL, Roster
from metering.units import UNITS, convertible

PREFIX = "meterflow/v1/"
DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a topic leads: to a point's index in the roster, or to a whole plant (``point`` -1).

    ``decision``: whether people's decisions on the point come there, instead of readings.
    """

    plant: str
    point: int
    decision: bool = False


class Directory:
    """One roster, indexed. Built once a roster, which may take as long as the site is large.

    ``codes``: where the topics of the site lead. A point's topic: its index in the roster; a
    plant's: ``-2 - index`` of the plant. Every other topic is ``UNKNOWN`` and goes through ``route``.
    """

    UNKNOWN = -1

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.points = roster.points
        self.names = roster.names
        self.plant_ids = [plant.id for plant in roster.plants]
        self.plant_of = np.array([point.plant for point in roster.points], np.int64)
        self.reads_intervals = np.array([point.reads == INTERVAL for point in roster.points], np.bool_)
        self.codes = {
            f"{PREFIX}{plant}/{point}": index
            for plant, points in roster.names.items()
            for point, index in points.items()
        } | {f"{PREFIX}{plant}": -2 - index for index, plant in enumerate(self.plant_ids)}
        self._owners = {point: plant for plant, points in roster.names.items() for point in points}
        self._units: dict[tuple[str, int], Reason | None] = {}
        self._takers: dict[str, NDArray[np.bool_]] = {}

    def route(self, topic: str) -> Route | Fault:
        """Where any topic leads; the caller's right to publish there is checked elsewhere."""
        if not topic.startswith(PREFIX):
            return Fault(Reason.TOPIC_UNKNOWN, f"readings come on {PREFIX}PLANT/POINT or {PREFIX}PLANT")
        levels = topic[len(PREFIX) :].split("/")
        if "" in levels or len(levels) > 3 or (len(levels) == 3 and levels[2] != DECISION):
            return Fault(Reason.TOPIC_UNKNOWN, f"readings come on {PREFIX}PLANT/POINT or {PREFIX}PLANT")
        plant = levels[0]
        if plant not in self.names:
            return Fault(Reason.UNKNOWN_PLANT, f"no plant {shown(plant)!r} in the site file")
        if len(levels) == 1:
            return Route(plant, -1)
        index = self.find(plant, levels[1])
        if isinstance(index, Fault):
            return index
        return Route(plant, index, decision=len(levels) == 3)

    def find(self, plant: str, point: str) -> int | Fault:
        """The index of a known plant's point."""
        index = self.names[plant].get(point)
        if index is not None:
            return index
        owner = self._owners.get(point)
        if owner is not None:
            return Fault(Reason.POINT_OF_OTHER_PLANT, f"point {shown(point)!r} belongs to plant {owner!r}")
        return Fault(Reason.UNKNOWN_POINT, f"plant {plant!r} has no point {shown(point)!r}")

    def unit_fault(self, unit: str, index: int) -> Reason | None:
        """Why a point does not take a unit; only known units are remembered, so that there are few."""
        if unit not in UNITS:
            return Reason.UNIT_UNKNOWN
        key = unit, index
        if key not in self._units:
            fits = convertible(UNITS[unit], self.points[index].unit)
            self._units[key] = None if fits else Reason.UNIT_NOT_CONVERTIBLE
        return self._units[key]

    def takers(self, unit: str) -> NDArray[np.bool_]:
        """Which points take a unit; none take an unknown one."""
        if unit not in UNITS:
            return np.zeros(len(self.points), np.bool_)
        if unit not in self._takers:
            fits = {own: convertible(UNITS[unit], own) for own in {point.unit for point in self.points}}
            self._takers[unit] = np.array([fits[point.unit] for point in self.points], np.bool_)
        return self._takers[unit]

    def plant_of_code(self, code: int) -> str:
        """The plant that a code other than ``UNKNOWN`` leads to."""
        return self.plant_ids[self.points[code].plant if code >= 0 else -2 - code]

    def topic_of_code(self, code: int) -> str:
        """The topic that leads there."""
        plant = f"{PREFIX}{self.plant_of_code(code)}"
        return plant if code < 0 else f"{plant}/{self.points[code].id}"

    def points_of(self, code: int) -> dict[str, int]:
        """The points of the plant that a plant's code stands for."""
        return self.names.get(self.plant_ids[-2 - code], {})


def plant_of_topic(topic: str) -> str | None:
    """The plant a topic names, known or not; None for foreign topics."""
    return topic[len(PREFIX) :].split("/", 1)[0] if topic.startswith(PREFIX) else None
