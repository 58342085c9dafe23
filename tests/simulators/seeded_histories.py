"""Seeded worlds of random histories instead of simulated plants: far odder readings and decisions, no truth.

python -m tests.simulators.seeded_histories --seeds 1..1000 --jobs 2
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from random import Random

from metering.readings import MeterQuality
from simulators.recording import Message
from simulators.seeded import main
from simulators.seeded_script import Script
from simulators.seeded_world import World
from tests.processors.histories import SMALL, doubtful, mixed, replaced
from tests.processors.histories_ruled import ruled
from tests.processors.histories_sparse import sparsely
from tests.processors.log_driver import MINUTE_MS, Decide, Item

PAUSES_MS = (0, 0, 0, 500, MINUTE_MS, 20 * MINUTE_MS, 24 * 60 * MINUTE_MS)


def world_of_history(seed: int) -> World:
    """Always the same of the same seed."""
    chance = Random(seed)
    history = chance.choice((mixed, mixed, doubtful, replaced, ruled, sparsely))(chance, SMALL)
    messages: list[Message] = []
    at_ms = history.readings[0].time_ms
    for item in history.readings:
        at_ms = max(at_ms + chance.choice(PAUSES_MS), item.time_ms)
        messages.append(_message(at_ms, item))
    names = frozenset[tuple[str, str]]()
    script = Script(history.roster, (), tuple(messages), names, history.readings[0].time_ms)
    return World(seed, script=script)


def _message(at_ms: int, item: Item) -> Message:
    topic = f"meterflow/v1/{item.plant}/{item.point}"
    if isinstance(item, Decide):
        said = item.said
        row = {"from": said.from_ms, "to": said.to_ms, "verdict": said.verdict, "by": said.by}
        row |= {"revision": said.revision, "serial": said.serial, "value": said.value or None}
        return Message(at_ms, f"{topic}/decision", 1, json.dumps(_stated(row)).encode())
    quality = None if item.quality == MeterQuality.UNSTATED else item.quality.name.lower()
    fields = {"time": item.time_ms, "start": item.start_ms, "value": item.value, "revision": item.revision}
    fields |= {"serial": item.serial, "unit": item.unit, "product": item.product, "quality": quality}
    return Message(at_ms, topic, 1, json.dumps(_stated(fields)).encode())


def _stated(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main(make=world_of_history))
