"""Files that a power cut leaves as they were, or as they are to be."""

from __future__ import annotations

import os
from pathlib import Path


def write_durable(path: Path, content: bytes) -> None:
    """Replaces a file at once; it is on the disk when this returns."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    for folder in (path.parent, path.parent.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
