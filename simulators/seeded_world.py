"""The seeded world: meters, ingest, log, processors and store in one process; a seed says what happens.

Everything real but what touches the outside: decoders, intake, ticker, workers with their commit, operators,
groups. Whenever nothing can go on by itself, ``World`` chooses what happens next: messages are sent, a step
of some process is let go on or fails, time passes, a process is killed between two steps, frozen or handed
over, another takes its place, results are stored. Then all calms down, everything has to come to its end, and
``simulators.seeded_laws`` looks at what is there. The same seed gives the same world, step by step.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from bus.log import PORTIONS, READINGS, RESULTS
from bus.log_memory import MemoryLog
from metering.errors import NotOwner
from simulators.recording import Message
from simulators.seeded_log import Disk, SeededLog
from simulators.seeded_loop import SeededLoop
from simulators.seeded_processes import Building, Gateway, Process
from simulators.seeded_script import Script, script_of
from simulators.seeded_store import Key, Row, Shelf

T = TypeVar("T")
ACTIONS_MAX = 400
CALM_ACTIONS_MAX = 20_000
LAST_MS = 40 * 60_000
"""After the last message: longer than patience, so that what is silent becomes final."""
LAST_STRIDES = 4
"""In which that time passes; each is a tick at least, which is nothing new by then."""
LOOKED_AT = ("interval", "rollup", "intensity", "verdict", "alert")
SPREADS_MS = (*(0,) * 6, *(60_000,) * 6, *(300_000,) * 3, 1_800_000)


@dataclass(frozen=True, slots=True)
class Temper:
    """What a world is like: how often, of all choices, something happens."""

    partitions: int
    fails: float
    kills: float
    freezes: float
    takeovers: float
    hands_over: float
    drops: float
    repeats: float
    looks: float
    tears: float
    tick_s: float
    frame_rows_max: int

    @classmethod
    def of(cls, chance: Random) -> Temper:
        """Some worlds are calm in some ways."""
        return cls(
            partitions=chance.choice((1, 1, 2, 3)),
            fails=chance.choice((0, 0.02, 0.1)),
            kills=chance.choice((0, 0.01, 0.04)),
            freezes=chance.choice((0, 0.005, 0.02)),
            takeovers=chance.choice((0, 0.005, 0.02)),
            hands_over=chance.choice((0, 0.005, 0.01)),
            drops=chance.choice((0, 0.01)),
            repeats=chance.choice((0, 0.01)),
            looks=0.01,
            tears=chance.choice((0, 0, 0.2)),
            tick_s=chance.choice((30.0, 200.0, 900.0)),
            frame_rows_max=chance.choice((5_000, 5_000, 40)),
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What was to be seen of a partition as of an instant."""

    partition: int
    at_ms: int
    tables: dict[str, dict[Key, Row]]


class World:
    """One world. ``run`` it once; then ``disk``, ``shelves``, ``gateways``, ``looks`` can be checked.

    ``log_type``: a test breaks it, to see that it is found out; ``temper``, ``script``: instead of those by
    chance.
    ``errors``: what went wrong outright. ``trace``: what happened, in words.
    """

    def __init__(
        self,
        seed: int,
        log_type: type[SeededLog] = SeededLog,
        temper: Temper | None = None,
        script: Script | None = None,
    ) -> None:
        self.seed = seed
        self._log_type = log_type
        self.chance = Random(seed)  # noqa: S311 a world, not a secret
        self.script = script or script_of(self.chance)
        self.temper = temper or Temper.of(self.chance)
        self.disk = Disk(MemoryLog(self.temper.partitions))
        self.shelves = [Shelf() for _ in range(self.temper.partitions)]
        self.gateways = self._gateways()
        self.looks: list[Look] = []
        self.processes: list[Process] = []
        self.errors: list[str] = []
        self.trace: list[str] = []
        self.actions = 0
        self.calm = False
        self._last_s: float | None = None
        self._started = 0
        self._repeated: list[Message] = []
        self.loop = SeededLoop(self._quiet)
        self.building = self._building()

    def run(self) -> None:
        """To its end."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            for process in self.processes:
                process.end()
            rest = asyncio.all_tasks(self.loop)
            for task in rest:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def now_ms(self) -> int:
        return self.script.start_ms + round(self.loop.now_s * 1_000)

    def say(self, what: str) -> None:
        self.trace.append(f"{self.loop.now_s:12.3f} {what}")

    # -- what it is made of ---------------------------------------------------------------------------

    def _gateways(self) -> list[Gateway]:
        by_plant: dict[str, list[Message]] = {}
        for message in self.script.messages:
            by_plant.setdefault(message.topic.split("/")[2], []).append(message)
        return [Gateway(plant, deque(each)) for plant, each in by_plant.items()]

    def _building(self) -> Building:
        return Building(
            self.script.roster,
            self.disk,
            self.temper.tick_s,
            self.temper.frame_rows_max,
            self.temper.tears,
            self.loop.time,
            self.chance,
            self.say,
        )

    def handle(self, process: Process) -> SeededLog:
        """A process's own log."""

        async def gate(what: str) -> bool:
            if not process.alive:
                raise asyncio.CancelledError
            if self.calm:
                return True
            going: asyncio.Future[bool] = self.loop.create_future()
            process.held.append((what, going))
            return await going

        return self._log_type(self.disk, gate, self.chance)

    def _start(self, roles: tuple[str, ...]) -> None:
        self._started += 1
        process = Process(f"{roles[-1].partition('/')[0]}-{self._started}", roles)
        skew_ms = self.chance.choice((0, 0, 0, -90_000, 30_000))
        self.say(f"{process.name} begins: {', '.join(roles)}")
        self.building.begin(process, self.handle(process), lambda: self.now_ms() + skew_ms)
        for task in process.tasks:
            task.add_done_callback(lambda task: self._ended(process, task))
        self.processes.append(process)
        if process.intake is not None:
            for gateway in self.gateways:
                gateway.connect(process.intake)

    def _ended(self, process: Process, task: asyncio.Task[None]) -> None:
        """A role that ends takes its process with it: the world starts another."""
        if not task.cancelled() and (error := task.exception()) is not None and type(error) is not NotOwner:
            self.errors.append(f"{process.name} raised {error!r}")
        if process.alive:
            self._kill(process, "ends")

    def _kill(self, process: Process, how: str) -> None:
        at = ", ".join(what for what, _ in process.waiting())
        self.say(f"{process.name} {how}" + (f" about here: {at}" if at else ""))
        process.end()
        self.processes.remove(process)
        if process.intake is not None:
            for gateway in self.gateways:
                if gateway.line is not None and gateway.line.intake is process.intake:
                    gateway.connect(None)

    # -- what happens next ----------------------------------------------------------------------------

    def _quiet(self, until_timer_s: float | None) -> None:
        self.actions += 1
        if not self.calm and (self.actions > ACTIONS_MAX or not self._unsent()):
            self._calm_down()
        if self.calm:
            self._on(until_timer_s)
            return
        self._choose(until_timer_s)

    def _choose(self, until_timer_s: float | None) -> None:
        held = [(p, each) for p in self.processes if not p.frozen for each in p.waiting()]
        missing = self._missing()
        choices: dict[str, float] = {
            "publish": 0.06,
            "step": 0.7 if held else 0,
            "time": 0.03 if until_timer_s is not None else 0,
            "start": 0.2 if missing else 0,
            "store": 0.02,
            "look": self.temper.looks,
            "kill": self.temper.kills,
            "freeze": self.temper.freezes,
            "thaw": 0.01 if any(process.frozen for process in self.processes) else 0,
            "take over": self.temper.takeovers,
            "hand over": self.temper.hands_over,
            "drop": self.temper.drops,
            "repeat": self.temper.repeats,
        }
        match self.chance.choices(list(choices), list(choices.values()))[0]:
            case "step":
                process, (what, going) = self.chance.choice(held)
                self._let(process, what, going)
            case "publish":
                self._publish()
            case "time":
                self.loop.now_s += until_timer_s or 0.0
            case "start":
                self._start(self.chance.choice(missing))
            case "store":
                self._store(self.chance.randrange(len(self.shelves)))
            case "look":
                self._look(self.chance.randrange(len(self.shelves)))
            case "drop":
                self._reconnect(self.chance.choice(self.gateways))
            case "repeat":
                self._repeat(self.chance.choice(self.gateways))
            case other:
                self._disturb(other)

    def _let(self, process: Process, what: str, going: asyncio.Future[bool]) -> None:
        works = self.chance.random() >= self.temper.fails
        self.say(f"{process.name} {what}" + ("" if works else ": UNAVAILABLE"))
        going.set_result(works)

    def _disturb(self, what: str) -> None:
        if not self.processes:
            return
        process = self.chance.choice(self.processes)
        if what == "kill":
            self._kill(process, "is KILLED")
        elif what in ("freeze", "thaw"):
            if process.frozen != (what == "freeze"):
                process.frozen = what == "freeze"
                self.say(f"{process.name} is {'FROZEN' if process.frozen else 'THAWED'}")
        elif what == "take over" and "ingest" not in process.roles and len(self.processes) < 8:
            self.say(f"{process.name} is thought to be dead, another TAKES OVER")
            self._start(process.roles)
        elif what == "hand over" and process.workers and not process.stopping and not process.frozen:
            process.stopping = True
            self.say(f"{process.name} HANDS OVER")
            for worker in process.workers.values():
                process.tasks.append(self.loop.create_task(worker.stop()))

    def _missing(self) -> list[tuple[str, ...]]:
        here = {process.roles for process in self.processes}
        return [roles for roles in self.building.roles() if roles not in here]

    def _publish(self) -> int:
        """What is due next, and some of what is due soon; how many messages that were."""
        due = [gateway.waiting[0].received_ms for gateway in self.gateways if gateway.waiting]
        if not due:
            return 0
        until_ms = max(min(due), self.now_ms()) + self.chance.choice(SPREADS_MS)
        self.loop.now_s = max(self.loop.now_s, (until_ms - self.script.start_ms) / 1_000)
        sent = 0
        for gateway in self.chance.sample(self.gateways, len(self.gateways)):
            while some := gateway.send(until_ms, self.chance.choice((1, 2, 5, 30))):
                sent += some
        self.say(f"{sent} messages are sent")
        return sent

    def _repeat(self, gateway: Gateway) -> None:
        """A gateway that has lost its books sends what was acknowledged long ago."""
        if gateway.acknowledged:
            some = self.chance.choices(gateway.acknowledged, k=self.chance.choice((1, 5)))
            gateway.waiting.extendleft(some)
            self.say(f"{gateway.plant} sends {len(some)} messages AGAIN")

    def _reconnect(self, gateway: Gateway) -> None:
        if gateway.line is not None:
            self.say(f"{gateway.plant} LOSES its connection, {len(gateway.sent)} messages are under way")
            gateway.connect(gateway.line.intake)

    # -- the store ------------------------------------------------------------------------------------

    def _store(self, partition: int) -> None:
        """Some more results; at times some that it had."""
        shelf, records = self.shelves[partition], self.chance.choice((1, 3, 1000))
        if self.chance.random() < 0.05:
            shelf.position = self.chance.randrange(shelf.position + 1)
        found = now(self.disk.log.read(RESULTS, shelf.position, partition=partition, records_max=records))
        for record in found:
            shelf.take(record.value)
            shelf.position = record.offset + 1
            shelf.furthest = max(shelf.furthest, shelf.position)
        if found:
            self.say(f"store {partition} has results up to {shelf.position}")

    def _look(self, partition: int) -> None:
        """Stores up to the end of some commit, and remembers what is to be seen as of just before it."""
        shelf, ends = self.shelves[partition], self.disk.ends.get(partition, [])
        if not ends:
            return
        while shelf.position < ends[-1]:
            self._store(partition)
        if shelf.position == shelf.furthest and shelf.position in ends:
            at_ms = shelf.reported_ms - 1
            self.looks.append(Look(partition, at_ms, {name: shelf.as_of(name, at_ms) for name in LOOKED_AT}))
            self.say(f"somebody looks at store {partition}, as of {at_ms}")

    # -- the end --------------------------------------------------------------------------------------

    def _unsent(self) -> bool:
        return any(gateway.waiting or gateway.sent for gateway in self.gateways)

    def _calm_down(self) -> None:
        self.calm = True
        self.say("ALL CALMS DOWN")
        for process in self.processes:
            process.frozen = False
            for _, going in process.waiting():
                going.set_result(True)

    def _on(self, until_timer_s: float | None) -> None:
        """What still has to happen, and then the end."""
        if self.actions > ACTIONS_MAX + CALM_ACTIONS_MAX:
            self.errors.append("it does not come to an end")
            self.loop.stop()
        elif missing := self._missing():
            self._start(missing[0])
        elif self._unsent():
            if not self._publish():
                self.loop.now_s += until_timer_s or 0.0
        elif self._last_s is None:
            self._last_s = self.loop.now_s + LAST_MS / 1_000 + 3 * self.temper.tick_s
        elif self.loop.now_s < self._last_s:
            self.loop.now_s += max(until_timer_s or 0.0, LAST_MS / LAST_STRIDES / 1_000)
        elif self._behind():
            self.loop.now_s += until_timer_s or 1.0
        else:
            for partition, shelf in enumerate(self.shelves):
                while shelf.position < now(self.disk.log.end(RESULTS, partition)):
                    self._store(partition)
            self.loop.stop()

    def _behind(self) -> bool:
        """Whether a worker has not come to the end yet."""
        for process in self.processes:
            for role in process.roles:
                if role == "ingest":
                    if process.intake is not None and process.intake.busy:
                        return True
                    continue
                topic = PORTIONS if role.startswith("groups") else READINGS
                worker = process.workers.get(role)
                end = now(self.disk.log.end(topic, int(role.partition("/")[2])))
                if worker is None or worker.offset < end:
                    return True
        return False


def now(call: Coroutine[Any, Any, T]) -> T:
    """What a call of the log in memory gives, which never waits."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waited")
