"""The core computes: no clock, file, socket, log line or random number in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.project.conftest import Project, Source

EDGE = {
    "processors/worker.py": "takes records off the bus and puts results on it",
    "processors/worker_saver.py": "saves the state beside that",
    "processors/worker_thread.py": "where the operators compute meanwhile",
}
"""Modules of the core's packages that do touch the world, each with its reason."""

MAY_IMPORT = frozenset(
    """
    __future__ abc base64 binascii bisect collections copy dataclasses datetime decimal difflib enum fractions
    functools hashlib heapq io itertools json math numbers operator re statistics string struct types typing
    unicodedata zlib zoneinfo numpy metering bus processors
    """.split()
)
"""Computing only. ``datetime`` and ``zoneinfo`` for calendars, never for the present; ``io`` for bytes."""

FORBIDDEN_CALLS = frozenset({"open", "input", "print", "exec", "eval", "breakpoint", "__import__"})
FORBIDDEN_METHODS = frozenset(
    """
    now utcnow today open read_text read_bytes write_text write_bytes mkdir unlink default_rng random shuffle
    """.split()
)
"""What asks a clock, a file or chance, whatever the object is called."""

MODELS = frozenset({"pydantic", "pydantic_core"})
ALLOWED_TOO: dict[str, frozenset[str]] = {
    "metering/model_faults.py": MODELS,
    "metering/policy_load.py": frozenset({"importlib", "pathlib", "read_bytes"}),
    "metering/policy_models.py": MODELS,
    "metering/site_load.py": frozenset({"pathlib"}),
    "metering/site_models.py": MODELS,
    "metering/site_types.py": MODELS,
    "processors/columns.py": frozenset({"pyarrow"}),  # result rows as columns, in memory
    "processors/group_rows.py": frozenset({"pyarrow"}),
    "processors/groups.py": frozenset({"pyarrow"}),
    "processors/operators.py": frozenset({"pyarrow"}),
    "processors/portions.py": frozenset({"pyarrow"}),  # what a partition adds to its groups, as columns
    "processors/rollup_rows.py": frozenset({"pyarrow"}),
    "processors/rows.py": frozenset({"pyarrow"}),
    "processors/rows_small.py": frozenset({"pyarrow"}),
    "processors/sheets.py": frozenset({"pyarrow"}),
    "metering/yaml_marks.py": frozenset({"pathlib", "read_bytes", "ruamel"}),
    "metering/yaml_plain.py": frozenset({"yaml"}),
}
"""File -> what else it may import or call; mostly those that turn what a person wrote into values."""


def impure(source: Source) -> list[str]:
    """Everything in a module that reaches beyond its arguments."""
    too = ALLOWED_TOO.get(source.path, frozenset())
    found = ((node, fault) for node in ast.walk(source.tree) for fault in faults(node, too))
    return [f"{source.path}:{getattr(node, 'lineno', 0)} {fault}" for node, fault in found]


def faults(node: ast.AST, too: frozenset[str]) -> Iterator[str]:
    """What is wrong with one node of the syntax tree, but for what is allowed too."""
    allowed = MAY_IMPORT | too
    match node:
        case ast.Import(names=names):
            yield from (f"imports {n.name}" for n in names if n.name.split(".")[0] not in allowed)
        case ast.ImportFrom(level=0, module=str(module)) if module.split(".")[0] not in allowed:
            yield f"imports {module}"
        case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
            yield f"calls {name}"
        case ast.Call(func=ast.Attribute(attr=name)) if name in FORBIDDEN_METHODS - too:
            yield f"calls {name}"
        case ast.Call(func=ast.Attribute(attr="astimezone"), args=[], keywords=[]):
            yield "asks for the machine's time zone"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"):
            yield "uses numpy's random numbers"


def core(project: Project) -> list[Source]:
    """The modules that must compute only."""
    return [s for s in project.sources if s.package in {"metering", "processors"} and s.path not in EDGE]


def test_the_core_is_free_of_input_and_output(project: Project) -> None:
    """metering/ and the operators in processors/ see only what they are given."""
    assert [fault for source in core(project) for fault in impure(source)] == []


def test_every_exception_to_the_rule_exists(project: Project) -> None:
    """The lists of exceptions name no file that is gone."""
    assert (EDGE.keys() | ALLOWED_TOO.keys()) - set(project.files) == set()


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import logging",
        "from random import random as chance",
        "import structlog",
        "from socket import socket",
        "from datetime import datetime\nstamp = datetime.now()",
        "from datetime import date\nday = date.today()",
        "text = open('site.yaml').read()",
        "print('here')",
        "import numpy as np\nnoise = np.random.Generator",
        "local = instant.astimezone()",
        "import os.path",
    ],
)
def test_an_impure_line_is_found(source: type[Source], text: str) -> None:
    """Clock, file, chance, log and the machine's zone are each found."""
    assert len(impure(source("processors/books.py", text))) == 1
