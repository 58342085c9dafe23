"""A share of a roster: what one partition's processor has to know, its own plants and nobody else's.

Groups keep only the plants of the share: what is added up of them is a portion of the group, which a
second stage adds to the others. Ratios of groups can be had only there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from metering.roster import Group, Plant, Point, Roster

GROUP = "group:"


def share_of(roster: Roster, plants: Collection[str], *, ratios_of_groups: bool = False) -> Roster:
    """The roster of these plants alone, with the version of the whole; indices count anew from 0.

    ``ratios_of_groups``: groups keep theirs, too, as all plants of each of them are among these, or none.
    """
    kept = [plant for plant in roster.plants if plant.id in plants]
    points = [roster.points[index] for plant in kept for index in plant.points]
    number = {point.index: new for new, point in enumerate(points)}
    place = {plant.index: new for new, plant in enumerate(kept)}
    scopes = {f"plant:{plant.id}" for plant in kept}
    groups = [group for group in (_group(each, place) for each in roster.groups) if group.plants]
    if ratios_of_groups:
        scopes |= {f"{GROUP}{group.id}" for group in groups}
    return replace(
        roster,
        plants=tuple(_plant(plant, place, number) for plant in kept),
        groups=tuple(groups),
        points=tuple(_point(point, place, number) for point in points),
        intensities=tuple(one for one in roster.intensities if one.scope in scopes),
        targets=tuple(one for one in roster.targets if one.scope in scopes),
        alerts=tuple(one for one in roster.alerts if one.scope in scopes),
        names={
            plant.id: {name: number[old] for name, old in roster.names[plant.id].items()} for plant in kept
        },
    )


def _plant(plant: Plant, place: dict[int, int], number: dict[int, int]) -> Plant:
    return replace(plant, index=place[plant.index], points=tuple(number[p] for p in plant.points))


def _point(point: Point, place: dict[int, int], number: dict[int, int]) -> Point:
    return replace(point, index=number[point.index], plant=place[point.plant])


def _group(group: Group, place: dict[int, int]) -> Group:
    return replace(group, plants=tuple(place[plant] for plant in group.plants if plant in place))
