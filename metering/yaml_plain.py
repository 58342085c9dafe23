"""Plain YAML, line by line, many times as fast as the reader of all YAML: what large site files consist of.

A key, an item or a flow collection a line; no anchors, tags, escapes, text over several lines, empty values
or a key twice. Of a text with anything else NotPlainError is raised, and the reader of all YAML takes it.
What is read here is read as that one reads it, values and places; tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

Path = tuple[str | int, ...]
Note = Callable[[Path, int, int, str | None], None]
"""Takes a place: path, line and column from 0, the text of a scalar ("" of others); None: of a key."""
Meaning = Callable[[str], Any]
"""What a scalar without quotes is. Raises NotPlainError."""

_QUOTED: Final = r"\"[^\"\\]*\"|'[^']*'"
_INSIDE: Final = r"(?:[\w./(]|[+-](?=[\w.]))(?:[\w./+()%^*=~-]|:(?=\w)| +(?=[\w./+()%^*=~-]))*"
"""A scalar in a flow collection; outside, commas may stand in it too."""
_KEY: Final = r"[A-Za-z_][\w.-]{0,99}"
_LINE: Final = re.compile(
    rf"( *)(-(?= ) +)?(?:({_KEY}):(?: +|$))?({_QUOTED}|{_INSIDE.replace('%^', '%^,')}|[\[{{].*[\]}}])?"
    r" *(?:(?<![^ ])#.*)?"
)
_ITEM: Final = re.compile(rf" *(?:([\[{{])|({_QUOTED}|{_INSIDE}))")
_ITS_KEY: Final = re.compile(rf" *({_KEY}): +")
_BEHIND: Final = re.compile(r" *([,\]}])")
_STRANGE: Final = re.compile(
    "[^\n -~\xa1-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_DEPTH_MAX: Final = 30


class NotPlainError(Exception):
    """The text holds what only the reader of all YAML knows."""


class _Token(NamedTuple):
    """One of a line: a dash, with what stands behind it if that has no key, or a key and its value."""

    line: int
    column: int
    key: str | None
    value: str
    at: int
    """The column of the value."""


_END: Final = _Token(0, -1, None, "", 0)


def read_plain(text: str, meaning: Meaning, note: Note | None = None) -> Any:
    """The value of a text. Raises NotPlainError; ``note`` is told of every place."""
    if _STRANGE.search(text):
        raise NotPlainError
    return _Reader(text, meaning, note).whole()


def _tokens(text: str) -> Iterator[_Token]:
    for number, line in enumerate(text.split("\n")):
        found = _LINE.fullmatch(line)
        if found is None:
            raise NotPlainError
        indent, dash, key, value = found.groups()
        column = len(indent)
        if dash is not None:
            yield _Token(number, column, None, "" if key else value or "", found.start(4))
            column += len(dash)
        if key is not None:
            yield _Token(number, column, key, value or "", found.start(4))
        elif value and dash is None:
            raise NotPlainError
    yield _END


class _Reader:
    def __init__(self, text: str, meaning: Meaning, note: Note | None) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._meaning, self._note = meaning, note
        self._known: dict[str, Any] = {}

    def whole(self) -> Any:
        value = self._node((), -1)
        if self._next is not _END:
            raise NotPlainError
        return value

    def _node(self, path: Path, above: int) -> Any:
        """What stands further to the right than ``above``."""
        token = self._next
        if token.column <= above or len(path) > _DEPTH_MAX:
            raise NotPlainError
        return self._list(path, token.column) if token.key is None else self._mapping(path, token.column)

    def _list(self, path: Path, column: int) -> list[Any]:
        items: list[Any] = []
        self._told(path, self._next.line, column)
        while self._next.column == column and self._next.key is None:
            items.append(self._value((*path, len(items)), column))
        return items

    def _mapping(self, path: Path, column: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        self._told(path, self._next.line, column)
        while self._next.column == column and (key := self._next.key) is not None:
            if key in values:
                raise NotPlainError
            own = (*path, key)
            if self._note is not None:
                self._note(own, self._next.line, column, None)
            values[key] = self._value(own, column)
        return values

    def _value(self, path: Path, column: int) -> Any:
        """Of the token that comes next: on its line, or below."""
        token = self._next
        self._next = next(self._tokens)
        if token.value:
            if token.value[0] not in "[{":
                return self._scalar(path, token.line, token.at, token.value)
            value, end = self._flow(path, token, 0)
            if end != len(token.value):
                raise NotPlainError
            return value
        if token.key is not None and self._next.column == column and self._next.key is None:
            return self._list(path, column)
        return self._node(path, column)

    def _flow(self, path: Path, token: _Token, at: int) -> tuple[Any, int]:
        """The collection that begins there in the token's value, and where it ends."""
        self._told(path, token.line, token.at + at)
        into: dict[str, Any] | list[Any] = {} if token.value[at] == "{" else []
        at = _empty(token.value, at)
        while token.value[at - 1] not in "]}":
            own: Path = (*path, len(into))
            if isinstance(into, dict):
                own, at = self._flow_key(path, token, at, into)
            value, at = self._flow_item(own, token, at)
            if isinstance(into, dict):
                into[str(own[-1])] = value
            else:
                into.append(value)
            behind = _BEHIND.match(token.value, at)
            if behind is None:
                raise NotPlainError
            at = behind.end()
        if token.value[at - 1] != ("}" if isinstance(into, dict) else "]"):
            raise NotPlainError
        return into, at

    def _flow_key(self, path: Path, token: _Token, at: int, into: dict[str, Any]) -> tuple[Path, int]:
        found = _ITS_KEY.match(token.value, at)
        if found is None or found[1] in into:
            raise NotPlainError
        own = (*path, found[1])
        if self._note is not None:
            self._note(own, token.line, token.at + found.start(1), None)
        return own, found.end()

    def _flow_item(self, path: Path, token: _Token, at: int) -> tuple[Any, int]:
        found = _ITEM.match(token.value, at)
        if found is None or len(path) > _DEPTH_MAX:
            raise NotPlainError
        if found[1]:
            return self._flow(path, token, found.start(1))
        return self._scalar(path, token.line, token.at + found.start(2), found[2]), found.end()

    def _scalar(self, path: Path, line: int, column: int, text: str) -> Any:
        quoted = text[0] in "\"'"
        if quoted:
            text = text[1:-1]
        if self._note is not None:
            self._note(path, line, column, text)
        if quoted:
            return text
        if text not in self._known:
            self._known[text] = self._meaning(text)
        return self._known[text]

    def _told(self, path: Path, line: int, column: int) -> None:
        if self._note is not None:
            self._note(path, line, column, "")


def _empty(text: str, at: int) -> int:
    """Behind the bracket there; behind its end as well where nothing is in between."""
    end = _BEHIND.match(text, at + 1)
    return end.end() if end is not None and end[1] != "," else at + 1
