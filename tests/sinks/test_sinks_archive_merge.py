"""Merging changes no reading, at whatever moment it is killed, and takes over nothing that is damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from metering.errors import MeterflowError
from metering.readings import NO_SEQ, NO_TIME, Evidence, Readings, absent, dictionary
from sinks import archive_check
from sinks.archive_check import check
from sinks.archive_gathered import Gathered
from sinks.archive_merge import Merger
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive
from sinks.archive_writer import Writer

NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
DAY_MS = 86_400_000
PLANTS = ("a", "b")


def readings(chance: random.Random, plant: str) -> Readings:
    """A few, of the day that it is, and now and then of one before."""
    n = chance.randrange(1, 5)
    time = NOON_MS + np.array([chance.randrange(3) for _ in range(n)], np.int64) * DAY_MS
    evidence = Evidence(
        dictionary(["topic"] * n),
        absent(n),
        np.frombuffer(chance.randbytes(32), np.uint8).reshape(1, 32),
        np.zeros(n, np.int32),
        "v1",
    )
    return Readings(
        plant=plant,
        point=dictionary([chance.choice(["main", "ü", "z"]) for _ in range(n)]),
        time=time,
        start=np.full(n, NO_TIME),
        mantissa=np.array([chance.randrange(10**6) for _ in range(n)], np.int64),
        exponent=np.full(n, -2, np.int8),
        unit=absent(n),
        serial=absent(n),
        product=absent(n),
        revision=np.zeros(n, np.int32),
        seq=np.full(n, NO_SEQ),
        quality=np.zeros(n, np.uint8),
        flags=np.zeros(n, np.uint8),
        received=time + 350,
        evidence=evidence,
    )


def filled(folder: Path, commits: int, seed: int = 1) -> Writer:
    """An archive of as many commits, two records each."""
    chance = random.Random(seed)
    writer = Writer(FolderPlace(folder), 0)
    writer.open()
    for offset in range(0, 2 * commits, 2):
        gathered = Gathered(0, offset)
        for each in (offset, offset + 1):
            gathered.add(each, readings(chance, chance.choice(PLANTS)))
        writer.write(gathered)
        writer.finish(gathered.span)
    return writer


def content(folder: Path) -> list[tuple[object, ...]]:
    """All that is in it, record by record."""
    archive = Archive(FolderPlace(folder))
    found: list[tuple[object, ...]] = []
    for plant in PLANTS:
        for batch in archive.readings(plant):
            for offset, one in batch.records():
                assert one.evidence is not None
                words = [one.point.text(i) for i in range(len(one))]
                digest = one.evidence.digest.tobytes()
                found.append((plant, offset, words, one.time.tolist(), one.mantissa.tolist(), digest))
    return found


def merged(writer: Writer, **more: int) -> int:
    """Merges while there is anything; how many runs."""
    merger, runs = Merger(writer, run=2, **more), 0
    while merger.step():
        runs += 1
    return runs


def test_merging_changes_no_reading(tmp_path: Path) -> None:
    """All is there, in the same order, in fewer files, and the archive is whole."""
    writer = filled(tmp_path, 16)
    before, files = content(tmp_path), len(FolderPlace(tmp_path).sizes("readings"))
    assert merged(writer) == 15
    assert content(tmp_path) == before
    report = check(FolderPlace(tmp_path), {0: 32})
    assert report.problems == []
    assert len(FolderPlace(tmp_path).sizes("manifest")) == 1
    assert len(FolderPlace(tmp_path).sizes("readings")) == 6 < files
    again = Writer(FolderPlace(tmp_path), 0)
    again.open()
    assert again.position(0) == (32, None)


def test_a_day_of_many_rows_has_several_files(tmp_path: Path) -> None:
    """So that merging needs no more memory than a file of some size."""
    writer = filled(tmp_path, 16)
    before = content(tmp_path)
    merged(writer, rows_max=6)
    assert content(tmp_path) == before
    files = [file for span in writer.spans for file in writer.manifest(span).files]
    assert max(file.rows for file in files) <= 6
    assert check(FolderPlace(tmp_path)).problems == []


class Killed(Exception):
    """What ends a process at any point, as seen from inside."""


class Dying(FolderPlace):
    """A folder whose process dies after so many of its calls."""

    left = 0

    def put(self, files: object) -> None:
        for file in files:  # type: ignore[attr-defined]
            self._count()
            super().put([file])

    def remove(self, paths: object) -> None:
        for path in paths:  # type: ignore[attr-defined]
            self._count()
            super().remove([path])

    def _count(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1


def test_a_kill_in_the_middle_of_a_merge_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see all at any moment; the next start clears up, and merges on."""
    monkeypatch.setattr(archive_check, "PAUSE_S", 0.0)
    ended = False
    for calls in range(0, 50, 4):
        folder = tmp_path / str(calls)
        filled(folder, 4)
        before = content(folder)
        dying = Dying(folder)
        dying.left = calls
        writer = Writer(dying, 0)
        writer.open()
        try:
            merged(writer)
            ended = True
        except Killed:
            pass
        assert content(folder) == before
        last = Writer(FolderPlace(folder), 0)
        last.open()
        assert check(FolderPlace(folder), {0: 8}).problems == []
        merged(last)
        assert content(folder) == before
        assert check(FolderPlace(folder), {0: 8}).problems == []
        assert len(last.spans) == 1
    assert ended


def test_a_merge_that_is_stopped_is_begun_again(tmp_path: Path) -> None:
    """By the same process, or the next."""
    writer = filled(tmp_path, 2)
    before = content(tmp_path)
    assert not Merger(writer, run=2).step(lambda: True)
    assert content(tmp_path) == before
    assert Merger(writer, run=2).step()
    assert content(tmp_path) == before
    assert check(FolderPlace(tmp_path)).problems == []


def test_a_damaged_file_is_not_merged(tmp_path: Path) -> None:
    """Else the damage would get a checksum of its own, and be found no more."""
    writer = filled(tmp_path, 16)
    harmed = sorted(tmp_path.glob("evidence/*/*/*.parquet"))[3]
    data = bytearray(harmed.read_bytes())
    data[len(data) // 2] ^= 1
    harmed.write_bytes(data)
    with pytest.raises(MeterflowError, match=r"torn, or was altered") as caught:
        merged(writer)
    assert harmed.name in caught.value.where
    assert [problem.kind for problem in check(FolderPlace(tmp_path)).problems] == ["altered"]


def test_who_reads_while_files_are_merged_looks_again(tmp_path: Path) -> None:
    """A file that has gone between the manifest and the reading is in another one."""
    writer = filled(tmp_path, 8)
    before = content(tmp_path)

    class Merging(FolderPlace):
        """Merges behind the back of who reads, once."""

        done = False

        def read(self, path: str) -> bytes:
            if path.startswith("readings/") and not self.done:
                self.done = True
                merged(writer)
            return super().read(path)

    archive = Archive(Merging(tmp_path))
    offsets = [offset for plant in PLANTS for batch in archive.readings(plant) for offset in batch.offset]
    assert len(set(offsets)) == len(before)
