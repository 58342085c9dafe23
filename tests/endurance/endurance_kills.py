"""kill -9 again and again, at chosen moments, while simulated plants publish to the embedded service.

From the middle on another site file is applied, which the kills do not stop, and in the end it is in force.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.endurance.endurance_world import (
    Publisher,
    World,
    archive_faults,
    differences,
    ready,
    service_of,
    settled,
    simulated,
    unbalanced,
)
from tests.meterflow.helper import COMMAND, Service, environment, eventually

PUBLISHERS = 2
MOMENTS = ("any", "start", "store", "archive", "stop", "log")
RARE = "save"
"""A state is saved every half minute: only in a long run."""
SAVE_S = 40.0
LIFE_S = 3.0
"""Over so long the messages of a life are spread."""
APPLY_S = 1800.0
FOLLOWED_S = 2.0
"""How long a kill waits for its moment."""


@dataclass(slots=True)
class Outcome:
    """What a run of kills found. ``lost``, ``double``: readings; ``faults``: all that is wrong."""

    lost: int = 0
    double: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    inside: int = 0
    """Kills that came right behind a write of what they waited for."""
    changing: int = 0
    """Starts, or lives, in which the change of the site file was under way."""
    readings: int = 0
    messages: int = 0
    resent: int = 0
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The closing lines of a run."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kills.items()))
        lines = [
            *self.faults,
            f"{self.kills.total()} kills ({kinds}), {self.inside} right behind a write",
            f"the site file was being changed in {self.changing} lives",
            f"{self.readings} readings, {self.messages} messages acknowledged, {self.resent} sent again",
            f"lost {self.lost} double {self.double}"
            + (f", {len(self.faults)} faults" if self.faults else ""),
        ]
        return "\n".join(lines)


def run(folder: Path, seed: int, kills: int, readings: int, say: Callable[[str], None]) -> Outcome:
    """Simulates, publishes, kills, and compares; the folder has to be empty."""
    world = simulated(folder, seed, readings, changed=True)
    say(f"{world.messages} messages")
    service = service_of(world, folder / "data", "--archive-every", "1")
    publishers = [Publisher(world, service, share, PUBLISHERS) for share in range(PUBLISHERS)]
    outcome = Outcome()
    try:
        for publisher in publishers:
            publisher.start()
        _lives(service, publishers, random.Random(seed), kills, outcome, say, _Change(service, world))
        _compare(service, publishers, world, folder, outcome)
    finally:
        for publisher in publishers:
            publisher.end()
        if service.process is not None:
            service.kill()
    return outcome


class _Change:
    """The site file is changed under way: asked for once, killed with the service, and gone on with."""

    def __init__(self, service: Service, world: World) -> None:
        self._service = service
        words = ["--data", str(service.folder), "--yes", "--no-plan"]
        self._command = [*COMMAND, "apply", str(world.site), *words]
        self._wanted = False
        self._asking: subprocess.Popen[bytes] | None = None

    def ask(self) -> None:
        self._wanted = True

    def begin(self) -> None:
        """Asks the service that runs, and does not wait for it."""
        if self._wanted and self._asking is None:
            out = subprocess.DEVNULL
            self._asking = subprocess.Popen(self._command, stdout=out, stderr=out, env=environment())
            taken = self._service.folder / "next"
            eventually(lambda: taken.exists() or self._asking_ended(), 60, "the change is taken")

    def _asking_ended(self) -> bool:
        return self._asking is not None and self._asking.poll() is not None

    def to_the_end(self) -> None:
        """It is in force when this returns."""
        if self._asking is not None:
            self._asking.kill()
            self._asking.wait()
        ended = subprocess.run(
            self._command, capture_output=True, timeout=APPLY_S, env=environment(), check=False
        )
        assert ended.returncode == 0, ended.stderr


def _lives(
    service: Service,
    publishers: list[Publisher],
    chance: random.Random,
    kills: int,
    outcome: Outcome,
    say: Callable[[str], None],
    change: _Change,
) -> None:
    moments = _moments(chance, kills)
    for number, moment in enumerate(moments, 1):
        publish = partial(_go_on, publishers, number / (kills + 1))
        if number > kills // 2 and moment != "start":
            change.ask()
        outcome.inside += _one_life(service, moment, chance, publish, change)
        outcome.kills[moment] += 1
        acknowledged = sum(publisher.acknowledged for publisher in publishers)
        say(f"kill {number} of {kills}: {moment}, {acknowledged} messages acknowledged so far")
    service.launch()
    ready(service)
    _go_on(publishers, 1.0, 0.1)
    change.to_the_end()


def _go_on(publishers: list[Publisher], part: float, seconds: float = LIFE_S) -> None:
    """So that something is on its way whenever the kill comes."""
    for publisher in publishers:
        publisher.go_on(part, seconds)


def _moments(chance: random.Random, kills: int) -> list[str]:
    """Every kind of moment about equally often, in an order by chance."""
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
    if kills >= 50:
        moments[: kills // 20] = [RARE] * (kills // 20)
    chance.shuffle(moments)
    return moments


def _one_life(
    service: Service, moment: str, chance: random.Random, publish: Callable[[], None], change: _Change
) -> bool:
    """Starts the service and kills it; whether that was right behind a write of what was waited for."""
    service.launch()
    if moment == "start":
        publish()
        time.sleep(chance.uniform(0.2, 2.5))
        service.kill()
        return False
    ready(service)
    publish()
    change.begin()
    time.sleep(chance.uniform(0, 0.7))
    inside = False
    if moment == "any":
        time.sleep(chance.uniform(0, 1.5))
    elif moment == "stop":
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        time.sleep(chance.uniform(0, 0.6))
    elif moment == RARE:
        inside = _changes(lambda: _saved(service.folder), SAVE_S)
    else:
        inside = _changes(lambda: _sizes(service.folder, moment), FOLLOWED_S)
        time.sleep(chance.choice((0, 0, 0.001, 0.003, 0.01)))
    service.kill()
    return inside


def _changes(look: Callable[[], object], within_s: float) -> bool:
    """Waits until what is looked at is another; false when it is not in time."""
    before, until_s = look(), time.monotonic() + within_s
    while time.monotonic() < until_s:
        if look() != before:
            return True
        time.sleep(0.0005)
    return False


def _sizes(folder: Path, what: str) -> list[tuple[str, int]]:
    """The files of one part of the data folder, and how long they are."""
    patterns = {"store": "results.duckdb*", "log": "log.sqlite*", "archive": "archive/manifest/**/*"}
    return sorted(_with_sizes(folder.glob(patterns[what])))


def _with_sizes(paths: Iterable[Path]) -> Iterable[tuple[str, int]]:
    for path in paths:
        with suppress(FileNotFoundError):
            yield path.name, path.stat().st_size


def _saved(folder: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(folder / "log.sqlite", timeout=5)) as log:
        return log.execute("SELECT offset FROM consumer ORDER BY id").fetchall()


def _compare(
    service: Service, publishers: list[Publisher], world: World, folder: Path, outcome: Outcome
) -> None:
    eventually(lambda: not any(publisher.is_alive() for publisher in publishers), 900, "acknowledged")
    outcome.messages = sum(publisher.acknowledged for publisher in publishers)
    outcome.resent = sum(publisher.resent for publisher in publishers)
    outcome.faults += [publisher.error for publisher in publishers if publisher.error]
    accepted, outcome.readings = settled(service, 900), world.accepted
    outcome.lost, outcome.double = max(0, world.accepted - accepted), max(0, accepted - world.accepted)
    for table, (missing, more) in differences(service, world, folder / "scratch").items():
        if missing or more:
            outcome.faults.append(f"{table}: {missing} rows of compute are missing, {more} are more")
    outcome.faults += unbalanced(service)
    service.stop()
    outcome.changing = service.said.count("a site file is being worked out beside")
    outcome.faults += archive_faults(service, world, folder / "scratch")
    outcome.faults += [f"put aside: {path.name}" for path in service.folder.glob("*.damaged-*")]
    if "Traceback" in service.said:
        outcome.faults.append(service.said[service.said.index("Traceback") :][:3000])
    with closing(sqlite3.connect(service.folder / "log.sqlite")) as log:
        found = log.execute("PRAGMA integrity_check").fetchall()
    outcome.faults += [f"log: {row}" for row in found if row != ("ok",)]
