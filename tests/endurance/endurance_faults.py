"""A disk that is full, broken or read-only, and a slow store, below a service that meters publish to."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.endurance.endurance_disk import Control, compiled, environment
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
from tests.meterflow.helper import Service, eventually

STOPS_WITHIN_S = 1.0
"""After so long nothing may be acknowledged any more."""
RESIDENT_MB_MAX = 64
"""How much the memory may grow while the store is slow."""
STORE = "results.duckdb"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the disk does, and what has to be seen of it. ``part``: of the paths it does it to."""

    name: str
    write_error: int = 0
    sync_error: int = 0
    part: str = ""


LOG_TROUBLES = (
    Trouble("full", write_error=errno.ENOSPC),
    Trouble("writes fail", write_error=errno.EIO),
    Trouble("fsyncs fail", sync_error=errno.EIO),
    Trouble("read-only", write_error=errno.EROFS),
    Trouble("quota used up", write_error=errno.EDQUOT),
)
"""Of the whole disk: nothing is acknowledged while they last."""
OTHER_TROUBLES = (
    Trouble("store full", write_error=errno.ENOSPC, part=STORE),
    Trouble("store's fsyncs fail", sync_error=errno.EIO, part=STORE),
    Trouble("archive full", write_error=errno.ENOSPC, part="archive/"),
)
"""Of a part that can wait: acknowledging goes on."""


@dataclass(slots=True)
class Outcome:
    """``figures``: what was measured of each trouble; ``faults``: what is not as it has to be."""

    figures: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The closing lines of a run."""
        return "\n".join([*self.figures, *self.faults, f"faults {len(self.faults)}"])


def run(folder: Path, seed: int, seconds: float, readings: int, say: Callable[[str], None]) -> Outcome:
    """Each trouble for so many seconds, one after the other, then everything compared."""
    world = simulated(folder, seed, readings, plants=2)
    control = Control(folder / "control")
    service = service_of(world, folder / "data", "--archive-every", "0.5")
    service.environment = environment(compiled(folder), service.folder, control=control)
    publisher, outcome = Publisher(world, service, 0, 1), Outcome()
    try:
        service.launch()
        ready(service)
        publisher.start()
        bench = _Bench(world, service, publisher, control, seconds, outcome)
        bench.all(say)
    finally:
        publisher.end()
        if service.process is not None:
            service.kill()
    return outcome


@dataclass(slots=True)
class _Bench:
    """One service under one trouble after the other."""

    world: World
    service: Service
    publisher: Publisher
    control: Control
    seconds: float
    outcome: Outcome

    def all(self, say: Callable[[str], None]) -> None:
        count = len(LOG_TROUBLES) + len(OTHER_TROUBLES) + 2
        parts = iter((number + 1) / count for number in range(count))
        self._publish(next(parts))
        for trouble in LOG_TROUBLES:
            self._nothing_is_acknowledged(trouble, next(parts))
            say(self.outcome.figures[-1])
        for trouble in OTHER_TROUBLES:
            self._acknowledging_goes_on(trouble, next(parts))
            say(self.outcome.figures[-1])
        self._slow_store(next(parts))
        say(self.outcome.figures[-1])
        self._compare()

    def _publish(self, part: float) -> None:
        self.publisher.go_on(part, self.seconds)
        eventually(lambda: self._acknowledged() >= self._goal(part), 120, "acknowledged")

    def _goal(self, part: float) -> int:
        return round(part * self.publisher.messages)

    def _acknowledged(self) -> int:
        assert not self.publisher.error, self.publisher.error
        return self.publisher.acknowledged

    def _nothing_is_acknowledged(self, trouble: Trouble, part: float) -> None:
        before = self.control.failed
        self.publisher.go_on(part, self.seconds)
        time.sleep(0.3)
        self._set(trouble)
        time.sleep(STOPS_WITHIN_S)
        stopped_at = self._acknowledged()
        told = _in_time(lambda: self.service.status("/readyz") == 503, 20)
        body = self.service.get("/readyz")[1].decode()
        time.sleep(self.seconds)
        late = self._acknowledged() - stopped_at
        self._expect(trouble, self.control.failed > before, "nothing has failed")
        self._expect(trouble, late == 0, f"{late} messages acknowledged more than a second into it")
        self._expect(trouble, told and "the log takes nothing" in body, f"/readyz says {body}")
        self._expect(trouble, self.service.status("/livez") == 200, "/livez")
        self._over(trouble, part)

    def _acknowledging_goes_on(self, trouble: Trouble, part: float) -> None:
        before = self.control.failed
        self._set(trouble)
        self._publish(part)
        self._expect(trouble, self.control.failed > before, "nothing has failed")
        self._over(trouble, part)

    def _set(self, trouble: Trouble) -> None:
        self.control.set(write_error=trouble.write_error, sync_error=trouble.sync_error, part=trouble.part)

    def _over(self, trouble: Trouble, part: float) -> None:
        """It goes on by itself."""
        failed = self.control.failed
        self.control.set()
        began_s = time.monotonic()
        eventually(lambda: self._acknowledged() >= self._goal(part), 60, f"{trouble.name}: acknowledged")
        eventually(lambda: self.service.status("/readyz") == 200, 30, f"{trouble.name}: ready")
        settled(self.service, 120)
        again_s = time.monotonic() - began_s
        self.outcome.figures.append(
            f"{trouble.name}: {failed} calls failed so far, all stored {again_s:.1f} s after"
        )

    def _slow_store(self, part: float) -> None:
        """Acknowledging goes on, what waits is shown, and memory stays bounded."""
        trouble = Trouble("slow store")
        settled(self.service, 60)
        before_mb, delayed = resident_mb(self.service), self.control.delayed
        self.control.set(delay_s=0.1, part=STORE)
        self._publish(part)
        lag = max(self._lag() for _ in range(5))
        grown_mb = resident_mb(self.service) - before_mb
        self._expect(trouble, self.control.delayed > delayed, "nothing had to wait")
        self._expect(trouble, lag > 0, "no lag is shown")
        self._expect(trouble, grown_mb < RESIDENT_MB_MAX, f"memory has grown by {grown_mb:.0f} MB")
        self.control.set()
        began_s = time.monotonic()
        settled(self.service, 120)
        text = f"slow store: lag {lag:.0f} records, memory {grown_mb:+.0f} MB"
        self.outcome.figures.append(f"{text}, all stored {time.monotonic() - began_s:.1f} s after")

    def _lag(self) -> float:
        time.sleep(0.1)
        return self.service.metric("meterflow_sink_lag_records")

    def _compare(self) -> None:
        self.publisher.go_on(1.0, 0.1)
        eventually(lambda: not self.publisher.is_alive(), 120, "everything acknowledged")
        accepted = settled(self.service, 120)
        if accepted != self.world.accepted:
            self.outcome.faults.append(f"{accepted} readings accepted, of {self.world.accepted}")
        scratch = self.world.recording.parent / "scratch"
        for table, (missing, more) in differences(self.service, self.world, scratch).items():
            if missing or more:
                self.outcome.faults.append(f"{table}: {missing} rows of compute are missing, {more} are more")
        self.outcome.faults += unbalanced(self.service)
        self.service.stop()
        self.outcome.faults += archive_faults(self.service, self.world, scratch)
        if "Traceback" in self.service.said:
            said = self.service.said
            self.outcome.faults.append(said[said.index("Traceback") :][:3000])

    def _expect(self, trouble: Trouble, holds: bool, otherwise: str) -> None:
        if not holds:
            self.outcome.faults.append(f"{trouble.name}: {otherwise}")


def _in_time(check: Callable[[], bool], within_s: float) -> bool:
    until_s = time.monotonic() + within_s
    while not check():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.05)
    return True


def resident_mb(service: Service) -> float:
    """The memory of a service's process."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000
