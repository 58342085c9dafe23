"""Documents can fail: what they name exists, and what exists is in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from metering.tables import TABLES, Table

if TYPE_CHECKING:
    from tests.project.conftest import Project

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
MADE_BY_RUNNING = ("data/", "build/", ".venv")
TOPICS = ("meterflow/v1", "processors/v1")


def paths_of(code: list[str], tops: set[str]) -> set[str]:
    """Paths in code that begin with a file or folder of the tree's top."""
    words = (word.strip("\"',;:()[]=") for line in code for word in re.split(r"[\s=]+", line))
    found = {word for word in words if word.split("/")[0] in tops and ("/" in word or "." in word)}
    return {path for path in found if not path.startswith(MADE_BY_RUNNING + TOPICS)}


def exists(project: Project, path: str) -> bool:
    """True for a file, a folder, or a pattern that fits one; capitals stand for any name."""
    pattern = re.sub(r"\{[^}]*\}|\b[A-Z]{3,}\b(?!\.md)", "*", path).rstrip("/")
    return any(project.root.glob(pattern)) or (project.root / path).exists()


def test_paths_named_in_documents_exist(project: Project) -> None:
    """Every path in code and every relative link of README, CHANGELOG and docs/ leads somewhere."""
    tops = {path.name for path in project.root.iterdir()} - {"data"}
    tops |= {s.package for s in project.package_sources}
    missing = [
        f"{document}: {path}"
        for document, text in project.documents.items()
        for path in paths_of(project.code_of(text), tops)
        if not exists(project, path)
    ]
    assert missing == []


def test_links_in_documents_lead_somewhere(project: Project) -> None:
    """A relative link names a file that is there."""
    missing = [
        f"{document}: {target}"
        for document, text in project.documents.items()
        for target in LINK.findall(text)
        if "://" not in target and not (project.root / document).parent.joinpath(target).exists()
    ]
    assert missing == []


def test_make_targets_named_in_documents_exist(project: Project) -> None:
    """Every `make TARGET` of a document is in the Makefile, and every target has its line in `make help`."""
    makefile = project.text("Makefile").replace("\\\n", " ")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == targets
    named = {
        match[1]
        for text in project.documents.values()
        for line in project.code_of(text)
        if (match := re.search(r"\bmake ([a-z-]+)", line))
    }
    assert named - targets == set()


def test_no_document_or_file_names_a_machine(project: Project) -> None:
    """No absolute path of the machine something was written on."""
    place = re.compile(r"(?<![\w.~$}/-])/(work|root|home|tmp)/")
    texts = (
        path
        for path in project.files
        if path.endswith((".md", ".py", ".toml", ".yaml", ".yml", ".js", ".html"))
    )
    own = "tests/project/test_project_documents.py"
    assert [path for path in texts if path != own and place.search(project.text(path))] == []


def described(text: str, table: str) -> list[tuple[str, str, str]]:
    """Column, kind and ``set`` or ``log`` of each row of a table's section in docs/formats.md."""
    section = re.search(rf"^### `{table}`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/formats.md has no section on {table}"
    return re.findall(r"^\| `(\w+)` \| (\w+) \| (set|log) \|", section[1], re.MULTILINE)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_result_tables_are_described_as_they_are(project: Project, table: Table) -> None:
    """docs/formats.md has every column, in order, with its kind and what it is a function of."""
    wanted = [(c.name, c.kind.value, "log" if c.of_log else "set") for c in table.columns]
    assert described(project.documents["docs/formats.md"], table.name) == wanted


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_keys_of_result_tables_are_described(project: Project, table: Table) -> None:
    """docs/formats.md says what identifies a row."""
    key = ", ".join(f"`{name}`" for name in table.key) or "none"
    section = re.search(
        rf"^### `{table.name}`\n(.*?)^\|", project.documents["docs/formats.md"], re.MULTILINE | re.DOTALL
    )
    assert section
    assert f"Key: {key}." in section[1]


def test_the_readme_is_short(project: Project) -> None:
    """One can read it standing."""
    assert project.text("README.md").count("\n") < 150
