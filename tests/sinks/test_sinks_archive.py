"""The archive's files: what went in comes out again, whatever it was, and however often a kill came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.decision_frames import encode_decisions
from bus.frames import encode_readings
from bus.log import Record
from metering.decisions import Decision
from metering.errors import MeterflowError, Unavailable
from metering.readings import NO_CODE, NO_TIME, Dictionary, Evidence, Readings
from sinks.archive_columns import escaped
from sinks.archive_gathered import DAYS_MAX, Gathered
from sinks.archive_manifest import Span, chain, tiles
from sinks.archive_place import FolderPlace, part_of
from sinks.archive_reader import Archive
from sinks.archive_writer import Writer
from tests.sinks.archive_builders import usual

DAY_MS = 86_400_000
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
TEXTS = ("point", "unit", "serial", "product")
NUMBERS = ("time", "start", "mantissa", "exponent", "revision", "seq", "quality", "flags", "received")


@st.composite
def texts(draw: st.DrawFn, n: int) -> Dictionary:
    """Text columns with unused words and absent texts."""
    words = tuple(
        draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=3, unique=True))
    )
    codes = draw(st.lists(st.integers(NO_CODE, len(words) - 1), min_size=n, max_size=n))
    return Dictionary(words, np.array(codes, np.int32))


@st.composite
def evidences(draw: st.DrawFn, n: int) -> Evidence:
    """Of a few messages, whose readings share a topic and a user."""
    m = draw(st.integers(1, 3))
    message = np.array(draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n)), np.int32)
    topic, user = draw(texts(m)), draw(texts(m))
    digest = np.frombuffer(draw(st.binary(min_size=32 * m, max_size=32 * m)), np.uint8).reshape(m, 32)
    topics, users = (Dictionary(text.words, text.codes[message]) for text in (topic, user))
    return Evidence(topics, users, digest, message, draw(st.sampled_from(["v1", "v2"])))


@st.composite
def any_readings(draw: st.DrawFn) -> Readings:
    """Of two plants, of some days, with any value in any other column."""
    n = draw(st.integers(0, 6))

    def whole(low: int, high: int, kind: Any = np.int64) -> Any:
        return np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), kind)

    return Readings(
        plant=draw(st.sampled_from(["steel-1", "a/b ü", "~"])),
        time=NOON_MS + whole(-3, 3) * DAY_MS // 2,
        start=np.where(whole(0, 1) == 0, NO_TIME, NOON_MS),
        mantissa=whole(-(2**63), 2**63 - 1),
        exponent=whole(-128, 127, np.int8),
        revision=whole(-(2**31), 2**31 - 1, np.int32),
        seq=whole(-1, 2**63 - 1),
        quality=whole(0, 255, np.uint8),
        flags=whole(0, 255, np.uint8),
        received=NOON_MS + whole(0, 10**6),
        evidence=draw(st.none() | evidences(n)) if n else None,
        **{name: draw(texts(n)) for name in TEXTS},
    )


def plain(readings: Readings) -> list[tuple[object, ...]]:
    """Every value of every reading, so that two can be compared."""
    rows: list[list[object]] = [getattr(readings, name).tolist() for name in NUMBERS]
    rows += [[getattr(readings, name).text(i) for i in range(len(readings))] for name in TEXTS]
    if (found := readings.evidence) is not None:
        rows += [[text.text(i) for i in range(len(readings))] for text in (found.topic, found.user)]
        rows += [[found.digest[m].tobytes() for m in found.message], [found.site] * len(readings)]
    return list(zip(*rows, strict=True))


def records_of(values: Sequence[bytes]) -> list[Record]:
    return [Record(offset, "", value, 0) for offset, value in enumerate(values)]


def archived(folder: Path, records: Sequence[Record], cuts: Sequence[int] = ()) -> Writer:
    """Archives records in as many commits as there are cuts, and one more."""
    writer = Writer(FolderPlace(folder), 0)
    writer.open()
    edges = sorted({*cuts, len(records)} - {0})
    for first, until in zip([0, *edges], edges, strict=False):
        gathered = Gathered(0, first)
        for record in records[first:until]:
            gathered.take(record)
        writer.write(gathered)
        writer.finish(gathered.span)
    return writer


def some(n: int = 3, *, plant: str = "steel-1", first_ms: int = NOON_MS, step_ms: int = 60_000) -> Readings:
    """Readings as they usually are."""
    time = first_ms + step_ms * np.arange(n, dtype=np.int64)
    return usual(time, np.arange(n, dtype=np.int64) * 17, plant=plant, exponent=-2)


@given(st.lists(any_readings(), max_size=6), st.lists(st.integers(0, 6)), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_readings_come_out_of_the_archive_as_they_were_on_the_log(
    tmp_path_factory: pytest.TempPathFactory, given_readings: list[Readings], cuts: list[int], rows_max: int
) -> None:
    """Every value of every reading, its evidence too, record by record, in the order of the log."""
    folder = tmp_path_factory.mktemp("archive")
    writer, n = Writer(FolderPlace(folder), 0), len(given_readings)
    edges = sorted({*(cut for cut in cuts if cut < n), n} - {0})
    for first, until in zip([0, *edges], edges, strict=False):
        gathered = Gathered(0, first)
        for offset in range(first, until):
            gathered.take(Record(offset, "", encode_readings(given_readings[offset]), 0))
        writer.write(gathered)
        writer.finish(gathered.span)
    archive = Archive(FolderPlace(folder))
    for plant in ("steel-1", "a/b ü", "~"):
        wanted = {i: plain(one) for i, one in enumerate(given_readings) if one.plant == plant and len(one)}
        found: dict[int, list[tuple[object, ...]]] = {}
        for batch in archive.readings(plant, rows_max=rows_max):
            for offset, readings in batch.records():
                assert readings.plant == plant
                assert offset not in found
                found[offset] = plain(readings)
        assert found == wanted
        assert list(found) == sorted(found)
        assert sum(archive.days(plant).values()) == sum(map(len, wanted.values()))


def test_only_the_readings_of_the_days_asked_for_are_read(tmp_path: Path) -> None:
    """By the instant of the reading in UTC, whatever record it came in."""
    archived(tmp_path, records_of([encode_readings(some(4, step_ms=DAY_MS // 2))] * 2))
    batches = list(Archive(FolderPlace(tmp_path)).readings("steel-1", ["2026-01-02"]))
    assert [(batch.offset.tolist(), batch.row.tolist()) for batch in batches] == [
        ([0, 0, 1, 1], [1, 2, 1, 2])
    ]


def test_decisions_come_out_as_they_went_in(tmp_path: Path) -> None:
    """All fields, record by record, beside readings and ticks."""
    made = [
        Decision("main", None, NOON_MS, NOON_MS + 1, "reset", "Li Wei", received_ms=NOON_MS + 2),
        Decision("main", "A-17", NOON_MS, NOON_MS, "conflict", "Li Wei", 3, "17.50", NOON_MS + 9),
    ]
    frames = [
        encode_decisions("steel-1", made),
        b"",
        encode_readings(some()),
        encode_decisions("steel-1", made[1:]),
    ]
    archived(tmp_path, records_of(frames), [1])
    assert Archive(FolderPlace(tmp_path)).decisions("steel-1") == [(0, made), (3, made[1:])]


def test_a_history_of_more_days_than_a_store_takes_is_cut_by_months(tmp_path: Path) -> None:
    """A plant's readings of two years in one batch are a file a month; of 60 years, one a year."""
    archived(tmp_path, records_of([encode_readings(some(730, step_ms=DAY_MS))]))
    days = Archive(FolderPlace(tmp_path)).days("steel-1")
    assert len(days) <= DAYS_MAX
    assert list(days)[:2] == ["2026-01", "2026-02"]
    found = Archive(FolderPlace(tmp_path)).readings("steel-1", ["2027-03-05"])
    assert [batch.readings.time.tolist() for batch in found] == [[NOON_MS + 428 * DAY_MS]]
    old = replace(some(1), plant="old", time=np.array([946_684_800_000]), evidence=None)
    archived(tmp_path / "old", records_of([encode_readings(old)]))
    assert Archive(FolderPlace(tmp_path / "old")).days("old") == {"2000-01-01": 1}


def test_plants_have_tmp_path_of_their_own_whatever_their_names() -> None:
    """No two names are one, and none is too long or leads elsewhere."""
    names = ["a/b", "a%2Fb", "..", "~", "A", "a", "", "ü" * 128, "ü" * 127 + "u", "厂" * 128]
    assert len({escaped(name) for name in names}) == len(names)
    assert all("/" not in escaped(name) and len(escaped(name).encode()) < 240 for name in names)


class Killed(Exception):
    """What ends a process at any point, as seen from inside."""


class Dying(FolderPlace):
    """A folder whose process dies after so many of its calls."""

    def __init__(self, root: Path, calls: int) -> None:
        super().__init__(root)
        self.left = calls

    def put(self, files: Any) -> None:
        for path, data in files:
            if not self.left:  # in the middle of it
                part = self.root / part_of(path)
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(data[:-1])
            self._count()
            super().put([(path, data)])

    def remove(self, paths: Any) -> None:
        for path in paths:
            self._count()
            super().remove([path])

    def _count(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1


def test_a_kill_at_any_write_leaves_the_archive_whole(tmp_path: Path) -> None:
    """Whoever comes after archives the rest, and nothing is left over of what was begun."""
    parts = [some(4, plant=plant, step_ms=DAY_MS // 2) for plant in ("a", "b", "a")]
    records = records_of([encode_readings(one) for one in parts])
    ended = False
    for calls in range(26):
        folder = tmp_path / str(calls)
        for _ in range(2):
            writer = Writer(Dying(folder, calls), 0)
            try:
                writer.open()
                at, _ = writer.position(0)
                if at < len(records):
                    gathered = Gathered(0, at)
                    for record in records[at : at + 2]:
                        gathered.take(record)
                    writer.write(gathered)
                    writer.finish(gathered.span)
                ended = True
            except Killed:
                ended = False
        last = Writer(FolderPlace(folder), 0)
        last.open()
        at, _ = last.position(0)
        archive = Archive(FolderPlace(folder))
        got = sum(sum(archive.days(plant).values()) for plant in ("a", "b"))
        assert got == sum(map(len, parts[:at]))
        listed = {file.path for span in last.spans for file in last.manifest(span).files}
        manifests = {span.manifest for span in last.spans}
        assert set(FolderPlace(folder).sizes("")) == listed | manifests
    assert ended


def test_what_is_missing_in_between_is_archived_again(tmp_path: Path) -> None:
    """A manifest that was lost is a hole; the writer goes back to it, and stops before what is there."""
    records = records_of([encode_readings(some())] * 6)
    archived(tmp_path, records, [2, 4])
    (tmp_path / "manifest" / "0-2-4.json").unlink()
    writer = Writer(FolderPlace(tmp_path), 0)
    writer.open()
    assert writer.position(0) == (2, 4)
    gathered = Gathered(0, 2)
    for record in records[2:4]:
        gathered.take(record)
    writer.write(gathered)
    assert writer.position(0) == (6, None)


def test_the_widest_manifests_that_follow_each_other_count() -> None:
    """A merged one instead of its parts, and a way through where two processes wrote beside each other."""
    spans = [Span(0, *edges) for edges in [(0, 2), (2, 4), (0, 4), (4, 6), (0, 5), (6, 9)]]
    assert chain(spans) == [Span(0, 0, 4), Span(0, 4, 6), Span(0, 6, 9)]
    found, holes = tiles([Span(0, 2, 4), Span(0, 7, 9)])
    assert (found, holes) == ([Span(0, 2, 4), Span(0, 7, 9)], [(0, 2), (4, 7)])


def test_an_altered_manifest_is_not_believed(tmp_path: Path) -> None:
    """One changed digit, and nothing is read by it."""
    archived(tmp_path, records_of([encode_readings(some())]))
    path = tmp_path / "manifest" / "0-0-1.json"
    path.write_bytes(path.read_bytes().replace(b'"rows":3', b'"rows":4'))
    with pytest.raises(MeterflowError, match="torn, or was altered"):
        Archive(FolderPlace(tmp_path)).days("steel-1")


def test_a_folder_that_takes_nothing_may_be_tried_again(tmp_path: Path) -> None:
    """It is not there, or is a file: an error that says so, and nothing is lost."""
    (tmp_path / "readings").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        archived(tmp_path, records_of([encode_readings(some())]))
    (tmp_path / "readings").unlink()
    archived(tmp_path, records_of([encode_readings(some())]))
    assert Archive(FolderPlace(tmp_path)).days("steel-1") == {"2026-01-01": 3}
