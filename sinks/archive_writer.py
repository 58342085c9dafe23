"""Writes what was gathered into the archive, so that a kill at any moment leaves it whole.

The commit, in this order:

1. note under ``pending/`` which files are going to be written;
2. write them, each durable and under its own name before the next step;
3. write the manifest that lists them: from now on they are archived;
4. move the archive's position on the log (sinks.archive_sink);
5. remove the note.

A merge goes the same way; its note also names what it takes the place of, which is removed when its manifest
is there. Who starts looks at the notes of its partition: where the manifest is there, what it replaced is
removed, else what had been written for it. Who was writing then, not knowing that the partition is another's,
may put his manifest behind that: step 4 is refused to him, so it is looked at by whoever starts next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from bus.log import Record
from metering.errors import MeterflowError, UsageError
from sinks.archive_manifest import (
    MANIFESTS,
    PENDING,
    File,
    Manifest,
    Span,
    by_partition,
    chain,
    decode_manifest,
    named,
    sealed,
    tiles,
    unlisted,
    unsealed,
)
from sinks.archive_place import PART, Place, part_of

Spans = Sequence[Span]


class Gathering(Protocol):
    """Records of a partition that are not archived yet: see archive_gathered.Gathered."""

    until: int
    records: int
    cost: int

    @property
    def span(self) -> Span: ...

    @property
    def empty(self) -> bool: ...

    def take(self, record: Record) -> None: ...

    def paths(self) -> list[str]: ...

    def files(self) -> Iterator[tuple[File, bytes]]: ...


class Writer:
    """One partition's archive. All methods block, and raise Unavailable for what may pass.

    ``spans``: of its manifests that count, ascending.
    """

    def __init__(self, place: Place, partition: int) -> None:
        self.place, self.partition = place, partition
        self.spans: list[Span] = []

    def number(self, known: str) -> str:
        """Sees that this archive is of the log that knows it by this number (empty: it knows none yet).

        The number that is in the archive: empty where ``mark`` is to put one there. Raises UsageError where
        it is another log's: two logs in one archive would be taken for one.
        """
        found = self.marked()
        if found != known if found else not known and self._listed():
            raise UsageError(
                "the archive is of another log",
                where=self.place.where,
                hint="Give each service an archive of its own. Where the log was lost, put back a copy.",
            )
        return found

    def marked(self) -> str:
        """The number that is in the archive, empty where there is none."""
        try:
            return str(unsealed(self.place.read(self._mark), self._mark)["number"])
        except FileNotFoundError:
            return ""

    def mark(self, number: str) -> None:
        """Notes of which log it is."""
        self.place.put([(self._mark, sealed({"number": number}))])

    @property
    def _mark(self) -> str:
        return f"log/{self.partition}.json"

    def open(self, done: int | None = None, first: int = 0) -> None:
        """Clears up after a kill, and sees what is there.

        ``done``: the archive's position on the log, ``first``: the first record that the log still has. None:
        nobody else may have written.
        """
        self._finish_pending()
        spans = self._listed()
        if done is not None:
            spans = [span for span in spans if span.until <= done or span.first < first or self._whole(span)]
        self.spans, _ = tiles(spans)
        if left := sorted(set(spans) - set(self.spans)):
            self._remove_superseded(left)

    def position(self, first: int) -> tuple[int, int | None]:
        """Which record comes next, and before which one to stop: where later ones are archived already.

        ``first``: the first one that the log still has.
        """
        at = first
        while part := chain(self._from(at), at):
            at = part[-1].until
        later = [span.first for span in self.spans if span.first >= at]
        return at, min(later, default=None)

    def write(self, gathered: Gathering) -> Manifest:
        """Steps 1 to 3; ``finish`` is the last one."""
        return self.commit(gathered.span, self.put(gathered), level=0)

    def put(self, gathered: Gathering) -> list[File]:
        """Steps 1 and 2."""
        self.place.put([(gathered.span.pending, sealed({"write": gathered.paths(), "remove": []}))])
        return self._written(gathered)

    def commit(self, span: Span, files: Sequence[File], level: int) -> Manifest:
        """Step 3, of files that are there."""
        manifest = Manifest(span, tuple(files), level)
        self.place.put([(span.manifest, manifest.encoded())])
        self.spans = sorted([*(old for old in self.spans if not covers(span, old)), span])
        return manifest

    def finish(self, span: Span) -> None:
        """Step 5."""
        self.place.remove([span.pending])

    def manifest(self, span: Span) -> Manifest:
        """As it was written. Raises MeterflowError where it is damaged, or gone."""
        return read_manifest(self.place, span)

    def _written(self, gathered: Gathering) -> list[File]:
        files: list[File] = []

        def noted() -> Iterable[tuple[str, bytes]]:
            for file, data in gathered.files():
                files.append(file)
                yield file.path, data

        self.place.put(noted())
        return files

    def _from(self, at: int) -> list[Span]:
        """Those that begin there or later, and the one around it as if it began there."""
        around = [Span(s.partition, at, s.until) for s in self.spans if s.first < at < s.until]
        return [*around, *(span for span in self.spans if span.first >= at)]

    def _listed(self) -> list[Span]:
        found = (named(path) for path in self.place.sizes(MANIFESTS) if path.endswith(".json"))
        return [span for span in found if span is not None and span.partition == self.partition]

    def _finish_pending(self) -> None:
        listed = set(self._listed())
        for path in self.place.sizes(PENDING):
            span = named(path)
            if span is None or span.partition != self.partition or not path.endswith(".json"):
                continue
            note = self._note(path)
            if span in listed:
                self.place.remove(note["remove"])
            elif not any(covers(wide, span) for wide in listed):  # what was merged since is not to be touched
                self.place.remove(note["write"])
            self.place.remove(map(part_of, [*note["write"], span.manifest]))
            self.place.remove([path])
        parts = (path for path in self.place.sizes(PENDING) if path.endswith(PART))
        self.place.remove([path for path in parts if f"/.{self.partition}-" in path])

    def _whole(self, span: Span) -> bool:
        """Whether what a manifest lists is there; one of which anything is not is removed: the log has it."""
        try:
            files = [file.path for file in self.manifest(span).files]
        except MeterflowError as error:
            if error.retry:
                raise
            return True  # it is damaged, which is told as such
        folders = {path.rpartition("/")[0] for path in files}
        there = {path for folder in folders for path in self.place.sizes(folder)}
        if there.issuperset(files):
            return True
        self.place.remove([span.manifest])
        return False

    def _note(self, path: str) -> dict[str, list[str]]:
        """Of a torn note nothing was written yet."""
        try:
            note: dict[str, list[str]] = unsealed(self.place.read(path), path)
        except MeterflowError as error:
            if error.retry:
                raise
            return {"write": [], "remove": []}
        return note

    def _remove_superseded(self, left: Spans) -> None:
        """Manifests that others stand for, and what is in them only. Where one cannot be read, none is."""
        try:
            kept = [self.manifest(span) for span in self.spans]
            gone = [self.manifest(span) for span in left]
        except MeterflowError as error:
            if error.retry:
                raise
            return
        paths = [file.path for manifest in gone for file in manifest.files]
        self.place.remove([span.manifest for span in left])
        self.place.remove(unlisted(paths, kept))


def read_manifest(place: Place, span: Span) -> Manifest:
    """Raises MeterflowError where it is damaged, or gone."""
    try:
        content = place.read(span.manifest)
    except FileNotFoundError:
        raise MeterflowError("it is missing", where=f"{place.where}/{span.manifest}") from None
    return decode_manifest(content, f"{place.where}/{span.manifest}")


def covers(wide: Span, span: Span) -> bool:
    """Whether all records of a span are in another one."""
    return wide.partition == span.partition and wide.first <= span.first and span.until <= wide.until


def newest(place: Place) -> dict[int, list[Manifest]]:
    """The manifests that count, by partition. Raises MeterflowError where one cannot be read."""
    found = (named(path) for path in place.sizes(MANIFESTS) if path.endswith(".json"))
    spans = by_partition(span for span in found if span is not None)
    return {partition: [read_manifest(place, s) for s in tiles(of)[0]] for partition, of in spans.items()}
