"""Results from the archive alone are those of the service, column by column of the set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.meterflow.helper import Service, done, eventually, meterflow, mistake, of_set, publish, rows_of
from tests.meterflow.recordings import works

Serve = Callable[..., Service]
MINUTES = 3000
TABLES = ("interval", "rollup", "intensity", "verdict", "alert", "ledger")


@pytest.fixture
def service(serve: Serve, site: Path, tmp_path: Path) -> Service:
    """Two days of the works with late, doubled and falling readings, and a decision on the reset."""
    one = serve(site)
    one.start()
    different = works(tmp_path / "works.ndjson", MINUTES)
    done("replay", tmp_path / "works.ndjson", "--mqtt", one.mqtt, "--speed", "max")
    one.caught_up(different, 120)
    reset = next(row for row in one.rows("verdict") if row["verdict"] == "reset")
    decision = {"from": reset["from"], "to": reset["to"], "verdict": "reset", "by": "Li Wei"}
    publish(one.mqtt_port, "meterflow/v1/works/intake/decision", json.dumps(decision))
    eventually(lambda: [r for r in one.rows("verdict") if r["by"] == "Li Wei"], 20, "decided")
    one.stop()
    return one


def rebuilt(service: Service, site: Path, out: Path, *words: object) -> dict[str, dict[str, dict[str, int]]]:
    """What a script reads of it, where everything is the same."""
    ended = done("archive", "rebuild", site, "--data", service.folder, "--out", out, "--json", *words)
    found: dict[str, dict[str, dict[str, int]]] = json.loads(ended.stdout)
    return found


def test_the_archive_alone_gives_the_stored_results(service: Service, site: Path, tmp_path: Path) -> None:
    """Every row that is not filling, of every table; and they can be exported as a service's can."""
    found = rebuilt(service, site, tmp_path / "again", "--against", service.folder)
    for table in TABLES:
        counts = found["tables"][table]
        assert counts["same"] > 0, table
        assert not counts["changed"] + counts["added"] + counts["gone"], (table, counts)
    made = rows_of(done("export", "ledger", "--data", tmp_path / "again").stdout)
    assert of_set("ledger", made) == of_set("ledger", service.export("ledger"))
    mistake(meterflow("archive", "rebuild", site, "--data", service.folder, "--out", tmp_path / "again"), 2)


def test_one_plant_is_rebuilt_by_itself(service: Service, site: Path, tmp_path: Path) -> None:
    """Without the rows of groups; a plant that nobody knows is a mistake."""
    words = ("--plant", "works", "--against", service.folder)
    found = rebuilt(service, site, tmp_path / "again", *words)
    assert found["tables"]["rollup"]["same"] > 100
    scopes = {row["scope"] for row in rows_of(done("export", "rollup", "--data", tmp_path / "again").stdout)}
    assert not [scope for scope in scopes if scope.startswith("group:")]
    asked = (
        "archive",
        "rebuild",
        site,
        "--data",
        service.folder,
        "--out",
        tmp_path / "b",
        "--plant",
        "nowhere",
    )
    mistake(meterflow(*asked), 2, "nowhere", "works")


def test_other_results_are_told_apart(service: Service, site: Path, tmp_path: Path) -> None:
    """By another site file the stored ones are not those of the archive: exit code 1, and where."""
    other = site.with_name("other.yaml")
    other.write_text(site.read_text().replace("multiplier: 10", "multiplier: 11"))
    words = ("--out", tmp_path / "again", "--against", service.folder)
    ended = meterflow("archive", "rebuild", other, "--data", service.folder, *words)
    assert ended.returncode == 1
    assert "interval  works main, " in ended.stdout


def test_a_park_is_rebuilt_with_its_groups(serve: Serve, tmp_path: Path) -> None:
    """Three plants, a park and a province, by the site file that the archive itself has kept."""
    one = serve(None, "--simulate")
    one.start()
    eventually(lambda: one.accepted() > 50_000, 60, "its past")
    one.stop()
    (site,) = (one.folder / "archive" / "sites").glob("*/site.yaml")
    quiet = serve(site, folder=one.folder)  # what came while it stopped is archived, but perhaps not stored
    quiet.start()
    quiet.caught_up(50_000)
    quiet.stop()
    found = rebuilt(one, site, tmp_path / "again", "--against", one.folder)
    for table, counts in found["tables"].items():
        assert not counts["changed"] + counts["added"] + counts["gone"], (table, counts)
    ratios = one.export("intensity")
    assert {row["window"] for row in ratios if row["scope"] == "group:changsha"} >= {"day"}
    made = rows_of(done("export", "intensity", "--data", tmp_path / "again").stdout)
    assert {row["scope"] for row in made} == {row["scope"] for row in ratios}
