"""Values into pydantic models; pydantic's complaints into faults with a line and plain words."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from metering.faults import Fault, Path, did_you_mean
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
    """The document as a model, or every fault that the model alone can see."""
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        return None, [_fault(document, model, details) for details in error.errors(include_url=False)]


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
