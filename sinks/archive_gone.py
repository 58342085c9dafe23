"""What the archive has let go of by its age, and since when: raw payloads only, whole days of a partition.

In this order: the note that says which days go; the manifests without their files; the files. The note is
there before anything goes, and whoever looks goes by it: so a kill in between leaves nothing that seems to be
damaged, and the next time does what is left.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from sinks.archive_manifest import DAY, PAYLOADS, named, sealed, unsealed
from sinks.archive_place import PART, Place
from sinks.archive_writer import Writer

FOLDER = "gone"


@dataclass(frozen=True, slots=True)
class Gone:
    """Of a partition: what came before a day (UTC); how many in all, the last of them at ``at_ms``."""

    before: str = ""
    payloads: int = 0
    bytes: int = 0
    at_ms: int = 0


def gone(place: Place) -> dict[int, Gone]:
    """By partition. Raises MeterflowError where a note is damaged."""
    found = {}
    for path in place.sizes(FOLDER):
        name = path.rpartition("/")[2]
        if name.endswith(".json") and not name.endswith(PART):
            values = unsealed(place.read(path), f"{place.where}/{path}")
            partition = int(values.pop("partition"))
            found[partition] = Gone(**values)
    return found


def is_gone(path: str, found: dict[int, Gone]) -> bool:
    """Whether a file of raw payloads is of a day that was let go of."""
    span, day = named(path), path.rpartition("/")[0].partition(DAY)[2]
    return span is not None and span.partition in found and day < found[span.partition].before


def let_go(writer: Writer, before: str, now_ms: int) -> tuple[Gone, int]:
    """Lets go of days before this one: what is gone since the archive began, and how many rows of it now."""
    place, partition = writer.place, writer.partition
    known = gone(place).get(partition, Gone())
    now = {partition: Gone(max(before, known.before))}
    manifests = [writer.manifest(span) for span in writer.spans]
    old = {file.path: file for one in manifests for file in one.files if is_gone(file.path, now)}
    new = [file for path, file in old.items() if not is_gone(path, {partition: known})]
    rows, size = sum(file.rows for file in new), sum(file.bytes for file in new)
    if new:
        known = Gone(now[partition].before, known.payloads + rows, known.bytes + size, now_ms)
        place.put([(f"{FOLDER}/{partition}.json", sealed({"partition": partition, **asdict(known)}))])
    for manifest in manifests:
        kept = tuple(file for file in manifest.files if file.path not in old)
        if kept != manifest.files:
            place.put([(manifest.span.manifest, replace(manifest, files=kept).encoded())])
    place.remove([path for path in place.sizes(PAYLOADS) if is_gone(path, {partition: known})])
    return known, rows


def day_before(now_s: float, days: int) -> str:
    """The first day (UTC) of which all has to be kept: so many days have not passed since its end."""
    return datetime.fromtimestamp(now_s - days * 86_400, UTC).date().isoformat()
