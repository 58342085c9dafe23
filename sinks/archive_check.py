"""Looks at every file of an archive: holes, and what is missing, torn, altered or left over.

A service may write to it meanwhile: what is found is looked at again, and only what is still so is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from metering.errors import MeterflowError
from sinks.archive_gone import FOLDER as GONE
from sinks.archive_gone import Gone, gone, is_gone
from sinks.archive_manifest import (
    EVIDENCE,
    MANIFESTS,
    PAYLOADS,
    PENDING,
    READINGS,
    SETS,
    File,
    Manifest,
    Span,
    by_partition,
    named,
    tiles,
    unsealed,
)
from sinks.archive_place import PART, Place, part_of
from sinks.archive_sites import damaged
from sinks.archive_writer import covers, read_manifest

LOOKS, PAUSE_S = 3, 1.0
ANEW = "the service archives its records anew from the log at its next start, as long as the log has them"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """``kind``: hole, missing, torn, altered, unlisted or left over; ``hint``: what to do about it."""

    path: str
    kind: str
    what: str
    hint: str


@dataclass(slots=True)
class Report:
    """``until``: by partition, the offset up to which records are archived; ``gone``: what was let go of."""

    until: dict[int, int] = field(default_factory=dict)
    readings: int = 0
    readings_bytes: int = 0
    messages: int = 0
    evidence_bytes: int = 0
    payloads: int = 0
    payload_bytes: int = 0
    gone: dict[int, Gone] = field(default_factory=dict)
    files: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def bytes_a_reading(self) -> float | None:
        """Of the files of readings; None where there are none."""
        return self.readings_bytes / self.readings if self.readings else None


def check(place: Place, done: Mapping[int, int] | None = None, *, contents: bool = True) -> Report:
    """What is there and what is wrong. ``contents``: also compare every byte, not only lengths.

    ``done``: up to which offset the log says a partition was archived, where that is known. Blocks. Raises
    Unavailable when the place cannot be read now.
    """
    report = _looked(place, done or {}, contents)
    for _ in range(LOOKS - 1):
        if not report.problems:
            break
        time.sleep(PAUSE_S)
        before, report = set(report.problems), _looked(place, done or {}, contents)
        report.problems = [problem for problem in report.problems if problem in before]
    return report


def _looked(place: Place, done: Mapping[int, int], contents: bool) -> Report:
    report, problems = Report(), list[Problem]()
    found = {path: size for folder in SETS for path, size in place.sizes(folder).items()}
    under_way = _under_way(place)
    listed = [path for path in place.sizes(MANIFESTS) if not path.endswith(PART)]
    spans = [span for path in listed if (span := named(path)) is not None]
    kept, unread = list[Manifest](), list[Span]()
    for partition, of in by_partition(spans).items():
        chain, holes = tiles(of)
        report.until[partition] = chain[-1].until
        problems += [_hole(partition, *hole) for hole in holes]
        problems += [_left_over(span) for span in of if span not in chain]
        for span in chain:
            try:
                kept.append(read_manifest(place, span))
            except MeterflowError as error:
                if error.retry:
                    raise
                unread.append(span)
                problems.append(_bad_manifest(span, error))
    for partition, end in done.items():
        if end > (until := report.until.setdefault(partition, 0)):
            problems.append(_hole(partition, until, end))
    problems += _let_go(place, report)
    for manifest in kept:
        for file in manifest.files:
            if is_gone(file.path, report.gone):
                continue
            _count(report, file)
            problems += _of_file(place, manifest, file, found, contents)
    problems += [
        Problem(path, kind, "a site file is not as it was kept", "Put it back from a copy.")
        for path, kind in (damaged(place) if contents else ())
    ]
    known = {file.path for manifest in kept for file in manifest.files} | under_way
    for path in sorted(found.keys() - known):
        problems += () if is_gone(path, report.gone) else _unlisted(path, unread)
    report.problems = sorted(set(problems))
    return report


def _let_go(place: Place, report: Report) -> Iterator[Problem]:
    """Notes what was let go of."""
    try:
        report.gone = gone(place)
    except MeterflowError as error:
        if error.retry:
            raise
        yield Problem(GONE, "altered", error.what, "Put it back from a copy.")


def _count(report: Report, file: File) -> None:
    report.files += 1
    if file.set == READINGS:
        report.readings += file.rows
        report.readings_bytes += file.bytes
    if file.set == EVIDENCE:
        report.messages += file.rows
        report.evidence_bytes += file.bytes
    if file.set == PAYLOADS:
        report.payloads += file.rows
        report.payload_bytes += file.bytes


def _of_file(
    place: Place, manifest: Manifest, file: File, found: Mapping[str, int], contents: bool
) -> Iterator[Problem]:
    hint = f"Put it back from a copy; or remove {manifest.span.manifest}: {ANEW}."
    if file.path not in found:
        yield Problem(file.path, "missing", f"{file.rows} rows are missing with it", hint)
    elif found[file.path] != file.bytes:
        what = f"it has {found[file.path]} bytes instead of {file.bytes}"
        yield Problem(file.path, "torn", what, hint)
    elif contents:
        try:
            digest = sha256(place.read(file.path)).hexdigest()
        except FileNotFoundError:
            yield Problem(file.path, "missing", f"{file.rows} rows are missing with it", hint)
        else:
            if digest != file.sha256:
                yield Problem(file.path, "altered", "its bytes are not those that were written", hint)


def _under_way(place: Place) -> set[str]:
    """What notes name: being written or replaced now, or left by a kill, which the next start clears up."""
    found: set[str] = set()
    for path in place.sizes(PENDING):
        try:
            note = unsealed(place.read(path), path)
        except (MeterflowError, FileNotFoundError) as error:
            if isinstance(error, MeterflowError) and error.retry:
                raise
            continue
        found.update(note["write"], map(part_of, note["write"]), note["remove"])
    return found


def _hole(partition: int, first: int, until: int) -> Problem:
    what = f"the records with offsets from {first} up to {until} of partition {partition} are not there"
    hint = f"Put the manifest back from a copy with its files; or leave it: {ANEW}."
    return Problem(f"{MANIFESTS}/{partition}-{first}-{until}.json", "hole", what, hint)


def _left_over(span: Span) -> Problem:
    hint = "Nobody reads by it any more; the service removes it at its next start."
    return Problem(span.manifest, "left over", "another manifest has its records", hint)


def _bad_manifest(span: Span, error: MeterflowError) -> Problem:
    kind = "missing" if "missing" in error.what else "altered"
    return Problem(span.manifest, kind, error.what, f"Put it back from a copy; or remove it: {ANEW}.")


def _unlisted(path: str, unread: list[Span]) -> Iterator[Problem]:
    """Of a manifest that cannot be read nobody knows what it lists."""
    span = named(path)
    if span is not None and any(covers(wide, span) for wide in unread):
        return
    if path.endswith(PART):
        hint = "A kill left it behind; remove it when no service writes here."
    else:
        hint = "Nobody reads it. Remove it when no service writes here."
    yield Problem(path, "unlisted", "no manifest names it", hint)
