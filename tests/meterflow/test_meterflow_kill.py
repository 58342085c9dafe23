"""kill -9 at any moment: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.meterflow.helper import COMMAND, LONG, Row, Service, done, environment, eventually, of_set, rows_of
from tests.meterflow.recordings import works

KILLS = 30 if LONG else 5
MINUTES = 12_000 if LONG else 2_000
TABLES = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")
Serve = Callable[..., Service]


class Computed:
    """A recording of the works, and what compute makes of it."""

    def __init__(self, folder: Path, site: Path, minutes: int = MINUTES) -> None:
        self.recording, self.out = folder / "works.ndjson", folder / "computed"
        self.readings = works(self.recording, minutes)
        done("compute", self.recording, "--site", site, "--out", self.out, "--format", "csv")

    def rows(self, table: str) -> list[Row]:
        return rows_of((self.out / f"{table}.csv").read_text())

    def equals(self, service: Service) -> None:
        """Every table of the service is compute's, in the columns that are functions of the set."""
        service.caught_up(self.readings, 120)
        assert service.accepted() == self.readings
        for table in TABLES:
            assert of_set(table, service.rows(table)) == of_set(table, self.rows(table)), table


class Replay:
    """A replay as a child process, so slow that there is time to kill the service."""

    def __init__(self, service: Service, computed: Computed, seconds: float) -> None:
        speed = str(MINUTES * 60 / seconds)
        words = ["replay", str(computed.recording), "--mqtt", service.mqtt, "--speed", speed, "--json"]
        self._process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, env=environment())

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def ended(self) -> dict[str, int]:
        """Its report."""
        out, _ = self._process.communicate(timeout=300)
        assert self._process.returncode == 0
        report: dict[str, int] = json.loads(out)
        return report


@pytest.mark.parametrize("seed", [1])
def test_a_replay_over_many_kills_equals_compute(serve: Serve, tmp_path: Path, site: Path, seed: int) -> None:
    """Killed at random instants in the middle of a replay, the tables are compute's in the end."""
    computed, chance, service = Computed(tmp_path, site), random.Random(seed), serve(site)
    service.start()
    replay = Replay(service, computed, seconds=KILLS * 3)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 2.0))
        if not replay.running:  # on a busy machine: once more, all of them duplicates
            replay.ended()
            replay = Replay(service, computed, seconds=KILLS * 3)
        service.kill()
        service.start()
    report = replay.ended()
    assert report["acknowledged"] == report["messages"]
    assert all(computed.rows(table) for table in TABLES), "a table without rows shows nothing"
    computed.equals(service)
    service.stop()


def grows(path: Path) -> None:
    """Waits until the file has changed its size."""
    size = path.stat().st_size if path.exists() else 0
    eventually(lambda: path.exists() and path.stat().st_size != size, 10, f"{path} grows")


def test_a_kill_while_the_store_is_written(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Each kill comes as the store's file has just grown: it opens every time, and goes on."""
    computed, service = Computed(tmp_path, site), serve(site)
    service.start()
    replay = Replay(service, computed, seconds=8)
    wal = service.folder / "results.duckdb.wal"
    for _ in range(3):
        grows(wal)
        service.kill()
        service.start()
    replay.ended()
    computed.equals(service)
    assert not list(service.folder.glob("*.damaged-*"))


def test_a_kill_right_after_the_start(serve: Serve, tmp_path: Path, site: Path) -> None:
    """However early it is killed, the next start works."""
    computed, service = Computed(tmp_path, site, minutes=300), serve(site)
    for wait_s in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1):
        service.launch()
        time.sleep(wait_s)
        service.kill()
    service.start()
    done("replay", computed.recording, "--mqtt", service.mqtt, "--speed", "max")
    computed.equals(service)


def test_what_was_acknowledged_once_is_there_after_a_kill(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Killed as soon as the last acknowledgement came, with nothing of it worked out or saved."""
    computed, service = Computed(tmp_path, site, minutes=300), serve(site)
    service.start()
    done("replay", computed.recording, "--mqtt", service.mqtt, "--speed", "max")
    service.kill()
    service.start()
    computed.equals(service)


def test_the_same_recording_twice_changes_nothing(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Readings of the same instants are duplicates, also after a kill between the two."""
    computed, service = Computed(tmp_path, site, minutes=300), serve(site)
    service.start()
    for _ in range(2):
        done("replay", computed.recording, "--mqtt", service.mqtt, "--speed", "max")
        service.kill()
        service.start()
    computed.equals(service)
    received = sum(int(row["received"]) for row in computed.rows("hop"))

    def processed() -> int:
        return sum(int(row["received"]) for row in service.rows("hop") if row["hop"] == "processors")

    eventually(lambda: processed() == 2 * received, 20, "both times")
    computed.equals(service)
