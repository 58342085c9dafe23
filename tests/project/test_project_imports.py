"""Imports go one way, and every third-party import is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.project.conftest import Project, Source

BASE = frozenset({"metering", "bus"})
ROLES = frozenset({"ingest", "processors", "sinks", "web"})
MAY_IMPORT: dict[str, frozenset[str]] = {
    "metering": frozenset(),
    "bus": frozenset({"metering"}),
    **dict.fromkeys(ROLES, BASE),
    "simulators": BASE | ROLES,
    "benchmarks": BASE | ROLES | {"simulators"},
    "meterflow": BASE | ROLES | {"simulators", "benchmarks"},
    "examples": frozenset(),
}
"""metering <- bus <- ingest, processors, sinks, web <- simulators <- meterflow."""


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Line and top-level name of everything a module imports, also late or by name."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name.split(".")[0]) for name in names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield node.lineno, module.split(".")[0]
            case ast.ImportFrom():
                yield node.lineno, source.package
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, name.split(".")[0]


def against_the_way(source: Source) -> list[str]:
    """Imports of ours that the rule forbids."""
    allowed = MAY_IMPORT[source.package] | {source.package}
    ours = ((line, name) for line, name in imported(source) if name in MAY_IMPORT)
    return [f"{source.path}:{line} imports {name}" for line, name in ours if name not in allowed]


def third_party(source: Source) -> set[str]:
    """Top-level names that are neither ours nor the standard library's."""
    names = {name for _, name in imported(source)}
    return names - MAY_IMPORT.keys() - set(sys.stdlib_module_names) - {"tests", "conftest", "_typeshed"}


def test_imports_go_one_way(project: Project) -> None:
    """No package imports one that stands above or beside it."""
    assert [fault for source in project.package_sources for fault in against_the_way(source)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("metering/site.py", "from bus.log import Log"),
        ("ingest/endpoint.py", "import sinks.store"),
        ("web/api.py", "def late():\n    from processors import worker"),
        ("sinks/store.py", "import importlib\nimportlib.import_module('web.app')"),
        ("simulators/park.py", "from meterflow import __version__"),
    ],
)
def test_an_import_against_the_way_is_found(source: type[Source], path: str, text: str) -> None:
    """Plain, dotted, late and dynamic imports against the rule are all named."""
    assert len(against_the_way(source(path, text))) == 1


def test_every_package_has_its_rule(project: Project) -> None:
    """A new top-level package cannot slip past the import rule."""
    others = {"tests", "docs", "scripts", "services"}
    packages = {s.package for s in project.sources if "/" in s.path} - others
    assert packages == MAY_IMPORT.keys()


def declared(project: Project) -> tuple[set[str], set[str]]:
    """Names of the declared distributions: for running, and for tests."""
    settings: dict[str, Any] = tomllib.loads(project.text("pyproject.toml"))
    return (
        {normal(text) for text in settings["project"]["dependencies"]},
        {normal(text) for text in settings["dependency-groups"]["test"]},
    )


def normal(requirement: str) -> str:
    """``ruamel.yaml>=0.18`` -> ``ruamel-yaml``."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


PARTS = {"pydantic_core": "pydantic"}
"""Modules that a declared distribution documents as its own, though they come in another one."""


def distributions(names: set[str]) -> set[str]:
    """The distributions that provide these top-level modules (itself where none is installed)."""
    provided = packages_distributions()
    return {normal(provider) for name in names for provider in provided.get(PARTS.get(name, name), [name])}


def used(project: Project, folders: set[str] | None = None) -> set[str]:
    """Distributions imported by our packages, or by the given top-level folders."""
    sources = project.package_sources if folders is None else project.sources
    chosen = (s for s in sources if folders is None or s.package in folders)
    return distributions({name for source in chosen for name in third_party(source)})


def test_every_third_party_import_is_declared(project: Project) -> None:
    """What the packages import is a dependency, not something another one happens to bring."""
    assert used(project) - declared(project)[0] == set()


def test_every_third_party_import_of_the_tests_is_declared(project: Project) -> None:
    """Tests import what running needs and what the test group declares, nothing else."""
    run, test = declared(project)
    assert used(project, {"tests"}) - run - test == set()


def test_every_declared_dependency_is_used(project: Project) -> None:
    """A dependency that nobody imports is dropped; zone data is read by zoneinfo, not imported."""
    run, test = declared(project)
    assert run - used(project) - {"tzdata"} == set()
    assert test - used(project, {"tests"}) - {"mypy", "ruff"} == set()
