"""Values into pydantic models; pydantic's complaints into faults with a line and plain words."""

from __future__ import annotations

from functools import cache, partial
from operator import getitem
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from metering.faults import Fault, Path, did_you_mean, nearest
from metering.model_unknown import UNKNOWN, UnknownError, tried
from metering.yaml_marks import Document

M = TypeVar("M", bound=BaseModel)

_WORDS: Final = {
    "model_type": ("a mapping of keys belongs here", "Write 'key: value' lines."),
    "dict_type": ("a mapping of keys belongs here", "Write 'key: value' lines."),
    "list_type": ("a list belongs here", "Begin each item with '- ', or write [a, b]."),
    "int_type": ("a whole number belongs here", "Write digits without quotes or a point."),
    "string_type": ("a text belongs here", "Put it in quotes."),
    "bool_type": ("true or false belongs here", ""),
    "too_short": ("there is nothing in it", "Add at least one, or leave the key out if it may be left out."),
}


def validated(document: Document, model: type[M]) -> tuple[M | None, list[Fault]]:
    """The document as a model, or every fault that the model alone can see.

    What is only wrong because YAML could not be read there is in the document's own faults already.
    """
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        unread = _unread(document)
        found = [details for details in error.errors(include_url=False) if not _follows(details, unread)]
        return None, [_fault(document, model, details) for details in found]


def as_far_as_known(document: Document, model: type[M]) -> M | None:
    """The document as a model without whatever is wrong in it; None when nothing of it is known.

    What is valid is as it stands. What is not is left out, so that asking for it raises UnknownError; in
    a list, UNKNOWN stands for it and the others keep their places. The same holds of a key that is not
    there when one that is not known may have been meant for it.
    """
    try:
        return _part(model, _with_gaps(document))
    except UnknownError:
        return None


class _Gap:
    """Stands, as a value or as a key, for what YAML could not read. No model takes it."""


_GAP: Final = _Gap()


def _unread(document: Document) -> set[Path]:
    """Where the document's own faults are. They name their place as it was read, without any ids."""
    if not document.faults:
        return set()
    plain = Document(document.file)
    keys = {fault.key for fault in document.faults}
    merges = {key.removesuffix("<<").removesuffix(".") for key in keys if key.endswith("<<")}
    return {path for path in document.values if plain.name(path) in keys | merges}


def _follows(details: ErrorDetails, unread: set[Path]) -> bool:
    """Whether a complaint is about what could not be read, or may be among it."""
    path: Path = details["loc"]
    if details["type"] == "missing":
        return path[:-1] in unread
    return path in unread and details["input"] is None


def _with_gaps(document: Document) -> Any:
    """The document's value with a gap wherever some of it could not be read."""
    unread = _unread(document)
    return _gapped(document.value, (), unread) if unread else document.value


def _gapped(value: Any, path: Path, unread: set[Path]) -> Any:
    if isinstance(value, dict):
        inside = {key: _gapped(one, (*path, key), unread) for key, one in value.items()}
        return {**inside, _GAP: _GAP} if path in unread else inside
    if path in unread:
        return _GAP
    if isinstance(value, list):
        return [_gapped(one, (*path, i), unread) for i, one in enumerate(value)]
    return value


def _part(model: type[M], value: Any) -> M:
    """A model of all its keys that are known."""
    if not isinstance(value, dict):
        raise UnknownError
    known = {}
    unsure = _unsure(model, value)
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in value:
            known[name] = tried(partial(_field, model, name), value[key])
        elif not field.is_required() and key not in unsure:
            known[name] = field.get_default(call_default_factory=True)
    part = model.model_construct()
    part.__dict__.clear()
    part.__dict__.update({name: one for name, one in known.items() if one is not UNKNOWN})
    return part


def _unsure(model: type[BaseModel], value: dict[Any, Any]) -> set[str]:
    """The keys that are not there, and may be what a key that is not known was meant to be."""
    fields = {field.alias or name: name for name, field in model.model_fields.items()}
    absent = fields.keys() - value.keys()
    unsure: set[str] = set()
    for key in value.keys() - fields.keys():
        if key is _GAP:
            return absent
        fits = partial(_fits, model, value[key])
        near = nearest(str(key), fields)
        unsure |= {one for one in absent if one == near or fits(fields[one])}
    return unsure


def _fits(model: type[BaseModel], value: Any, name: str) -> bool:
    return tried(partial(_field, model, name), value) is not UNKNOWN


def _field(model: type[BaseModel], name: str, value: Any) -> Any:
    """A field's value as far as it is known; raises UnknownError."""
    field = model.model_fields[name]
    try:
        return _adapter(model, name).validate_python(value)
    except ValidationError:
        return _inside(field.annotation, value)


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    kind: Any = field.annotation
    if field.metadata:
        kind = getitem(Annotated, (kind, *field.metadata))
    return TypeAdapter(kind)


def _value(annotation: Any, value: Any) -> Any:
    """A list's item, or a mapping's key or value, as far as it is known."""
    kind = _bare(annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _whole_or_part(kind, value)
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return _inside(annotation, value)


def _whole_or_part(model: type[M], value: Any) -> M:
    try:
        return model.model_validate(value)
    except ValidationError:
        return _part(model, value)


def _inside(annotation: Any, value: Any) -> Any:
    """What is known of the parts of a value that is not valid as a whole."""
    kind = _bare(annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _part(kind, value)
    parts = get_args(kind)
    if get_origin(kind) is list and isinstance(value, list) and value:
        return [tried(partial(_value, parts[0]), one) for one in value]
    if get_origin(kind) is dict and isinstance(value, dict) and value:
        pairs = ((tried(partial(_value, parts[0]), key), one) for key, one in value.items())
        return {key: tried(partial(_value, parts[1]), one) for key, one in pairs if key is not UNKNOWN}
    raise UnknownError


def _fault(document: Document, model: type[BaseModel], details: ErrorDetails) -> Fault:
    path: Path = details["loc"]
    context = details.get("ctx", {})
    match details["type"]:
        case "missing":
            what = f"the key '{path[-1]}' is missing"
            fault = document.fault(path[:-1], what, f"Add '{path[-1]}: …'.")
        case "extra_forbidden":
            known = _keys_at(model, path[:-1])
            what = f"the key '{path[-1]}' is not known here"
            fault = document.fault(path, what, did_you_mean(str(path[-1]), known), of_key=True)
        case "fault":
            what, proposal = str(context["what"]), str(context["proposal"])
            fault = document.fault(path, what, _with_spelling(document, path, proposal))
        case kind if kind in _WORDS:
            fault = document.fault(path, *_WORDS[kind])
        case _:
            fault = document.fault(path, details["msg"][:1].lower() + details["msg"][1:])
    return fault


def _with_spelling(document: Document, path: Path, proposal: str) -> str:
    """A proposal to quote something quotes what was written: 0012 stays 0012."""
    written = document.mark(path).text
    quoted = f'Write it in quotes: "{written}".'
    return quoted if written and proposal.startswith("Write it in quotes") else proposal


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys a model knows at a place."""
    at: Any = model
    for step in path:
        at = _bare(at)
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = next((f.annotation for n, f in at.model_fields.items() if (f.alias or n) == step), None)
        else:
            at = (get_args(at) or (None,))[-1]
    at = _bare(at)
    if isinstance(at, type) and issubclass(at, BaseModel):
        return [field.alias or name for name, field in at.model_fields.items()]
    return []


def _bare(annotation: Any) -> Any:
    """An annotation without what is only said about it: Annotated, ``| None``."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
        annotation = arguments[0]
    return annotation
