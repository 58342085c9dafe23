"""What the archive says it holds: manifests, each of the records of a partition from one offset to another.

A manifest is written when all its files are durable, so what it names is there, whole. Manifests of a
partition follow each other without a hole. One that was merged of others stands in the place of them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from metering.errors import MeterflowError

FORMAT = 1
MANIFESTS, PENDING = "manifest", "pending"
READINGS, EVIDENCE, DECISIONS = "readings", "evidence", "decisions"
PAYLOADS = "payloads"
SETS = (READINGS, EVIDENCE, DECISIONS, PAYLOADS)
"""Folders of the archive; the last one is in that of raw payloads (sinks.archive_raw)."""
PLANT, DAY = "/plant=", "/day="
"""What is before the name of a plant, or of a day, in the path of a file."""
_NAME = re.compile(r"(?:.*/)?(\d+)-(\d+)-(\d+)\.\w+")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Records of a partition: offsets from ``first`` up to ``until``."""

    partition: int
    first: int
    until: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.first}-{self.until}"

    @property
    def manifest(self) -> str:
        """Where its manifest is."""
        return f"{MANIFESTS}/{self}.json"

    @property
    def pending(self) -> str:
        """Where it is noted while its files are being written."""
        return f"{PENDING}/{self}.json"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a manifest. ``first``: the least offset of its rows; ``until``: one more than the highest."""

    path: str
    plant: str
    rows: int
    bytes: int
    sha256: str
    first: int
    until: int

    @property
    def set(self) -> str:
        """Of what its rows are."""
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        """Of set and plant, and of the day where its set has days."""
        return self.path.rpartition("/")[0]

    @property
    def day(self) -> str:
        """``2026-11-22``; ``2026-11`` or ``2026`` where days were too many; empty where its set has none."""
        return self.folder.partition(DAY)[2]


@dataclass(frozen=True, slots=True)
class Manifest:
    """``level``: how often it was merged."""

    span: Span
    files: tuple[File, ...] = ()
    level: int = 0

    @property
    def readings(self) -> int:
        """How many there are in it."""
        return sum(file.rows for file in self.files if file.set == READINGS)

    def encoded(self) -> bytes:
        """As it is stored: JSON, with a checksum over the rest."""
        return sealed(
            {
                "format": FORMAT,
                **asdict(self.span),
                "level": self.level,
                "files": [asdict(file) for file in self.files],
            }
        )


def decode_manifest(content: bytes, where: str) -> Manifest:
    """Raises MeterflowError for anything that is not as it was written."""
    values = unsealed(content, where)
    if values.get("format") != FORMAT:
        raise MeterflowError(
            f"a manifest has the format {values.get('format')!r}, this version knows {FORMAT}",
            where=where,
            hint="It was probably written by a newer meterflow: update this one.",
        )
    span = Span(values["partition"], values["first"], values["until"])
    return Manifest(span, tuple(File(**file) for file in values["files"]), values["level"])


def sealed(values: Mapping[str, object]) -> bytes:
    """JSON whose last key is the SHA-256 of what is before it, so that a torn or altered one is seen."""
    content = json.dumps(values, ensure_ascii=True, separators=(",", ":"))
    digest = sha256(content.encode()).hexdigest()
    return f'{content[:-1]},"sha256":"{digest}"}}\n'.encode()


def unsealed(content: bytes, where: str) -> dict[str, Any]:
    """The values; raises MeterflowError where they are not as they were sealed."""
    body, mark, _ = content.rpartition(b',"sha256":"')
    try:
        values: dict[str, Any] = json.loads(body + b"}")
    except ValueError:
        values = {}
    if not mark or not values or content != sealed(values):
        raise MeterflowError("it is torn, or was altered", where=where)
    return values


def named(path: str) -> Span | None:
    """The span that a file's name says; None where it is none of ours."""
    found = _NAME.fullmatch(path)
    return Span(*map(int, found.groups())) if found else None


def chain(spans: Iterable[Span], first: int = 0) -> list[Span]:
    """Those that follow each other from ``first`` on as far as they reach, the widest of those that do.

    Of one partition. There are several that begin at one offset where a merge was cut short, or where two
    processes took one partition for theirs.
    """
    by_first: dict[int, list[Span]] = {}
    for span in spans:
        by_first.setdefault(span.first, []).append(span)
    reach: dict[int, tuple[int, Span]] = {}
    for at in sorted(by_first, reverse=True):
        reach[at] = max(
            ((reach[s.until][0] if s.until in reach else s.until, s) for s in by_first[at]),
            key=lambda each: (each[0], each[1].until),
        )
    found: list[Span] = []
    while first in reach:
        found.append(reach[first][1])
        first = found[-1].until
    return found


def tiles(spans: Iterable[Span]) -> tuple[list[Span], list[tuple[int, int]]]:
    """All chains of one partition, and the holes between them and before the first."""
    left, found, holes, at = list(spans), list[Span](), list[tuple[int, int]](), 0
    while True:
        found += (part := chain(left, at))
        at = part[-1].until if part else at
        left = [span for span in left if span.first > at]
        if not left:
            return found, holes
        following = min(span.first for span in left)
        holes.append((at, following))
        at = following


def by_partition(spans: Iterable[Span]) -> dict[int, list[Span]]:
    """In ascending order."""
    found: dict[int, list[Span]] = {}
    for span in sorted(spans):
        found.setdefault(span.partition, []).append(span)
    return found


def unlisted(paths: Iterable[str], manifests: Sequence[Manifest]) -> list[str]:
    """Those that no manifest names."""
    known = {file.path for manifest in manifests for file in manifest.files}
    return [path for path in paths if path not in known]
