"""Merges small files of the archive into larger ones, in the background, one plant and day at a time.

Eight manifests of one level that follow each other become one of the next level. So a reading is written
again only a few times in its life, and there are never many manifests. A file that is not as it was written
ends the merging: it would get a checksum of its own, and be found no more. The order of writing is that of
sinks.archive_writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import pyarrow as pa

from metering.errors import MeterflowError
from sinks.archive_columns import ORDER, decoded, encoded
from sinks.archive_manifest import PAYLOADS, File, Manifest, Span, named, sealed
from sinks.archive_once import first_of_each
from sinks.archive_writer import Writer

RUN = 8
"""So many manifests are merged into one."""
FOLDERS_MAX = 8192
"""Of a manifest: above it, it is large enough."""
ROWS_MAX, PAYLOADS_MAX, BYTES_MAX = 1 << 19, 1 << 17, 32 << 20
"""Of a merged file, and so of what is in memory; a day of more has several. Raw payloads are larger."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Files of one folder that stay one, or become one."""

    files: tuple[File, ...]

    @property
    def span(self) -> Span:
        """From the first file's first record up to the last one's last."""
        first, last = named(self.files[0].path), named(self.files[-1].path)
        assert first is not None
        assert last is not None
        return Span(first.partition, first.first, last.until)

    @property
    def path(self) -> str:
        return f"{self.files[0].folder}/{self.span}.parquet"


class Merger:
    """Merges what a writer has written. All methods block, and raise Unavailable for what may pass."""

    def __init__(self, writer: Writer, *, run: int = RUN, rows_max: int = ROWS_MAX) -> None:
        self._writer = writer
        self._run, self._rows_max = run, rows_max
        self._levels: dict[Span, int] = {}
        self._whole: set[tuple[Span, ...]] = set()
        """Runs that would make too large a manifest."""

    def step(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Merges one run; false where there is none, or it was stopped in the middle: it may be begun again.

        Raises MeterflowError where a file or manifest is damaged.
        """
        for run in self._runs():
            manifests = [self._writer.manifest(span) for span in run]
            if len({file.folder for one in manifests for file in one.files}) <= FOLDERS_MAX:
                return self._merge(manifests, stopped)
            self._whole.add(run)
        return False

    def _runs(self) -> Iterator[tuple[Span, ...]]:
        """Manifests that follow each other and have one level, as many as are merged at once."""
        spans = self._writer.spans
        self._levels = {span: self._levels[span] for span in spans if span in self._levels}
        for first in range(len(spans) - self._run + 1):
            run = tuple(spans[first : first + self._run])
            follow = all(one.until == other.first for one, other in pairwise(run))
            if follow and run not in self._whole and len(set(map(self._level, run))) == 1:
                yield run

    def _level(self, span: Span) -> int:
        if span not in self._levels:
            self._levels[span] = self._writer.manifest(span).level
        return self._levels[span]

    def _merge(self, manifests: Sequence[Manifest], stopped: Callable[[], bool]) -> bool:
        span = Span(manifests[0].span.partition, manifests[0].span.first, manifests[-1].span.until)
        groups = list(_groups(manifests, self._rows_max))
        merged = [group for group in groups if len(group.files) > 1]
        gone = [file.path for group in merged for file in group.files]
        old = [one.span.manifest for one in manifests]
        note = {"write": [group.path for group in merged], "remove": [*old, *gone]}
        self._writer.place.put([(span.pending, sealed(note))])
        files = [group.files[0] for group in groups if len(group.files) == 1]
        for group in merged:
            if stopped():
                return False
            file, data = self._merged(group)
            self._writer.place.put([(file.path, data)])
            files.append(file)
        self._writer.commit(span, files, manifests[0].level + 1)
        self._writer.place.remove([*old, *gone])
        self._writer.finish(span)
        return True

    def _merged(self, group: _Group) -> tuple[File, bytes]:
        table = pa.concat_tables([self._rows(file) for file in group.files])
        order = [(name, "ascending") for name in ORDER[group.files[0].set]]
        one = group.files[0]
        table = first_of_each(table) if one.set == PAYLOADS else table.sort_by(order)
        return encoded(table, one.folder, one.plant, group.span)

    def _rows(self, file: File) -> pa.Table:
        where, hint = f"{self._writer.place.where}/{file.path}", "Run: meterflow archive check"
        try:
            data = self._writer.place.read(file.path)
        except FileNotFoundError as error:
            raise MeterflowError("a file of the archive is missing", where=where, hint=hint) from error
        if sha256(data).hexdigest() != file.sha256:
            raise MeterflowError("a file of the archive is torn, or was altered", where=where, hint=hint)
        return decoded(data, file.set)


def _groups(manifests: Sequence[Manifest], rows_max: int) -> Iterator[_Group]:
    """The files of each folder, in the order of the log, as many together as one may hold."""
    folders: dict[str, list[File]] = {}
    for manifest in manifests:
        for file in sorted(manifest.files, key=lambda file: file.first):
            folders.setdefault(file.folder, []).append(file)
    for files in folders.values():
        group: list[File] = []
        for file in files:
            most = rows_max if file.set != PAYLOADS else min(rows_max, PAYLOADS_MAX)
            together = sum(one.rows for one in group) + file.rows, sum(o.bytes for o in group) + file.bytes
            if group and (together[0] > most or together[1] > BYTES_MAX):
                yield _Group(tuple(group))
                group = []
            group.append(file)
        yield _Group(tuple(group))
