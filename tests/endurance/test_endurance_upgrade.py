"""Data folders of earlier versions are taken over whole, those of later ones refused: T29."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from zlib import crc32

import duckdb
import pytest

from bus.frames import CRC_BYTES, READINGS_FORMAT
from tests.endurance.endurance_world import COMPARED, World, archive_faults, ready
from tests.meterflow.helper import (
    Row,
    Service,
    check_laws,
    done,
    eventually,
    meterflow,
    mistake,
    of_set,
    rows_of,
)
from tests.meterflow.versions import environment_of, tree_or_skip

EARLIER = Path(__file__).parent / "earlier"
LATER_COMMIT, EARLIER_COMMIT = "1bc57a2f45a2", "0a17dad52c42"
"""Versions of before, whose saved states are of different formats: of another one they work out all anew."""
Change = Callable[[Path], None]


def unpacked(folder: Path, name: str) -> World:
    """An earlier version's data folder, and what compute makes today of what was published to it."""
    with tarfile.open(EARLIER / f"{name}.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    world = World(folder / "site.yaml", folder / "readings.ndjson", folder / "computed")
    done("compute", world.recording, "--site", world.site, "--out", world.computed, "--format", "csv")
    return world


def tables(world: World) -> dict[str, list[tuple[str, ...]]]:
    """What compute says, in the columns of the set."""
    return {table: of_set(table, computed(world, table)) for table in COMPARED}


def computed(world: World, table: str) -> list[Row]:
    return rows_of((world.computed / f"{table}.csv").read_text())


def stored(service: Service) -> dict[str, list[tuple[str, ...]]]:
    """What the service says, likewise."""
    return {table: of_set(table, service.rows(table)) for table in COMPARED}


@pytest.mark.parametrize("name", ["log-1", "log-2"])
def test_a_folder_of_an_earlier_version_is_taken_over(tmp_path: Path, name: str) -> None:
    """Its readings are there, once, also when they come again; results are today's; the archive has them."""
    world = unpacked(tmp_path, name)
    service = Service(tmp_path / "data", world.site, ["--archive-every", "0.5"])
    wanted = tables(world)
    assert wanted["interval"]
    try:
        service.launch()
        ready(service)
        service.caught_up(sum(int(row["accepted"]) for row in computed(world, "hop")))
        assert stored(service) == wanted
        done("replay", world.recording, "--mqtt", service.mqtt, "--speed", "max")
        eventually(lambda: sum(int(row["duplicate"]) for row in service.rows("hop")) > 40, 30, "duplicates")
        assert stored(service) == wanted
        check_laws(service)
        assert "Traceback" not in service.said
        service.stop()
    finally:
        if service.process is not None:
            service.kill()
    assert archive_faults(service, world, tmp_path) == []


def newer_log(folder: Path) -> None:
    """As a later version may write it."""
    with closing(sqlite3.connect(folder / "log.sqlite")) as log:
        log.execute("PRAGMA user_version = 99")


def newer_store(folder: Path) -> None:
    """Likewise; the mark of site and state is that of today, so that it is not put aside."""
    with duckdb.connect(str(folder / "results.duckdb")) as store:
        (name,) = [
            name
            for (name,) in store.execute(
                "SELECT table_name FROM duckdb_columns() WHERE column_name = 'shape'"
            ).fetchall()
        ]
        store.execute(f'UPDATE "{name}" SET version = 99')


@pytest.mark.parametrize(("change", "file"), [(newer_log, "log.sqlite"), (newer_store, "results.duckdb")])
def test_a_folder_of_a_later_version_is_refused_and_left_as_it_is(
    tmp_path: Path, change: Change, file: str
) -> None:
    """It says which file and what to do, and the version that wrote it finds its own again."""
    world = unpacked(tmp_path, "log-2")
    folder = tmp_path / "data"
    service = Service(folder, world.site)
    service.launch()
    ready(service)
    service.stop()
    change(folder)
    before = contents(folder)
    ended = meterflow("up", world.site, "--data", folder, "--mqtt-port", 0, "--http-port", 0)
    mistake(ended, 2, str(folder / file), "newer version" if file == "results.duckdb" else "newer meterflow")
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a data folder but its lock."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"
    }


def test_readings_of_a_later_version_are_refused_before_results_are_put_aside(tmp_path: Path) -> None:
    """Nothing could be worked out of them: the results of before stay where they are."""
    world = unpacked(tmp_path, "log-2")
    folder = tmp_path / "data"
    service = Service(folder, world.site)
    service.launch()
    ready(service)
    service.stop()
    with closing(sqlite3.connect(folder / "log.sqlite")) as log, log:
        every = log.execute("SELECT id, value FROM record ORDER BY id DESC").fetchall()
        number, frame = next((number, frame) for number, frame in every if READINGS_FORMAT in frame)
        later = frame[:-CRC_BYTES].replace(READINGS_FORMAT, b"readings/9")
        log.execute(
            "UPDATE record SET value = ? WHERE id = ?", [later + crc32(later).to_bytes(4, "little"), number]
        )
    (folder / "site").write_text((folder / "site").read_text().strip() + "9\n")
    before = contents(folder)
    ended = meterflow("up", world.site, "--data", folder, "--mqtt-port", 0, "--http-port", 0)
    mistake(ended, 2, "readings/9", "use the newer one")
    after = contents(folder)
    assert sorted(after) == sorted(before)
    assert after["results.duckdb"] == before["results.duckdb"]
    assert after["site"] == before["site"]


@pytest.mark.parametrize("commit", [LATER_COMMIT, EARLIER_COMMIT])
def test_an_earlier_version_goes_on_with_what_this_one_left_and_back(tmp_path: Path, commit: str) -> None:
    """Half of the readings come to each; then this version has all, once, and says what compute says."""
    earlier = tree_or_skip(commit, tmp_path / "code")
    world = unpacked(tmp_path, "log-2")
    rmtree(tmp_path / "data")
    lines = world.recording.read_text().splitlines(keepends=True)
    halves = [tmp_path / name for name in ("first.ndjson", "second.ndjson")]
    for path, part in zip(halves, (lines[: len(lines) // 2], lines[len(lines) // 2 :]), strict=True):
        path.write_text("".join(part))
    wanted, every = tables(world), sum(int(row["accepted"]) for row in computed(world, "hop"))
    service = Service(tmp_path / "data", world.site, ["--archive-every", "0.5"])
    try:
        for environment, recording in (({}, halves[0]), (environment_of(earlier), halves[1]), ({}, None)):
            service.environment = environment
            service.launch()
            ready(service)
            if recording is not None:
                done("replay", recording, "--mqtt", service.mqtt, "--speed", "max")
                eventually(lambda: not service.metric("meterflow_worker_lag_records"), 30, "worked out")
            else:
                service.caught_up(every)
                assert stored(service) == wanted
                check_laws(service)
            service.stop()
        assert "Traceback" not in service.said
    finally:
        if service.process is not None:
            service.kill()
    assert archive_faults(service, world, tmp_path) == []
