"""The site files and policy packs by whose versions readings were taken in, kept in the archive, too.

Any verb that takes a site file takes ``sites/VERSION/site.yaml``, with its pack beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from metering.errors import MeterflowError
from sinks.archive_manifest import sealed, unsealed
from sinks.archive_place import Place

SITES, LIST = "sites", "files.json"


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """A version of a site file (``Roster.version``), and what it is made of.

    ``read``: names and contents, asked for once; none where the file has been changed since.
    """

    version: str
    read: Callable[[], Mapping[str, bytes]]


def keep(place: Place, site: SiteFiles) -> None:
    """Puts it into the archive, unless it is there. Blocks; raises Unavailable for what may pass."""
    folder = f"{SITES}/{site.version}"
    if f"{folder}/{LIST}" in place.sizes(folder):
        return
    files = site.read()
    if not files:
        return
    place.put((f"{folder}/{name}", content) for name, content in files.items())
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    place.put([(f"{folder}/{LIST}", sealed(digests))])


def kept(place: Place, version: str) -> dict[str, bytes]:
    """A version's files; none where it is not there. Raises MeterflowError for a damaged list."""
    folder = f"{SITES}/{version}"
    there = place.sizes(folder)
    if f"{folder}/{LIST}" not in there:
        return {}
    names = unsealed(place.read(f"{folder}/{LIST}"), f"{folder}/{LIST}")
    return {name: place.read(f"{folder}/{name}") for name in names if f"{folder}/{name}" in there}


def damaged(place: Place) -> Iterator[tuple[str, str]]:
    """Paths of what is not as it was kept, and what is wrong with it."""
    found = place.sizes(SITES)
    for version in sorted({path.split("/")[1] for path in found}):
        path = f"{SITES}/{version}/{LIST}"
        if path not in found:
            yield path, "missing"
            continue
        try:
            listed = unsealed(place.read(path), path)
        except MeterflowError as error:
            if error.retry:
                raise
            yield path, "altered"
            continue
        for name, digest in listed.items():
            one = f"{SITES}/{version}/{name}"
            if one not in found:
                yield one, "missing"
            elif sha256(place.read(one)).hexdigest() != digest:
                yield one, "altered"
