"""Recordings of the works in conftest.py, seeded."""

from __future__ import annotations

import json
import random
from pathlib import Path

from simulators.recording import Message, write_recording

BEGIN_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
MINUTE_MS = 60_000


def works(path: Path, minutes: int = 3000, seed: int = 1) -> int:
    """Writes a recording with late, doubled and falling readings; how many different ones there are."""
    chance = random.Random(seed)
    messages, different = [], set()
    kwh10, litres, kg = 9_850_000, 1_000_000, 0
    for minute in range(minutes):
        at = BEGIN_MS + minute * MINUTE_MS
        kwh10 = (kwh10 + chance.randrange(80, 130)) % 10_000_000
        litres += chance.randrange(200, 400)
        kg += chance.randrange(150, 200)
        if minute == minutes // 2:
            litres = 5_000  # the water meter was reset
        values = {"main": f"{kwh10 / 10:.1f}", "intake": f"{litres / 1000:.3f}", "count": f"{kg / 1000:.3f}"}
        late_ms = chance.choice((0,) * 30 + (5 * MINUTE_MS, 90 * MINUTE_MS))
        message = (at + 500 + late_ms, {"time": at, "values": values})
        messages += [message] * chance.choice((1,) * 20 + (2,))
        different |= {(point, at) for point in values}
        if minute % 1440 == 1439:
            day = {
                "time": at + MINUTE_MS,
                "start": at - 1439 * MINUTE_MS,
                "values": {"books": 100_000 + minute},
            }
            messages.append((at + 2 * MINUTE_MS, day))
            different.add(("books", at))
    messages.sort(key=lambda message: message[0])
    with write_recording(path) as recording:
        for received_ms, content in messages:
            payload = json.dumps(content, separators=(",", ":")).encode()
            recording.write(Message(received_ms, "meterflow/v1/works", 1, payload))
    return len(different)
