"""The errors a person or a supervisor gets to see.

Three kinds of wrong are never mixed: a bad row is rejected with a reason (a value, not an
exception); a bad environment or file raises one of these; bad code fails an assertion.
"""

from __future__ import annotations


class MeterflowError(Exception):
    """Something outside the code is wrong.

    ``what`` says what is wrong, ``where`` the place (file and line, address, table), ``hint`` what
    to do next. ``retry`` is true when the same call may succeed later without a person.
    """

    exit_code = 1
    retry = False

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.what}{hint}"


class UsageError(MeterflowError):
    """Wrong usage or a wrong file: the command exits with 2."""

    exit_code = 2


class Unavailable(MeterflowError):
    """A part that is needed does not answer now (disk full, store locked): worth a retry."""

    retry = True


class NotOwner(MeterflowError):
    """Somebody else has taken over this partition: whoever gets this stops working on it."""
