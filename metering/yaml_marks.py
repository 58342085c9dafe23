"""YAML as plain values, with the place of every key and value beside them.

Numbers stay exact: whole ones are int, others Decimal. Time stamps stay text. Nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path as FilePath
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from metering.errors import UsageError
from metering.faults import Fault, Path
from metering.yaml_plain import NotPlainError, read_plain

NODES_MAX: Final = 2_000_000
"""More values than this, after aliases are followed, are taken for a mistake."""
_TAG: Final = "tag:yaml.org,2002:"
_WHOLE = re.compile(r"[-+]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something stands, from 1, and the text of a scalar as it was written."""

    line: int
    column: int
    text: str = ""


@dataclass(slots=True)
class Document:
    """``value``: dicts, lists, str, int, Decimal, bool, None. ``keys`` and ``values``: their marks.

    ``plain``: a text whose marks nobody has asked for yet; a large file without faults never needs them.
    """

    file: str
    value: Any = None
    faults: list[Fault] = field(default_factory=list)
    plain: str | None = None
    _keys: dict[Path, Mark] = field(default_factory=dict)
    _values: dict[Path, Mark] = field(default_factory=dict)

    @property
    def keys(self) -> dict[Path, Mark]:
        self._find_marks()
        return self._keys

    @property
    def values(self) -> dict[Path, Mark]:
        self._find_marks()
        return self._values

    def _find_marks(self) -> None:
        if self.plain is None:
            return
        text, self.plain = self.plain, None

        def note(path: Path, line: int, column: int, text: str | None) -> None:
            marks = self._keys if text is None else self._values
            marks[path] = Mark(line + 1, column + 1, text or "")

        read_plain(text, lambda _: None, note)

    def mark(self, path: Path, of_key: bool = False) -> Mark:
        """The place of a value, or of its key, or of the nearest thing around it."""
        marks = self.keys if of_key else self.values
        for length in range(len(path), -1, -1):
            found = marks.get(path[:length]) or self.values.get(path[:length])
            if found:
                return found
        return Mark(1, 1)

    def name(self, path: Path) -> str:
        """The path for a person: ``plants[steel-1].points[main].unit``, list items by their id."""
        text, value = "", self.value
        for step in path:
            value = _inside(value, step)
            if isinstance(step, int):
                text += f"[{_item_name(value, step)}]"
            else:
                text += f".{step}" if text else step
        return text

    def fault(self, path: Path, what: str, proposal: str = "", *, of_key: bool = False) -> Fault:
        mark = self.mark(path, of_key)
        return Fault(mark.line, mark.column, self.name(path), what, proposal)


def read_document(file: FilePath | str) -> Document:
    """Reads one YAML file. Raises UsageError when there is none; what is wrong in it is in ``faults``."""
    path = FilePath(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read it: {error.strerror or error}", where=str(file), hint="Give the path of a file."
        ) from error
    return parse_document(content, str(file))


def parse_document(content: bytes, file: str) -> Document:
    """The same from bytes; ``file`` is only its name."""
    document = Document(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        document.faults.append(Fault(line, 1, "", "this is not UTF-8 text", "Save the file as UTF-8."))
        return document
    try:
        document.value = read_plain(text, _meanings())
        document.plain = text
    except NotPlainError:
        read_all(document, text, content)
    return document


def _meanings() -> Callable[[str], Any]:
    """What a scalar without quotes is, by the rules of the reader of all YAML."""
    resolver, builder = YAML(typ="safe", pure=True).resolver, _Builder(Document(""))

    def meaning(text: str) -> Any:
        kind = str(resolver.resolve(ScalarNode, text, (True, False))).removeprefix(_TAG)
        value = builder.scalar(kind, text, ())
        if builder.document.faults:
            raise NotPlainError
        return value

    return meaning


def read_all(document: Document, text: str, content: bytes) -> None:
    """Reads whatever YAML there is in a text, and what is wrong with it; ``content``: its bytes."""
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except (YAMLError, ValueError, RecursionError) as error:
        document.faults.append(_syntax_fault(error, content))
        return
    if root is None:
        document.faults.append(Fault(1, 1, "", "the file is empty"))
        return
    try:
        document.value = _Builder(document).build(root, ())
    except _TooMuchError:
        document.faults = [
            Fault(1, 1, "", f"more than {NODES_MAX} values", "Look at its aliases, or split it.")
        ]


class _TooMuchError(Exception):
    """Aliases of aliases can make a small file endless."""


class _Builder:
    """Turns nodes into values, and notes every place."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.above: set[int] = set()
        self.nodes = 0

    def build(self, node: Node, path: Path) -> Any:
        mark = node.start_mark
        text = node.value if isinstance(node, ScalarNode) else ""
        self.document.values[path] = Mark(mark.line + 1, mark.column + 1, text)
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise _TooMuchError
        if id(node) in self.above:
            self._fault(path, "an alias refers to what it stands in", "Write the part out.")
            return None
        self.above.add(id(node))
        try:
            return self._value(node, path)
        finally:
            self.above.remove(id(node))

    def _value(self, node: Node, path: Path) -> Any:
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.scalar(str(node.tag).removeprefix(_TAG), node.value, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        merges: list[tuple[Node, Path]] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._fault(path, "a list or a mapping cannot be a key")
            elif str(key.tag).endswith(":merge"):
                merges.append((value, (*path, "<<")))
            else:
                self._entry(out, key, value, path)
        for value, at in merges:
            self._merge(out, value, at, path)
        return out

    def _entry(self, out: dict[str, Any], key: ScalarNode, value: Node, path: Path) -> None:
        name, at = str(key.value), (*path, key.value)
        mark = Mark(key.start_mark.line + 1, key.start_mark.column + 1)
        if name in out:
            first = self.document.keys[at].line
            self.document.faults.append(
                Fault(
                    mark.line,
                    mark.column,
                    self.document.name(at),
                    f"the key '{name}' stands here a second time (first in line {first})",
                    "Keep one of them.",
                )
            )
            return
        self.document.keys[at] = mark
        out[name] = self.build(value, at)

    def _merge(self, out: dict[str, Any], node: Node, at: Path, path: Path) -> None:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, MappingNode):
                self._fault(at, "'<<' takes a mapping, by an alias", "Write '<<: *name'.")
                continue
            for key, value in source.value:
                if isinstance(key, ScalarNode) and key.value not in out:
                    self._entry(out, key, value, path)

    def scalar(self, kind: str, text: str, path: Path) -> Any:
        match kind:
            case "str" | "timestamp":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float":
                return self._number(text, path)
            case _:
                self._fault(path, f"the tag '{kind}' is not known here", "Leave the tag out.")
                return None

    def _number(self, text: str, path: Path) -> int | Decimal | None:
        plain = text.replace("_", "")
        try:
            if _WHOLE.fullmatch(plain):
                return int(plain)
            if plain.lower().lstrip("+-").startswith(("0x", "0o", "0b")):
                return int(plain, 0)
            return Decimal(plain.lower().replace(".inf", "Infinity").replace(".nan", "NaN"))
        except (ValueError, InvalidOperation):
            self._fault(path, f"'{text[:40]}' cannot be read as a number", "Put text in quotes.")
            return None

    def _fault(self, path: Path, what: str, proposal: str = "") -> None:
        self.document.faults.append(self.document.fault(path, what, proposal))


def _syntax_fault(error: Exception, content: bytes) -> Fault:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark, problem = error.problem_mark, str(error.problem or error.context or "not YAML")
        return Fault(mark.line + 1, mark.column + 1, "", *_syntax_words(problem, str(error.context or "")))
    if isinstance(error, ReaderError):
        line = content.decode("utf-8-sig")[: error.position].count("\n") + 1
        return Fault(line, 1, "", f"the character {error.character!r} may not stand in YAML", "Remove it.")
    return Fault(1, 1, "", f"this is not YAML: {error}")


def _syntax_words(problem: str, context: str) -> tuple[str, str]:
    if "'\\t'" in problem:
        return "a tab stands here", "Indent with spaces."
    if "mapping values are not allowed" in problem:
        return "a second ':' in one line", "Put the text in quotes, or begin a new line."
    if "another document" in problem:
        return "a second document begins here", "One file holds one document: remove the '---'."
    if "undefined alias" in problem:
        return problem, "Define it above with '&name'."
    what = f"this is not YAML: {problem} {context}".rstrip()
    return what, "Look at brackets, quotes and indentation just before."


def _inside(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _item_name(value: Any, index: int) -> str:
    if isinstance(value, dict):
        for key in ("id", "serial", "metric"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return str(index)
