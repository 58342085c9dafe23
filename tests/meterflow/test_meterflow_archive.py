"""The archive of a real service: whole after any stop, and its readings are those that were accepted."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from meterflow.given import load_roster
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive
from tests.meterflow.helper import Service, archived, done, eventually, meterflow, mistake
from tests.meterflow.recordings import works
from tests.meterflow.test_meterflow_kill import Computed, Replay

Serve = Callable[..., Service]
KILLS = 4


def report(service: Service, *words: str) -> dict[str, object]:
    """What the check of a whole archive says."""
    ended = done("archive", "check", "--data", service.folder, "--json", *words)
    found: dict[str, object] = json.loads(ended.stdout)
    assert found["problems"] == []
    return found


def test_what_was_accepted_is_archived_over_many_kills(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Killed again and again while it archives; in the end every reading is there, once."""
    computed, chance = Computed(tmp_path, site), random.Random(1)
    service = serve(site, "--archive-every", "0.05")
    service.start()
    replay = Replay(service, computed, seconds=KILLS * 3)
    for _ in range(KILLS):
        eventually(lambda: list((service.folder / "archive" / "manifest").glob("*.json")), 20)
        time.sleep(chance.uniform(0.1, 2.0))
        service.kill()
        service.start()
    assert replay.ended()["acknowledged"] > 0
    computed.equals(service)
    report(service)
    readings = service.received()
    service.stop()
    assert report(service)["readings"] == archived(service.folder / "archive") == readings
    (kept,) = (service.folder / "archive" / "sites").iterdir()
    assert (kept / "site.yaml").read_bytes() == site.read_bytes()
    assert load_roster(kept / "site.yaml").version == load_roster(site).version == kept.name
    evidence = Archive(FolderPlace(service.folder / "archive")).evidence("works")
    assert set(evidence.column("site").to_pylist()) == {kept.name}


def test_an_archive_elsewhere_is_found_by_its_name(serve: Serve, tmp_path: Path, site: Path) -> None:
    """In a folder of its own; the default one says that nothing is there."""
    place = tmp_path / "elsewhere"
    service = serve(site, "--archive", str(place))
    service.start()
    readings = works(tmp_path / "works.ndjson", 50)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    readings = service.received()
    mistake(meterflow("archive", "check", "--data", service.folder), 2, "no archive here")
    service.stop()
    assert archived(place) == readings
    assert report(service, "--archive", str(place))["readings"] == readings
    days = json.loads(done("archive", "list", "--archive", place, "--json").stdout)
    assert sum(sum(of.values()) for of in days.values()) == readings
    lines = done("archive", "list", "--archive", place).stdout.splitlines()
    assert sum(int(line.split("\t")[2]) for line in lines) == readings


def test_a_damaged_file_is_named_on_the_command_line(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Exit code 1, its path, and what to do; where that is done, the service makes it whole again."""
    service = serve(site)
    service.start()
    readings = works(tmp_path / "works.ndjson", 50)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    readings = service.received()
    service.stop()
    folder = service.folder / "archive"
    harmed = min(folder.glob("readings/*/*/*.parquet"))
    harmed.write_bytes(harmed.read_bytes()[:-1])
    ended = meterflow("archive", "check", "--data", service.folder)
    assert ended.returncode == 1
    assert f"TORN {harmed}" in ended.stdout
    (folder / "manifest" / f"{harmed.stem}.json").unlink()
    service.start()
    service.stop()
    assert report(service)["readings"] == readings
