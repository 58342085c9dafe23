"""Where the archive's files lie: a folder, or an object store that pyarrow.fs knows.

What ``put`` has returned from is durable, whole, and there under its name; a kill before that leaves nothing
under that name. Paths have ``/`` between their parts and are relative to the archive.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import fs

from bus.durable import sync_folder
from metering.errors import Unavailable, UsageError

PART = ".part"
"""Behind the name of a file that is not whole yet."""
_HINT = "Work goes on by itself when the archive can be reached, has room and may be written."


class Place(Protocol):
    """Files by path. All methods block, and raise Unavailable for what may pass."""

    @property
    def where(self) -> str:
        """For people."""

    def put(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Writes files, replacing those of the same name; durable when it returns."""

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""

    def sizes(self, folder: str) -> dict[str, int]:
        """All files in a folder and those below, by path; none where there is no such folder."""

    def remove(self, paths: Iterable[str]) -> None:
        """Removes files; those that are gone already are no fault."""

    def below(self, folder: str) -> Place:
        """A folder of this place, as a place of its own."""


def part_of(path: str) -> str:
    """Where a file of a folder is while it is not whole."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}{PART}"


def open_place(url: str) -> Place:
    """A folder's path, or the address of an object store such as ``s3://bucket/prefix?region=…``.

    Raises UsageError for an address that pyarrow.fs does not know.
    """
    if "://" not in url:
        return FolderPlace(Path(url))
    try:
        filesystem, root = fs.FileSystem.from_uri(url)
    except (pa.ArrowException, OSError, ValueError) as error:
        hint = "Give a folder, or an address such as s3://bucket/prefix?region=eu-central-1."
        raise UsageError(f"the archive's address cannot be used: {error}", where=url, hint=hint) from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return FolderPlace(Path(root))
    root = root.rstrip("/")
    return ObjectPlace(filesystem, root, f"{url.partition('://')[0]}://{root}")


class FolderPlace:
    """A folder. A file is written under another name, made durable, and then given its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def where(self) -> str:
        return str(self.root)

    def put(self, files: Iterable[tuple[str, bytes]]) -> None:
        touched: dict[Path, None] = {}
        with _ours(self.where, "written"):
            for name, data in files:
                path = self.root / name
                self._made(path.parent, touched)
                _write(path, data)
                touched[path.parent] = None
            for folder in touched:
                sync_folder(folder)

    def read(self, path: str) -> bytes:
        with _ours(self.where, "read"):
            return (self.root / path).read_bytes()

    def sizes(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with _ours(self.where, "read"):
            for at, _, names in os.walk(self.root / folder, onerror=_raised):
                for name in names:
                    path = Path(at, name)
                    try:
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_size
                    except FileNotFoundError:  # it has gone since
                        continue
        return found

    def remove(self, paths: Iterable[str]) -> None:
        with _ours(self.where, "written"):
            for path in paths:
                (self.root / path).unlink(missing_ok=True)

    def below(self, folder: str) -> FolderPlace:
        return FolderPlace(self.root / folder)

    def _made(self, folder: Path, touched: dict[Path, None]) -> None:
        """Makes a folder, and has those that are above it made durable, too."""
        if folder.is_dir():
            return
        self._made(folder.parent, touched)
        folder.mkdir(exist_ok=True)
        touched[folder.parent] = None


class ObjectPlace:
    """An object store, where a file is there when its upload has ended, and never in part."""

    def __init__(self, filesystem: Any, root: str, where: str) -> None:
        self._fs, self._root, self._where = filesystem, root, where

    @property
    def where(self) -> str:
        return self._where

    def put(self, files: Iterable[tuple[str, bytes]]) -> None:
        with _ours(self._where, "written"):
            for path, data in files:
                with self._fs.open_output_stream(f"{self._root}/{path}") as stream:
                    stream.write(data)

    def read(self, path: str) -> bytes:
        with _ours(self._where, "read"), self._fs.open_input_stream(f"{self._root}/{path}") as stream:
            content: bytes = stream.read()
            return content

    def sizes(self, folder: str) -> dict[str, int]:
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
        with _ours(self._where, "read"):
            infos = self._fs.get_file_info(selector)
        cut = len(self._root) + 1
        return {info.path[cut:]: info.size for info in infos if info.type == fs.FileType.File}

    def remove(self, paths: Iterable[str]) -> None:
        with _ours(self._where, "written"):
            for path in paths:
                try:
                    self._fs.delete_file(f"{self._root}/{path}")
                except FileNotFoundError:
                    continue

    def below(self, folder: str) -> ObjectPlace:
        return ObjectPlace(self._fs, f"{self._root}/{folder}", f"{self._where}/{folder}")


def _raised(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _write(path: Path, data: bytes) -> None:
    part = Path(part_of(str(path)))
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _ours(where: str, done: str) -> Iterator[None]:
    """Errors of a disk or a store as ours; that a file to be read is not there is for the caller to judge."""
    try:
        yield
    except FileNotFoundError as error:
        if done == "read":
            raise
        what = "the archive cannot be written: its folder or bucket is not there"
        raise Unavailable(what, where=where, hint=_HINT) from error
    except (OSError, pa.ArrowException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unavailable(f"the archive cannot be {done}: {why}", where=where, hint=_HINT) from error
