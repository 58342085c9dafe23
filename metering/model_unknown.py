"""What is not known of a faulty file, so that the rest of it can be checked all the same.

A value with a fault of form is not replaced by one that might do: it is unknown. Reading it from its
part raises UnknownError, and in a list UNKNOWN stands in its place, which raises as soon as anything is
asked of it. A check that meets it says nothing more. So whatever a check does say follows from values
that are known, and would be as true if the unknown ones were put right, whatever they were meant to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")


class UnknownError(Exception):
    """A value was needed that is not known; never leaves the checks."""


class _Unknown:
    """An item of a list that is not known."""

    __slots__ = ()

    def _asked(self, *_: object) -> NoReturn:
        raise UnknownError

    __getattr__ = __getitem__ = __iter__ = __len__ = __contains__ = __bool__ = __hash__ = _asked
    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __str__ = __format__ = _asked


UNKNOWN: Final[Any] = _Unknown()
"""Compare with ``is`` only."""


class Named(Protocol):
    """Whatever has an id."""

    @property
    def id(self) -> str:
        """Its id; raises UnknownError."""


N = TypeVar("N", bound=Named)


def where_known(check: Callable[P, None]) -> Callable[P, None]:
    """The check, which ends where it needs a value that is not known."""

    @wraps(check)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            check(*args, **kwargs)
        except UnknownError:
            return

    return guarded


def tried(of: Callable[[T], V], item: T) -> V:
    """``of(item)``; UNKNOWN when that is not known."""
    try:
        return of(item)
    except UnknownError:
        return UNKNOWN  # type: ignore[no-any-return]


def as_known(of: Callable[[T], V], items: Iterable[T]) -> list[V]:
    """``of`` of each item of which it is known."""
    return [value for value in (tried(of, item) for item in items) if value is not UNKNOWN]


def ids(items: Iterable[Named]) -> list[str]:
    """The ids that are known."""
    return as_known(id_of, items)


def id_of(item: Named) -> str:
    """An item's id; raises UnknownError."""
    return item.id


def named(items: Iterable[N], id: str) -> N | None:
    """The item of that id; raises UnknownError when there is none, but one whose id is not known."""
    unsure = False
    for item in items:
        own = tried(id_of, item)
        if own is UNKNOWN:
            unsure = True
        elif own == id:
            return item
    if unsure:
        raise UnknownError(id)
    return None
