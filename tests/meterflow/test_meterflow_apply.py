"""``meterflow apply``: a changed site file while readings stream in, over the real service."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.meterflow.dying_child import MOMENTS
from tests.meterflow.helper import (
    COMMAND,
    LONG,
    ROOT,
    Service,
    done,
    environment,
    eventually,
    meterflow,
    mistake,
)
from tests.meterflow.recordings import works
from tests.meterflow.test_meterflow_kill import Computed

TABLES = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")
Serve = Callable[..., Service]


def other(site: Path, name: str, *pairs: tuple[str, str], without: tuple[str, ...] = ()) -> Path:
    """A site file beside the first, with other words and without some lines."""
    lines = [line for line in site.read_text().splitlines() if not any(word in line for word in without)]
    text = "\n".join(lines) + "\n"
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    path = site.with_name(f"{name}.yaml")
    path.write_text(text)
    return path


def doubled(site: Path, name: str = "doubled") -> Path:
    """Another multiplier for ever, the limits to it, and another zone."""
    return other(
        site,
        name,
        ("multiplier: 10", "multiplier: 20"),
        ("9000 kW", "18000 kW"),
        ("Asia/Shanghai", "Europe/Berlin"),
    )


def applied(site: Path, service: Service) -> None:
    """Asked of the service itself: quicker than the command."""
    version = posted(service, {"site.yaml": site.read_text()})["version"]
    eventually(lambda: state(service)["state"] not in ("working", "switching"), 60)
    assert state(service)["in_force"] == version


def computed(tmp_path: Path, site: Path, minutes: int) -> Computed:
    folder = tmp_path / site.stem
    folder.mkdir()
    return Computed(folder, site, minutes)


def test_site_files_are_applied_while_readings_stream_in(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Two after each other, points taken away by the second: everything acknowledged, nothing lost, and the
    newest rows are compute's with the last; restarts change nothing.
    """
    service = serve(site)
    first, second = doubled(site), other(doubled(site), "second", without=("id: books", "id: yuan"))
    whole = computed(tmp_path, second, 600)
    service.start()
    words = ["replay", str(whole.recording), "--mqtt", service.mqtt, "--speed", "400"]
    replay = subprocess.Popen([*COMMAND, *words], stderr=subprocess.DEVNULL, env=environment())
    eventually(lambda: service.accepted() > 20, 20)
    done("apply", first, "--data", service.folder, "--yes", "--no-plan")
    taken = service.accepted()
    eventually(lambda: service.accepted() > taken, 20, "readings go on to come")
    assert replay.poll() is None
    applied(second, service)
    replay.kill()
    replay.wait()
    done("replay", whole.recording, "--mqtt", service.mqtt, "--speed", "max")
    matches(service, whole)

    def received() -> list[int]:
        return [int(row["received"]) for row in service.rows("hop") if row["hop"] == "ingest"]

    eventually(lambda: max(received(), default=0) >= whole.readings, 20, "what came before is in the books")
    assert json.loads(service.get("/api/site")[1])["plants"][0]["time_zone"] == "Europe/Berlin"
    assert len(list(service.folder.glob("results.duckdb.before-*Z"))) == 2
    service.stop()
    service.start()
    matches(service, whole)


def matches(service: Service, whole: Computed) -> None:
    """Every table is compute's, in the columns of the set."""
    accepted = sum(int(row["accepted"]) for row in whole.rows("hop") if row["hop"] == "processors")
    whole.readings = accepted
    whole.equals(service)


def test_a_point_that_is_new_is_taken_from_one_record_on(serve: Serve, tmp_path: Path, site: Path) -> None:
    """What was rejected before is brought back by resubmit: then all is as if the point had always been."""
    narrow = other(site, "narrow", without=("id: intake", "installations: [{digits: 7"))
    service, whole = serve(narrow), computed(tmp_path, site, 300)
    lines = whole.recording.read_text().splitlines(keepends=True)
    halves = tmp_path / "half-0.ndjson", tmp_path / "half-1.ndjson"
    halves[0].write_text("".join(lines[:150]))
    halves[1].write_text("".join(lines[:1] + lines[150:]))
    service.start()
    done("replay", halves[0], "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(2 * 140)
    refused = service.rows("rejected")
    applied(site, service)
    done("replay", halves[1], "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(2 * 300)
    assert {row["point"] for row in refused} == {"intake"}
    assert service.rows("rejected") == refused
    done("resubmit", "--data", service.folder, "--site", site)
    matches(service, whole)


def test_what_was_reported_before_it_can_be_asked_for(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Running or not."""
    service = serve(site)
    service.start()
    readings = works(tmp_path / "works.ndjson", 300)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    at = datetime.now(UTC).isoformat()
    before = service.export("rollup", "--as-of", at)
    applied(doubled(site), service)
    service.caught_up(readings)
    assert service.export("rollup", "--as-of", datetime.now(UTC).isoformat()) != before
    assert service.export("rollup", "--as-of", at) == before
    service.stop()
    assert service.export("rollup", "--as-of", at) == before


def test_a_file_with_faults_is_refused_whole(serve: Serve, tmp_path: Path, site: Path) -> None:
    """By the command, and by the service whoever asks it; another page may not ask at all."""
    service = serve(site)
    service.start()
    readings = works(tmp_path / "works.ndjson", 300)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    before = {table: service.rows(table) for table in TABLES}
    wrong = other(site, "wrong", ("unit: m3", "unit: m33"))
    ended = meterflow("apply", wrong, "--data", service.folder, "--yes")
    mistake(ended, 2, f"{wrong}:13:", "m33")
    said = posted(service, {"site.yaml": wrong.read_text()})
    assert "site.yaml:13:" in said["hint"]
    assert "site.yaml" in posted(service, {"other.yaml": ""})["error"]
    assert "another page" in posted(service, {}, "-H", "Origin: http://other.example")["error"]
    assert {table: service.rows(table) for table in TABLES} == before
    assert not (service.folder / "next").exists()


def posted(service: Service, files: dict[str, str], *options: str) -> dict[str, str]:
    """What the service answers to files."""
    url = f"http://127.0.0.1:{service.http_port}/api/site/change"
    words = ["curl", "-s", url, "-H", "Content-Type: application/json", *options, "-d", json.dumps(files)]
    answer = subprocess.run(words, capture_output=True, check=True, timeout=20)
    return dict(json.loads(answer.stdout))


def test_one_is_taken_at_a_time_and_can_be_given_up(serve: Serve, site: Path) -> None:
    """An archive that takes no files keeps one waiting; a restart goes on with it, a stop ends it."""
    service, first = serve(site), doubled(site)
    second = other(site, "second", ("9000 kW", "9001 kW"))
    service.start()
    sites = service.folder / "archive" / "sites"
    eventually(lambda: list(sites.glob("*/files.json")), 20)
    sites.rename(sites.with_name("away"))
    sites.write_text("no folder")
    words = [*COMMAND, "apply", str(first), "--data", str(service.folder), "--yes", "--no-plan"]
    ask = subprocess.Popen(words, stderr=subprocess.PIPE, env=environment(), text=True)
    for restart in (False, True):
        if restart:
            service.kill()
            service.start()
        eventually(lambda: "the archive does not take" in state(service)["error"], 20)
        ended = meterflow("apply", second, "--data", service.folder, "--yes", "--no-plan")
        mistake(ended, 2, "another site file is being applied", "--stop")
    done("apply", "--stop", "--data", service.folder)
    assert ask.wait(20) == 1
    mistake(meterflow("apply", "--stop", "--data", service.folder), 2, "nothing to stop")
    assert not list(service.folder.glob("next*"))
    sites.unlink()
    sites.with_name("away").rename(sites)
    applied(second, service)
    assert len(list(sites.glob("*/files.json"))) == 2


def state(service: Service) -> dict[str, str]:
    """How far the newest change is."""
    return dict(service.json("/api/site/change"))


def test_the_file_given_last_counts(serve: Serve, site: Path) -> None:
    """An older one that up is started with again does not undo what was applied; a changed one does. Where it
    was started with --no-apply, or there is no service, nothing is applied.
    """
    service, zone = serve(site), "Europe/Berlin"

    def zones() -> str:
        return str(json.loads(service.get("/api/site")[1])["plants"][0]["time_zone"])

    service.start()
    applied(doubled(site), service)
    assert zones() == zone
    service.kill()
    service.start()
    assert zones() == zone
    assert "the one given is older" in service.said
    service.options = ["--no-apply"]
    site.write_text(site.read_text().replace("Asia/Shanghai", "Asia/Tokyo"))
    for _ in range(2):
        service.stop()
        service.start()
        assert zones() == "Asia/Tokyo"
    mistake(meterflow("apply", site, "--data", service.folder, "--yes", "--no-plan"), 2, "--apply")
    service.stop()
    mistake(meterflow("apply", site, "--data", service.folder, "--yes"), 2, "no service runs")


@pytest.mark.parametrize("seed", [1])
def test_kills_at_any_moment_leave_one_file_wholly(
    serve: Serve, tmp_path: Path, site: Path, seed: int
) -> None:
    """Killed while it is worked out, and while it is put in force: it goes on, and is in force in the end."""
    service, chance = serve(site), random.Random(seed)
    whole = computed(tmp_path, doubled(site), 600)
    service.start()
    done("replay", whole.recording, "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(1000)
    words = ["apply", str(tmp_path / "doubled.yaml"), "--data", str(service.folder), "--yes", "--no-plan"]
    for _ in range(12 if LONG else 2):
        ask = subprocess.Popen([*COMMAND, *words], stderr=subprocess.DEVNULL, env=environment())
        until_s = time.monotonic() + 20
        while not (service.folder / "next").exists() and ask.poll() is None:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.2))
        service.kill()
        ask.kill()
        ask.wait()
        service.start()
    applied(tmp_path / "doubled.yaml", service)
    matches(service, whole)
    assert not list(service.folder.glob("next*"))


def test_a_kill_at_each_step_of_the_switch(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Before the record of the log the old file is in force, behind it the new one; the next start does the
    rest, and nothing is left over. The two files take turns.
    """
    service, files = serve(site), [doubled(site), site]
    readings = works(tmp_path / "works.ndjson", 120)
    armed = tmp_path / "armed"
    service.start()
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    service.stop()
    moments = list(MOMENTS) if LONG else ["before the record", "behind the record", "behind it"]
    for number, moment in enumerate(moments):
        armed.unlink(missing_ok=True)
        service.command = [sys.executable, str(ROOT / "tests/meterflow/dying_child.py"), moment, str(armed)]
        service.start()
        armed.touch()
        coming = files[number % 2]
        words = [*COMMAND, "apply", str(coming), "--data", str(service.folder), "--yes", "--no-plan"]
        ask = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment())
        assert service.process is not None
        assert service.process.wait(30) == 9, moment
        service.command = list(COMMAND)
        service.start()
        assert ask.wait(30) == 0, "it waits for the service, and learns that the file is in force"
        eventually(lambda: not list(service.folder.glob("next*")), 20)
        service.caught_up(readings)
        assert len(list(service.folder.glob("results.duckdb.before-*Z"))) == number + 1
        revisions = {int(row["revision"]) for row in service.rows("interval") if row["cause"] == "site"}
        assert min(revisions) == number + 1, "what was reported before goes on, whoever carries it over"
        service.stop()
