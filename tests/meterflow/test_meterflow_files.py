"""check, convert, compute, replay: what they say, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.meterflow.helper import EXAMPLES, done, free_port, meterflow, mistake
from tests.meterflow.recordings import works

SITE = """\
meterflow: 1
plants:
  - id: a
    time_zone: Asia/Shanghai
    points:
      - {id: main, measures: electricity, reads: register, unit: kWh}
      - {id: intake, measures: water, reads: register, unit: m3}
      - {id: count, measures: output, reads: interval, unit: t}
    intensity:
      - {id: x, of: electricity, per: output, windows: [15m]}
"""
OF_FORM = {6: ("kWh", "kWhh"), 7: ("reads: register", "reads: registr")}
OF_MEANING = {
    4: ("Asia/Shanghai", "Mars/Olympus"),
    7: ("unit: m3", "unit: kg"),
    8: ("id: count", "id: main"),
    10: ("per: output", "per: gold"),
}
OF_BOTH = OF_MEANING | {6: ("kWh", "kWhh")}
"""By line: what is right, and what is wrong."""


def faulty(path: Path, faults: dict[int, tuple[str, str]]) -> Path:
    lines = SITE.splitlines()
    for number, (right, wrong) in faults.items():
        assert right in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(right, wrong, 1)
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("faults", [OF_FORM, OF_MEANING, OF_BOTH])
def test_check_finds_every_fault_with_its_line(tmp_path: Path, faults: dict[int, tuple[str, str]]) -> None:
    """Not just the first; exit 2."""
    site = faulty(tmp_path / "site.yaml", faults)
    ended = meterflow("check", site)
    assert ended.returncode == 2
    places = [line.split(":")[1] for line in ended.stdout.splitlines() if line.startswith(f"{site}:")]
    assert sorted(set(places), key=int) == [str(number) for number in sorted(faults)]


@pytest.mark.parametrize("faults", [OF_FORM, OF_MEANING, OF_BOTH])
def test_check_tells_scripts_the_same(tmp_path: Path, faults: dict[int, tuple[str, str]]) -> None:
    """--json: a list with line, column, key, what and proposal."""
    ended = meterflow("check", faulty(tmp_path / "site.yaml", faults), "--json")
    assert ended.returncode == 2
    found = json.loads(ended.stdout)
    assert {fault["line"] for fault in found} == faults.keys()
    assert all({"line", "column", "key", "what", "proposal", "severity"} <= fault.keys() for fault in found)


@pytest.mark.parametrize("name", ["park", "steel", "water", "first"])
def test_the_examples_have_no_fault(name: str) -> None:
    """Exit 0, and an empty list for scripts."""
    assert "no faults" in done("check", EXAMPLES / name / "site.yaml").stderr
    assert json.loads(done("check", EXAMPLES / name / "site.yaml", "--json").stdout) == []


def test_check_of_no_file_is_a_mistake() -> None:
    """Which file, and what to do."""
    mistake(meterflow("check", "nowhere.yaml"), 2, "nowhere.yaml")


MAP = """\
map: 1
plant: works
time: {column: at, format: iso, zone: UTC, stamp: reading}
readings:
  - {point: main, column: kWh, reads: register}
"""


def test_convert_tells_what_it_could_not_read(tmp_path: Path) -> None:
    """The rest is converted; exit 1, and the place of each unreadable cell."""
    source, map_path, out = tmp_path / "in.csv", tmp_path / "map.yaml", tmp_path / "out.ndjson"
    source.write_text(
        "at,kWh\n2026-01-01T00:00:00,1\n2026-01-01T00:01:00,much\nnever,3\n2026-01-01T00:03:00,4\n"
    )
    map_path.write_text(MAP)
    ended = meterflow("convert", source, "--map", map_path, "--out", out)
    mistake(ended, 1, f"{source}:3: kWh", f"{source}:4: at", "2 messages", "much")
    assert len(out.read_text().splitlines()) == 2
    report = json.loads(meterflow("convert", source, "--map", map_path, "--out", out, "--json").stdout)
    assert (report["messages"], report["rows_unreadable"], report["cells_unreadable"]) == (2, 1, 1)


def test_convert_of_a_wrong_map_is_a_mistake(tmp_path: Path) -> None:
    """The map's fault has its line."""
    source, map_path = tmp_path / "in.csv", tmp_path / "map.yaml"
    source.write_text("at,kWh\n")
    map_path.write_text(MAP.replace("reads: register", "reads: never"))
    mistake(meterflow("convert", source, "--map", map_path, "--out", tmp_path / "out"), 2, f"{map_path}:5")


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_compute_writes_every_table(tmp_path: Path, site: Path, form: str) -> None:
    """One file a table, and a report for scripts."""
    works(tmp_path / "r.ndjson", 30)
    words = ("--site", site, "--out", tmp_path / "out", "--format", form, "--json")
    report = json.loads(done("compute", tmp_path / "r.ndjson", *words).stdout)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{table}.{form}" for table in report["rows"]
    }
    assert report["rows"]["interval"] >= 87


def test_compute_of_parts_is_compute_of_the_whole(tmp_path: Path, site: Path) -> None:
    """Several recordings are one log, whatever their order, their messages by when they were received."""
    works(tmp_path / "r.ndjson", 90)
    lines = (tmp_path / "r.ndjson").read_text().splitlines(keepends=True)
    for number in range(2):
        (tmp_path / f"{number}.ndjson").write_text("".join(lines[number::2]))
    done("compute", tmp_path / "r.ndjson", "--site", site, "--out", tmp_path / "whole", "--format", "csv")
    parts = (tmp_path / "1.ndjson", tmp_path / "0.ndjson")
    done("compute", *parts, "--site", site, "--out", tmp_path / "parts", "--format", "csv")
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / file.name).read_text() == file.read_text(), file.name


def test_a_broken_line_of_a_recording_is_a_mistake(tmp_path: Path, site: Path) -> None:
    """Its file and line; nothing is written."""
    recording = tmp_path / "r.ndjson"
    works(recording, 3)
    lines = len(recording.read_text().splitlines())
    with recording.open("a") as file:
        file.write('{"received": "2026\n')
    out = tmp_path / "out"
    mistake(meterflow("compute", recording, "--site", site, "--out", out), 2, f"{recording}:{lines + 1}:")
    assert not out.exists()


def test_compute_into_nowhere_is_told(tmp_path: Path, site: Path) -> None:
    """A folder that cannot be made."""
    works(tmp_path / "r.ndjson", 3)
    mistake(meterflow("compute", tmp_path / "r.ndjson", "--site", site, "--out", site / "out"), 1, str(site))


def test_replay_to_nobody_is_told(tmp_path: Path) -> None:
    """Whom it could not reach, after some seconds of trying."""
    works(tmp_path / "r.ndjson", 1)
    port = free_port()
    words = ("--mqtt", f"mqtt://127.0.0.1:{port}", "--speed", "max")
    mistake(meterflow("replay", tmp_path / "r.ndjson", *words), 1, str(port))


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan"])
def test_a_speed_that_is_none_is_a_mistake(tmp_path: Path, speed: str) -> None:
    """It is 1, a number above 0, or max."""
    works(tmp_path / "r.ndjson", 1)
    mistake(meterflow("replay", tmp_path / "r.ndjson", "--speed", speed), 2, "speed", "max")


@pytest.mark.parametrize(
    "verb", ["up", "check", "convert", "replay", "compute", "export", "simulate", "passwd"]
)
def test_every_verb_has_help(verb: str) -> None:
    """Exit 0, and a line of what it does."""
    assert "Usage:" in done(verb, "--help").stdout


def test_an_unknown_verb_is_a_mistake() -> None:
    """Exit 2."""
    mistake(meterflow("fly"), 2, "fly")


def test_passwd_replaces_a_user_and_keeps_the_others(tmp_path: Path) -> None:
    """Each has one line of hash, and no password is in the file."""
    users = tmp_path / "users.yaml"
    for user, word in (("one", "first"), ("two", "second"), ("one", "third")):
        assert meterflow("passwd", users, user, text=f"{word}\n{word}\n").returncode == 0
    text = users.read_text()
    assert text.count("name:") == 2
    assert text.count("scrypt:") == 2
    assert not [word for word in ("first", "second", "third") if word in text]


def test_passwd_into_nowhere_is_told(tmp_path: Path) -> None:
    """A folder that is not there."""
    ended = meterflow("passwd", tmp_path / "no" / "users.yaml", "one", text="a\na\n")
    mistake(ended, 1, "users.yaml")
