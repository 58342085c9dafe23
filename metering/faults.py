"""What is wrong in a file a person wrote: line, key, reason and proposal of every fault at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from metering.errors import UsageError

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys and list positions from the top."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``line`` and ``column`` count from 1; ``key`` reads like ``plants[steel-1].unit``.

    A warning does not keep the file from being used.
    """

    line: int
    column: int
    key: str
    what: str
    proposal: str = ""
    severity: Severity = "error"

    def text(self, file: str) -> str:
        """``file:line:column: key: what`` on one line, the proposal on the next."""
        key = f"{self.key}: " if self.key else ""
        word = "warning: " if self.severity == "warning" else ""
        proposal = f"\n    {self.proposal}" if self.proposal else ""
        return f"{file}:{self.line}:{self.column}: {word}{key}{self.what}{proposal}"


class FileFaults(UsageError):
    """A file cannot be used: ``faults`` has all that is wrong in it, in the order of its lines."""

    kind = "file"

    def __init__(self, file: str, faults: Iterable[Fault]) -> None:
        self.file = file
        self.faults = sorted(faults, key=lambda fault: (fault.line, fault.column))
        count = len(self.faults)
        what = f"this {self.kind} has {count} fault{'s' if count != 1 else ''}"
        super().__init__(what, where=file, hint="\n  ".join(fault.text(file) for fault in self.faults))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the known words that a misspelt word is most like; None when it is like none."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest of the known words as a proposal, or all of them when they are few."""
    words = list(known)
    near = nearest(word, words)
    if near is not None:
        return f"Did you mean '{near}'?"
    return f"Known: {', '.join(words)}." if 0 < len(words) <= 60 else ""
