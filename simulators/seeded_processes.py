"""Who acts in the seeded world: meters' gateways, and processes of the service that can end at any step."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bus.log import Log
from bus.partition import partition_of
from ingest.counters import Counters
from ingest.decode import Decoder, Delivery
from ingest.intake import Intake, Parcel
from ingest.ticker import Ticker
from metering.errors import NotOwner, Unavailable
from metering.roster import Roster
from processors.operators import GroupsOfPlants, Operators, Plants
from processors.worker import Worker
from simulators.recording import Message
from simulators.seeded_log import Disk, tear

RETRY_S = 0.5
GATHERED_BYTES_MAX = 1 << 16
IN_FLIGHT = 30
"""So many messages a gateway sends before it waits for acknowledgements."""


@dataclass(slots=True)
class Gateway:
    """One plant's sender: QoS 1, in order; what is not acknowledged it sends again after each connecting."""

    plant: str
    waiting: deque[Message]
    sent: dict[bytes, Message] = field(default_factory=dict)
    acknowledged: list[Message] = field(default_factory=list)
    line: Connection | None = None
    number: int = 0

    def connect(self, intake: Intake | None) -> None:
        """A new connection, or none; the messages that were not acknowledged on the old one wait again."""
        self.waiting.extendleft(reversed(self.sent.values()))
        self.sent.clear()
        self.line = None if intake is None else Connection(self, intake)

    def send(self, until_ms: int, most: int) -> int:
        """What is due by then, as one parcel; how many messages that were."""
        ids: list[bytes] = []
        line = self.line
        if line is None or line.intake.held:
            return 0
        while self.waiting and self.waiting[0].received_ms <= until_ms and len(ids) < most:
            if len(self.sent) >= IN_FLIGHT:
                break
            self.number += 1
            ids.append(self.number.to_bytes(4, "big"))
            self.sent[ids[-1]] = self.waiting.popleft()
        if ids:
            some = [self.sent[each] for each in ids]
            payloads = [message.payload for message in some]
            delivery = Delivery([message.topic for message in some], payloads, line.intake.now_ms())
            line.intake.gather(Parcel(line, delivery, ids), sum(map(len, payloads)))
        return len(ids)


@dataclass(eq=False, slots=True)
class Connection:
    """A connection of a gateway to one ingest; what comes on an old one is not heard."""

    gateway: Gateway
    intake: Intake

    def acknowledge(self, ids: Sequence[bytes], parcels: int) -> None:
        """These are durable, says ingest."""
        del parcels
        if self.gateway.line is self:
            self.gateway.acknowledged += [self.gateway.sent.pop(each) for each in ids]


@dataclass(eq=False, slots=True)
class Process:
    """Some roles of the service that begin and end together. ``held``: steps that it waits to do."""

    name: str
    roles: tuple[str, ...]
    alive: bool = True
    frozen: bool = False
    stopping: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    held: list[tuple[str, asyncio.Future[bool]]] = field(default_factory=list)
    intake: Intake | None = None
    workers: dict[str, Worker] = field(default_factory=dict)

    def waiting(self) -> list[tuple[str, asyncio.Future[bool]]]:
        self.held = [each for each in self.held if not each[1].done()]
        return self.held

    def end(self) -> None:
        """As a kill does it: nothing it does from now on is seen."""
        self.alive = False
        for task in self.tasks:
            task.cancel()


class Listening:
    """What the ticker asks of an ingest."""

    def __init__(self, intake: Intake, counters: Counters) -> None:
        self.intake, self.counters = intake, counters
        self.listening = True


@dataclass(frozen=True, slots=True)
class Building:
    """What processes are made of. ``frame_rows_max``: of a record of results; small ones make many parts."""

    roster: Roster
    disk: Disk
    tick_s: float
    frame_rows_max: int
    tears: float
    clock_s: Callable[[], float]
    chance: Random
    say: Callable[[str], None]

    @property
    def partitions(self) -> int:
        return self.disk.log.partitions

    def place(self) -> list[int]:
        return [partition_of(plant.id, self.partitions) for plant in self.roster.plants]

    def roles(self) -> list[tuple[str, ...]]:
        """Of the processes that have to be there: one for all on one partition, else one each."""
        if self.partitions == 1:
            return [("ingest", "process/0")]
        first = ("process/0", "groups/0") if self.roster.groups else ("process/0",)
        return [("ingest",), first, *((f"process/{p}",) for p in range(1, self.partitions))]

    def roles_of(self, partition: int) -> list[str]:
        """Those that say results on a partition."""
        every = (role for roles in self.roles() for role in roles if role != "ingest")
        return [role for role in every if role.endswith(f"/{partition}")]

    def operators(self, role: str) -> Operators:
        name, _, number = role.partition("/")
        if name == "groups":
            return GroupsOfPlants(self.roster, self.place())
        if self.partitions == 1:
            plants = Plants(self.roster)
        else:
            own = zip(self.roster.plants, self.place(), strict=True)
            here = [plant.id for plant, place in own if place == int(number)]
            plants = Plants(self.roster, plants=here, partition=int(number))
        plants.frame_rows_max, plants.part_bytes_max = self.frame_rows_max, 1 << 12
        return plants

    def begin(self, process: Process, log: Log, clock_ms: Callable[[], int]) -> None:
        """Starts its roles."""
        loop = asyncio.get_running_loop()
        works: list[Coroutine[Any, Any, None]] = []
        for role in process.roles:
            if role == "ingest":
                works += self._ingest(process, log, clock_ms)
            else:
                works.append(self._work(process, role, log))
        process.tasks = [loop.create_task(work) for work in works]

    def _ingest(
        self, process: Process, log: Log, clock_ms: Callable[[], int]
    ) -> list[Coroutine[Any, Any, None]]:
        counters = Counters()
        intake = Intake(
            log, Decoder(self.roster), counters, clock_ms, GATHERED_BYTES_MAX, hold=lambda _: None
        )
        process.intake = intake
        return [intake.run(), Ticker(log, Listening(intake, counters), tick_s=self.tick_s).run()]

    async def _work(self, process: Process, role: str, log: Log) -> None:
        """As a role does it: what is damaged is forgotten, and everything worked out anew."""
        partition = int(role.partition("/")[2])
        try:
            while True:
                operators = self.operators(role)
                if self.chance.random() < self.tears:
                    name = await tear(self.disk, operators.consumer, partition, self.chance)
                    self.say(f"the disk has torn the saved state of {role}: {name or 'there is none'}")
                worker = Worker(log, operators, partition=partition, clock_s=self.clock_s)
                if await patiently(worker.start):
                    break
            process.workers[role] = worker
            await worker.run()
        except NotOwner:
            self.say(f"{process.name} {role} is not the owner any more")
        finally:
            process.workers.pop(role, None)


async def patiently(call: Callable[[], Awaitable[bool]]) -> bool:
    """Tries until the storage answers."""
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(RETRY_S)
