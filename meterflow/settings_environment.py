"""Values of the environment above those of the settings file: METERFLOW_SECTION_KEY."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from operator import getitem
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from meterflow.settings_models import SettingsFile
from metering.faults import Fault, Path, nearest
from metering.yaml_marks import Document, Mark

PREFIX: Final = "METERFLOW_"
SETTINGS: Final = "METERFLOW_SETTINGS"
_ALIKE: Final = 0.9
"""How alike a name must be to be warned about; METERFLOW_TEST_KAFKA is somebody else's."""
_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class VariableFault(Fault):
    """A fault of a variable of the environment; ``key`` is its name."""

    def text(self, file: str) -> str:  # noqa: ARG002 it is in no file
        """``NAME: what``, the proposal on the next line."""
        word = "warning: " if self.severity == "warning" else ""
        proposal = f"\n    {self.proposal}" if self.proposal else ""
        return f"{word}{self.key} (environment): {self.what}{proposal}"


@dataclass(slots=True)
class Overlay:
    """What the environment said. ``names``: the variable of each key that has one."""

    faults: list[Fault] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def named(self, fault: Fault) -> Fault:
        """The same fault with the place it comes from: the file, or a variable."""
        name = self.names.get(fault.key)
        if name is None:
            return fault
        return VariableFault(0, 0, name, fault.what, fault.proposal, fault.severity)


def variables() -> dict[str, Path]:
    """Every variable's name and the key it is for."""
    known: dict[str, Path] = {}
    for name, info in SettingsFile.model_fields.items():
        section = _section(info.annotation)
        if section is None:
            known[f"{PREFIX}{name.upper()}"] = (name,)
        else:
            known |= {_variable(name, key): (name, key) for key, _ in _fields(section)}
    return known


def lay_over(document: Document, environ: Mapping[str, str]) -> Overlay:
    """Puts the environment's values into the document; an empty value counts as none."""
    overlay, known = Overlay(), variables()
    given = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
    for name, text in sorted(given.items()):
        if name in known:
            _put(document, overlay, name, known[name], text)
        elif name != SETTINGS:
            overlay.faults += _unknown(name, known)
    return overlay


def _put(document: Document, overlay: Overlay, name: str, path: Path, text: str) -> None:
    value = document.value
    for step in path[:-1]:
        if isinstance(value, dict) and value.get(step) is None:
            value[step] = {}
        value = value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return  # what stands in its place is a fault of the file
    value[path[-1]] = _read(path, text)
    document.values[path] = document.keys[path] = Mark(0, 0, text)
    overlay.names[document.name(path)] = name


def _read(path: Path, text: str) -> Any:
    """The text as the key takes it; what it does not take in any way is a fault later."""
    adapter = _adapter(path)
    ways = [text, *_numbers(text), *_flags(text), [one.strip() for one in text.split(",")]]
    for way in ways:
        with suppress(ValidationError):
            adapter.validate_python(way)
            return way
    return next(_numbers(text), text)


def _numbers(text: str) -> Iterator[int]:
    with suppress(ValueError):
        yield int(text)


def _flags(text: str) -> Iterator[bool]:
    if text.lower() in _FLAGS:
        yield _FLAGS[text.lower()]


def _adapter(path: Path) -> TypeAdapter[Any]:
    fields = dict(_fields(SettingsFile))
    for step in path[:-1]:
        section = _section(fields[str(step)].annotation)
        assert section is not None
        fields = dict(_fields(section))
    info = fields[str(path[-1])]
    kind: Any = info.annotation
    if info.metadata:
        kind = getitem(Annotated, (kind, *info.metadata))
    return TypeAdapter(kind)


def _unknown(name: str, known: Mapping[str, Path]) -> list[Fault]:
    """Of a known section: a fault. Else perhaps meant for somebody else: a warning when it is like one."""
    sections = {f"{PREFIX}{path[0]}_".upper() for path in known.values() if len(path) > 1}
    section = max((one for one in sections if name.startswith(one)), key=len, default=None)
    if section is not None:
        own = [one for one in known if one.startswith(section)]
        near = nearest(name, own)
        proposal = f"Did you mean {near}?" if near else f"Known: {', '.join(own)}."
        return [VariableFault(0, 0, name, "this setting is not known", proposal)]
    alike = get_close_matches(name, known, n=1, cutoff=_ALIKE)
    what = "this is no setting, and is not used"
    return [VariableFault(0, 0, name, what, f"Did you mean {one}?", "warning") for one in alike]


def _variable(section: str, key: str) -> str:
    return f"{PREFIX}{section}_{key}".upper()


def _fields(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Fields by the file's keys."""
    for name, info in section.model_fields.items():
        yield info.alias or name, info


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of the file's top stands for."""
    kinds = (annotation, *get_args(annotation))
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
