"""Which fault happens when: all of it decided by the seed, before the run begins."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

COMMITS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "process, results not all appended": ("process", "kafka", {"api": 0, "name": r"chaos\.process-\d+"}),
    "process, end of commit not sent": ("process", "kafka", {"api": 26, "name": r"chaos\.process-\d+"}),
    "process, end of commit not heard": (
        "process",
        "kafka",
        {"api": 26, "name": r"chaos\.process-\d+", "answer": True},
    ),
    "groups, end of commit not sent": ("process", "kafka", {"api": 26, "name": r"chaos\.groups-0"}),
    "state saved, end not heard": (
        "process",
        "kafka",
        {"api": 26, "name": r"chaos\.process-\d+-state", "answer": True},
    ),
    "archive, position not moved": ("process", "kafka", {"api": 26, "name": r"chaos\.archive-\d+"}),
    "sink, write not sent": ("sink", "influxdb", {"begins": "POST /api/v2/write"}),
    "sink, write not heard": ("sink", "influxdb", {"begins": "POST /api/v2/write", "answer": True}),
    "ingest, append not heard": ("ingest", "kafka", {"api": 0, "name": "", "answer": True}),
}
"""What a process is killed in the middle of: its role, the wire, and the request that is held meanwhile."""
WIRES = ("kafka", "influxdb", "collectors", "broker", "endpoint-1", "endpoint-2")
ROLES = ("ingest", "process", "sink")
SERVERS = ("broker", "kafka", "influxdb")
KINDS: tuple[tuple[str, str], ...] = (
    *(("kill in commit", what) for what in COMMITS),
    *(("kill", role) for role in ROLES),
    *(("cut", wire) for wire in WIRES),
    *(("delay", wire) for wire in ("kafka", "influxdb", "collectors")),
    *(("tear", wire) for wire in WIRES),
    *(("slow", wire) for wire in ("kafka", "influxdb", "endpoint-1")),
    *(("zombie", role) for role in ("process", "sink")),
    ("restart", "broker"),
    ("kill", "broker"),
    ("restart", "kafka"),
    ("kill", "kafka"),
    ("restart", "influxdb"),
    ("kill", "influxdb"),
    ("pause", "ingest"),
    ("pause", "influxdb"),
    ("pause", "kafka"),
    ("pause", "broker"),
    ("empty", "influxdb"),
    ("join and leave", "process"),
    *(("full disk", disk) for disk in ("archive", "scratch", "kafka")),
)
OPEN = ("full disk", "influxdb")
"""Rows are missing after it (docs/reliability.md): only where it is asked for by its whole name."""
BRIEF: frozenset[tuple[str, str]] = frozenset(
    {
        ("kill in commit", "state saved, end not heard"),
        ("restart", "kafka"),
        ("restart", "influxdb"),
        ("full disk", "kafka"),
        ("pause", "ingest"),
        ("pause", "influxdb"),
        ("pause", "kafka"),
        ("pause", "broker"),
        ("slow", "kafka"),
        ("slow", "influxdb"),
        ("zombie", "sink"),
    }
)
"""What a brief run does without."""
KILLS_AMONG = 0.6
"""Of the faults beyond the first of each kind, so many are kills of a role."""


def _later(kind: tuple[str, str]) -> float:
    """What slows all down comes later, what takes long earlier."""
    if kind[0] in {"restart", "cut", "pause"} or kind in {("kill", server) for server in SERVERS}:
        return 0.6
    return -0.6 if kind[0] in {"zombie", "join and leave"} else 0.0


def _name(kind: tuple[str, str]) -> str:
    """As it is counted."""
    return f"{kind[0]} ({kind[1]})"


@dataclass(frozen=True, slots=True)
class Fault:
    """``choice``, ``length``: from 0 to 1, by chance: who, and how long."""

    at_s: float
    kind: str
    of: str
    choice: float
    length: float


def schedule(seed: int, seconds: float, faults: int, *, brief: bool = False, only: str = "") -> list[Fault]:
    """Each kind once, in an order by chance, and then more of them up to ``faults``.

    In the first round what slows all down comes rather later: a commit needs Kafka to be killed in.
    """
    chance = random.Random(seed)
    some = [kind for kind in KINDS if re.search(only, _name(kind))]
    some += [OPEN] if only == _name(OPEN) else []
    kinds = [kind for kind in some if not (brief and kind in BRIEF)]
    when = {kind: chance.random() + _later(kind) for kind in kinds}
    kinds.sort(key=when.__getitem__)
    kills = [kind for kind in some if kind[0] == "kill in commit" or kind in [("kill", r) for r in ROLES]]
    while some and len(kinds) < faults:
        kinds.append(chance.choice(kills if kills and chance.random() < KILLS_AMONG else some))
    step = 0.95 * seconds / max(1, len(kinds))
    return [
        Fault(step * (number + chance.random()), kind, of, chance.random(), chance.random())
        for number, (kind, of) in enumerate(kinds)
    ]
