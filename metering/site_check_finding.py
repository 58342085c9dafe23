"""Where the checks of a site file put what they find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from metering.faults import Fault, Path
from metering.model_unknown import UNKNOWN, Named, id_of, tried
from metering.yaml_marks import Document


@dataclass(slots=True)
class Findings:
    """The faults of a document so far."""

    document: Document
    faults: list[Fault] = field(default_factory=list)

    def add(self, path: Path, what: str, proposal: str = "", *, of_key: bool = False) -> None:
        self.faults.append(self.document.fault(path, what, proposal, of_key=of_key))

    def warn(self, path: Path, what: str, proposal: str = "") -> None:
        self.faults.append(replace(self.document.fault(path, what, proposal), severity="warning"))

    def line(self, path: Path) -> int:
        return self.document.mark(path).line


def check_unique(findings: Findings, path: Path, items: Iterable[Named]) -> None:
    """Each id of a list stands only once in it."""
    first: dict[str, int] = {}
    for i, item in enumerate(items):
        name = tried(id_of, item)
        if name is UNKNOWN:
            continue
        if name in first:
            line = findings.line((*path, first[name], "id"))
            what = f"'{name}' is there a second time (first in line {line})"
            findings.add((*path, i, "id"), what, "Give each its own.")
        first.setdefault(name, i)
