"""What the chaos run publishes, by which door each message comes in, and what is restated in the middle.

All of it is a function of the seed. A simulated world with faults (docs/formats.md#faults) is cut in three
by topic: one part goes to the broker, one to each endpoint, and some messages to two of them. Of the
month that ends in the middle, one point first says less than it had counted, and another one says
nothing of some days: the second half of the run corrects both, so that in the end all is as it was.
People decide about what was not plain all the while (tests.chaos.people).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from meterflow.simulating import write_world
from simulators.recording import Message, RecordingWriter, read_recording, write_recording
from simulators.world import Plan, kinds_of
from simulators.world_profile import load_profile
from tests.chaos.people import with_decisions

PROFILE = Path(__file__).with_name("plant.yaml")
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
TURN_MS = 1_769_875_200_000
"""2026-01-31T16:00:00Z: in Shanghai a month begins."""
PLANTS_MIN, HOURS_MIN, HOURS_MAX = 4, 4, 24 * 62
AN_HOUR = 4 * 60 + 1
"""Readings of a plant in an hour."""
INTERVALS = {"heat-reports", "books"}
"""Points of the profile that say how much it was over a time."""
DOORS = ("broker", "endpoint-1", "endpoint-2")
TWICE = 0.02
RECEIVED_MS = 1_780_000_000_000
"""When messages are said to have come, in the recordings: after everything that is in them."""
AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class World:
    """``whole``: everything once, for ``meterflow compute``; ``doors``: what is published where."""

    site: Path
    truth: Path
    whole: Path
    doors: dict[str, Path]
    plants: list[str]
    messages: int
    restated: int
    decisions: int


def make_world(folder: Path, seed: int, readings: int, seconds: float) -> World:
    """About so many readings, to be published over so many seconds."""
    plants = max(PLANTS_MIN, -(-readings // (AN_HOUR * HOURS_MAX)))
    half_ms = min(max(readings // (AN_HOUR * plants), HOURS_MIN), HOURS_MAX) * HOUR_MS // 2
    half_ms = half_ms // MINUTE_MS * MINUTE_MS
    plan = Plan(seed, TURN_MS - half_ms, TURN_MS + half_ms, kinds_of("all"), 0.5)
    profile, base, truth = load_profile(str(PROFILE)), folder / "world.ndjson", folder / "truth"
    made, _ = write_world(base, truth, profile, plan, plants, lambda *_: None)
    site = folder / "site.yaml"
    site.write_text(with_groups((truth / "site.yaml").read_text()))
    names = [plant.id for plant in made]
    messages, restated = restating(list(read_recording(base)), names)
    messages, decisions = with_decisions(messages, folder, site, INTERVALS, random.Random(seed))
    base.unlink()
    whole = folder / "whole.ndjson"
    with write_recording(whole) as recording:
        for number, message in enumerate(messages):
            recording.write(message._replace(received_ms=RECEIVED_MS + number // AT_ONCE))
    doors = _doors(folder, messages, random.Random(seed), seconds)
    return World(site, truth, whole, doors, names, len(messages), restated, decisions)


def with_groups(text: str) -> str:
    """The same plants in two groups, the first of which has an intensity, and with alerts."""
    yaml, out = YAML(), StringIO()
    site = yaml.load(text)
    ratio = {"id": "yuan", "of": "electricity", "per": "value_added", "windows": ["month"]}
    site["groups"] = [{"id": "park", "kind": "park", "intensity": [ratio]}, {"id": "east", "kind": "park"}]
    for number, plant in enumerate(site["plants"]):
        plant["within"] = ["park"] if number % 2 else ["park", "east"]
        plant["alerts"] = [
            {"id": "hot", "when": "kwh-per-t", "window": "15m", "above": 75, "clear_below": 70}
        ]
        for point in plant["points"]:
            if point["reads"] == "register" and point["id"] in {"roof", "intake"}:
                point["base"] = "15m"
    yaml.dump(site, out)
    return out.getvalue()


def restating(messages: list[Message], plants: list[str]) -> tuple[list[Message], int]:
    """What was said wrong or not at all before the month's end, said right from the middle on."""
    wrong, silent = f"meterflow/v1/{plants[0]}/count", f"meterflow/v1/{plants[1]}/main"
    first: list[Message] = []
    later: list[Message] = []
    for message in messages:
        if message.topic in {wrong, silent} and (reading := _of_month(message)) is not None:
            if message.topic == silent:
                later.append(message)
                continue
            first.append(message._replace(payload=_with(reading, value=_less(reading["value"]))))
            later.append(message._replace(payload=_with(reading, revision=1)))
        else:
            first.append(message)
    middle = len(first) // 2
    step = max(1, (len(first) - middle) // (2 * max(1, len(later))))
    out, rest = first[:middle], iter(later)
    for number, message in enumerate(first[middle:]):
        out.append(message)
        if number % step == 0:
            out += [one for one in (next(rest, None),) if one is not None]
    return [*out, *rest], len(later)


def _of_month(message: Message) -> dict[str, Any] | None:
    try:
        reading: dict[str, Any] = json.loads(message.payload)
    except ValueError:
        return None
    return reading if "value" in reading and reading["time"] < TURN_MS else None


def _less(value: str) -> str:
    """A tonne less, where there is one."""
    whole, _, rest = value.partition(".")
    return value if int(whole) < 1 else f"{int(whole) - 1}.{rest}"


def _with(reading: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({**reading, **more}, separators=(",", ":")).encode()


def _doors(folder: Path, messages: list[Message], chance: random.Random, seconds: float) -> dict[str, Path]:
    paths = {door: folder / f"{door}.ndjson" for door in DOORS}
    of_topic: dict[str, str] = {}
    with _writers(paths) as writers:
        for number, message in enumerate(messages):
            if message.topic not in of_topic:
                of_topic[message.topic] = chance.choice(DOORS)
            at_ms = RECEIVED_MS + int(number * seconds * 1000 / len(messages))
            door, again = of_topic[message.topic], chance.random() < TWICE
            for one in {door, chance.choice(DOORS)} if again else {door}:
                writers[one].write(message._replace(received_ms=at_ms))
    return paths


class _writers:  # noqa: N801 a context manager that is used like a function
    def __init__(self, paths: dict[str, Path]) -> None:
        self._open = {name: write_recording(path) for name, path in paths.items()}

    def __enter__(self) -> dict[str, RecordingWriter]:
        return {name: one.__enter__() for name, one in self._open.items()}

    def __exit__(self, *error: object) -> None:
        for one in self._open.values():
            one.__exit__(*error)  # type: ignore[arg-type]


def messages_between(path: Path, first: int, until: int) -> Iterator[Message]:
    """Those of a recording from one number up to another."""
    for number, message in enumerate(read_recording(path)):
        if first <= number < until:
            yield message
