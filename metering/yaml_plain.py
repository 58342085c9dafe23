"""Plain YAML by libyaml, over twenty times as fast as the reader of all YAML; large site files are plain.

Of a text with an alias, an anchor, a tag, a key twice, a key that is no scalar, an empty value, a directive,
a mistake, or characters that YAML 1.1 and 1.2 take differently NotPlainError is raised, and the reader of all
YAML takes it. What is read here is read as that one reads it, values and places; tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import yaml

Path = tuple[str | int, ...]
Note = Callable[[Path, int, int, str | None], None]
"""Takes a place: path, line and column from 0, the text of a scalar ("" of others); None: of a key."""
Meaning = Callable[[str], Any]
"""What a scalar without quotes is. Raises NotPlainError."""

_STRANGE: Final = re.compile(
    "[^\n -~\xa1-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[^ \n]#"
)
"""Among it a # right behind something: libyaml takes it for a comment behind some values, YAML does not."""
_DEPTH_MAX: Final = 30
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", None)
"""None where PyYAML was built without libyaml: then the reader of all YAML takes every text."""


class NotPlainError(Exception):
    """The text holds what only the reader of all YAML knows."""


def read_plain(text: str, meaning: Meaning, note: Note | None = None) -> Any:
    """The value of a text. Raises NotPlainError; ``note`` is told of every place."""
    if _LOADER is None or _STRANGE.search(text):
        raise NotPlainError
    events = _LOADER(text)
    try:
        return _Reader(events.get_event, meaning, note).whole()
    except yaml.YAMLError:
        raise NotPlainError from None
    finally:
        events.dispose()


class _Reader:
    def __init__(self, following: Callable[[], Any], meaning: Meaning, note: Note | None) -> None:
        self._following, self._meaning, self._note = following, meaning, note
        self._known: dict[str, Any] = {}

    def whole(self) -> Any:
        self._following()  # the stream
        if getattr(self._following(), "explicit", True):
            raise NotPlainError
        value = self._value(self._following(), ())
        self._following()  # the document's end
        if not isinstance(self._following(), yaml.StreamEndEvent):
            raise NotPlainError
        return value

    def _value(self, event: Any, path: Path) -> Any:
        if isinstance(event, yaml.AliasEvent) or event.anchor or event.tag or len(path) > _DEPTH_MAX:
            raise NotPlainError
        is_scalar = isinstance(event, yaml.ScalarEvent)
        self._tell(path, event, event.value if is_scalar else "")
        if is_scalar:
            return self._scalar(event)
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._list(path)

    def _list(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._following(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(key := self._following(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or key.anchor or key.tag:
                raise NotPlainError
            name = key.value
            if name in values or name == "<<":
                raise NotPlainError
            own = (*path, name)
            self._tell(own, key, None)
            values[name] = self._value(self._following(), own)
        return values

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if not event.implicit[0]:
            return text
        if not text:
            raise NotPlainError
        if text not in self._known:
            self._known[text] = self._meaning(text)
        return self._known[text]

    def _tell(self, path: Path, event: Any, text: str | None) -> None:
        if self._note is not None:
            self._note(path, event.start_mark.line, event.start_mark.column, text)
