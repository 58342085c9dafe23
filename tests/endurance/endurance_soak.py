"""A soak: the service under a steady load, its memory, descriptors and threads watched.

The plants are published once; from then on the same messages come again and again, so that everything
works as before and nothing new has to be kept: what grows then is a leak. Clients come and go, pages,
metrics and exports are asked for all the while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from metering.errors import MeterflowError
from simulators.mqtt_address import parse_address
from simulators.mqtt_sender import POLL_S, Sender, Stopped
from simulators.recording import read_recording
from tests.endurance.endurance_world import World, ready, service_of, settled, simulated, unbalanced
from tests.meterflow.helper import Service, meterflow

MESSAGES_A_SECOND = 500
SAMPLE_S = 0.5
SPREAD = 4
"""Descriptors and threads differ by so many as clients and readers come and go."""
MB_AN_HOUR_MAX, MB_MAX = 1.0, 32.0
"""Of a soak of half an hour and more; how much a shorter one may grow: caches fill first."""
LONG_S = 1800.0
WARM_PART = 0.1
"""Of a soak: readers' connections and threads are opened when they are wanted first, caches fill."""
PATHS = ("/readyz", "/metrics", "/api/export/hop?format=csv", "/")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process had at a moment."""

    at_s: float
    resident_mb: float
    descriptors: int
    threads: int


@dataclass(slots=True)
class Outcome:
    """``samples``: from when everything new had been stored."""

    samples: list[Sample] = field(default_factory=list)
    messages: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def mb_an_hour(self) -> float:
        """The slope of memory by least squares."""
        return 3600 * slope([s.at_s for s in self.samples], [s.resident_mb for s in self.samples])

    def text(self) -> str:
        """The closing lines of a run."""
        first, last = self.samples[0], self.samples[-1]
        grown = f"{first.resident_mb:.1f} to {last.resident_mb:.1f} MB, {self.mb_an_hour:+.2f} MB an hour"
        others = f"descriptors {first.descriptors} to {last.descriptors}, threads {first.threads} to"
        return "\n".join(
            [
                f"{last.at_s - first.at_s:.0f} s, {self.messages} messages once more",
                f"memory {grown}",
                f"{others} {last.threads}",
                *self.faults,
                f"faults {len(self.faults)}",
            ]
        )


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the line that fits best."""
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    across = sum((x - x0) ** 2 for x in xs)
    return sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / across if across else 0.0


class _Load(threading.Thread):
    """Publishes the same messages round after round, by a new connection each round."""

    def __init__(self, world: World, service: Service) -> None:
        super().__init__(name="load", daemon=True)
        self.rounds = self.acknowledged = 0
        self.error = ""
        self._messages = list(read_recording(world.recording))
        self._url = service.mqtt
        self._stop_it = threading.Event()

    def run(self) -> None:
        with suppress(Stopped):
            while not self._stop_it.is_set():
                self._round(MESSAGES_A_SECOND if self.rounds else 1_000_000)
                self.rounds += 1

    def _round(self, a_second: int) -> None:
        sender = Sender(parse_address(self._url, None, None), stop=self._stop_it)
        began_s = time.monotonic()
        try:
            for number, message in enumerate(self._messages):
                while number > (time.monotonic() - began_s) * a_second:
                    sender.poll(0.005)
                sender.send(message)
            while not sender.drain(POLL_S):
                pass
        except MeterflowError as error:
            self.error = str(error)
            self._stop_it.set()
        finally:
            self.acknowledged += sender.counts.acknowledged
            sender.close()

    def end(self) -> None:
        self._stop_it.set()
        self.join()


def run(folder: Path, seed: int, seconds: float, readings: int, say: Callable[[str], None]) -> Outcome:
    """Everything once, then again and again for so many seconds."""
    world = simulated(folder, seed, readings, plants=2)
    service = service_of(world, folder / "data", "--archive-every", "5")
    outcome = Outcome()
    service.launch()
    ready(service)
    load = _Load(world, service)
    try:
        load.start()
        while not load.rounds and load.is_alive():
            time.sleep(0.1)
        _quiet(service, load)
        _watch(service, load, seconds, outcome, say)
        _judge(service, load, world, outcome)
    finally:
        load.end()
        if service.process is not None:
            service.kill()
    return outcome


def _quiet(service: Service, load: _Load) -> None:
    """Until what was new is worked out, and one round more has come, so that every path was walked once."""
    until_s = time.monotonic() + 600
    rounds = load.rounds + 1
    while load.rounds < rounds and time.monotonic() < until_s and load.is_alive():
        _ask(service)
        time.sleep(SAMPLE_S)


def _watch(
    service: Service, load: _Load, seconds: float, outcome: Outcome, say: Callable[[str], None]
) -> None:
    began_s, before, told_s = time.monotonic(), load.acknowledged, time.monotonic()
    while time.monotonic() < began_s + seconds and load.is_alive():
        _ask(service)
        outcome.samples.append(sample(service, time.monotonic() - began_s))
        if time.monotonic() > told_s + 60:
            told_s = time.monotonic()
            say(f"{outcome.samples[-1]}")
        time.sleep(SAMPLE_S)
    outcome.messages = load.acknowledged - before


def _ask(service: Service) -> None:
    for path in PATHS:
        assert service.get(path)[0] == 200, path


def sample(service: Service, at_s: float) -> Sample:
    """Looks at the service's process."""
    assert service.process is not None
    place = Path(f"/proc/{service.process.pid}")
    said = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    resident_mb = int(said["VmRSS"].split()[0]) / 1000
    return Sample(at_s, resident_mb, len(list((place / "fd").iterdir())), int(said["Threads"]))


def _judge(service: Service, load: _Load, world: World, outcome: Outcome) -> None:
    if load.error:
        outcome.faults.append(load.error)
    load.end()
    outcome.faults += flatness(outcome.samples)
    accepted = settled(service, 120)
    if accepted != world.accepted:
        outcome.faults.append(f"{accepted} readings accepted, of {world.accepted}")
    outcome.faults += unbalanced(service)
    service.stop()
    checked = meterflow("archive", "check", "--data", service.folder)
    if checked.returncode:
        outcome.faults.append(f"archive check: {checked.stdout[-2000:]}")
    if "Traceback" in service.said:
        outcome.faults.append(service.said[service.said.index("Traceback") :][:2000])


def flatness(samples: Sequence[Sample]) -> list[str]:
    """What has grown once it is warm, from the least in the first quarter to the least in the last one."""
    samples = samples[int(WARM_PART * len(samples)) :]
    part = max(1, len(samples) // 4)
    first, last = samples[:part], samples[-part:]
    found = []
    for name in ("descriptors", "threads"):
        grown = min(getattr(s, name) for s in last) - min(getattr(s, name) for s in first)
        if grown > SPREAD:
            found.append(f"{name} have grown by {grown}")
    grown_mb = min(s.resident_mb for s in last) - min(s.resident_mb for s in first)
    hours = (samples[-1].at_s - samples[0].at_s) / 3600
    limit_mb = MB_MAX if hours * 3600 < LONG_S else max(MB_AN_HOUR_MAX * hours, MB_AN_HOUR_MAX)
    if grown_mb > limit_mb:
        found.append(f"memory has grown by {grown_mb:.1f} MB in {hours:.2f} hours")
    return found
