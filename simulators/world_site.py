"""The site file of a simulated world, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML

from metering.instants import rfc3339
from simulators.world import Plant
from simulators.world_meters import Point
from simulators.world_profile import POLICY, Profile

WORD_MAX: Final = 60
"""A longer text is put in quotes, so that it stays on its line."""


def site_text(profile: Profile, plants: Sequence[Plant]) -> str:
    """A site file that ``meterflow check`` finds nothing wrong with."""
    site: dict[str, Any] = {"meterflow": 1, "policy": POLICY}
    if profile.groups:
        site["groups"] = profile.groups
    site["plants"] = [_plant(profile, plant, i + 1) for i, plant in enumerate(plants)]
    return "\n".join([*_lines(site), ""])


def _lines(value: dict[str, Any] | list[Any]) -> Iterator[str]:
    """A key or an item a line, and no aliases: that is read fast (``metering/yaml_plain.py``)."""
    if isinstance(value, list):
        for one in value:
            first, *more = _lines(one) if isinstance(one, dict | list) and one else [_word(one)]
            yield f"- {first}"
            yield from (f"  {line}" for line in more)
        return
    for key, one in value.items():
        if isinstance(one, dict | list) and one:
            yield f"{key}:"
            indent = "  " if isinstance(one, dict) else ""
            yield from (f"{indent}{line}" for line in _lines(one))
        else:
            yield f"{key}: {_word(one)}"


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        return "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, str) and (len(value) > WORD_MAX or not value.isprintable()):
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return _scalar(type(value).__name__, value)


@lru_cache(1 << 16)
def _scalar(_type: str, value: Any) -> str:
    """As YAML has it: in quotes where it would be taken for something else."""
    out = StringIO()
    YAML(typ="safe", pure=True).dump([value], out)
    return out.getvalue().strip().removeprefix("[").removesuffix("]")


def _plant(profile: Profile, plant: Plant, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": plant.id,
        "name": f"{profile.name or profile.plant} {number}",
        "within": [group["id"] for group in profile.groups],
        "time_zone": profile.time_zone,
        "patience": profile.patience,
        "energies": list(profile.energies),
        "products": [{"id": p.id, "name": p.name or p.id, "unit": p.unit} for p in profile.products],
        "points": [_point(one, plant) for one in plant.points],
        "intensity": [dict(each) for each in profile.intensity],
    }
    return {key: value for key, value in row.items() if value != []}


def _point(one: Point, plant: Plant) -> dict[str, Any]:
    meter = one.meter
    row: dict[str, Any] = {
        "id": meter.id,
        "measures": meter.measures,
        "reads": meter.reads,
        "unit": meter.unit,
        "role": meter.role,
    }
    row |= {key: value for key in ("product", "line") if (value := getattr(meter, key)) is not None}
    if meter.limit is not None:
        per = {1_000: "/s", 60_000: "/min", 3_600_000: "/h", 86_400_000: "/d"}.get(meter.limit.per_ms, "")
        row["limit"] = f"{meter.limit.amount} {meter.limit.unit}{per}"
    if meter.reads != "interval":
        row["expect_every"] = f"{meter.every // 1_000}s"
    if meter.reads == "register":
        row["installations"] = _installations(one, plant)
    elif meter.multiplier != 1:
        row["installations"] = [{"multiplier": meter.multiplier}]
    return row


def _installations(one: Point, plant: Plant) -> list[dict[str, Any]]:
    meter = one.meter
    change, factor = plant.changes.get(meter.id), plant.factors.get(meter.id)
    face: dict[str, Any] = {"digits": meter.digits, "decimals": meter.decimals}
    if meter.multiplier != 1:
        face["multiplier"] = meter.multiplier
    if factor is not None:
        right = {"from": rfc3339(factor.to_ms), "value": meter.multiplier}
        wrong = {"from": rfc3339(factor.from_ms), "value": format(factor.multiplier.normalize(), "f")}
        face["multiplier"] = [{"value": meter.multiplier}, wrong, right]
    if change is None:
        return [face]
    old = {"serial": "A-1", "to": rfc3339(change.to_ms), **face, "final": shown(one, change.final)}
    new = {"serial": "B-2", "from": rfc3339(change.from_ms), **face, "initial": shown(one, change.initial)}
    return [old, new]


def shown(one: Point, steps: int) -> str:
    """A value as the meter shows it."""
    whole, rest = divmod(steps, 10**one.meter.decimals)
    return f"{whole}.{rest:0{one.meter.decimals}}" if one.meter.decimals else str(whole)
