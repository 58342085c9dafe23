"""The tree as data: its modules parsed, its documents read. Shared by the tests of the project itself."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "metering",
    "bus",
    "ingest",
    "processors",
    "sinks",
    "web",
    "simulators",
    "benchmarks",
    "meterflow",
    "examples",
)
NOT_OURS = {"__pycache__", "build", "data", "dist", "node_modules", "secrets", "vendor"}
"""Folders that are made by running, or that hold other people's work."""


CODE = re.compile(r"^```[^\n]*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Source:
    """One Python file; ``path`` is relative to the root, with slashes."""

    path: str
    text: str

    @property
    def package(self) -> str:
        return self.path.split("/", maxsplit=1)[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


@dataclass(frozen=True)
class Project:
    """Everything that would be committed."""

    root: Path

    @cached_property
    def files(self) -> tuple[str, ...]:
        return tuple(sorted(_walk(self.root)))

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        return tuple(Source(path, self.text(path)) for path in self.files if path.endswith(".py"))

    @cached_property
    def package_sources(self) -> tuple[Source, ...]:
        return tuple(source for source in self.sources if source.package in PACKAGES)

    @cached_property
    def documents(self) -> dict[str, str]:
        """README.md, CHANGELOG.md and everything under docs/: path -> text."""
        names = (path for path in self.files if path.endswith(".md"))
        return {path: self.text(path) for path in names if "/" not in path or path.startswith("docs/")}

    @staticmethod
    def code_of(text: str) -> list[str]:
        """Everything a document sets as code: spans, and the lines of blocks with continuations joined."""
        found: list[str] = []
        for block, span in CODE.findall(text):
            found += block.replace("\\\n", " ").splitlines() if block else [span]
        return found

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name for name in folders if not (name in NOT_OURS or name.endswith(".egg-info") or _hidden(name))
        ]
        for name in files:
            yield Path(folder, name).relative_to(root).as_posix()


def _hidden(name: str) -> bool:
    return name.startswith(".") and name != ".ci"


@pytest.fixture(scope="session")
def project() -> Project:
    """The tree this test stands in."""
    return Project(ROOT)


@pytest.fixture
def source() -> type[Source]:
    """Builds a Python file that is not in the tree, to show that a check can fail."""
    return Source
