"""What happens outside the service in a seeded world: a few small plants, what they send, what people say.

Plants, faults and truth are those of ``simulators.world``. Beside their readings come corrections (a wrong
value first, the right one by a higher revision later) and decisions, on true grounds or on none; of a point
that somebody decided about on none the truth is not asked.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from metering.decisions import WORDS
from metering.roster import Roster
from metering.site_compile import compile_roster
from metering.site_load import load_site
from simulators.recording import Message
from simulators.world import ALL_KINDS, Plan, Plant, plants
from simulators.world_flow_faults import FLOW_KINDS
from simulators.world_flows import HOUR_MS, MINUTE_MS
from simulators.world_gauges import GAUGE_KINDS
from simulators.world_profile import Profile
from simulators.world_report_faults import REPORT_KINDS
from simulators.world_site import shown, site_text

START_MS = 1_767_571_200_000
"""2026-01-05T00:00Z"""
STARTS_MS = (0, 20 * HOUR_MS, 26 * 24 * HOUR_MS + 21 * HOUR_MS, 82 * 24 * HOUR_MS + 23 * HOUR_MS)
"""Also over the end of a day, of a month, and into summer time."""
NOT_THERE = {
    "flood",
    "restart",
    "wrong_multiplier",
    "summer_time",
    "swapped",
    "mixed",
    *FLOW_KINDS,
    *REPORT_KINDS,
    *GAUGE_KINDS,
}
"""Too many messages; or what corrections and decisions here would change what is to be said of."""
KINDS = tuple(kind for kind in ALL_KINDS if kind not in NOT_THERE)
GROUPS = """groups:
- {id: park, kind: park, intensity: [{id: park-water, of: water, per: value_added, windows: [day]}]}
- {id: town, kind: city}
"""

PROFILE = Profile.model_validate(
    {
        "profile": 1,
        "plant": "mill",
        "time_zone": "Europe/Berlin",
        "energies": ["electricity"],
        "products": [{"id": "parts", "unit": "kg"}],
        "activities": [
            {"id": "press", "kind": "batches", "minutes": (12, 25), "shape": [0.2, 1.0, 0.7], "kinds": 2}
        ],
        "flows": [
            {"id": "drive", "rate": 300, "follows": "press", "base": 0.1, "noise": 0.1},
            {"id": "hall", "rate": 40, "noise": 0.05},
            {"id": "rinse", "rate": 30, "follows": "press", "base": 0.2, "noise": 0.05},
            {"id": "added", "rate": 900, "follows": "press", "noise": 0.05},
            {"id": "made", "rate": 2, "follows": "press", "noise": 0.05},
        ],
        "points": [
            {"id": "main", "measures": "electricity", "unit": "kWh", "limit": "700 kW", "multiplier": 10,
             "expect_every": "2m", "adds": ["drive", "hall"]},
            {"id": "drive", "measures": "electricity", "unit": "kWh", "role": "submeter", "line": "press",
             "limit": "600 kW", "expect_every": "5m", "adds": ["drive"]},
            {"id": "water", "measures": "water", "unit": "m3", "limit": "80 m3/h", "digits": 3, "decimals": 2,
             "expect_every": "2m", "adds": ["rinse"]},
            {"id": "scales", "measures": "output", "product": "parts", "unit": "kg", "role": "submeter",
             "line": "press", "limit": "9 t/h", "digits": 7, "decimals": 1, "expect_every": "5m",
             "adds": ["made"]},
            {"id": "reports", "measures": "output", "reads": "interval", "product": "parts", "unit": "kg",
             "limit": "20 t/h", "decimals": 1, "adds": ["made"],
             "reports": {"per": "batch", "activity": "press", "delay_minutes": (1, 30)}},
            {"id": "books", "measures": "value_added", "reads": "interval", "unit": "CNY", "adds": ["added"],
             "reports": {"per": "shift", "delay_minutes": (5, 90)}},
        ],
        "intensity": [
            {"id": "kwh-per-kg", "of": "electricity", "per": "parts", "windows": ["1h", "day"]},
            {"id": "water-per-kg", "of": "water", "per": "parts", "windows": ["15m"]},
        ],
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """What is going to be sent, by when; ``doubtful``: points of which somebody said what is not so."""

    roster: Roster
    plants: tuple[Plant, ...]
    messages: tuple[Message, ...]
    doubtful: frozenset[tuple[str, str]]
    start_ms: int


def script_of(chance: Random) -> Script:
    """All of it from one stream of chance."""
    start_ms = START_MS + chance.choice(STARTS_MS)
    hours = chance.choice((1, 1, 1, 2))
    kinds = tuple(chance.sample(KINDS, chance.choice((0, 2, 5, len(KINDS)))))
    plan = Plan(chance.randrange(1 << 30), start_ms, start_ms + hours * HOUR_MS, kinds, chance.random())
    made = tuple(plants(PROFILE, plan, chance.choice((1, 1, 2))))
    site = site_text(PROFILE, made).replace("plants:\n", GROUPS + "plants:\n", 1)
    site = site.replace("  time_zone:", "  within: [park, town]\n  time_zone:")
    messages, doubtful = [], set[tuple[str, str]]()
    for plant in made:
        messages += _readings(plant, chance)
        said, points = _decisions(plant, chance)
        messages += said
        doubtful |= points
    messages.sort(key=lambda message: (message.received_ms, message.topic))
    return Script(roster_of(site), made, tuple(messages), frozenset(doubtful), start_ms)


@lru_cache(maxsize=64)
def roster_of(site: str) -> Roster:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.yaml"
        path.write_text(site, "utf-8")
        return compile_roster(load_site(path))


def _readings(plant: Plant, chance: Random) -> list[Message]:
    """What the meters send; some of it is wrong at first, and corrected later."""
    out: list[Message] = []
    for point, stream in zip(plant.points, plant.streams, strict=True):
        topic = f"meterflow/v1/{plant.id}/{point.meter.id}"
        for time_ms, value, received_ms, begun_ms in zip(*(c.tolist() for c in stream.sent()), strict=True):
            fields = {"start": begun_ms} if begun_ms else {}
            right = {**fields, "time": time_ms, "value": shown(point, value)}
            if chance.random() < 0.01:
                wrong = {**right, "value": shown(point, max(value + chance.choice((-40, 3, 500)), 0))}
                later_ms = received_ms + chance.choice((1_000, 20 * MINUTE_MS, 5 * HOUR_MS))
                out += [
                    _message(received_ms, topic, wrong),
                    _message(later_ms, topic, {**right, "revision": 1}),
                ]
            else:
                out.append(_message(received_ms, topic, right))
        out += [
            Message(at_ms, f"meterflow/v1/{plant.id}/{name}", 1, payload)
            for at_ms, name, payload in stream.besides
        ]
    return out


def _decisions(plant: Plant, chance: Random) -> tuple[list[Message], set[tuple[str, str]]]:
    """What people say: of what happened, by its name; in one world of four, of anything, any word."""
    out: list[Message] = []
    doubtful: set[tuple[str, str]] = set()
    for fault in plant.faults:
        if fault.concludes in ("glitch", "spike", "stuck", "reset") and chance.random() < 0.3:
            out.append(_said(plant, fault.point, fault.from_ms, fault.to_ms, fault.concludes, chance))
            doubtful |= {(plant.id, fault.point)} if fault.concludes == "reset" else set()
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        point, stream = chance.choice(list(zip(plant.points, plant.streams, strict=True)))
        times = stream.time_ms.tolist()
        if len(times) > 3:
            first = chance.randrange(len(times) - 2)
            last = min(first + chance.choice((1, 1, 2, 5)), len(times) - 1)
            from_ms = times[first] if stream.start_ms is None else int(stream.start_ms[last])
            word = chance.choice([word for word in WORDS if word != "conflict"])
            out.append(_said(plant, point.meter.id, from_ms, times[last], word, chance))
            doubtful.add((plant.id, point.meter.id))
    return out, doubtful


def _said(plant: Plant, point: str, from_ms: int, to_ms: int, word: str, chance: Random) -> Message:
    row = {"from": from_ms, "to": to_ms, "verdict": word, "by": chance.choice(("li", "wang"))}
    if chance.random() < 0.3:
        row["revision"] = chance.choice((1, 2))
    at_ms = to_ms + chance.choice((0, MINUTE_MS, HOUR_MS, 30 * HOUR_MS))
    return _message(at_ms, f"meterflow/v1/{plant.id}/{point}/decision", row)


def _message(at_ms: int, topic: str, fields: dict[str, object]) -> Message:
    return Message(at_ms, topic, 1, json.dumps(fields).encode())
