"""What people decide while the run goes on, some of it twice, some before its readings.

``meterflow compute`` says of the messages what was not plain; what somebody decides of it, when, and whether
he thinks better of it later, is chance's. The decisions are messages among the others, so that ``compute``
of everything knows of them, too.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from metering.decisions import CONFLICT
from simulators.recording import Message, write_recording
from tests.meterflow.helper import done

LOOKED_AT = 200_000
"""Of so many messages, or the first part of them, the doubts are looked at."""
DECIDED_MAX = 300
OF_A_REGISTER = ("plain", "reset", "spike", "glitch", "rollover", "decrease")
OF_AN_INTERVAL = ("plain", "spike", "overlap")
AGAIN = 0.3


def with_decisions(
    messages: list[Message], folder: Path, site: Path, intervals: set[str], chance: random.Random
) -> tuple[list[Message], int]:
    """The messages with people's decisions among them, and how many these are; ``intervals``: points."""
    recording, out = folder / "doubted.ndjson", folder / "doubted"
    with write_recording(recording) as file:
        file.write_all(messages[:LOOKED_AT])
    done("compute", recording, "--site", site, "--out", out)
    every = pq.read_table(out / "verdict.parquet").to_pylist()
    rows = [row for row in every if row["from"] != row["to"] or row["verdict"] == CONFLICT]
    recording.unlink()
    chance.shuffle(rows)
    said: list[tuple[float, Message]] = []
    for number, row in enumerate(rows[:DECIDED_MAX]):
        at = chance.random()
        said.append((at, _message(row, intervals, number, 0, chance)))
        if chance.random() < AGAIN:
            said.append((chance.uniform(at, 1), _message(row, intervals, number, 1, chance)))
    said.sort(key=lambda one: one[0])
    merged, place = [], 0
    for at, message in said:
        until = int(at * len(messages))
        merged += [*messages[place:until], message._replace(received_ms=messages[until].received_ms)]
        place = until
    return [*merged, *messages[place:]], len(said)


def _message(
    row: dict[str, Any], intervals: set[str], number: int, revision: int, chance: random.Random
) -> Message:
    conflict = row["verdict"] == CONFLICT
    words = OF_AN_INTERVAL if row["point"] in intervals else OF_A_REGISTER
    decision = {
        "from": int(row["from"].timestamp() * 1000),
        "to": int(row["to"].timestamp() * 1000),
        "verdict": CONFLICT if conflict else chance.choice(words),
        "by": f"person-{number % 7}",
        "revision": revision,
    }
    if conflict:
        decision["value"] = chance.choice(json.loads(row["evidence"])["values"]).split()[0]
    if row["serial"]:
        decision["serial"] = row["serial"]
    topic = f"meterflow/v1/{row['plant']}/{row['point']}/decision"
    return Message(0, topic, 1, json.dumps(decision).encode())
