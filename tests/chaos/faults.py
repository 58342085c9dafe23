"""What happens to the service while readings come in.

A kill in a commit is one that is proven to be: a wire holds the request of that step, or the answer to it
(tests.chaos.wires), the process whose connection it came on is killed, and only then the connection is
dropped. What is held back was never heard of by the other side. Where no such request comes in time, the
fault did not happen and is counted as "did not come".
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.chaos.schedule import COMMITS, Fault
from tests.chaos.stack import One
from tests.chaos.wiring import process_of
from tests.real.server import Server, wait_until

if TYPE_CHECKING:
    from tests.chaos.run import Run

HELD_S = 60.0
SESSION_S = 10.0
TAKEN_OVER_S = 60.0
READY_S, STOP_S, SERVER_S = 90.0, 30.0, 180.0
SLOW_BYTES = 10_000
ALL_TIME = {"start": "1970-01-01T00:00:00Z", "stop": "2200-01-01T00:00:00Z"}
DISKS = {"kafka": "kafka/data", "influxdb": "influxd", "archive": "archive", "scratch": "scratch"}
AGAIN_S = 10.0
"""What a broker that is killed had acknowledged so shortly before is published again."""


async def happen(run: Run, faults: list[Fault]) -> None:
    """All of them, each at its time; returns when everything runs again."""
    acts = Acts(run)
    await asyncio.gather(*(acts.one(fault) for fault in faults))


class Acts:
    """The faults of one run, by kind."""

    def __init__(self, run: Run) -> None:
        self._run, self._stack, self._wiring = run, run.stack, run.stack.wiring
        self._locks = {name: asyncio.Lock() for name in ("broker", *DISKS)}
        self._servers: dict[str, Server] = {
            "kafka": run.stack.kafka,
            "influxdb": run.stack.influx,
            "broker": run.stack.broker,
        }

    async def one(self, fault: Fault) -> None:
        """Waits for its time, and does it."""
        kinds: dict[str, Callable[[Fault], Awaitable[bool]]] = {
            "kill in commit": self._kill_in_commit,
            "kill": self._kill,
            "cut": self._cut,
            "delay": self._delay,
            "slow": self._slow,
            "tear": self._tear,
            "empty": self._empty,
            "zombie": self._zombie,
            "restart": self._restart,
            "pause": self._pause,
            "join and leave": self._join_and_leave,
            "full disk": self._full_disk,
        }
        await asyncio.sleep(max(0.0, self._run.began_s + fault.at_s - time.monotonic()))
        if await kinds[fault.kind](fault):
            self._run.counts[f"{fault.kind} ({fault.of})"] += 1
        else:
            self._run.counts["did not come"] += 1
            self._run.note(f"did not come: {fault.kind} ({fault.of})")

    async def _kill_in_commit(self, fault: Fault) -> bool:
        role, wire, rule = COMMITS[fault.of]
        held = await self._wiring.hold(wire, HELD_S, **rule)
        if held is None:
            return False
        pids = self._stack.pids()
        pid = process_of(held["port"], self._wiring.ports[wire], list(pids))
        one = pids[pid] if pid is not None else None
        if one is None or one.busy or one.copy.role != role:
            await self._wiring.order("drop", wire, port=held["port"])
            return False
        one.busy = True
        self._end(one)
        await self._wiring.order("drop", wire, port=held["port"])
        self._run.note(f"killed {one.name}: {fault.of} ({held['name'] or 'no transaction'})")
        await self._again(one, fault)
        return True

    async def _kill(self, fault: Fault) -> bool:
        if fault.of in self._servers:
            return await self._kill_server(fault)
        one = await self._victim(fault)
        if one is None:
            return False
        self._end(one)
        self._run.note(f"killed {one.name}")
        await self._again(one, fault)
        return True

    def _end(self, one: One) -> None:
        """SIGKILL; it has to be that which ended it."""
        process = one.copy.process
        assert process is not None
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"{one.name} had ended by itself"

    async def _again(self, one: One, fault: Fault) -> None:
        await asyncio.sleep(2 * fault.length)
        one.launch()
        one.busy = False

    async def _victim(self, fault: Fault) -> One | None:
        """A copy by chance that runs and that nothing is done to, from now on busy."""
        for _ in range(100):
            there = self._stack.alive(fault.of)
            if there:
                one = there[int(fault.choice * len(there))]
                one.busy = True
                return one
            await asyncio.sleep(0.2)
        return None

    async def _kill_server(self, fault: Fault) -> bool:
        server = self._servers[fault.of]
        async with self._locks[fault.of]:
            at_s = time.monotonic()
            await asyncio.to_thread(server.kill)
            self._run.note(f"killed {fault.of}")
            await asyncio.sleep(2 * fault.length)
            await asyncio.to_thread(started, server)
        if fault.of == "broker":
            self._run.broker_killed_s.append(at_s)
        return True

    async def _restart(self, fault: Fault) -> bool:
        server = self._servers[fault.of]
        async with self._locks[fault.of]:
            await asyncio.to_thread(server.stop)
            self._run.note(f"stopped {fault.of}")
            await asyncio.sleep(2 * fault.length)
            await asyncio.to_thread(started, server)
        return True

    async def _cut(self, fault: Fault) -> bool:
        """Every connection of a wire ends at once, and for a while none is made."""
        await self._wiring.order("set", fault.of, refusing=True)
        await self._wiring.order("cut", fault.of)
        self._run.note(f"cut the connections of {fault.of}")
        await asyncio.sleep(3 * fault.length)
        await self._wiring.order("set", fault.of, refusing=False)
        return True

    async def _delay(self, fault: Fault) -> bool:
        seconds = 0.02 + 0.2 * fault.choice
        self._run.note(f"{fault.of} answers {seconds:.2f} s later")
        await self._wiring.order("set", fault.of, delay_s=seconds)
        await asyncio.sleep(1 + 3 * fault.length)
        await self._wiring.order("set", fault.of, delay_s=0.0)
        return True

    async def _slow(self, fault: Fault) -> bool:
        """A line on which little passes."""
        a_second = int(SLOW_BYTES * (1 + 9 * fault.choice))
        self._run.note(f"{fault.of} passes {a_second} bytes a second")
        await self._wiring.order("set", fault.of, bytes_a_second=a_second)
        await asyncio.sleep(1 + 3 * fault.length)
        await self._wiring.order("set", fault.of, bytes_a_second=0)
        return True

    async def _tear(self, fault: Fault) -> bool:
        """Of a message only the first half arrives."""
        torn = await self._wiring.tear(fault.of, HELD_S)
        self._run.note(f"tore a connection of {fault.of}" if torn else f"nothing to tear at {fault.of}")
        return torn

    async def _empty(self, fault: Fault) -> bool:
        """Everything that is stored is deleted: it is stored again from the log."""
        async with self._locks[fault.of]:
            await asyncio.to_thread(self._stack.influx.influx.call, "POST", self._stack.delete, ALL_TIME)
        self._run.note("emptied the bucket")
        return True

    async def _zombie(self, fault: Fault) -> bool:
        """Frozen until others have taken over all of its partitions, and then woken."""
        one = await self._victim(fault)
        part = {"process": "worker", "sink": "sink"}[fault.of]
        if one is None:
            return False
        try:
            had = await asyncio.to_thread(self._partitions, one, part)
            if not had:
                return False
            one.copy.signal(signal.SIGSTOP)
            self._run.note(f"froze {one.name}, which has {sorted(had)}")
            until_s = time.monotonic() + TAKEN_OVER_S
            await asyncio.sleep(SESSION_S)
            while time.monotonic() < until_s:
                if had <= await asyncio.to_thread(self._others, one, part):
                    self._run.note(f"woke {one.name}: others have {sorted(had)}")
                    return True
                await asyncio.sleep(0.5)
            return False
        finally:
            with suppress(AssertionError, ProcessLookupError):
                one.copy.signal(signal.SIGCONT)
            one.busy = False

    def _others(self, one: One, part: str) -> set[int]:
        others = [other for other in self._stack.of(one.copy.role) if other is not one and other.pid]
        return set().union(*(self._partitions(other, part) for other in others))

    def _partitions(self, one: One, part: str) -> set[int]:
        with suppress(OSError):
            return one.copy.partitions(part)
        return set()

    async def _pause(self, fault: Fault) -> bool:
        """Frozen for a while, shorter than anybody's patience or longer."""
        seconds = 2 + 10 * fault.length
        if fault.of in self._servers:
            server = self._servers[fault.of]
            async with self._locks[fault.of]:
                server.pause()
                self._run.note(f"froze {fault.of} for {seconds:.0f} s")
                await asyncio.sleep(seconds)
                server.resume()
            return True
        one = await self._victim(fault)
        if one is None:
            return False
        one.copy.signal(signal.SIGSTOP)
        self._run.note(f"froze {one.name} for {seconds:.0f} s")
        await asyncio.sleep(seconds)
        one.copy.signal(signal.SIGCONT)
        one.busy = False
        return True

    async def _join_and_leave(self, fault: Fault) -> bool:
        """One copy more, and one fewer: partitions are shared anew twice."""
        one = self._stack.add(fault.of)
        one.busy = True
        self._run.note(f"{one.name} comes")
        until_s = time.monotonic() + READY_S
        while one.pid and not await asyncio.to_thread(self._partitions, one, "worker"):
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(0.2)
        had = self._partitions(one, "worker")
        await asyncio.sleep(4 * fault.length)
        one.wanted = False
        self._run.wrong += await asyncio.to_thread(stopped, one)
        self._run.note(f"{one.name} has gone, it had {sorted(had)}")
        return bool(had)

    async def _full_disk(self, fault: Fault) -> bool:
        """Nothing more fits for a while."""
        name = DISKS[fault.of]
        disks, server = self._stack.disks, self._servers.get(fault.of)
        if name not in disks.places:
            self._run.note("no disk of its own could be mounted")
            return False
        async with self._locks[fault.of]:
            await asyncio.to_thread(disks.fill, name)
            self._run.note(f"the disk of {fault.of} is full")
            await asyncio.sleep(3 + 5 * fault.length)
            await asyncio.to_thread(disks.free, name)
            self._run.note(f"the disk of {fault.of} has room")
            if server is not None:
                await self._well_again(fault, server)
        return True

    async def _well_again(self, fault: Fault, server: Server) -> None:
        """As who runs a server does when there is room: Kafka has ended, InfluxDB would go on refusing."""
        await asyncio.sleep(fault.length)
        if not server.running:
            self._run.note(f"{fault.of} had ended by it")
        elif fault.of == "influxdb":
            await asyncio.to_thread(server.kill if fault.choice < 0.5 else server.stop)
        if not server.running:
            await asyncio.to_thread(started, server)


def started(server: Server) -> None:
    """Starts a server again; where the machine is busy that takes a while."""
    try:
        server.start()
    except AssertionError:
        if not server.running:
            raise
        wait_until(server.answers, server.name, SERVER_S)


def stopped(one: One) -> list[str]:
    """Asks a copy to stop; what is wrong with how it did."""
    process, began_s = one.copy.process, time.monotonic()
    assert process is not None
    process.terminate()
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        return [f"{one.name} did not stop within {STOP_S:.0f} s: {one.copy.log}"]
    if code:
        return [f"{one.name} stopped with {code} after {time.monotonic() - began_s:.1f} s: {one.copy.log}"]
    return []
