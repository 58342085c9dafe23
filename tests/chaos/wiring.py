"""The other end of tests.chaos.wires: orders to its process, and what it tells."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.meterflow.helper import environment
from tests.real.server import free_port


class Wiring:
    """The proxies of one run."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._held: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._torn: dict[str, asyncio.Future[None]] = {}
        self._number = 0
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        words = (sys.executable, "-m", "tests.chaos.wires")
        self._process = await asyncio.create_subprocess_exec(
            *words, stdin=pipe, stdout=pipe, env=environment()
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reading is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def listen(self, wire: str, to: int, *, frames: bool = False, port: int = 0) -> int:
        """A new wire to a port; its own port."""
        self.ports[wire] = port or free_port()
        await self.order("listen", wire, port=self.ports[wire], to=to, frames=frames)
        return self.ports[wire]

    async def order(self, do: str, wire: str, **words: Any) -> None:
        """Gives an order; returns when it was carried out."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._number += 1
        number = self._number
        self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"do": do, "wire": wire, "number": number, **words})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        await self._answers[number]

    async def hold(self, wire: str, within_s: float, **rule: Any) -> dict[str, Any] | None:
        """The first request, or answer, that fits the rule, held; None when none came in time."""
        number = self._number + 1
        held = self._held[number] = asyncio.get_running_loop().create_future()
        await self.order("hold", wire, rule=rule)
        try:
            return await asyncio.wait_for(asyncio.shield(held), within_s)
        except TimeoutError:
            await self.order("unhold", wire, rule=number)
            return held.result() if held.done() else None

    async def tear(self, wire: str, within_s: float) -> bool:
        """Half of what comes next passes and its connection ends; false when nothing came in time."""
        torn = self._torn[wire] = asyncio.get_running_loop().create_future()
        await self.order("set", wire, tearing=True)
        done, _ = await asyncio.wait({torn}, timeout=within_s)
        return bool(done)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "done" in said:
                self._answers.pop(said["done"]).set_result(None)
            elif "torn" in said:
                self._torn[said["torn"]].set_result(None)
            else:
                self._held[said["held"]].set_result(said)


def process_of(port: int, to: int, pids: list[int]) -> int | None:
    """Which of these processes has the connection from ``port`` to ``to`` on this machine."""
    sockets = _sockets(port, to)
    for pid in pids:
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(link.readlink()) in sockets:
                        return pid
    return None


def _sockets(port: int, to: int) -> set[str]:
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        cells = line.split()
        ends = [int(re.split(":", cell)[1], 16) for cell in cells[1:3]]
        if ends == [port, to]:
            found.add(f"socket:[{cells[9]}]")
    return found
