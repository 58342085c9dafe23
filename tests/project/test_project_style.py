"""Sizes, docstrings and names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.project.conftest import Project, Source

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module, also methods and those inside others."""
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def too_long(source: Source) -> list[str]:
    """Files and functions beyond the limits; a function's lines are counted with its docstring."""
    lines = source.text.count("\n")
    found = [f"{source.path} has {lines} lines"] if lines > FILE_LINES_MAX else []
    sizes = ((f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions(source.tree))
    return found + [f"{source.path} {name} has {n} lines" for name, n in sizes if n > FUNCTION_LINES_MAX]


def undocumented(source: Source) -> list[str]:
    """Public modules, classes and functions without a docstring.

    Methods may do without, and so may functions of one statement: it says what a sentence would.
    """
    public = [
        node
        for node in source.tree.body
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_")
    ]
    plain = [node for node in public if isinstance(node, FUNCTION) and len(node.body) == 1]
    missing = [node.name for node in public if node not in plain and not ast.get_docstring(node)]
    if not ast.get_docstring(source.tree):
        missing.insert(0, "the module")
    return [f"{source.path}: {name} has no docstring" for name in missing]


def unexplained_tests(source: Source) -> list[str]:
    """Test functions without the line that says what they show."""
    found = (f for f in functions(source.tree) if f.name.startswith("test_"))
    return [f"{source.path}: {f.name}" for f in found if not ast.get_docstring(f)]


def test_functions_fit_a_page_and_files_stay_short(project: Project) -> None:
    """No function above 60 lines, no file above 400."""
    assert [fault for source in project.sources for fault in too_long(source)] == []


def test_everything_public_says_what_it_is(project: Project) -> None:
    """Every module, public class and public function that is no one-liner has a docstring."""
    assert [fault for source in project.package_sources for fault in undocumented(source)] == []


def test_every_test_says_what_it_shows(project: Project) -> None:
    """Every test has a docstring, because a report shows its name only."""
    tests = [s for s in project.sources if s.path.startswith("tests/")]
    assert [fault for source in tests for fault in unexplained_tests(source)] == []


def test_test_files_have_names_of_their_own(project: Project) -> None:
    """Two test files never share a name, so that a name in a report is one file."""
    names = Counter(s.path.rsplit("/", 1)[1] for s in project.sources if s.path.startswith("tests/"))
    shared = {name for name, count in names.items() if count > 1}
    assert shared <= {"conftest.py", "__init__.py"}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('"""M."""\n' + "x = 1\n" * 401, 1),
        ('"""M."""\n\n\ndef f() -> None:\n    """F."""\n' + "    x = 1\n" * 60, 1),
        ('"""M."""\n\n\ndef f() -> None:\n    """F."""\n' + "    x = 1\n" * 58, 0),
    ],
)
def test_what_is_too_long_is_found(source: type[Source], text: str, faults: int) -> None:
    """The limits themselves are allowed, one line more is not."""
    assert len(too_long(source("bus/x.py", text))) == faults


def test_what_is_undocumented_is_found(source: type[Source]) -> None:
    """Module, class and function are each missed; private ones and those of one statement are not."""
    text = "class A: ...\ndef f():\n    x = 1\n    return x\ndef _g():\n    f()\n    f()\ndef h(): ...\n"
    assert len(undocumented(source("bus/x.py", text))) == 3
