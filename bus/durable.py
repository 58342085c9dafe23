"""Files that a power cut leaves as they were, or as they are to be."""

from __future__ import annotations

import os
from pathlib import Path


def write_durable(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replaces a file at once; it is on the disk when this returns. ``mode``: of the file, less the umask."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=mode)
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk when this returns: a file is only as durable as its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
