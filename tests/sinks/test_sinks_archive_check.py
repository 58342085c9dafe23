"""``check`` finds every damage, names the file, and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metering.readings import Readings
from sinks import archive_check
from sinks.archive_check import Problem, check
from sinks.archive_gathered import Gathered
from sinks.archive_manifest import Span, sealed
from sinks.archive_place import FolderPlace
from sinks.archive_sites import SiteFiles, keep
from sinks.archive_writer import Writer
from tests.sinks.archive_builders import usual

NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
FILE = "readings/plant=steel-1/day=2026-01-01/0-1-2.parquet"
MANIFEST = "manifest/0-1-2.json"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is being written: no use to wait before looking again."""
    monkeypatch.setattr(archive_check, "PAUSE_S", 0.0)


def readings(n: int) -> Readings:
    time = NOON_MS + np.arange(n, dtype=np.int64)
    return usual(time, time, received_ms=0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three commits of ten readings."""
    writer = Writer(FolderPlace(tmp_path), 0)
    for offset in range(3):
        gathered = Gathered(0, offset)
        gathered.add(offset, readings(10))
        writer.write(gathered)
        writer.finish(gathered.span)
    return tmp_path


def found(folder: Path, **more: object) -> list[Problem]:
    return check(FolderPlace(folder), **more).problems  # type: ignore[arg-type]


def test_a_whole_archive_has_no_problems(archive: Path) -> None:
    """And says how far it is, how many readings it has, and what one takes."""
    report = check(FolderPlace(archive), {0: 3})
    assert (report.until, report.readings, report.files, report.problems) == ({0: 3}, 30, 3, [])
    assert report.bytes_a_reading == report.readings_bytes / 30


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "harm", "kind"),
    [
        (FILE, remove, "missing"),
        (FILE, cut, "torn"),
        (FILE, flip, "altered"),
        (MANIFEST, cut, "altered"),
        (MANIFEST, flip, "altered"),
    ],
)
def test_a_damaged_file_is_named(archive: Path, name: str, harm: Callable[[Path], None], kind: str) -> None:
    """Alone, with its path, and a way out."""
    harm(archive / name)
    (problem,) = found(archive)
    assert (problem.path, problem.kind) == (name, kind)
    assert "from a copy" in problem.hint


def test_what_helps_against_damage_is_true(archive: Path) -> None:
    """With the manifest of a damaged file removed, its records are archived anew, and all is whole."""
    flip(archive / FILE)
    (archive / MANIFEST).unlink()
    writer = Writer(FolderPlace(archive), 0)
    writer.open()
    at, until = writer.position(0)
    assert (at, until) == (1, 2)
    gathered = Gathered(0, 1)
    gathered.add(1, readings(10))
    writer.write(gathered)
    writer.finish(gathered.span)
    assert found(archive) == []


def test_what_was_listed_by_who_had_lost_the_partition_is_archived_anew(archive: Path) -> None:
    """Another one had taken over and cleared up while he was writing; the log never heard of his manifest."""
    late, place = Writer(FolderPlace(archive), 0), FolderPlace(archive)
    late.open()
    gathered = Gathered(0, 3)
    gathered.add(3, readings(10))
    files = late.put(gathered)
    Writer(place, 0).open(3)
    late.commit(gathered.span, files, 0)
    assert [p.kind for p in found(archive)] == ["missing"]
    following = Writer(place, 0)
    following.open(3, 2)
    assert following.position(0) == (3, None)
    assert found(archive) == []


def test_a_file_that_only_the_archive_has_stays_listed(archive: Path) -> None:
    """What is missing of it is told, and the log cannot give it."""
    (archive / FILE).unlink()
    Writer(FolderPlace(archive), 0).open(0, 2)
    assert [(p.path, p.kind) for p in found(archive)] == [(FILE, "missing")]


def test_a_missing_commit_is_a_hole(archive: Path) -> None:
    """Between manifests, before the first, and behind the last where the log knows of it."""
    (archive / MANIFEST).unlink()
    (archive / FILE).unlink()
    assert [(p.path, p.kind) for p in found(archive)] == [(MANIFEST, "hole")]
    assert [(p.path, p.kind) for p in found(archive, done={0: 5})][-1] == ("manifest/0-3-5.json", "hole")
    assert [(p.path, p.kind) for p in found(archive, done={1: 5})][-1] == ("manifest/1-0-5.json", "hole")


def test_files_that_nobody_lists_are_told(archive: Path) -> None:
    """Whole ones, parts of ones, and manifests that another one covers; not what is being written."""
    folder = (archive / FILE).parent
    (folder / "0-7-9.parquet").write_bytes(b"?")
    (folder / ".0-9-11.parquet.part").write_bytes(b"?")
    assert [p.kind for p in found(archive)] == ["unlisted", "unlisted"]
    note = sealed({"write": [f"{folder.relative_to(archive)}/0-7-9.parquet"], "remove": []})
    FolderPlace(archive).put([(Span(0, 7, 9).pending, note)])
    (folder / ".0-9-11.parquet.part").unlink()
    assert found(archive) == []
    writer = Writer(FolderPlace(archive), 0)
    writer.open()
    files = [file for span in writer.spans for file in writer.manifest(span).files]
    writer.commit(Span(0, 0, 3), files, level=1)
    assert {p.kind for p in found(archive)} == {"left over"}


def test_a_damaged_site_file_is_named(archive: Path) -> None:
    """It is kept once, and looked at like every other file."""
    place = FolderPlace(archive)
    for content in (b"first", b"with other comments"):
        files = {"site.yaml": content, "cn-2025.yaml": b"pack"}
        keep(place, SiteFiles("v1", lambda files=files: files))  # type: ignore[misc]
    path = archive / "sites" / "v1" / "site.yaml"
    assert path.read_bytes() == b"first"
    assert found(archive) == []
    flip(path)
    assert [(p.path, p.kind) for p in found(archive)] == [("sites/v1/site.yaml", "altered")]
    path.unlink()
    assert [(p.path, p.kind) for p in found(archive)] == [("sites/v1/site.yaml", "missing")]


def test_a_quick_look_compares_lengths(archive: Path) -> None:
    """It sees what is torn, not what is altered."""
    flip(archive / FILE)
    assert found(archive, contents=False) == []
    cut(archive / FILE)
    assert [p.kind for p in found(archive, contents=False)] == ["torn"]
