"""Secrets: read from files, never shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from meterflow.given import secret
from metering.errors import UsageError

_OTHERS_READ: Final = 0o004
_PLACEHOLDERS: Final = frozenset(
    """
    admin changeit changeme change-me change_me default example influx influxdb kafka meterflow mqtt none null
    pass password placeholder replaceme replace-me secret test todo token
    """.split()
)
_PLACEHOLDER = re.compile(
    r"<.*>|\$\{.*\}|\{\{.*\}\}|(.)\1*|(your|my|change|insert|put|replace)[-_ ].*", re.IGNORECASE
)


class Secret:
    """A secret text; only ``reveal`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, to be handed to whoever logs in with it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"


def read_secret(file: Path, what: str) -> Secret:
    """The first line of the file. Raises UsageError when there is none, or a placeholder in its place."""
    text = secret(file, what)
    assert text is not None
    if text.lower() in _PLACEHOLDERS or _PLACEHOLDER.fullmatch(text):
        raise UsageError(
            f"the {what} is a placeholder",
            where=str(file),
            hint="Write a long random one there: openssl rand -hex 24.",
        )
    return Secret(text)


def open_to_all(file: Path) -> bool:
    """Whether every user of this machine may read the file."""
    try:
        return bool(file.stat().st_mode & _OTHERS_READ)
    except OSError:
        return False
