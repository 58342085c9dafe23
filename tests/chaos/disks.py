"""Disks of their own for what a run writes, each of which can be full and have room again.

A disk is a file system in a sparse file, mounted by a loop device: bytes on it are bytes on the machine's
disk, and filling it takes none. Where that may not be done (it takes root, and Linux) there are none.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SIZE = "256G"
FORMAT = ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1")


@dataclass(slots=True)
class Disks:
    """Of one run, by what is on them."""

    folder: Path
    places: dict[str, Path] = field(default_factory=dict)

    def mount(self, name: str) -> Path:
        """A folder for it; on a disk of its own, where that may be."""
        place, image = self.folder / name, self.folder / f"{name}.img"
        place.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0 and all(_done(*words) for words in _steps(image, place)):
            self.places[name] = place
            (place / "lost+found").rmdir()
        return place

    def fill(self, name: str) -> None:
        """Nothing more fits from now on."""
        with self._ballast(name).open("wb", buffering=0) as file:
            size, piece = 0, 1 << 40
            while piece >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, piece)
                    size += piece
                except OSError:
                    piece //= 2

    def free(self, name: str) -> None:
        """There is room again."""
        self._ballast(name).unlink()

    def unmount(self) -> None:
        """All of them; the file systems stay, as files."""
        for place in self.places.values():
            subprocess.run(["umount", "-l", str(place)], check=False)

    def _ballast(self, name: str) -> Path:
        return self.places[name] / "ballast"


def _steps(image: Path, place: Path) -> tuple[tuple[object, ...], ...]:
    return ("truncate", "-s", SIZE, image), (*FORMAT, image), ("mount", "-o", "loop", image, place)


def _done(*words: object) -> bool:
    try:
        return (
            subprocess.run([*map(str, words)], capture_output=True, timeout=60, check=False).returncode == 0
        )
    except OSError:
        return False
