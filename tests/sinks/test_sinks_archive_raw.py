"""Raw payloads in the archive: each once, of the day on which it came, found by its SHA-256."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from bus import payload_frames
from bus.log import Record
from bus.payload_frames import decode_payloads, encode_payloads
from metering.readings import DIGEST_BYTES, Evidence, Readings, absent, dictionary
from sinks.archive_check import check
from sinks.archive_columns import SCHEMAS, decoded
from sinks.archive_gone import Gone, let_go
from sinks.archive_manifest import PAYLOADS
from sinks.archive_merge import Merger
from sinks.archive_place import FolderPlace
from sinks.archive_raw import GatheredPayloads, payload
from sinks.archive_reader import Archive
from sinks.archive_writer import Writer
from tests.sinks.archive_builders import usual

FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"
NIGHT_MS = 1_767_311_999_000  # 2026-01-01T23:59:59Z


def sent(*payloads: bytes, received_ms: int = NIGHT_MS) -> Readings:
    """A reading of each."""
    n = len(payloads)
    readings = usual(np.full(n, received_ms - 350), np.arange(n))
    digests = np.frombuffer(b"".join(sha256(one).digest() for one in payloads), np.uint8)
    topics = dictionary([f"t/{number % 2}" for number in range(n)])
    digest, message = digests.reshape(n, DIGEST_BYTES), np.arange(n, dtype=np.int32)
    evidence = Evidence(topics, absent(n), digest, message, "s", payloads)
    return Readings(**{**{f: getattr(readings, f) for f in Readings.__slots__}, "evidence": evidence})


def commit(writer: Writer, offset: int, readings: Readings) -> None:
    """One record of the log into the archive."""
    gathered = GatheredPayloads(0, offset)
    (frame,) = encode_payloads(readings)
    gathered.take(Record(offset, "a/b", frame, 0))
    writer.write(gathered)
    writer.finish(gathered.span)


def test_equal_bytes_are_there_once_when_merged(tmp_path: Path) -> None:
    """Within a commit at once, of several when their files of a day are merged; the next day has its own."""
    place = FolderPlace(tmp_path)
    raw = place.below("raw")
    writer = Writer(raw, 0)
    commit(writer, 0, sent(b"one", b"two", b"one"))
    commit(writer, 1, sent(b"two", b"three"))
    commit(writer, 2, sent(b"two", received_ms=NIGHT_MS + 1_000))
    assert Merger(writer, run=3).step()
    report = check(raw)
    assert (report.problems, report.payloads) == ([], 4)
    days = [file.day for file in writer.manifest(writer.spans[0]).files]
    assert sorted(days) == ["2026-01-01", "2026-01-02"]
    for one in (b"one", b"two", b"three"):
        assert payload(place, sha256(one).digest()) == one
    assert payload(place, sha256(b"two").digest(), day="2026-01-03") is None
    assert payload(place, sha256(b"one").digest(), plant="b") is None
    (first,) = (f for f in writer.manifest(writer.spans[0]).files if f.day == "2026-01-01")
    rows = decoded(raw.read(first.path), PAYLOADS)
    assert rows.column("offset").to_pylist() == [0, 0, 1]
    assert Archive(raw).plants() == ["a/b"]


def test_many_payloads_are_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is in two of them, and one that is too large is in none."""
    monkeypatch.setattr(payload_frames, "FRAME_BYTES_MAX", 100)
    monkeypatch.setattr(payload_frames, "PAYLOAD_BYTES_MAX", 150)
    payloads = [bytes([number]) * (10 + 5 * number) for number in range(20)] + [b"x" * 151, b"y" * 150]
    frames = [decode_payloads(frame) for frame in encode_payloads(sent(*payloads))]
    assert len(frames) > 5
    found = [one for frame in frames for one in frame.column("payload").to_pylist()]
    assert found == [one for one in payloads if len(one) <= 150]
    assert [sha256(one).digest() for one in found] == [
        one for frame in frames for one in frame.column("sha256").to_pylist()
    ]
    topics = [one for frame in frames for one in frame.column("topic").to_pylist()]
    assert topics == [f"t/{number % 2}" for number, one in enumerate(payloads) if len(one) <= 150]


def test_without_payloads_there_is_no_record() -> None:
    """Of readings whose messages are not to be kept."""
    assert list(encode_payloads(usual(np.arange(3), np.arange(3)))) == []


def test_columns_are_described_as_they_are() -> None:
    """Every column is named in its table, and nothing else is."""
    table = FORMATS.read_text().partition("| column of `payloads`")[2].partition("\n\n")[0]
    described = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    assert described == [f"`{each}`" for each in SCHEMAS[PAYLOADS].names]


def test_old_days_are_let_go_of_and_it_is_told(tmp_path: Path) -> None:
    """Files and manifests without holes; the rest stays and is found; a second time nothing is to be done."""
    place = FolderPlace(tmp_path)
    raw = place.below("raw")
    writer = Writer(raw, 0)
    commit(writer, 0, sent(b"old", b"older"))
    commit(writer, 1, sent(b"new", received_ms=NIGHT_MS + 1_000))
    assert let_go(writer, "2026-01-01", 5) == (Gone(), 0)
    told, rows = let_go(writer, "2026-01-02", 7)
    assert (rows, told.before, told.payloads, told.at_ms) == (2, "2026-01-02", 2, 7)
    assert let_go(writer, "2026-01-02", 8) == (told, 0)
    report = check(raw, {0: 2})
    assert (report.problems, report.payloads, report.gone) == ([], 1, {0: told})
    assert payload(place, sha256(b"new").digest()) == b"new"
    assert payload(place, sha256(b"old").digest()) is None
    assert [path for path in raw.sizes(PAYLOADS) if "2026-01-01" in path] == []
    again = Writer(raw, 0)
    again.open()
    assert again.position(0) == (2, None)
    assert Merger(again, run=2).step()
    assert check(raw, {0: 2}).problems == []


@pytest.mark.parametrize("steps", range(4))
def test_a_kill_while_it_lets_go_seems_to_be_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Behind the note, behind one manifest, behind all: nothing is wrong, and the next time does the rest."""
    raw = FolderPlace(tmp_path)
    writer = Writer(raw, 0)
    commit(writer, 0, sent(b"one"))
    commit(writer, 1, sent(b"two"))
    left, put = [steps], FolderPlace.put

    def killed(place: FolderPlace, files: Iterable[tuple[str, bytes]]) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        put(place, files)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(FolderPlace, "put", killed)
        let_go(writer, "2026-01-02", 7)
    report = check(raw)
    assert (report.problems, report.payloads) == ([], 0 if steps else 2)
    again = Writer(raw, 0)
    again.open()
    let_go(again, "2026-01-02", 8)
    assert check(raw).problems == []
    assert raw.sizes(PAYLOADS) == {}
    assert check(raw).gone[0].payloads == 2
