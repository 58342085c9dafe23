"""The publisher brings the simulated park to a broker without a hole, over stops and breaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metering.errors import MeterflowError, UsageError
from metering.site import compile_roster, load_site
from simulators.park import EPOCH_MS, Park, Reading
from simulators.publisher import PublishProgress, main, midnight_before, publish_park

from .conftest import Broker, Line, Subscriber, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "examples/park/site.yaml"
ROSTER = compile_roster(load_site(SITE))
HOUR_MS = 3_600_000
SEED = 3


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Running:
    def __init__(self, url: str, since_ms: int | None, state_path: Path | None) -> None:
        self.stop = threading.Event()
        self.progress: PublishProgress | None = None
        self._told: list[PublishProgress] = []
        self._thread = threading.Thread(target=self._run, args=(url, since_ms, state_path), daemon=True)
        self._thread.start()

    def _run(self, url: str, since_ms: int | None, state_path: Path | None) -> None:
        self.progress = publish_park(
            url, ROSTER, SEED, since_ms, self.stop, state_path=state_path, progress=self._told.append
        )

    def wait_until_live(self) -> None:
        wait_until(lambda: bool(self._told) and self._told[-1].behind_ms < 2_000, "the present")

    def end(self) -> PublishProgress:
        started = time.monotonic()
        self.stop.set()
        self._thread.join(10)
        assert time.monotonic() - started < 5.0
        assert self.progress is not None
        return self.progress


@contextmanager
def _publishing(url: str, since_ms: int | None, state_path: Path | None = None) -> Iterator[_Running]:
    running = _Running(url, since_ms, state_path)
    try:
        yield running
    finally:
        running.stop.set()


def _readings(subscriber: Subscriber) -> dict[str, set[Reading]]:
    """What arrived, per plant."""
    found: dict[str, set[Reading]] = {}
    for topic, payload, qos, _ in subscriber.got:
        assert qos == 1
        plant, *point = topic.removeprefix("meterflow/v1/").split("/")
        decoded = json.loads(payload, parse_float=str, parse_int=str)
        for one in decoded if isinstance(decoded, list) else [decoded]:
            name = one.get("point") or point[0]
            start_ms = int(one["start"]) if "start" in one else None
            found.setdefault(plant, set()).add(Reading(name, int(one["time"]), one["value"], start_ms))
    return found


def _expected(since_ms: int, until_ms: int, nth: int) -> dict[str, set[Reading]]:
    park = Park(ROSTER, SEED)
    return {plant: set(park.readings(plant, since_ms, until_ms, nth)) for plant in park.plants}


def _check_no_hole(subscriber: Subscriber, since_ms: int, until_ms: int) -> None:
    """All of every second reading has come, and nothing that the park does not say."""
    got = _readings(subscriber)
    for plant, readings in _expected(since_ms, until_ms, 2).items():
        assert readings <= got[plant]
    for plant, readings in _expected(since_ms, until_ms + 60_000, 1).items():
        assert got[plant] <= readings


def test_the_past_comes_first_and_then_the_present(broker: Broker, subscriber: Subscriber) -> None:
    """Three hours in a moment, in arrays per plant; then single readings on their points' topics."""
    since_ms = _now_ms() - 3 * HOUR_MS
    with _publishing(broker.url, since_ms) as running:
        running.wait_until_live()
        wait_until(lambda: any(t.count("/") == 3 for t, *_ in subscriber.got), "single readings")
        progress = running.end()
    assert [topic.count("/") for topic, *_ in subscriber.got[:10]] == [2] * 10
    assert progress.readings > 6_000
    _check_no_hole(subscriber, since_ms, progress.acknowledged_ms)


def test_a_later_run_goes_on_where_the_state_file_says(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """What was missed while it stood still is published, too."""
    since_ms, state = _now_ms() - HOUR_MS, tmp_path / "park.json"
    with _publishing(broker.url, since_ms, state) as first:
        first.wait_until_live()
        stopped_ms = first.end().acknowledged_ms
    assert json.loads(state.read_text()) == {"acknowledged_ms": stopped_ms, "seed": SEED}
    messages = len(subscriber.got)
    time.sleep(1.2)
    with _publishing(broker.url, None, state) as second:
        second.wait_until_live()
        progress = second.end()
    assert progress.readings < 100
    assert len(subscriber.got) - messages < 100
    _check_no_hole(subscriber, since_ms, progress.acknowledged_ms)


def test_a_line_that_breaks_makes_no_hole(line: Callable[..., Line], subscriber: Subscriber) -> None:
    """What was not acknowledged is sent again."""
    since_ms, laid = _now_ms() - 6 * HOUR_MS, line(400_000)
    with _publishing(laid.url, since_ms) as running:
        running.wait_until_live()
        progress = running.end()
    assert laid.breaks >= 2
    assert progress.reconnects >= 2
    _check_no_hole(subscriber, since_ms, progress.acknowledged_ms)


def test_it_waits_for_a_broker_and_stops_when_told(tmp_path: Path) -> None:
    """With nobody to publish to, the state is not moved on."""
    since_ms, state = _now_ms() - HOUR_MS, tmp_path / "park.json"
    with _publishing(f"mqtt://127.0.0.1:{free_port()}", since_ms, state) as running:
        time.sleep(0.5)
        assert running.end().acknowledged_ms == since_ms
    assert json.loads(state.read_text())["acknowledged_ms"] == since_ms


def test_a_refused_password_ends_it_with_a_reason(guarded_broker: Broker) -> None:
    """It is no use to try again."""
    with pytest.raises(MeterflowError, match="refused"):
        publish_park(guarded_broker.url, ROSTER, SEED, _now_ms(), threading.Event())


def test_the_state_of_another_seed_is_refused(tmp_path: Path) -> None:
    """Registers of another park would fall."""
    state = tmp_path / "park.json"
    state.write_text('{"acknowledged_ms": 1795356000000, "seed": 99}')
    with pytest.raises(UsageError, match="seed 99"):
        publish_park("mqtt://localhost", ROSTER, SEED, None, threading.Event(), state_path=state)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"acknowledged_ms": null}'])
def test_a_damaged_state_file_is_a_new_beginning(tmp_path: Path, content: str) -> None:
    """A little is sent twice at worst, and is recognised."""
    state, stop = tmp_path / "park.json", threading.Event()
    state.write_text(content)
    stop.set()
    progress = publish_park("mqtt://localhost", ROSTER, SEED, 1_795_356_000_000, stop, state_path=state)
    assert progress.acknowledged_ms == 1_795_356_000_000


def test_a_state_file_that_cannot_be_written_stops_nothing(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """A full disk is no reason to stop measuring."""
    with _publishing(broker.url, _now_ms() - HOUR_MS, tmp_path / "no folder" / "park.json") as running:
        running.wait_until_live()
        progress = running.end()
    assert progress.saved_ms is None
    subscriber.wait_for(10)


def test_without_a_beginning_it_begins_at_a_midnight_a_day_ago() -> None:
    """So that the last whole day has all its readings when its value added comes."""
    begin_ms = midnight_before(Park(ROSTER, SEED), EPOCH_MS + 400 * 24 * HOUR_MS + 5)
    assert (begin_ms + 8 * HOUR_MS) % (24 * HOUR_MS) == 0
    assert 0 <= EPOCH_MS + 400 * 24 * HOUR_MS + 5 - begin_ms < 24 * HOUR_MS


def test_it_runs_as_a_program_of_its_own(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    """And stops cleanly when it is asked to."""
    command = [sys.executable, "-m", "simulators.publisher", "--mqtt", broker.url, "--site", str(SITE)]
    command += ["--seed", str(SEED), "--state", str(tmp_path / "park.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as program:
        subscriber.wait_for(300)
        wait_until((tmp_path / "park.json").exists, "the state file")
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=10)
    assert (program.returncode, errors) == (0, b"")


def test_the_program_says_what_is_wrong_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """A site file that is not there is the user's mistake."""
    assert main(["--mqtt", "mqtt://localhost", "--site", "none.yaml"]) == 2
    assert capsys.readouterr().err.startswith("none.yaml: cannot read it")
