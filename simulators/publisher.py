"""Publishes a simulated park over MQTT: its past, quickly, then its present for ever.

``python -m simulators.publisher --mqtt mqtt://localhost:1883 --site examples/park/site.yaml``

The past goes in arrays per plant, the present one reading a message, as meters send them. What is
not acknowledged is sent again; where a state file is given, a later run goes on from the last
instant up to which everything was acknowledged. The same instants give the same readings, so
what is sent twice is the same twice.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from metering.errors import MeterflowError, UsageError
from metering.roster import Roster
from metering.site import compile_roster, load_site
from simulators.mqtt_address import parse_address
from simulators.mqtt_sender import Sender, Stopped
from simulators.park import DAY_MS, EPOCH_MS, Park, Reading
from simulators.recording import Message

HISTORY_MS = DAY_MS
LEAD_MS = 60_000
"""A day's registers are only known from the last reading before it on."""
HISTORY_NTH = 2
"""Of the past every second reading is sent: two ``expect_every`` apart still counts as measured."""
CHUNK_MS = 600_000
LIVE_MS = 30_000
"""Being further behind than this is caught up with in arrays."""
TICK_S = 0.2
SAVE_EVERY_S = 1.0
FINISH_S = 2.0
WINDOW_MESSAGES = 500
PASSWORD_VARIABLE = "METERFLOW_MQTT_PASSWORD"  # noqa: S105  the name of it, not the thing


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """``acknowledged_ms``: everything up to this instant is acknowledged. ``behind_ms``: to be caught up.

    ``saved_ms``: what the state file says; it stays behind while it cannot be written (disk full).
    """

    readings: int
    messages: int
    acknowledged_ms: int
    behind_ms: int
    reconnects: int
    resent: int
    saved_ms: int | None


Tell = Callable[[PublishProgress], None]


def publish_park(
    url: str,
    roster: Roster,
    seed: int,
    since_ms: int | None,
    stop: threading.Event,
    *,
    state_path: Path | None = None,
    user: str | None = None,
    password: str | None = None,
    history_ms: int = HISTORY_MS,
    history_nth: int = HISTORY_NTH,
    progress: Tell | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> PublishProgress:
    """Publishes at QoS 1 until ``stop`` is set; blocks, and is made to run in a thread of its own.

    Begins where the state file says, else at ``since_ms``, else ``history_ms`` ago, and from there
    on a minute before the local midnight before, so that the amounts of the last whole day (value
    added) have their day's readings. A connection that breaks is made anew, for ever. Raises MeterflowError
    when access is refused, UsageError for a wrong address or a state file of another seed.
    """
    address = parse_address(url, user, password)
    park = Park(roster, seed)
    state = State(state_path, seed)
    begin_ms = state.load()
    if begin_ms is None:
        begin_ms = (
            since_ms if since_ms is not None else midnight_before(park, now_ms() - history_ms) - LEAD_MS
        )
    sender = Sender(address, window_messages=WINDOW_MESSAGES, patience_s=None, give_up_on=False, stop=stop)
    publisher = _Publisher(park, sender, state, max(begin_ms, EPOCH_MS), progress or _tell_nobody)
    try:
        while not stop.is_set():
            publisher.step(now_ms(), history_nth)
    except Stopped:
        pass
    finally:
        publisher.finish()
    return publisher.progress(now_ms())


def midnight_before(park: Park, instant_ms: int) -> int:
    """The start of the simulated day that holds an instant, the earliest among the plants."""
    zeros = {meter.day_zero_ms for plant in park.plants for meter in park.meters(plant)}
    return min((instant_ms - zero) // DAY_MS * DAY_MS + zero for zero in zeros or {EPOCH_MS})


def _tell_nobody(_progress: PublishProgress) -> None:
    return


class State:
    """The last instant up to which everything is acknowledged, in a small file."""

    def __init__(self, path: Path | None, seed: int) -> None:
        self._path = path
        self._seed = seed
        self.saved_ms: int | None = None

    def load(self) -> int | None:
        """None when there is no file, or nothing to be read in it."""
        try:
            content = json.loads(self._path.read_bytes()) if self._path else None
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise MeterflowError(
                f"cannot be read: {error.strerror}", where=str(self._path), hint="check its rights"
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("acknowledged_ms"), int):
            return None
        if content.get("seed") != self._seed:
            raise UsageError(
                f"the simulated park here has the seed {content.get('seed')}, not {self._seed}",
                where=str(self._path),
                hint="go on with that seed, or begin with an empty data folder",
            )
        self.saved_ms = int(content["acknowledged_ms"])
        return self.saved_ms

    def save(self, acknowledged_ms: int) -> None:
        """Replaces the file at once, or leaves the old one.

        A disk that is full now is no reason to stop: an older instant only means that more is sent
        again, and is recognised.
        """
        if self._path is None or acknowledged_ms == self.saved_ms:
            return
        part = self._path.with_name(self._path.name + ".part")
        with suppress(OSError):
            part.write_text(json.dumps({"acknowledged_ms": acknowledged_ms, "seed": self._seed}) + "\n")
            part.replace(self._path)
            self.saved_ms = acknowledged_ms


class _Publisher:
    def __init__(self, park: Park, sender: Sender, state: State, begin_ms: int, tell: Tell) -> None:
        self._park = park
        self._sender = sender
        self._state = state
        self._tell = tell
        self._given_ms = begin_ms
        self._acknowledged_ms = begin_ms
        self._marks: deque[tuple[int, int]] = deque()  # messages given, and up to which instant
        self._readings = 0
        self._saved_at = time.monotonic()

    def step(self, now_ms: int, history_nth: int) -> None:
        """Sends what is due, the past piece by piece, and waits a moment in the present."""
        behind_ms = now_ms - self._given_ms
        if behind_ms > LIVE_MS:
            self._give(self._past(self._given_ms, self._given_ms + CHUNK_MS, now_ms, history_nth))
            self._mark(min(self._given_ms + CHUNK_MS, now_ms))
            self._sender.poll(0.0)
        elif behind_ms > 0:
            self._give(self._present(self._given_ms, now_ms))
            self._mark(now_ms)
            self._pause()
        else:  # the clock was put back
            self._pause()
        self._note(now_ms)

    def finish(self) -> None:
        """Waits a little for what is on its way, and notes what came of it."""
        self._sender.finish(FINISH_S)
        self._take_marks()
        self._state.save(self._acknowledged_ms)

    def progress(self, now_ms: int) -> PublishProgress:
        counts = self._sender.counts
        return PublishProgress(
            readings=self._readings,
            messages=counts.given,
            acknowledged_ms=self._acknowledged_ms,
            behind_ms=max(0, now_ms - self._given_ms),
            reconnects=counts.reconnects,
            resent=counts.resent,
            saved_ms=self._state.saved_ms,
        )

    def _past(self, after_ms: int, until_ms: int, now_ms: int, nth: int) -> Iterator[tuple[str, str, int]]:
        for plant in self._park.plants:
            readings = self._park.readings(plant, after_ms, min(until_ms, now_ms), nth)
            if readings:
                yield f"meterflow/v1/{plant}", f"[{','.join(map(element, readings))}]", len(readings)

    def _present(self, after_ms: int, until_ms: int) -> Iterator[tuple[str, str, int]]:
        for plant in self._park.plants:
            for reading in self._park.readings(plant, after_ms, until_ms):
                yield f"meterflow/v1/{plant}/{reading.point}", single(reading), 1

    def _give(self, messages: Iterable[tuple[str, str, int]]) -> None:
        for topic, payload, readings in messages:
            self._sender.send(Message(0, topic, 1, payload.encode()))
            self._readings += readings

    def _mark(self, until_ms: int) -> None:
        self._given_ms = until_ms
        self._marks.append((self._sender.counts.given, until_ms))

    def _take_marks(self) -> None:
        done = self._sender.done
        while self._marks and self._marks[0][0] <= done:
            self._acknowledged_ms = self._marks.popleft()[1]

    def _pause(self) -> None:
        until = time.monotonic() + TICK_S
        while (wait_s := until - time.monotonic()) > 0:
            self._sender.poll(wait_s)

    def _note(self, now_ms: int) -> None:
        self._take_marks()
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self._saved_at = time.monotonic()
            self._state.save(self._acknowledged_ms)
            self._tell(self.progress(now_ms))


def element(reading: Reading) -> str:
    """A reading in an array of its plant's."""
    return f'{{"point":{json.dumps(reading.point)},{single(reading)[1:]}'


def single(reading: Reading) -> str:
    """A reading on its point's own topic."""
    start = "" if reading.start_ms is None else f',"start":{reading.start_ms}'
    return f'{{"time":{reading.time_ms}{start},"value":{reading.value}}}'


def main(arguments: list[str] | None = None) -> int:
    """The program: until SIGINT or SIGTERM; 1 when publishing failed, 2 on wrong usage."""
    options = _options().parse_args(arguments)
    stop = threading.Event()

    def stop_now(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, stop_now)
    signal.signal(signal.SIGTERM, stop_now)
    try:
        publish_park(
            options.mqtt,
            compile_roster(load_site(options.site)),
            options.seed,
            None,
            stop,
            state_path=options.state,
            user=options.user,
            password=os.environ.get(PASSWORD_VARIABLE),
        )
    except MeterflowError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulators.publisher", description="Publishes a simulated park.")
    parser.add_argument("--mqtt", required=True, help="mqtt://HOST:PORT of a broker or endpoint")
    parser.add_argument("--site", required=True, type=Path, help="the site file whose meters are simulated")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same park")
    parser.add_argument("--state", type=Path, help="where to keep up to when everything is acknowledged")
    parser.add_argument("--user", help=f"the user; the password is taken from {PASSWORD_VARIABLE}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
