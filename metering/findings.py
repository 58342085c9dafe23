"""What a look at a connection, a right or a version found: for ``meterflow doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``of``: the section of the settings (``kafka``); ``what``: what was looked at, in words; ``detail``:
    what was found; ``hint``: what to do about it, empty when it is good. A warning keeps nothing from
    working now.
    """

    of: str
    what: str
    verdict: Verdict = "good"
    detail: str = ""
    hint: str = ""
