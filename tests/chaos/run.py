"""One chaos run: a world is published, faults happen, and in the end everything has to be as computed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from metering.errors import MeterflowError
from tests.chaos import verify
from tests.chaos.faults import AGAIN_S, happen, stopped
from tests.chaos.publishers import Door, publish_all
from tests.chaos.rolling import other_versions
from tests.chaos.schedule import schedule
from tests.chaos.stack import One, Stack, tracebacks
from tests.chaos.verify import Verdict
from tests.chaos.world import World, make_world
from tests.meterflow.roles import stored

DRAIN_S = 150.0
SETTLE_S = 60.0
QUIET_S = 6.0
LAG_MAX = 3 * 2
"""Ticks and what they lead to: of each partition two."""
Tell = Callable[[str], None]


@dataclass(slots=True)
class Asked:
    """What a run is to be."""

    seed: int
    folder: Path
    readings: int
    seconds: float
    faults: int
    """How many; each kind at least once. 0: that. Below 0: none at all."""
    brief: bool = False
    """Without the kinds of fault that take long."""
    only: str = ""
    """A pattern: only kinds of fault that it is found in."""
    earlier: Path | None = None
    """The tree of an earlier version: in the middle third of the run all copies are of that one."""


@dataclass(slots=True)
class Run:
    """A run under way: its stack and world, what has happened so far."""

    asked: Asked
    world: World
    stack: Stack
    tell: Tell
    doors: list[Door] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    broker_killed_s: list[float] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def note(self, what: str) -> None:
        """Tells something, with when it was."""
        self.tell(f"{time.monotonic() - self.began_s:7.1f} s  {what}")

    async def supervise(self) -> None:
        """Starts copies that have ended by themselves again, as a supervisor does."""
        while True:
            for one in self.stack.copies:
                self._look(one)
            await asyncio.sleep(0.3)

    def _look(self, one: One) -> None:
        process = one.copy.process
        if one.busy or not one.wanted or process is None or process.poll() is None:
            return
        one.ends += 1
        self.note(f"{one.name} has ended by itself with {process.returncode}")
        if process.returncode == 1:
            self.counts["ended by itself"] += 1
        else:
            self.wrong.append(f"{one.name} ended with {process.returncode}: {one.copy.log}")
        one.launch()


async def chaos(asked: Asked, tell: Tell) -> tuple[Verdict, Counter[str]]:
    """Everything; what was found in the end, and how often each fault happened."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    world = await asyncio.to_thread(make_world, asked.folder, asked.seed, asked.readings, asked.seconds)
    wanted, found = asked.folder / "computed", asked.folder / "stored"
    await verify.computed(world, wanted)
    async with Stack(asked.folder, world) as stack:
        run = Run(asked, world, stack, tell)
        run.doors = [Door(name, world.doors[name], url) for name, url in stack.doors.items()]
        told = f"{world.restated} restate a month, {world.decisions} are decisions"
        run.note(f"{world.messages} messages of {len(world.plants)} plants, {told}")
        supervisor = asyncio.create_task(run.supervise())
        try:
            often = asked.seed, asked.seconds, asked.faults
            faults = schedule(*often, brief=asked.brief, only=asked.only) if asked.faults >= 0 else []
            await asyncio.gather(publish_all(run.doors), happen(run, faults), other_versions(run))
            await _after_broker_kills(run)
            verdict = await _end(run, wanted, found)
        finally:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
        await _stopped(run, verdict)
        await verify.check_archive_files(stack.archive, verdict)
        verdict.wrong += run.wrong
        return verdict, run.counts


async def _after_broker_kills(run: Run) -> None:
    """Mosquitto forgets the last seconds when it is killed, acknowledged or not: they are sent again."""
    door = next(door for door in run.doors if door.name == "broker")
    for at_s in run.broker_killed_s:
        again = await door.again(at_s - AGAIN_S, at_s)
        run.note(f"published {again} messages again that the killed broker may have forgotten")


async def _end(run: Run, wanted: Path, found: Path) -> Verdict:
    """Waits until all is drained, then looks; once more a little later where something is amiss."""
    await drained(run)
    until_s = time.monotonic() + SETTLE_S
    while True:
        verdict = Verdict()
        await verify.exported(run.stack, found)
        verify.compare(found, wanted, verdict)
        await asyncio.to_thread(verify.check_archive, run.stack.archive, found, run.world, verdict)
        verify.check_books(found, wanted, verdict)
        anew = run.asked.earlier is not None
        await verify.check_alerts(run.stack.kafka.address, wanted, verdict, anew=anew)
        if verdict.good or time.monotonic() > until_s:
            return verdict
        run.note("not yet as it has to be")
        await asyncio.sleep(3)


async def drained(run: Run) -> None:
    """Until nothing waits, and nothing more comes for a while; gives up after some time."""
    patience_s = max(DRAIN_S, 2 * run.asked.seconds)
    until_s, why, before, since_s = time.monotonic() + patience_s, "nobody answers", -1, time.monotonic()
    run.note("published; waiting until nothing waits")
    while time.monotonic() < until_s:
        with suppress(OSError, MeterflowError):
            received, why = await asyncio.to_thread(_waits, run)
            if why or received != before:
                before, since_s = received, time.monotonic()
            elif time.monotonic() - since_s > QUIET_S:
                run.note("drained")
                return
        await asyncio.sleep(0.5)
    run.wrong.append(f"not drained within {patience_s:.0f} s: {why}")


def _waits(run: Run) -> tuple[int, str]:
    """How many readings the stored results rest on, and what waits; a tick or two may be on their way."""
    rows = [row for row in stored(run.stack.direct, "hop") if row["hop"] == "processors"]
    received, came = sum(int(row["received"]) for row in rows), 0
    for role, part in (("process", "worker"), ("sink", "sink")):
        for one in run.stack.of(role):
            lag = one.copy.metric(f"meterflow_{part}_lag_records") if one.pid else 0
            if lag > LAG_MAX:
                return received, f"{lag:.0f} records wait for the {part} of {one.name}"
            if one.pid and role == "process":
                came += int(one.copy.metric('meterflow_readings_received_total{hop="processors"}'))
    return received, "" if received == came else f"{came} readings came to processors, {received} are stored"


async def _stopped(run: Run, verdict: Verdict) -> None:
    """Every copy stops well when it is asked to, and none has said what nobody should see."""
    for one in run.stack.copies:
        one.wanted = False
        if one.pid:
            verdict.wrong += await asyncio.to_thread(stopped, one)
    verdict.wrong += tracebacks(run.stack.copies)
